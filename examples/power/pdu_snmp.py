#!/usr/bin/env python3
"""Power hook of bty-web: switches outlets of an APC rack PDU by SNMP, with Net-SNMP's tools.

Beside this file, pdu_snmp.json lists the outlet of each machine; only the server may read it. The
user and the keys of SNMPv3 are in snmp.conf, in the directory conf_dir:

    {"conf_dir": "/etc/bty/power", "machines": {"52:54:00:12:34:56": ["10.0.0.9", 3]}}
"""

import json
import os
import subprocess
import sys
from pathlib import Path

# rPDUOutletControlOutletCommand of PowerNet-MIB; the last number is the outlet
COMMAND = "1.3.6.1.4.1.318.1.1.12.3.3.1.1.4"
SET = {"on": "1", "off": "2", "cycle": "3"}
STATES = {"1": "on", "2": "off"}


def snmp(config: dict, tool: str, *arguments: str) -> str:
    environment = {**os.environ, "SNMPCONFPATH": config["conf_dir"]}
    command = [tool, "-Oqv", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{tool} failed ({done.returncode}): {' '.join(arguments)}")
    return done.stdout.strip()


def main() -> None:
    request = json.load(sys.stdin)
    config = json.loads(Path(__file__).with_suffix(".json").read_text())
    action, mac = request["action"], request["machine"]["mac"]
    if mac not in config["machines"]:
        sys.exit(f"pdu_snmp.json lists no outlet for {mac}; add one")
    host, outlet = config["machines"][mac]
    variable = f"{COMMAND}.{outlet}"
    if action == "netboot":
        print("a PDU cannot choose the boot device: the firmware must try the network first")
    elif action == "status":
        print(STATES.get(snmp(config, "snmpget", host, variable), "unknown"))
    else:
        snmp(config, "snmpset", host, variable, "i", SET[action])
        print(f"outlet {outlet} of {host}: {action}")


if __name__ == "__main__":
    main()
