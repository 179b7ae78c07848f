"""FAT file systems, created without mounting. Reproducible: the same files give the same bytes."""

import os
import subprocess
import tempfile
from pathlib import Path

#: The time that mtools and mkfs.vfat write: 1980-01-01, the earliest time of FAT.
EPOCH = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "TZ": "UTC"}


def build(files: dict[str, bytes], size: int, label: str) -> bytes:
    """Returns a file system of `size` bytes: FAT12, FAT16 or FAT32, depending on the size."""
    with tempfile.TemporaryDirectory() as work:
        image, stage = Path(work) / "fat", Path(work) / "stage"
        image.touch()
        os.truncate(image, size)
        kind = "32" if size >= 64 << 20 else "16" if size >= 16 << 20 else "12"
        subprocess.run(["mkfs.vfat", "--invariant", "-F", kind, "-n", label, image], check=True, stdout=subprocess.DEVNULL)
        for path, content in files.items():
            file = stage / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for path in sorted(stage.rglob("*"), key=str):
            os.utime(path, (315532800, 315532800))
        top = sorted(stage.iterdir())
        # -m preserves the times of the files
        subprocess.run(["mcopy", "-s", "-m", "-Q", "-i", image, *top, "::"], check=True, env=EPOCH)
        return image.read_bytes()
