"""The products: their parts and their file names."""

import shutil
import tomllib
from functools import cached_property
from pathlib import Path

from . import chain, full, ramdisk, sbom, small, stick
from .debian import Archive, sha256
from .programs import LIVE, programs

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWN = {
    "x86_64": ["netboot-pc", "ramdisk", "usbboot-pc", "chain"],
    "arm64": ["netboot-pc", "ramdisk", "usbboot-pc", "chain"],
}


class Builder:
    """Builds products. Parts that several products need are built once."""

    def __init__(self, options):
        self.arch, self.out, self.work = options.arch, options.out, options.work
        for dir in (self.out, self.work):
            dir.mkdir(parents=True, exist_ok=True)
        self.archive = Archive(self.work.resolve(), {"x86_64": "amd64", "arm64": "arm64"}[self.arch], options.suite)
        self.version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        self.given = options.programs
        self.has_full = not options.quick
        self.level = 3 if options.quick else 19
        self.parts: dict[str, tuple] = {}

    def build(self, names: list[str]):
        for name in names:
            stem, inputs = self.stem(name), self.inputs()
            # in --out and not in --work: another --out may have older products from the same parts
            stamp = self.out / f".{stem}.inputs"
            sums = self.out / f"{stem}.sha256"
            if stamp.exists() and stamp.read_text() == inputs and sums.exists():
                continue
            self.archive.packages = {}
            files = getattr(self, name.replace("-", "_"))()
            document = self.out / f"{stem}.spdx.json"
            # chain contains none of our programs
            own = {} if name == "chain" else self.programs
            sbom.write(document, self.version, self.archive, own, files, list(LIVE.values()))
            listed = "".join(f"{sha256(file)}  {file.name}\n" for file in [*files, document])
            sums.write_text(listed)
            stamp.write_text(inputs)
            for file in files:
                print(f"{file.stat().st_size / (1 << 20):8.1f} MiB  {file}", flush=True)

    def inputs(self) -> str:
        """Returns digests of all inputs: programs, package lists, and the files in `media/`."""
        here = sorted(path for path in (ROOT / "media").rglob("*") if path.is_file() and "live" not in path.relative_to(ROOT / "media").parts[:1])
        lists = sorted((self.archive.dir / "lists").glob("*_Packages*"))
        digests = "".join(sha256(file) + "\n" for file in [*here, *lists, *self.programs.values()])
        return f"full: {self.has_full}, level: {self.level}\n{digests}"

    def stem(self, product: str) -> str:
        return f"bty-{product}-{self.arch}-v{self.version}"

    def file(self, product: str, end: str) -> Path:
        return self.out / f"{self.stem(product)}.{end}"

    @cached_property
    def programs(self) -> dict[str, Path]:
        return programs(self.arch, self.work, self.given)

    @property
    def small(self) -> tuple[bytes, bytes]:
        """Kernel and initramfs of the small environment."""
        return self.part("small", self.make_small)

    @property
    def full(self) -> Path:
        """The squashfs of the full environment."""
        return self.part("full", lambda: full.build(self.archive, self.version, self.work))

    def part(self, name: str, make):
        """Returns a part that several products use, built once. Records its packages for each."""
        if name not in self.parts:
            others, self.archive.packages = self.archive.packages, {}
            self.parts[name] = make(), self.archive.packages
            self.archive.packages = others
        made, packages = self.parts[name]
        self.archive.packages = {**packages, **self.archive.packages}
        return made

    def make_small(self) -> tuple[bytes, bytes]:
        paths = {"init": self.programs["bty-live"], "bin/bty": self.programs["bty"]}
        vmlinuz, archive = small.build(self.archive, paths, self.work, self.level)
        return vmlinuz.read_bytes(), small.compress(archive, self.level)

    def netboot_pc(self) -> list[Path]:
        files = [self.file("netboot-pc", end) for end in ("vmlinuz", "initrd")]
        vmlinuz, initrd = self.small
        files[0].write_bytes(small.pack_kernel(vmlinuz, self.archive.arch))
        files[1].write_bytes(initrd)
        if self.has_full:
            files.append(self.file("netboot-pc", "squashfs"))
            shutil.copyfile(self.full, files[2])
        return files

    def ramdisk(self) -> list[Path]:
        file = self.file("ramdisk", "efi")
        ramdisk.build(file, self.version, self.archive, *self.small, self.work)
        return [file]

    def usbboot_pc(self) -> list[Path]:
        file = self.file("usbboot-pc", "iso")
        # not compressed: GRUB checks the Secure Boot signature of the file itself
        content = {"bty/vmlinuz": self.small[0], "bty/initrd": self.small[1]}
        if self.has_full:
            content["bty/full.squashfs"] = self.full.read_bytes()
        stick.build(file, self.version, self.archive, self.programs, content)
        return [file]

    def chain(self) -> list[Path]:
        file = self.file("chain", "iso")
        chain.build(file, self.version, self.archive)
        return [file]
