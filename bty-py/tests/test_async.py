"""The ``async`` versions."""

import asyncio
from pathlib import Path

import pytest
from conftest import MIB, image_bytes
from slow import slow_image

import bty


def test_aflash_and_averify(image, disk):
    seen = []

    async def progress(event):
        await asyncio.sleep(0)
        seen.append(event.event)

    async def work():
        report = await bty.aflash(image, disk, progress=progress)
        return report, await bty.averify(image, disk, progress=lambda event: seen.append("compared"))

    report, compared = asyncio.run(work())
    assert report.is_success and compared.is_equal and "phase" in seen


def test_four_at_once_beside_the_loop(tmp_path, image):
    disks = [bty.disks.create_file(tmp_path / f"disk{n}", 4 * MIB) for n in range(4)]

    async def work():
        return await asyncio.gather(*(bty.aflash(image, disk) for disk in disks))

    assert all(report.is_success for report in asyncio.run(work()))


def test_events(image, disk):
    async def work():
        return [event.event async for event in bty.aio.flashing(image, disk)]

    assert "progress" in asyncio.run(work())


def test_cancelled_task_has_ended(disk):
    async def work(address):
        begun = asyncio.Event()
        task = asyncio.ensure_future(bty.aflash(address, disk, progress=lambda event: event.phase == "write" and begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # nobody holds the disk any more
        with open(disk.path, "rb") as file:
            return file.read(512)

    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        assert asyncio.run(work(address)) == bytes(512)


def test_leaving_the_loop_early_cancels(disk):
    async def work(address):
        events = bty.aio.flashing(address, disk)
        async for event in events:
            if event.phase == "write":
                break
        await events.aclose()

    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        asyncio.run(work(address))
    assert Path(disk.path).read_bytes()[:512] == bytes(512)


def test_failures(image, disk):
    async def boom(event):
        raise LookupError("no")

    with pytest.raises(LookupError):
        asyncio.run(bty.aflash(image, disk, progress=boom))
    with pytest.raises(bty.FlashIntegrityError):
        asyncio.run(bty.aflash(image, disk, sha256="0" * 64))
    token = bty.CancelToken()
    token.cancel()
    with pytest.raises(bty.FlashCancelled):
        asyncio.run(bty.aflash(image, disk, cancel=token))
