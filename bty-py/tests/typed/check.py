"""What type checkers know. mypy and pyright check this file in strict mode; nothing runs it. A
comment that ignores an error is itself an error where there is none.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from pathlib import Path
from typing import Literal, Optional

from typing_extensions import assert_type

import bty
import bty.testing


def events_are_narrowed_by_their_tag(event: bty.Event) -> str:
    if event.event == "progress":
        assert_type(event, bty.ProgressEvent)
        return f"{event.decoded_bytes + 1} of {event.decoded_total}"
    if event.event == "phase":
        assert_type(event.phase, Literal["read", "scan", "wipe", "write", "verify", "finish"])
        return event.phase
    if event.event == "notice":
        return event.message
    assert_type(event, bty.TargetFailedEvent)
    return event.target


def events_are_narrowed_by_their_class(event: bty.Event) -> str:
    if isinstance(event, (bty.PhaseEvent, bty.ProgressEvent)):
        return event.phase
    if isinstance(event, bty.NoticeEvent):
        return event.message
    assert_type(event, bty.TargetFailedEvent)
    return event.kind


def fields_of_other_kinds_are_errors(event: bty.Event) -> None:
    print(event.decoded_bytes)  # type: ignore[union-attr]
    if event.event == "phase":
        print(event.message)  # type: ignore[attr-defined]
        print(event.phase == "wirte")  # type: ignore[comparison-overlap]


def reports(image: Path, disk: bty.Disk) -> None:
    assert_type(bty.flash(image, disk), bty.FlashReport)
    assert_type(bty.verify(image, disk), bty.VerifyReport)
    assert_type(bty.flash.verify(image, disk), bty.VerifyReport)
    assert_type(bty.flash.flash(image, [disk, "serial:A"]), bty.FlashReport)
    assert_type(bty.flash.register_uefi_boot_entry(Path("/dev/sda"), label="x"), str)
    bty.flash(image, disk, verfy=False)  # type: ignore[call-arg]


async def options_of_async_versions(image: Path, disk: bty.Disk) -> None:
    assert_type(await bty.aflash(image, disk, fix_gpt=True), bty.FlashReport)
    await bty.aflash(image, disk, verfy=False)  # type: ignore[call-arg]
    await bty.aflash(image, disk, verify="no")  # type: ignore[arg-type]
    async for event in bty.aio.flashing(image, disk):
        events_are_narrowed_by_their_tag(event)


def options_of_a_delta_flash(image: Path, disk: bty.Disk) -> None:
    (target,) = bty.flash(image, disk, delta="never", stash="1 GiB", proven_disk=True).targets
    assert_type(target.proof, Literal["full", "sample", "none"])
    assert_type(target.delta, Optional[bty.DeltaReport])
    bty.flash(image, disk, stash=0)
    bty.flash(image, disk, delta="sometimes")  # type: ignore[arg-type]
    bty.Plan(image, disk, stash=1.5)  # type: ignore[arg-type]


def packed_images(image: Path, disk: bty.Disk) -> None:
    assert_type(bty.pack(image, "a.img.zst", level=19, frame_bytes="128 KiB"), bty.PackReport)
    assert_type(bty.images.check_packed("a.img.zst"), bty.PackCheck)
    assert_type(bty.images.create(disk, "a.img", shrink=True), bty.CreateReport)
    bty.pack(image)  # type: ignore[call-arg]
    assert_type(disk.refusals(overwrite=True), list[bty.Refusal])


def sizes_and_disks() -> None:
    disk = bty.Disk("/dev/sda", "8 GiB", serial="A")
    assert_type({disk: disk.size_bytes}, dict[bty.Disk, int])
    bty.disks.create_file(Path("disk"), 4096)
    assert_type(bty.disks.erase(disk, "random"), bty.disks.EraseReport)
    bty.Disk("/dev/sda", 1.5)  # type: ignore[arg-type]
    bty.Disk("/dev/sda", 512, sreial="A")  # type: ignore[call-arg]
    with bty.testing.MemoryHost(disk) as machine:
        assert_type(machine.read(disk, length="1 KiB"), bytes)


def errors(image: Path) -> None:
    try:
        bty.images.open(image)
    except bty.RefusedError as error:
        assert_type(error.refusals, list[bty.Refusal])
    except bty.SourceError as error:
        assert_type((error.kind, error.hint), tuple[str, Optional[str]])
