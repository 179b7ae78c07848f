#!/usr/bin/python
"""An Ansible module that writes an image to a disk. It needs the command bty on the machine."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: bty_flash
short_description: Write an image to a disk, and prove it
description:
  - Compares the disk with the image first, and changes nothing if they are equal.
  - In check mode, validates the plan and writes nothing.
options:
  image:
    description: A path on the machine, or an C(http://), C(https://) or C(oras://) address.
    type: str
    required: true
  disk:
    description: "A path or a selector, such as C(serial:4C530001230412115574)."
    type: str
    required: true
  sha256:
    description: The SHA-256 that the file must have, as published.
    type: str
  fix_gpt:
    description: Move the backup GPT to the end of a larger disk.
    type: bool
    default: false
  raw:
    description: Write an image in which no partition table, file system or boot sector is found.
    type: bool
    default: false
  executable:
    description: The command bty.
    type: str
    default: bty
attributes:
  check_mode:
    support: full
"""

EXAMPLES = """
- name: Write the image to the data disk
  bty_flash:
    image: https://images.example/debian-13.img.zst
    disk: serial:4C530001230412115574
"""

RETURN = """
refusals:
  description: Every reason against writing to the disk.
  returned: when refused
  type: list
report:
  description: What C(bty flash --json) reports at its end.
  returned: when written
  type: dict
"""

#: Exit codes of bty.
SUCCESS, REFUSED, DIFFERENT = 0, 3, 5

ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "disk": {"type": "str", "required": True},
    "sha256": {"type": "str"},
    "fix_gpt": {"type": "bool", "default": False},
    "raw": {"type": "bool", "default": False},
    "executable": {"type": "str", "default": "bty"},
}


def run(module: AnsibleModule, verb: str, *options: str) -> tuple[int, dict]:
    """Runs a verb of bty. Returns its exit code and the last object that it prints."""
    wanted = module.params
    command = [wanted["executable"], verb, wanted["image"], wanted["disk"], "--json", *options]
    if wanted["sha256"]:
        command += ["--sha256", wanted["sha256"]]
    if wanted["fix_gpt"]:
        command += ["--fix-gpt"]
    code, out, err = module.run_command(command)
    try:
        return code, json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        module.fail_json(msg=f"{verb} printed no JSON: {err.strip()}", rc=code)


def fail(module: AnsibleModule, code: int, last: dict) -> None:
    refusals = last.get("refusals") or []
    failures = [target["failure"]["message"] for target in last.get("targets", ()) if target["failure"]]
    reasons = [refusal["message"] for refusal in refusals] or failures or [last.get("message", "bty failed")]
    if last.get("hint"):
        reasons.append(last["hint"])
    module.fail_json(msg="; ".join(reasons), rc=code, refusals=refusals)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    code, last = run(module, "verify")
    if code == SUCCESS:
        module.exit_json(changed=False)
    if code != DIFFERENT or last.get("event") != "report":
        fail(module, code, last)
    options = ["--yes", *(["--raw"] if module.params["raw"] else []), *(["--dry-run"] if module.check_mode else [])]
    code, last = run(module, "flash", *options)
    if code != SUCCESS or last.get("refusals"):
        fail(module, code or REFUSED, last)
    module.exit_json(changed=True, **({} if module.check_mode else {"report": last}))


if __name__ == "__main__":
    main()
