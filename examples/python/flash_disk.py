"""Writes an image to a disk with a bar: flash_disk.py IMAGE DISK"""

from __future__ import annotations

import sys

import bty


def show(event: bty.Event) -> None:
    if event.event == "progress" and event.phase == "write":
        share = event.decoded_bytes / event.decoded_total if event.decoded_total else 0.0
        print(f"\r{'#' * int(share * 40):40} {bty.size.human(event.decoded_bytes)}", end="", file=sys.stderr)


def main(image: str, disk: str) -> int:
    try:
        report = bty.flash(image, disk, progress=show)
    except bty.Error as error:
        print(f"\n{error}", error.hint or "", sep="\n", file=sys.stderr)
        return 1
    print(f"\n{report.targets[0].disk.path}: {bty.size.human(report.disk_bytes)}, proven equal", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
