"""The images of the benchmark: real Debian root file systems on partitioned disks, in every form
they come in."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
BLOCK = 4096
SUITE = "bookworm"
NO_DOCS = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]

# "large" is only unpacked, because configuring two gigabytes of packages takes long and nothing in
# it has to run
ROOTS = {
    "small": ["--variant=essential", *NO_DOCS],
    "medium": [
        "--variant=minbase",
        *NO_DOCS,
        "--include=systemd-sysv,openssh-server,linux-image-cloud-amd64,build-essential",
    ],
    "large": [
        "--variant=extract",
        "--include=build-essential,linux-image-amd64,clang,libreoffice-calc,default-jdk-headless,git,python3",
    ],
}


@dataclass(frozen=True)
class Image:
    """A disk: its size, and the root file system on it. Without one, a partition is full of the
    bytes of the files."""

    name: str
    size_bytes: int
    root: str
    is_full: bool = False


IMAGES = {
    image.name: image
    for image in (
        Image("full-1g", GIB, "large", is_full=True),
        Image("half-1g", GIB, "medium"),
        Image("tenth-1g", GIB, "small"),
        Image("half-4g", 4 * GIB, "large"),
        Image("tenth-4g", 4 * GIB, "medium"),
    )
}

# form -> (suffix, command that creates {out} from {raw})
FORMS = {
    "raw": ("raw", None),
    "gz": ("gz", "gzip -6 -c {raw} > {out}"),
    "xz-single": ("single.xz", "xz -3 -T1 -c {raw} > {out}"),
    "xz-multi": ("multi.xz", "xz -6 -T2 -c {raw} > {out}"),
    "xz-9": ("9.xz", "xz -9 -T2 -c {raw} > {out}"),
    "bz2": ("bz2", "bzip2 -9 -c {raw} > {out}"),
    "zst": ("zst", "zstd -q -3 -c {raw} > {out}"),
    "zst-multi": ("multi.zst", "pzstd -q -3 -p 2 -c {raw} > {out}"),
    "zst-long": ("long.zst", "zstd -q -9 --long=27 -c {raw} > {out}"),
    "lz4": ("lz4", "lz4 -q -c {raw} > {out}"),
    "qcow2": ("qcow2", "qemu-img convert -q -f raw -O qcow2 {raw} {out}"),
    "qcow2-zlib": ("zlib.qcow2", "qemu-img convert -q -f raw -O qcow2 -c -o compression_type=zlib {raw} {out}"),
    "qcow2-zstd": ("zstd.qcow2", "qemu-img convert -q -f raw -O qcow2 -c -o compression_type=zstd {raw} {out}"),
}


class Store:
    """Builds what is asked for, once, in one directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, image: str, form: str) -> Path:
        """File of an image in a form; builds it."""
        raw = self.directory / f"{image}.raw"
        if not raw.exists():
            self._disk(IMAGES[image], raw)
        suffix, command = FORMS[form]
        out = self.directory / f"{image}.{suffix}"
        if not out.exists():
            self._make(out, command.format(raw=raw, out="{out}"))
        return out

    def bmap(self, image: str) -> Path:
        """Block map of a raw image, without which bmaptool copies everything."""
        out = self.directory / f"{image}.bmap"
        if not out.exists():
            self._make(out, f"bmaptool -q create -o {{out}} {self.path(image, 'raw')}")
        return out

    def used_bytes(self, image: str) -> int:
        """Bytes of the image in 4 KiB blocks that are not all zero."""
        note = self.directory / f"{image}.used.json"
        if not note.exists():
            note.write_text(json.dumps(count_used(self.path(image, "raw"))))
        return json.loads(note.read_text())

    def _make(self, out: Path, command: str) -> None:
        part = out.with_name(f"part.{out.name}")
        part.unlink(missing_ok=True)
        run(command.format(out=part))
        part.rename(out)

    def _root(self, name: str) -> Path:
        root = self.directory / f"root-{name}"
        if not root.exists():
            part = self.directory / f"part.root-{name}"
            run(f"rm -rf {part}")
            run(" ".join(["mmdebstrap --quiet", *(f"'{option}'" for option in ROOTS[name]), SUITE, str(part)]))
            part.rename(root)
        return root

    def _disk(self, image: Image, raw: Path) -> None:
        root = self._root(image.root)
        part = raw.with_name(f"part.{raw.name}")
        part.unlink(missing_ok=True)
        run(f"truncate -s {image.size_bytes} {part}")
        run(f"sgdisk -n 1:1MiB:0 -t 1:8304 {part} > /dev/null")
        # the backup table needs the last 33 sectors; a whole MiB keeps the file system aligned
        room = image.size_bytes - 2 * MIB
        if image.is_full:
            fill(part, MIB, room, root)
        else:
            run(f"mke2fs -q -F -t ext4 -L root -b {BLOCK} -d {root} -E offset={MIB} {part} {room // BLOCK}")
        run(f"sync {part}")
        part.rename(raw)


def run(command: str) -> None:
    """Runs a shell command, and shows it, since some take minutes."""
    print(f"  $ {command}", flush=True)
    subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=True)


def fill(disk: Path, offset: int, room: int, root: Path) -> None:
    """Fills a range of a disk with the contents of a tree's files, leaving out what is all zero."""
    zeros = bytes(BLOCK)
    with open(disk, "r+b") as out:
        out.seek(offset)
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    continue
                data = path.read_bytes()
                blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
                data = b"".join(block for block in blocks if zeros[: len(block)] != block)[:room]
                out.write(data)
                room -= len(data)
                if room == 0:
                    return
    raise SystemExit(f"{root} has too little in it: {room} bytes missing")


def count_used(raw: Path) -> int:
    """Counts the bytes in 4 KiB blocks that are not all zero; holes are skipped."""
    zeros, used, at = bytes(BLOCK), 0, 0
    with open(raw, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(file.fileno(), min(MIB, end - at), at)
                used += sum(BLOCK for i in range(0, len(data), BLOCK) if data[i : i + BLOCK] != zeros[: len(data) - i])
                at += len(data)
    return used
