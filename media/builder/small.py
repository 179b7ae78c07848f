"""The small environment: an initramfs with kernel modules, their firmware, BusyBox, `bty`, and the
init process `bty-live`."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .cpio import Tree
from .debian import Archive

HERE = Path(__file__).resolve().parent.parent / "small"
#: Packages with firmware for wired network cards and disk controllers.
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
#: Prefixes of firmware that is left out although modules list it: variants for other uses, and
#: files for older kernels.
NO_FIRMWARE = ("netronome/flower", "netronome/bpf", "netronome/nic-sriov", "liquidio", "bnx2x/bnx2x-e1-7.13.15", "bnx2x/bnx2x-e1h-7.13.15", "bnx2x/bnx2x-e2-7.13.15")
#: Module indexes that `bty-live` and BusyBox's `modprobe` read.
INDEXES = ("modules.alias", "modules.builtin", "modules.dep")
#: Serial consoles on the kernel command line, besides the screen.
CONSOLES = {"amd64": "console=ttyS0,115200 console=ttyS1,115200", "arm64": "console=ttyAMA0,115200"}
DIRS = ["dev", "proc", "sys", "run", "tmp", "root", "mnt", "full", "var/tmp", "var/lib/bty/images", "etc", "lib/modules"]


def build(archive: Archive, programs: dict[str, Path], work: Path, level: int) -> tuple[Path, bytes]:
    """Returns the kernel, and the uncompressed initramfs."""
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
    # a native one lists the applets; they are the same on all architectures
    native = Archive(archive.dir.parent, host(), archive.suite).get("busybox-static").root / "usr/bin/busybox"
    names = subprocess.run([native, "--list-full"], check=True, text=True, stdout=subprocess.PIPE).stdout.split()
    for path in names:
        if path not in ("bin/busybox", "linuxrc"):
            tree.link(path, "/bin/busybox")


def host() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def authorities(archive: Archive) -> bytes:
    """Returns the CA certificates of Debian's package."""
    root = archive.get("ca-certificates").root / "usr/share/ca-certificates"
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*.crt")))


def is_selected(path: str, rules: list[str]) -> bool:
    """Returns whether the rules select a module, such as `drivers/ata/ahci.ko.xz` below `kernel/`:
    the last rule for the module or one of its directories decides.
    """
    name = re.sub(r"\.ko.*", "", path)
    matching = [rule for rule in rules if name == rule.lstrip("-") or name.startswith(rule.lstrip("-") + "/")]
    return bool(matching) and not matching[-1].startswith("-")


def modules(tree: Tree, archive: Archive, kernel: Path, work: Path, level: int):
    """Adds the selected modules, their dependencies and firmware, and the indexes of all."""
    (source,) = kernel.glob("usr/lib/modules/*")
    release = source.name
    if not (source / "modules.dep").exists():
        subprocess.run(["depmod", "-b", kernel / "usr", release], check=True)
    dependencies = {}
    for line in (source / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        dependencies[file] = others.split()
    rules = [line for line in (HERE / "modules").read_text().splitlines() if line and not line.startswith("#")]
    files = {file for file in dependencies if is_selected(file.removeprefix("kernel/"), rules)}
    files |= {dependency for file in files for dependency in dependencies[file]}

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
    """Adds the firmware that these modules list, as far as Debian has it, compressed: the kernel
    decompresses it.
    """
    modinfo = ["modinfo", "-F", "firmware"]
    with ThreadPoolExecutor() as pool:
        listed = pool.map(lambda file: subprocess.run([*modinfo, file], check=True, text=True, stdout=subprocess.PIPE).stdout.split(), files)
        names = sorted({name for names in listed for name in names if not name.startswith(NO_FIRMWARE)})
        roots = [archive.get(package).root / "usr/lib/firmware" for package in FIRMWARE]
        found = {}
        for name in names:
            for root in roots:
                # a name may be a pattern
                for file in sorted(root.glob(name)):
                    found.setdefault(str(file.relative_to(root)), file)
        packed = pool.map(lambda file: compress(file.read_bytes(), level), found.values())
        for name, content in zip(found, packed):
            tree.put(f"lib/firmware/{name}.zst", content)


def pack_kernel(vmlinuz: bytes, arch: str) -> bytes:
    """Returns the kernel for iPXE. That for arm64 is compressed by gzip, which iPXE decompresses,
    because it is not self-extracting.
    """
    if arch != "arm64":
        return vmlinuz
    return subprocess.run(["libdeflate-gzip", "-12", "-c"], input=vmlinuz, check=True, stdout=subprocess.PIPE).stdout


def compress(content: bytes, level: int) -> bytes:
    """Compresses by zstd. One thread makes the result reproducible. The kernel needs the checksum,
    and does not support long windows.
    """
    command = ["zstd", "-q", f"-{level}", "--single-thread", "--check", "-c"]
    return subprocess.run(command, input=content, check=True, stdout=subprocess.PIPE).stdout
