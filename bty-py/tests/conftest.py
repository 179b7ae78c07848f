"""Fixtures: images, disks, and a real server. Nothing is mocked."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bty

#: The workspace.
ROOT = Path(os.environ.get("BTY_PY_ROOT", Path(__file__).resolve().parents[2]))
MIB = 1 << 20


def image_bytes(size):
    """Returns bytes that differ at every offset, so that data at a wrong place is noticed, with zeros in
    the middle.
    """
    data = bytearray(os.urandom(4096) * (size // 4096))
    for at in range(0, size, 4096):
        data[at : at + 8] = at.to_bytes(8, "little")
    data[size // 4 : size // 2] = bytes(size // 2 - size // 4)
    data[510:512] = b"\x55\xaa"
    return bytes(data)


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
    program = Path(sys.prefix) / "bin" / "bty-web"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    env = {
        "PATH": os.environ["PATH"],
        "BTY_PATHS_STATE_DIR": str(tmp_path / "state"),
        "BTY_SERVER_HOST": "127.0.0.1",
        "BTY_SERVER_PORT": str(port),
        "BTY_WEB_SERVER": base,
    }
    (tmp_path / "state").mkdir()
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen([program], env=env, stdout=log, stderr=log)
    try:
        for _ in range(4000):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.005)
        yield base, lambda *words: subprocess.run([program, *words], env=env, check=True, capture_output=True, text=True).stdout
    finally:
        server.kill()
        server.wait()
