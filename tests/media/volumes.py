#!/usr/bin/env python3
"""Writes remains of an earlier system to a disk: a member of a RAID 1, and a volume group with a
volume. Both are complete and could be assembled.

usage: volumes.py DISK"""

import struct
import subprocess
import sys
import zlib

MIB = 1 << 20
SECTOR = 512
PART_SECTORS = 32 * MIB // SECTOR
#: Offset of the data in both partitions.
DATA_SECTORS = 2048
#: Partitions and their types in an MBR.
TABLE = "start=2048,size=32MiB,type=fd\nsize=32MiB,type=8e\n"

METADATA = """old {
id = "AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {
pv0 {
id = "BBBBBB-BBBB-BBBB-BBBB-BBBB-BBBB-BBBBBB"
device = "/dev/sda2"
status = ["ALLOCATABLE"]
flags = []
dev_size = 65536
pe_start = 2048
pe_count = 7
}
}
logical_volumes {
root {
id = "CCCCCC-CCCC-CCCC-CCCC-CCCC-CCCC-CCCCCC"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1
segment1 {
start_extent = 0
extent_count = 2
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}
}
}
}
contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "old"
creation_time = 1
"""


def raid() -> bytes:
    """Returns the superblock of the only member, version 1.2 (`linux/raid/md_p.h`), at an offset of
    4 KiB."""
    head = struct.pack("<4I16s32sQIIQIIQ", 0xA92B4EFC, 1, 0, 0, b"R" * 16, b"old:0", 1, 1, 0, PART_SECTORS - DATA_SECTORS, 0, 1, 0)
    head = head.ljust(128, b"\0") + struct.pack("<4QII16sQQQQII", DATA_SECTORS, PART_SECTORS - DATA_SECTORS, 8, 0, 0, 0, b"D" * 16, 0, 1, 1, 2**64 - 1, 0, 1)
    block = bytearray(head.ljust(256, b"\0") + struct.pack("<H", 0))
    total = sum(struct.unpack("<64I", block[:256])) + struct.unpack("<H", block[256:])[0]
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
    return bytes(4096) + block


def volume_group() -> bytes:
    """Returns label, metadata header and metadata (`lib/format_text/layout.h` of LVM)."""
    size = PART_SECTORS * SECTOR
    areas = struct.pack("<8Q", DATA_SECTORS * SECTOR, 0, 0, 0, 4096, MIB - 4096, 0, 0)
    label = (struct.pack("<I8s", 32, b"LVM2 001") + b"B" * 32 + struct.pack("<Q", size) + areas).ljust(SECTOR - 20, b"\0")
    label = struct.pack("<8sQI", b"LABELONE", 1, checksum(label)) + label
    text = METADATA.encode() + b"\0"
    place = struct.pack("<QQII", SECTOR, len(text), checksum(text), 0)
    header = (struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, 4096, MIB - 4096) + place).ljust(SECTOR - 4, b"\0")
    return (bytes(SECTOR) + label).ljust(4096, b"\0") + struct.pack("<I", checksum(header)) + header + text


def checksum(content: bytes) -> int:
    """Returns the CRC of LVM, which has another initial value and no final inversion."""
    return zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def main():
    subprocess.run(["sfdisk", "-q", "--label", "dos", sys.argv[1]], check=True, text=True, input=TABLE)
    with open(sys.argv[1], "r+b") as disk:
        for number, content in enumerate([raid(), volume_group()]):
            disk.seek(MIB + number * PART_SECTORS * SECTOR)
            disk.write(content.ljust(MIB, b"\0"))


main()
