#!/usr/bin/env python3
"""Power hook of bty-web: switches the boards of a lab with labgrid-client.

A label of the machine names its place: place.rpi4-3. The user of the server must be allowed to
acquire the place; it is released afterwards.
"""

import json
import subprocess
import sys

POWER = {"on": "on", "off": "off", "cycle": "cycle", "status": "get"}


def client(place: str, *arguments: str) -> str:
    command = ["labgrid-client", "-p", place, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"labgrid-client failed ({done.returncode}): {' '.join(arguments)}")
    return done.stdout.strip()


def main() -> None:
    request = json.load(sys.stdin)
    action, machine = request["action"], request["machine"]
    places = [label[6:] for label in machine["labels"] if label.startswith("place.")]
    if len(places) != 1:
        sys.exit(f"{machine['mac']} needs one label such as place.rpi4-3, and has {len(places)}")
    if action == "netboot":
        print("labgrid cannot choose the boot device: the firmware must try the network first")
        return
    client(places[0], "acquire")
    try:
        said = client(places[0], "power", POWER[action])
    finally:
        client(places[0], "release")
    # such as: power for place rpi4-3 is on
    print(said.split()[-1] if action == "status" else said)


if __name__ == "__main__":
    main()
