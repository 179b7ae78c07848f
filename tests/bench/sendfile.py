"""The cache host with sendfile(2) beside the same with hyper alone. Prints a table; writes nothing.

usage: sendfile.py BTY_WEB LOAD

The cache host leaves a request with a body to hyper and the router, so that the clients of the
second column send one byte. Runs alternate, because the load of the machine changes.
"""

import functools
import http.server
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from bytes import MIB, OBJECT, Load, blob, bty_cache, filled

RUNS = 5


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main() -> None:
    bty, load = sys.argv[1], Load(sys.argv[2])
    with tempfile.TemporaryDirectory(dir="target") as temp:
        work = Path(temp)
        (work / "origin").mkdir()
        with open(work / "origin/object.img", "wb") as image:
            for _ in range(OBJECT // MIB):
                image.write(b"x" * MIB)
        handler = functools.partial(Quiet, directory=work / "origin")
        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        path = blob(f"http://127.0.0.1:{origin.server_port}/object.img")
        with bty_cache(bty, work / "cache") as (port, _):
            load("http", f"127.0.0.1:{port}", path, 1, 1)
            filled(port)
            print("| clients | sendfile, MiB/s | hyper alone, MiB/s | hyper is slower by |")
            print("|---|---|---|---|")
            for clients in (1, 50):
                speeds: dict[str, list[float]] = {"http": [], "http-hyper": []}
                for _ in range(RUNS):
                    for mode, measured in speeds.items():
                        took = load(mode, f"127.0.0.1:{port}", path, clients, 1)
                        assert took["failed"] == 0, took
                        measured.append(took["bytes"] / MIB / took["last_s"])
                own, hyper = (statistics.median(measured) for measured in speeds.values())
                print(f"| {clients} | {own:.0f} | {hyper:.0f} | {(1 - hyper / own) * 100:.0f} % |")


if __name__ == "__main__":
    main()
