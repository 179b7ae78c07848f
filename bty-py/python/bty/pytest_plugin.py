"""Fixtures for pytest. Installing bty registers them.

===============  ============================================================================
``bty_machine``  a machine in memory, :class:`bty.testing.MemoryHost`, with the disk ``/dev/sda``
``bty_disk``     a disk of 1 GiB: a sparse regular file in ``tmp_path``
``bty_image``    path of an image of 1 MiB in ``tmp_path``
``bty_server``   a running server, :class:`bty.testing.WebServer`
===============  ============================================================================

``@pytest.mark.bty_size("64 GiB")`` sets another size of the disk, for ``bty_machine`` and
``bty_disk``. While a test uses ``bty_machine``, bty sees no other disks: nothing that the test does
can write to a real disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Union, cast

import pytest

import bty
import bty.testing

#: Serial number of the disk of ``bty_machine``.
SERIAL = "BTY-TEST-DISK"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bty_size(size): size of the disk of bty_machine and bty_disk; 1 GiB without it")


def _size(request: pytest.FixtureRequest) -> Union[int, str]:
    node = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType]
    marker = node.get_closest_marker("bty_size")
    return "1 GiB" if marker is None else marker.args[0]


@pytest.fixture
def bty_machine(request: pytest.FixtureRequest) -> Iterator[bty.testing.MemoryHost]:
    """A machine in memory with the disk /dev/sda. bty sees no other disks during the test."""
    with bty.testing.MemoryHost(bty.Disk("/dev/sda", _size(request), serial=SERIAL, transport="sata")) as machine:
        yield machine


@pytest.fixture
def bty_disk(request: pytest.FixtureRequest, tmp_path: Path) -> bty.Disk:
    """A disk of 1 GiB: a sparse regular file in tmp_path."""
    return bty.disks.create_file(tmp_path / "disk", _size(request))


@pytest.fixture
def bty_image(tmp_path: Path) -> Path:
    """Path of an image of 1 MiB in tmp_path."""
    path = tmp_path / "system.img"
    path.write_bytes(bty.testing.image_bytes("1 MiB"))
    return path


@pytest.fixture
def bty_server(tmp_path: Path) -> Iterator[bty.testing.WebServer]:
    """A running bty-web server with an empty state."""
    with bty.testing.WebServer(tmp_path / "bty-web") as server:
        yield server
