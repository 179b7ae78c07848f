"""The products: what each of them is made of, and what its files are called."""

import subprocess
import tomllib
from functools import cached_property
from pathlib import Path

from . import sbom, small
from .debian import Archive, sha256
from .programs import programs

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWN = {
    "x86_64": ["netboot-pc"],
    "arm64": ["netboot-pc"],
}


class Builder:
    """Builds products; what several of them need is built once."""

    def __init__(self, options):
        self.arch, self.out, self.work = options.arch, options.out, options.work
        for dir in (self.out, self.work):
            dir.mkdir(parents=True, exist_ok=True)
        self.archive = Archive(self.work.resolve(), {"x86_64": "amd64", "arm64": "arm64"}[self.arch], options.suite)
        self.version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        self.given = options.programs

    def build(self, names: list[str]):
        for name in names:
            stem, inputs = self.stem(name), self.inputs()
            stamp = self.work / f"{stem}.inputs"
            sums = self.out / f"{stem}.sha256"
            if stamp.exists() and stamp.read_text() == inputs and sums.exists():
                continue
            files = getattr(self, name.replace("-", "_"))()
            document = self.out / f"{stem}.spdx.json"
            sbom.write(document, self.version, self.archive, self.programs, files)
            listed = "".join(f"{sha256(file)}  {file.name}\n" for file in [*files, document])
            sums.write_text(listed)
            stamp.write_text(inputs)
            for file in files:
                print(f"{file.stat().st_size / (1 << 20):8.1f} MiB  {file}", flush=True)

    def inputs(self) -> str:
        """A digest of everything that the products are made of: programs, package lists, and what is in this directory."""
        here = sorted(path for path in (ROOT / "media").rglob("*") if path.is_file() and "live" not in path.relative_to(ROOT / "media").parts[:1])
        lists = sorted((self.archive.dir / "lists").glob("*_Packages*"))
        return "".join(sha256(file) + "\n" for file in [*here, *lists, *self.programs.values()])

    def stem(self, product: str) -> str:
        return f"bty-{product}-{self.arch}-v{self.version}"

    def file(self, product: str, end: str) -> Path:
        return self.out / f"{self.stem(product)}.{end}"

    @cached_property
    def programs(self) -> dict[str, Path]:
        return programs(self.arch, self.work, self.given)

    @cached_property
    def small(self) -> tuple[bytes, bytes]:
        """Kernel, and the archive of the small environment."""
        paths = {"init": self.programs["bty-live"], "bin/bty": self.programs["bty"]}
        vmlinuz, archive = small.build(self.archive, paths, self.work)
        return vmlinuz.read_bytes(), small.compress(archive)

    def netboot_pc(self) -> list[Path]:
        vmlinuz, initrd = self.file("netboot-pc", "vmlinuz"), self.file("netboot-pc", "initrd")
        vmlinuz.write_bytes(self.small[0])
        initrd.write_bytes(self.small[1])
        return [vmlinuz, initrd]
