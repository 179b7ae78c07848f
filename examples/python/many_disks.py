"""Writes one image to several disks at once, and says of each disk how it went.

usage: many_disks.py IMAGE DISK…
"""

from __future__ import annotations

import asyncio
import sys


import bty


async def one(image: str, disk: str) -> str:
    try:
        report = await bty.aflash(image, disk)
    except bty.Error as error:
        return f"{disk}: {error}"
    return f"{disk}: {bty.size.human(report.disk_bytes)}, proven equal"


async def main(image: str, *disks: str) -> None:
    for line in asyncio.as_completed([one(image, disk) for disk in disks]):
        print(await line)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
