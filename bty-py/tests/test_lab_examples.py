"""Runs the examples for labs: a CI flow, Ansible, systemd, and jobs of CI servers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MIB, ROOT
from test_examples import run

import bty
from bty.testing import image_bytes

EXAMPLES = ROOT / "examples"
#: The directory of the programs of the wheel.
PROGRAMS = Path(sys.prefix) / "bin"


def boot_sector(text):
    """The first sector of an image that writes ``text`` to the serial console."""
    code = bytes.fromhex("31c0 8ed8 fc be167c ac 84c0 7406 baf803 ee ebf5 f4 ebfd")
    return (code + text.encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"


def test_ci_flow(tmp_path):
    image, out = tmp_path / "system.img", tmp_path / "out"
    image.write_bytes(boot_sector("the system is up\r\n") + bytes(MIB - 512))
    done = run("ci_flow.py", image, out, "system is up")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "report.json").read_text())["targets"][0]["proof"] == "full"
    assert b"the system is up" in (out / "console.log").read_bytes()
    packed = out / "system.img.zst"
    assert bty.images.check_packed(packed).disk_bytes == MIB and str(packed) in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["console.log", "report.json", "system.img.zst", "system.img.zst.sha256"]
    missing = run("ci_flow.py", tmp_path / "none.img", out, "x")
    assert missing.returncode == 1 and "none.img" in missing.stderr and "Traceback" not in missing.stderr


def test_ci_flow_of_an_image_that_does_not_boot(tmp_path, monkeypatch):
    image, out = tmp_path / "system.img", tmp_path / "out"
    image.write_bytes(image_bytes(MIB))
    # instead of a machine that hangs: one that ends at once
    (tmp_path / "qemu-system-x86_64").write_text("#!/bin/sh\necho no bootable device\n")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = run("ci_flow.py", image, out, "system is up")
    assert done.returncode == 1 and "does not boot" in done.stderr and not (out / "system.img.zst").exists()
    assert (out / "console.log").read_bytes() == b"no bootable device\n"


class Playbook:
    """Runs the playbook against this machine."""

    def __init__(self, home, image, disk):
        self.home, self.facts = home, {"image": str(image), "disk": str(disk), "as_root": False}

    def run(self, *options, **facts):
        program = PROGRAMS / "ansible-playbook"
        inventory = {"boards": {"hosts": {"board": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}
        (self.home / "inventory.json").write_text(json.dumps(inventory))
        environment = {
            **os.environ,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.home),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        }
        facts = json.dumps({**self.facts, **facts})
        command = [program, "-v", "-i", self.home / "inventory.json", EXAMPLES / "ansible/flash.yml", "-e", facts, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        shown = re.search(r"^(?:ok|changed|fatal): \[board\].*?=> (\{.*\})$", done.stdout, re.MULTILINE)
        assert shown, done
        return done.returncode, json.loads(shown[1])


@pytest.fixture
def playbook(tmp_path, image, disk):
    pytest.importorskip("ansible", reason="ansible-core is not installed: pip install -r bty-py/requirements-test.txt")
    return Playbook(tmp_path, image, disk.path)


def test_ansible_writes_once(playbook, image, disk):
    before = Path(disk.path).read_bytes()
    code, result = playbook.run("--check")
    assert (code, result["changed"]) == (0, True), result
    assert Path(disk.path).read_bytes() == before
    code, result = playbook.run()
    assert (code, result["changed"]) == (0, True), result
    assert bty.verify(image, disk) and result["report"]["targets"][0]["failure"] is None
    for options in ([], ["--check"]):
        code, result = playbook.run(*options)
        assert (code, result["changed"]) == (0, False), result


def test_ansible_shows_why_it_is_refused(playbook, tmp_path):
    small = bty.disks.create_file(tmp_path / "small", MIB)
    for options in ([], ["--check"]):
        code, result = playbook.run(*options, disk=str(small.path))
        assert code != 0 and "larger than" in result["msg"], result
    assert not any(Path(small.path).read_bytes())
    (tmp_path / "odd.img").write_bytes(bytes([7, 0, 200, 130]) * 4096)
    for options in ([], ["--check"]):
        code, result = playbook.run(*options, image=str(tmp_path / "odd.img"))
        assert code != 0 and [refusal["reason"] for refusal in result["refusals"]] == ["unrecognized"], result
    code, result = playbook.run(image=str(tmp_path / "none.img"))
    assert code != 0 and "none.img" in result["msg"], result
    code, result = playbook.run(image_sha256="0" * 64)
    assert code != 0 and "0000" in result["msg"], result


def settings(path, section):
    """The settings of a section of a unit file, with repeated ones as lists."""
    found, current = {}, None
    for line in path.read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif "=" in line and not line.startswith("#") and current == section:
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def test_systemd_unit(tmp_path, image, disk):
    unit = tmp_path / "bty-flash-once.service"
    text = (EXAMPLES / "systemd" / unit.name).read_text()
    unit.write_text(text.replace("/usr/bin/bty", str(PROGRAMS / "bty")))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    names = [line.split("=")[0] for line in (EXAMPLES / "systemd/bty-flash-once.conf").read_text().splitlines() if "=" in line]
    assert names == ["IMAGE", "SHA256", "DISK"]
    (command,) = settings(unit, "Service")["ExecStart"]
    (state,) = settings(unit, "Service")["StateDirectory"]
    assert settings(unit, "Unit")["ConditionPathExists"] == [f"!/var/lib/{state}/done"]
    assert settings(unit, "Service")["ExecStartPost"] == [f"/usr/bin/touch /var/lib/{state}/done"]
    # systemd replaces ${NAME} by one word, as this does
    digest = bty.images.open(image, compute_sha256=True).read_fully().source_sha256
    values = {"IMAGE": str(image), "SHA256": digest, "DISK": str(disk.path)}
    words = [values.get(word.strip("${}"), word) for word in command.split()]
    words.remove("--fix-gpt")  # the image of the test has no GPT
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert bty.verify(image, disk)


def commands_of_github(job):
    return [step["run"] for step in job["jobs"]["board"]["steps"] if "run" in step], job["jobs"]["board"]["env"]


def commands_of_gitlab(job):
    board = job["board"]
    return [*board["before_script"], *board["script"], *board["after_script"]], board["variables"]


@pytest.mark.parametrize(("name", "commands_of"), [("github.yml", commands_of_github), ("gitlab.yml", commands_of_gitlab)])
def test_jobs_of_ci_servers(tmp_path, disk, name, commands_of):
    yaml = pytest.importorskip("yaml")
    commands, variables = commands_of(yaml.safe_load((EXAMPLES / "ci" / name).read_text()))
    assert set(variables) == {"IMAGE", "DISK"}
    (tmp_path / "build").mkdir()
    image = tmp_path / variables["IMAGE"]
    made = subprocess.run(["sgdisk", "-n", "1:2048:+1M", disk.path], capture_output=True, text=True)
    assert made.returncode == 0, made
    bty.pack(disk.path, image)
    target = bty.disks.create_file(tmp_path / "card", 8 * MIB)
    (tmp_path / "lab").write_text('#!/bin/sh\necho "$*" >> "$LAB_LOG"\n')
    (tmp_path / "lab").chmod(0o755)
    environment = {
        **os.environ,
        **variables,
        "DISK": str(target.path),
        "LAB_LOG": str(tmp_path / "lab.log"),
        "PATH": f"{tmp_path}:{PROGRAMS}:{os.environ['PATH']}",
    }
    for command in commands:
        done = subprocess.run([shutil.which("bash"), "-eo", "pipefail", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "flash.jsonl").read_text().splitlines()[-1])["event"] == "report"
    assert bty.verify(image, target, fix_gpt=True)
    calls = (tmp_path / "lab.log").read_text().splitlines()
    assert calls[:5] == ["power off", "card host", "card board", "power on", "console --until login:"]
