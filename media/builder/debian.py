"""Fetches single Debian packages by apt, which verifies the archive's signature, and unpacks them
below a work directory.

Uses an apt configuration of its own: package lists of this system do not change, and no package is
installed."""

import glob
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

COMPONENTS = "main non-free-firmware"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Package:
    """A package whose files are part of a product."""

    name: str
    version: str
    arch: str
    sha256: str | None
    root: Path | None


class Archive:
    """A suite of Debian for one architecture (`amd64`, `arm64`)."""

    def __init__(self, work: Path, arch: str, suite: str):
        self.arch, self.suite = arch, suite
        self.dir = work / f"debian-{suite}-{arch}"
        self.packages: dict[str, Package] = {}
        for sub in ("lists/partial", "debs/partial", "parts", "roots"):
            (self.dir / sub).mkdir(parents=True, exist_ok=True)
        (self.dir / "sources.list").write_text(self.source() + "\n")
        (self.dir / "status").touch()
        if not glob.glob(f"{self.dir}/lists/*_Packages*"):
            self.apt("update")

    def source(self) -> str:
        """Returns the line for `sources.list`, with the mirror that this system uses."""
        return f"deb [signed-by={KEYRING}] {mirror()} {self.suite} {COMPONENTS}"

    def apt(self, *arguments: str, tool: str = "apt-get", cwd: Path | None = None) -> str:
        options = {
            "Dir::Etc::SourceList": self.dir / "sources.list",
            "Dir::Etc::SourceParts": self.dir / "parts",
            "Dir::State::Lists": self.dir / "lists",
            "Dir::State::status": self.dir / "status",
            "Dir::Cache::Archives": self.dir / "debs",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
        }
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        command = [tool, "-q", *flags, *arguments]
        return subprocess.run(command, check=True, cwd=cwd, text=True, stdout=subprocess.PIPE).stdout

    def get(self, name: str) -> Package:
        """Fetches and unpacks a package, unless that was done before."""
        if name in self.packages and self.packages[name].root:
            return self.packages[name]
        shown = self.apt("show", "--no-all-versions", name, tool="apt-cache")
        field = dict(re.findall(r"^(Version|Architecture|SHA256): (\S+)$", shown, re.MULTILINE))
        file = self.dir / "debs" / f"{name}_{field['Version'].replace(':', '%3a')}_{field['Architecture']}.deb"
        if not file.exists() or sha256(file) != field["SHA256"]:
            self.apt("download", name, cwd=file.parent)
        root = self.dir / "roots" / file.stem
        if not root.exists():
            part = root.with_suffix(".part")
            subprocess.run(["dpkg-deb", "-x", file, part], check=True)
            part.rename(root)
        self.packages[name] = Package(name, field["Version"], field["Architecture"], field["SHA256"], root)
        return self.packages[name]

    def record(self, names: list[str]):
        """Records packages that another tool has fetched in their current version, for the SBOM."""
        shown = self.apt("show", "--no-all-versions", *names, tool="apt-cache")
        for text in shown.split("\n\n"):
            field = dict(re.findall(r"^(Package|Version|Architecture|SHA256): (\S+)$", text, re.MULTILINE))
            if field:
                found = Package(field["Package"], field["Version"], field["Architecture"], field["SHA256"], None)
                self.packages.setdefault(found.name, found)

    def record_installed(self, name: str):
        """Records a package installed on this system whose files are part of the product."""
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version} ${Architecture}", name], check=True, text=True, stdout=subprocess.PIPE).stdout
        self.packages.setdefault(name, Package(name, *shown.split(" "), None, None))

    def kernel(self) -> Package:
        """Fetches the package of the current kernel."""
        depends = self.apt("depends", f"linux-image-{self.arch}", tool="apt-cache")
        return self.get(re.search(r"Depends: (linux-image-\d\S*)", depends)[1])


def mirror() -> str:
    """Returns the Debian mirror that this system uses."""
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]:
        text = Path(path).read_text() if os.path.isfile(path) else ""
        for found in re.findall(r"^(?:deb (?:\[[^]]*\] )?|URIs: *)(https?://\S+)", text, re.MULTILINE):
            if "security" not in found:
                return found
    return "http://deb.debian.org/debian"


def sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
