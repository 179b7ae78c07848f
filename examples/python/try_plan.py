"""Tests a script that asks a rack for power, on a machine that is only described."""

from __future__ import annotations

from typing import Callable

import bty

SCRIPT = """
if lab::power("rack-7") != "on" { throw "no power" }
flash("debian.img", disks::only(|d| d.transport == "nvme"));
lab::note("flashed");
"""

WORLD = {
    "disks": [{"path": "/dev/nvme0n1", "size": "512G", "serial": "A", "transport": "nvme"}],
    "images": [{"src": "debian.img", "disk_size": "2G"}],
}


def power(rack: str) -> str:
    return "on"


def main() -> None:
    notes: list[str] = []
    functions: dict[str, Callable[..., object]] = {"lab::power": power, "lab::note": notes.append}
    assert bty.script.check(text=SCRIPT, functions=functions) == []
    outcome = bty.script.simulate(text=SCRIPT, functions=functions, world=WORLD)
    assert outcome.flashed[0]["targets"][0]["serial"] == "A"
    assert notes == ["flashed"]
    print("it writes to", outcome.flashed[0]["targets"][0]["path"])


if __name__ == "__main__":
    main()
