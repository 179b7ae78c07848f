"""Shows what each machine of a server would do at its next boots: fleet.py URL [TOKEN]"""

from __future__ import annotations

import sys
from typing import Optional

from bty.client import Server


def main(url: str, token: Optional[str] = None) -> None:
    server = Server(url, token)
    for machine in server.machines():
        steps = server.simulate(machine.mac, boots=2)
        print(machine.mac, machine.boot_mode, *(step.mode or step.offer for step in steps))


if __name__ == "__main__":
    main(*sys.argv[1:3])
