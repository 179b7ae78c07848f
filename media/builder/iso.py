"""Hybrid images for CDs and sticks: ISO 9660 with El Torito for BIOS and UEFI, and a partition
table over the same bytes.

The table is an MBR. Partition 2 is the EFI system partition; partition 3, if there is one, is a
file system at the end, which can grow. They must not overlap, because Windows ignores partitions
after overlapping ones."""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from . import grub

EPOCH = "315532800"
MIB, SECTOR = 1 << 20, 512
#: Value of the CHS fields that tells readers to use the sector numbers instead.
LBA = b"\xfe\xff\xff"


def build(out: Path, label: str, files: dict[str, bytes], esp: Path, bios: str | None):
    """Writes the image. `bios` is the start script of GRUB for BIOS; with none, the image boots
    UEFI only. `esp` is a file with the EFI system partition.
    """
    with tempfile.TemporaryDirectory() as work:
        stage = Path(work) / "stage"
        if bios:
            files = {**files, "boot/eltorito.img": grub.image("i386-pc-eltorito", bios, [*grub.MODULES, *grub.BIOS])}
        for path, content in files.items():
            file = stage / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        # for the El Torito boot catalog
        (stage / "boot").mkdir(exist_ok=True)
        for path in [*stage.rglob("*"), stage]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (int(EPOCH), int(EPOCH)))
        part = Path(work) / "iso"
        command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", part, "-V", label, "-J", "-joliet-long", "-r", "-uid", "0", "-gid", "0"]
        if bios:
            command += ["-b", "boot/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info"]
            command += ["--grub2-mbr", grub.LIB / "i386-pc/boot_hybrid.img", "--mbr-force-bootable", "-eltorito-alt-boot"]
        command += ["-c", "boot/boot.cat", "-partition_offset", "16", "-append_partition", "2", "0xef", esp]
        command += ["-e", "--interval:appended_partition_2:all::", "-no-emul-boot", stage]
        subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH})
        shutil.copyfile(part, out)


def append(out: Path, content: Path, kind: int):
    """Appends partition 3 of type `kind`, aligned to 1 MiB."""
    with open(out, "r+b") as disk:
        start = -(-disk.seek(0, os.SEEK_END) // MIB) * MIB
        disk.truncate(start)
        entry = struct.pack("<B3sB3sII", 0, LBA, kind, LBA, start // SECTOR, content.stat().st_size // SECTOR)
        disk.seek(446 + 2 * len(entry))
        disk.write(entry)
        disk.seek(start)
        with open(content, "rb") as source:
            shutil.copyfileobj(source, disk, MIB)
