"""The small environment: kernel modules with their firmware, BusyBox, `bty`, and its first process `bty-live`, in one archive for the kernel."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .cpio import Tree
from .debian import Archive

HERE = Path(__file__).resolve().parent.parent / "small"
#: Packages with firmware of wired network cards and disk controllers.
FIRMWARE = [
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-cavium",
    "firmware-intel-misc",
    "firmware-misc-nonfree",
    "firmware-netronome",
    "firmware-qlogic",
    "firmware-realtek",
]
#: Variants of a card's firmware for other uses, and those of older kernels, which the modules still name.
NO_FIRMWARE = ("netronome/flower", "netronome/bpf", "netronome/nic-sriov", "liquidio", "bnx2x/bnx2x-e1-7.13.15", "bnx2x/bnx2x-e1h-7.13.15", "bnx2x/bnx2x-e2-7.13.15")
#: What `bty-live` and the `modprobe` of BusyBox read.
INDEXES = ("modules.alias", "modules.builtin", "modules.dep")
#: The lines beside the screen that it is shown on.
CONSOLES = {"amd64": "console=ttyS0,115200 console=ttyS1,115200", "arm64": "console=ttyAMA0,115200"}
DIRS = ["dev", "proc", "sys", "run", "tmp", "root", "mnt", "full", "var/tmp", "var/lib/bty/images", "etc", "lib/modules"]


def build(archive: Archive, programs: dict[str, Path], work: Path, level: int) -> tuple[Path, bytes]:
    """Gives the kernel, and the archive with everything else, not compressed."""
    kernel = archive.kernel()
    tree = Tree()
    for path in DIRS:
        tree.dir(path)
    busybox(tree, archive)
    for path, program in programs.items():
        tree.copy(path, program, 0o755)
    tree.link("sbin/bty-live", "/init")
    tree.copy("etc/udhcpc.script", HERE / "udhcpc.script", 0o755)
    tree.add(HERE / "etc", "etc")
    tree.put("etc/ssl/certs/ca-certificates.crt", authorities(archive))
    modules(tree, archive, kernel.root, work, level)
    (vmlinuz,) = kernel.root.glob("boot/vmlinuz-*")
    return vmlinuz, tree.pack()


def busybox(tree: Tree, archive: Archive):
    tree.copy("bin/busybox", archive.get("busybox-static").root / "usr/bin/busybox", 0o755)
    # one that runs here says where its names are; those of other architectures are the same
    native = Archive(archive.dir.parent, host(), archive.suite).get("busybox-static").root / "usr/bin/busybox"
    names = subprocess.run([native, "--list-full"], check=True, text=True, stdout=subprocess.PIPE).stdout.split()
    for path in names:
        if path not in ("bin/busybox", "linuxrc"):
            tree.link(path, "/bin/busybox")


def host() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def authorities(archive: Archive) -> bytes:
    """The certificate authorities of Debian's package."""
    root = archive.get("ca-certificates").root / "usr/share/ca-certificates"
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*.crt")))


def wanted(path: str, rules: list[str]) -> bool:
    """A module file below `kernel/`, `drivers/ata/ahci.ko.xz`: the last rule that names it or a directory above decides."""
    name = re.sub(r"\.ko.*", "", path)
    said = [rule for rule in rules if name == rule.lstrip("-") or name.startswith(rule.lstrip("-") + "/")]
    return bool(said) and not said[-1].startswith("-")


def modules(tree: Tree, archive: Archive, kernel: Path, work: Path, level: int):
    """Adds the modules that are wanted, those that they need, indexes for both, and their firmware."""
    (source,) = kernel.glob("usr/lib/modules/*")
    release = source.name
    if not (source / "modules.dep").exists():
        subprocess.run(["depmod", "-b", kernel / "usr", release], check=True)
    needs = {}
    for line in (source / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    rules = [line for line in (HERE / "modules").read_text().splitlines() if line and not line.startswith("#")]
    files = {file for file in needs if wanted(file.removeprefix("kernel/"), rules)}
    files |= {need for file in files for need in needs[file]}

    stage = work / f"modules-{archive.arch}"
    shutil.rmtree(stage, ignore_errors=True)
    target = stage / "lib/modules" / release
    for file in sorted(files):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, target / file)
    for index in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(source / index, target / index)
    subprocess.run(["depmod", "-b", stage, release], check=True)
    for index in target.glob("modules.*"):
        if index.name not in INDEXES:
            index.unlink()
    tree.add(stage / "lib/modules", "lib/modules")
    firmware(tree, archive, [target / file for file in sorted(files)], level)


def firmware(tree: Tree, archive: Archive, files: list[Path], level: int):
    """Adds what these modules may ask for, as far as Debian has it. The kernel unpacks it."""
    ask = ["modinfo", "-F", "firmware"]
    with ThreadPoolExecutor() as pool:
        said = pool.map(lambda file: subprocess.run([*ask, file], check=True, text=True, stdout=subprocess.PIPE).stdout.split(), files)
        names = sorted({name for names in said for name in names if not name.startswith(NO_FIRMWARE)})
        roots = [archive.get(package).root / "usr/lib/firmware" for package in FIRMWARE]
        found = {}
        for name in names:
            for root in roots:
                # a module may name a whole family of files
                for file in sorted(root.glob(name)):
                    found.setdefault(str(file.relative_to(root)), file)
        packed = pool.map(lambda file: compress(file.read_bytes(), level), found.values())
        for name, content in zip(found, packed):
            tree.put(f"lib/firmware/{name}.zst", content)


def pack_kernel(vmlinuz: bytes, arch: str) -> bytes:
    """As iPXE gets it, which knows gzip: Debian's kernel for arm64 does not unpack itself."""
    if arch != "arm64":
        return vmlinuz
    return subprocess.run(["libdeflate-gzip", "-12", "-c"], input=vmlinuz, check=True, stdout=subprocess.PIPE).stdout


def compress(content: bytes, level: int) -> bytes:
    """With one thread, whose result does not depend on the machine; the kernel needs the check and knows no long windows."""
    command = ["zstd", "-q", f"-{level}", "--single-thread", "--check", "-c"]
    return subprocess.run(command, input=content, check=True, stdout=subprocess.PIPE).stdout
