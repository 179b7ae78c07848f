"""Fixtures: images, disks, and a real server. Nothing is mocked."""

import os
from pathlib import Path

import pytest

import bty
from bty.testing import WebServer, image_bytes

pytest_plugins = "pytester"

#: The workspace.
ROOT = Path(os.environ.get("BTY_PY_ROOT", Path(__file__).resolve().parents[2]))
MIB = 1 << 20


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "system.img"
    path.write_bytes(image_bytes(2 * MIB))
    return path


@pytest.fixture
def disk(tmp_path):
    return bty.disks.create_file(tmp_path / "disk", 4 * MIB)


@pytest.fixture
def web(tmp_path):
    """Starts a real server. Returns its address, and a function that runs its command."""
    with WebServer(tmp_path) as server:
        yield server.url, server.command
