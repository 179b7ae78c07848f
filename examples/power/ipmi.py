#!/usr/bin/env python3
"""Power hook of bty-web: switches machines by IPMI, with ipmitool.

Beside this file, ipmi.json lists the BMC of each machine; only the server may read it:

    {"user": "bty", "password_file": "/etc/bty/power/ipmi.password",
     "machines": {"52:54:00:12:34:56": "10.0.0.56"}}
"""

import json
import subprocess
import sys
from pathlib import Path

POWER = {"on": "on", "off": "off", "cycle": "cycle", "status": "status"}


def ipmitool(config: dict, host: str, *arguments: str) -> str:
    command = ["ipmitool", "-I", "lanplus", "-H", host, "-U", config["user"]]
    command += ["-f", config["password_file"], *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"ipmitool failed ({done.returncode}): {' '.join(arguments)}")
    return done.stdout.strip()


def main() -> None:
    request = json.load(sys.stdin)
    config = json.loads(Path(__file__).with_suffix(".json").read_text())
    action, mac = request["action"], request["machine"]["mac"]
    host = config["machines"].get(mac)
    if host is None:
        sys.exit(f"ipmi.json lists no BMC for {mac}; add one")
    if action == "netboot":
        print(ipmitool(config, host, "chassis", "bootdev", "pxe"))
        return
    is_on = ipmitool(config, host, "chassis", "power", "status").endswith("on")
    if action == "status":
        print("on" if is_on else "off")
        return
    if action == "cycle" and not is_on:
        # a BMC refuses to cycle a machine that is off
        action = "on"
    print(ipmitool(config, host, "chassis", "power", POWER[action]))


if __name__ == "__main__":
    main()
