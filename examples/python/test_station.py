"""Tests a program that flashes, with the fixtures of bty: disks in memory. Run it with pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

import bty
from bty.testing import MemoryHost


def write_station(image: Path) -> bty.FlashReport:
    """The program: writes to the only SATA disk."""
    return bty.flash(image, bty.disks.only(lambda disk: disk.transport == "sata"))


def test_it_writes_to_the_sata_disk(bty_machine: MemoryHost, bty_image: Path) -> None:
    bty_machine.add(bty.Disk("/dev/sdb", "8 GiB", serial="STICK", transport="usb"))
    assert write_station(bty_image)
    assert bty_machine.read("/dev/sda", length="1 MiB") == bty_image.read_bytes()
    assert not any(bty_machine.read("/dev/sdb", length="1 MiB"))


def test_it_does_not_choose_between_two_disks(bty_machine: MemoryHost, bty_image: Path) -> None:
    bty_machine.add(bty.Disk("/dev/sdb", "8 GiB", serial="OTHER", transport="sata"))
    with pytest.raises(bty.RefusedError):
        write_station(bty_image)


def test_it_reports_a_disk_that_fails(bty_machine: MemoryHost, bty_image: Path) -> None:
    bty_machine.remove("/dev/sda")
    bty_machine.add(bty.Disk("/dev/sda", "8 GiB", serial="BROKEN", transport="sata"), fail_from="512 KiB")
    with pytest.raises(bty.TargetError):
        write_station(bty_image)
