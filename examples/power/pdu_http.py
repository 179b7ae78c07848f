#!/usr/bin/env python3
"""Power hook of bty-web: switches smart plugs with the firmware Tasmota, over HTTP.

Beside this file, pdu_http.json lists the plug of each machine:

    {"off_seconds": 5, "machines": {"52:54:00:12:34:56": "http://10.0.0.9"}}
"""

import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 10


def plug(address: str, command: str) -> str:
    """Sends a command, and returns whether the plug is on or off afterwards."""
    url = f"{address}/cm?{urllib.parse.urlencode({'cmnd': command})}"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)["POWER"].lower()


def main() -> None:
    request = json.load(sys.stdin)
    config = json.loads(Path(__file__).with_suffix(".json").read_text())
    action, mac = request["action"], request["machine"]["mac"]
    address = config["machines"].get(mac)
    if address is None:
        sys.exit(f"pdu_http.json lists no plug for {mac}; add one")
    if action == "netboot":
        print("a plug cannot choose the boot device: the firmware must try the network first")
    elif action == "status":
        print(plug(address, "Power"))
    elif action == "cycle":
        plug(address, "Power Off")
        time.sleep(config["off_seconds"])
        print(plug(address, "Power On"))
    else:
        print(plug(address, f"Power {action.capitalize()}"))


if __name__ == "__main__":
    main()
