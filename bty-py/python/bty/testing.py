"""Help for tests of programs that use bty: images, machines in memory, and servers. The fixtures of
``bty.pytest_plugin`` are made of them.

>>> import bty, bty.testing, pathlib, tempfile
>>> image = pathlib.Path(tempfile.mkdtemp()) / "system.img"
>>> _ = image.write_bytes(bty.testing.image_bytes("1 MiB"))
>>> with bty.testing.MemoryHost(bty.Disk("/dev/sda", "8 GiB", serial="A")) as machine:
...     report = bty.flash(image, "serial:A")
...     [disk.serial for disk in bty.disks.list()]
['A']
>>> machine.read("/dev/sda", length="1 MiB") == image.read_bytes()
True
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import _bty
from ._bty import MemoryHost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from .client import Server
    from .types import PathLike, Size

__all__ = ["MemoryHost", "WebServer", "image_bytes"]

#: Unit in which the content of an image differs.
_BLOCK = 4096
#: How long a server may take to start, in seconds.
_START_TIMEOUT = 60.0


def image_bytes(size: Size) -> bytes:
    """Returns a disk image of ``size`` bytes, a multiple of 4096: a boot sector, data that differs
    from block to block, so that data at a wrong place is noticed, and zeros in the second quarter.

    Raises ``ValueError`` for another size.

    >>> import bty.testing
    >>> len(bty.testing.image_bytes("64 KiB"))
    65536
    """
    count = _bty.size_parse(size) if isinstance(size, str) else size
    if count <= 0 or count % _BLOCK:
        raise ValueError(f"the size of an image is a multiple of {_BLOCK} bytes: {size!r}")
    pattern = random.Random(count).randbytes(_BLOCK)
    data = bytearray(pattern * (count // _BLOCK))
    for at in range(0, count, _BLOCK):
        data[at : at + 8] = at.to_bytes(8, "little")
    quarter = count // 4
    data[quarter : 2 * quarter] = bytes(quarter)
    data[510:512] = b"\x55\xaa"
    return bytes(data)


class WebServer:
    """A bty-web server with an empty state in ``directory``, on a free port of this machine. As a
    context manager, it starts the server, and stops it at the end of the block.

    ``program`` is the path of ``bty-web``; without it, the one of this Python environment, else the
    one in ``PATH``.
    """

    def __init__(self, directory: PathLike, *, program: Optional[PathLike] = None) -> None:
        self._directory = Path(directory)
        self._program = _find_program() if program is None else os.fspath(program)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._address: Optional[str] = None

    @property
    def url(self) -> str:
        """Base URL of the server, which chooses its port when it starts.

        Raises ``RuntimeError`` if it has not been started.
        """
        if self._address is None:
            raise RuntimeError("the server has no address yet: use it in a `with` block")
        return f"http://{self._address}"

    @property
    def client(self) -> Server:
        """A client for the server. It needs no token, because the server has no password."""
        from .client import Server

        return Server(self.url)

    def command(self, *args: str) -> str:
        """Runs a command of ``bty-web``, such as ``token create``, with the state of this server,
        and returns its output.

        Raises ``subprocess.CalledProcessError`` if it fails.
        """
        done = subprocess.run([self._program, *args], env=self._environment(), check=True, capture_output=True, text=True)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "BTY_PATHS_STATE_DIR": str(self._directory / "state"),
            "BTY_SERVER_HOST": "127.0.0.1",
            "BTY_SERVER_LOG_FORMAT": "json",
        }
        if self._address is None:
            # a port chosen here could be another program's by the time the server wants it
            return {**environment, "BTY_SERVER_PORT": "0"}
        return {**environment, "BTY_SERVER_PORT": self._address.rpartition(":")[2], "BTY_WEB_SERVER": self.url}

    def __enter__(self) -> WebServer:
        (self._directory / "state").mkdir(parents=True, exist_ok=True)
        log = self._directory / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen([self._program], env=self._environment(), stdout=out, stderr=out)
        try:
            self._address = self._wait(self._process, log)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_failure: Any) -> None:
        self._stop()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> str:
        """Waits until the server has said where it listens, and returns its address and port."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            # it ended before the log is read, so the log is complete
            has_ended = process.poll() is not None
            for line in log.read_text(errors="replace").splitlines(keepends=True):
                if line.endswith("\n") and '"address":' in line:
                    return str(json.loads(line)["address"])
            if has_ended or time.monotonic() > deadline:
                raise RuntimeError(f"bty-web does not start: {log.read_text(errors='replace')}")
            time.sleep(0.005)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = self._address = None


def _find_program() -> str:
    own = os.path.join(os.path.dirname(sys.executable), "bty-web")
    found = own if os.access(own, os.X_OK) else shutil.which("bty-web")
    if found is None:
        raise FileNotFoundError("bty-web is neither in this Python environment nor in PATH: pass program=")
    return found
