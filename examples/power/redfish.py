#!/usr/bin/env python3
"""Power hook of bty-web: switches machines by Redfish, with redfishtool.

Beside this file, redfish.json lists the BMC of each machine, and the file from which redfishtool
reads user and password; only the server may read both:

    {"credentials": "/etc/bty/power/redfish.credentials",
     "machines": {"52:54:00:12:34:56": "10.0.0.56"}}
"""

import json
import subprocess
import sys
from pathlib import Path

RESET = {"on": "On", "off": "ForceOff", "cycle": "ForceRestart"}


def redfishtool(config: dict, host: str, *arguments: str) -> str:
    command = ["redfishtool", "-c", config["credentials"], "-r", host, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"redfishtool failed ({done.returncode}): {' '.join(arguments)}")
    return done.stdout.strip()


def main() -> None:
    request = json.load(sys.stdin)
    config = json.loads(Path(__file__).with_suffix(".json").read_text())
    action, mac = request["action"], request["machine"]["mac"]
    host = config["machines"].get(mac)
    if host is None:
        sys.exit(f"redfish.json lists no BMC for {mac}; add one")
    if action == "netboot":
        print(redfishtool(config, host, "-1", "Systems", "setBootOverride", "Once", "Pxe"))
        return
    system = json.loads(redfishtool(config, host, "-1", "Systems", "get"))
    state = system["PowerState"].lower()
    if action == "status":
        print(state)
        return
    if action == "cycle" and state == "off":
        # a BMC refuses to restart a machine that is off
        action = "on"
    print(redfishtool(config, host, "-1", "Systems", "reset", RESET[action]))


if __name__ == "__main__":
    main()
