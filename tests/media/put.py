#!/usr/bin/env python3
"""Writes a file to the exFAT file system in partition 3 of a stick's image, without a mount.

usage: put.py IMAGE FILE NAME"""

import struct
import sys

SECTOR = 512


def checksum(entries: bytes) -> int:
    total = 0
    for at, byte in enumerate(entries):
        if at not in (2, 3):
            total = ((total << 15 | total >> 1) + byte) & 0xFFFF
    return total


def name_hash(name: str) -> int:
    total = 0
    for byte in name.upper().encode("utf-16-le"):
        total = ((total << 15 | total >> 1) + byte) & 0xFFFF
    return total


def main():
    image, source, name = sys.argv[1:]
    content = open(source, "rb").read()
    with open(image, "r+b") as disk:
        disk.seek(446 + 2 * 16 + 8)
        start = struct.unpack("<I", disk.read(4))[0] * SECTOR
        disk.seek(start)
        boot = disk.read(SECTOR)
        heap, count, root = struct.unpack_from("<III", boot, 88)
        cluster = SECTOR << boot[109]

        def at(number: int) -> int:
            return start + heap * SECTOR + (number - 2) * cluster

        # bitmap, upcase table and root directory occupy the first three clusters; the file follows
        # them, contiguously
        first, clusters = root + 1, max(1, -(-len(content) // cluster))
        while True:
            disk.seek(at(2) + (first - 2) // 8)
            if not disk.read(1)[0] >> (first - 2) % 8 & 1:
                break
            first += 1
        assert first + clusters - 2 <= count, "the file does not fit"
        for number in range(first, first + clusters):
            disk.seek(at(2) + (number - 2) // 8)
            byte = disk.read(1)[0]
            disk.seek(at(2) + (number - 2) // 8)
            disk.write(bytes([byte | 1 << (number - 2) % 8]))
        disk.seek(at(first))
        disk.write(content)

        wide = name.encode("utf-16-le")
        names = [wide[from_:from_ + 30] for from_ in range(0, len(wide), 30)]
        file = struct.pack("<BBHHHIII", 0x85, 1 + len(names), 0, 0x20, 0, *[0x5D000000] * 3) + bytes(8)
        stream = struct.pack("<BBBBHHQII", 0xC0, 3, 0, len(name), name_hash(name), 0, len(content), 0, first) + struct.pack("<Q", len(content))
        entries = bytearray(file.ljust(32, b"\0") + stream + b"".join(b"\xc1\0" + part.ljust(30, b"\0") for part in names))
        struct.pack_into("<H", entries, 2, checksum(bytes(entries)))
        disk.seek(at(root))
        directory = disk.read(cluster)
        free = next(place for place in range(0, cluster, 32) if directory[place] == 0)
        disk.seek(at(root) + free)
        disk.write(entries)


main()
