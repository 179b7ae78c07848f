"""Initramfs archives (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).
Reproducible: the same tree gives the same bytes."""

import stat
from pathlib import Path


class Tree:
    """A tree of files, all owned by root, with the time 0."""

    def __init__(self):
        self.entries: dict[str, tuple[int, bytes]] = {}

    def dir(self, path: str, mode: int = 0o755):
        """Adds a directory and its parents."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            self.entries.setdefault("/".join(parts[:end]), (stat.S_IFDIR | (mode if end == len(parts) else 0o755), b""))

    def put(self, path: str, content: bytes, mode: int = 0o644):
        """Adds a file and its parent directories."""
        path = path.strip("/")
        if "/" in path:
            self.dir(path.rpartition("/")[0])
        self.entries[path] = (stat.S_IFREG | mode, content)

    def link(self, path: str, target: str):
        """Adds a symbolic link."""
        self.put(path, b"")
        self.entries[path.strip("/")] = (stat.S_IFLNK | 0o777, target.encode())

    def copy(self, path: str, source: Path, mode: int = 0o644):
        """Adds a file with the content of `source`."""
        self.put(path, source.read_bytes(), mode)

    def add(self, source: Path, below: str = ""):
        """Adds all files and links below the directory `source`."""
        for file in sorted(source.rglob("*")):
            path = f"{below}/{file.relative_to(source)}"
            if file.is_symlink():
                self.link(path, str(file.readlink()))
            elif file.is_file():
                self.copy(path, file, 0o755 if file.stat().st_mode & 0o100 else 0o644)

    def pack(self) -> bytes:
        """Returns the archive in the format "newc"."""
        pieces = [record(number, path, *self.entries[path]) for number, path in enumerate(sorted(self.entries), 1)]
        return b"".join([*pieces, record(0, "TRAILER!!!", 0, b"")])


def record(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    #        inode   mode  uid gid links mtime size          device     special    length     check
    fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return padded(head) + padded(content)


def padded(piece: bytes) -> bytes:
    return piece + bytes(-len(piece) % 4)
