"""A disk and a link whose rates the benchmark sets, and which count what passes."""

import http.server
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: the hierarchy that limits the rates of disks; version 2 has one file for all limits
BLKIO = Path("/sys/fs/cgroup/blkio")
SECTOR = 512
#: smaller than what a receiver's buffers hold
PIECE = 32 << 10


@dataclass(frozen=True)
class DiskRate:
    """Bytes per second; 0: not limited."""

    name: str
    read: int
    write: int


UNLIMITED = DiskRate("memory", 0, 0)
EVEN = DiskRate("500/400 MB/s", 500_000_000, 400_000_000)
SLOW_WRITES = DiskRate("400/100 MB/s", 400_000_000, 100_000_000)


class Disk:
    """A loop device with direct I/O over a file in memory. The kernel limits its rates."""

    def __init__(self, size_bytes: int, directory: Path = Path("/dev/shm")):
        self.file = directory / f"bty-bench-{os.getpid()}.img"
        self.size_bytes = size_bytes
        self.file.touch()
        os.truncate(self.file, size_bytes)
        command = ["losetup", "--find", "--show", "--direct-io=on", self.file]
        self.device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self.block = Path("/sys/block", Path(self.device).name)
        # merges the small writes of tools that use the page cache
        (self.block / "queue/scheduler").write_text("mq-deadline")
        if not BLKIO.is_dir():
            self.close()
            raise SystemExit(f"{BLKIO} is not there: the rates of a disk cannot be limited on this kernel")

    def hold(self, image: Path) -> None:
        """Fills the disk with `image`, and the rest with zeros, at full speed."""
        self.limit(UNLIMITED)
        subprocess.run(["blkdiscard", "--force", self.device], check=True)
        dd = f"dd if={image} of={self.device} bs=4M conv=sparse oflag=direct status=none"
        subprocess.run(dd.split(), check=True)
        subprocess.run(["blockdev", "--flushbufs", self.device], check=True)

    def limit(self, rate: DiskRate) -> None:
        number = (self.block / "dev").read_text().strip()
        for what, bytes_ in (("read", rate.read), ("write", rate.write)):
            (BLKIO / f"blkio.throttle.{what}_bps_device").write_text(f"{number} {bytes_}")

    def counts(self) -> tuple[int, int]:
        """Bytes read and written since it was attached."""
        fields = (self.block / "stat").read_text().split()
        return int(fields[2]) * SECTOR, int(fields[6]) * SECTOR

    def differs_from(self, image: Path) -> str:
        """The first difference from `image`; empty if equal."""
        subprocess.run(["blockdev", "--flushbufs", self.device], check=True)
        command = ["cmp", "-n", str(image.stat().st_size), image, self.device]
        result = subprocess.run(command, capture_output=True, text=True)
        return "" if result.returncode == 0 else result.stdout + result.stderr

    def close(self) -> None:
        if BLKIO.is_dir():
            self.limit(UNLIMITED)
        subprocess.run(["losetup", "-d", self.device], check=False)
        self.file.unlink(missing_ok=True)


class Link:
    """An HTTP server with single ranges on the loopback. All its connections share one rate."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.rate = 0
        self.sent_bytes = self.requests = 0
        self.lock = threading.Lock()
        self.free_at = 0.0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"link": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def start(self, rate: int) -> None:
        """Sets the rate in bytes per second, 0 for none, and counts from zero."""
        with self.lock:
            self.rate, self.sent_bytes, self.requests, self.free_at = rate, 0, 0, 0.0

    def url(self, path: Path) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path.name}"

    def wait(self, size: int) -> None:
        """Waits until the link is free for `size` more bytes."""
        with self.lock:
            if not self.rate:
                return
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + size / self.rate
            pause = self.free_at - now
        time.sleep(pause)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # heads and bodies are sent apart, and a body must not wait for an acknowledgment
    disable_nagle_algorithm = True
    link: Link

    def do_GET(self) -> None:
        self.answer(has_body=True)

    def do_HEAD(self) -> None:
        self.answer(has_body=False)

    def answer(self, has_body: bool) -> None:
        with self.link.lock:
            self.link.requests += 1
        try:
            path = (self.link.directory / self.path.lstrip("/")).resolve()
            # raises if it is outside of the directory
            path.relative_to(self.link.directory)
            file = open(path, "rb")
        except (OSError, ValueError):
            return self.send_error(404)
        with file:
            status = os.fstat(file.fileno())
            start, end = 0, status.st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked:
                start, end = int(asked[1]), min(int(asked[2] or end) + 1, end)
            if asked and start >= end:
                return self.send_error(416)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{status.st_size}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')
            self.end_headers()
            if has_body:
                self.send(file, start, end)

    def send(self, file, start: int, end: int) -> None:
        self.wfile.flush()
        while start < end:
            size = min(PIECE, end - start)
            self.link.wait(size)
            try:
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, size)
            except OSError:
                # the client has gone
                self.close_connection = True
                return
            start += sent
            with self.link.lock:
                self.link.sent_bytes += sent

    def log_message(self, *_) -> None:
        pass
