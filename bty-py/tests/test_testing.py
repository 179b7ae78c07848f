"""Machines in memory, and the fixtures for pytest."""

import subprocess
import threading

import pytest
from conftest import MIB

import bty
from bty.testing import MemoryHost, WebServer, image_bytes


@pytest.fixture
def machine():
    with MemoryHost(bty.Disk("/dev/sda", "8 GiB", serial="A"), bty.Disk("/dev/sdb", "1 GiB", transport="usb")) as machine:
        yield machine


def test_a_flash_in_memory(machine, image):
    report = bty.flash(image, "serial:A", progress=lambda event: event.to_dict())
    assert report and report.targets[0].verified_bytes >= 2 * MIB
    assert machine.read("/dev/sda", length="2 MiB") == image.read_bytes()
    assert bty.verify(image, "/dev/sda").is_equal
    machine.write("/dev/sda", b"\x55\xaa", MIB + 7)
    assert bty.verify(image, "/dev/sda").first_difference.offset in (MIB + 7, MIB + 8)
    assert machine.read("/dev/sda", (8 << 30) - 4096) == bytes(4096)


def test_only_the_disks_of_the_machine_exist(machine, image, tmp_path):
    assert [disk.serial for disk in bty.disks.list()] == ["A", None] and machine.disks == bty.disks.list()
    for path in (image, "/dev/null", tmp_path):
        with pytest.raises(bty.RefusedError, match="there is nothing at") as raised:
            bty.disks.probe(path)
        assert "MemoryHost" in raised.value.hint
    created = bty.disks.create_file("/disks/new", "2 MiB")
    assert created.kind == "file" and bty.flash(image, created)
    assert [disk["path"] for disk in bty.inventory.collect()["disks"]] == ["/dev/sda", "/dev/sdb"]


def test_other_threads_see_the_machine(machine, image):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(bty.flash(image, "/dev/sda")))
    thread.start()
    thread.join()
    with bty.flashing(image, "/dev/sdb") as work:
        assert list(work)
    assert seen[0] and work.result()


def test_the_machine_is_gone_after_the_block():
    before = bty.disks.list()
    with MemoryHost(bty.Disk("/dev/a", 512)):
        with MemoryHost() as inner:
            assert bty.disks.list() == [] == inner.disks
        assert [str(disk.path) for disk in bty.disks.list()] == ["/dev/a"]
    assert [disk.path for disk in bty.disks.list()] == [disk.path for disk in before]


def test_a_broken_disk(machine, image):
    broken = machine.add(bty.Disk("/dev/sdc", "4 MiB"), fail_from="1 MiB")
    with pytest.raises(bty.TargetError, match="/dev/sdc"):
        bty.flash(image, broken)
    # a flash does not begin to boot before it is complete
    assert machine.read(broken, length=512) == bytes(512)


def test_a_disk_that_was_replaced(machine, image):
    plan = bty.Plan(image, "/dev/sdb")
    machine.remove("/dev/sdb")
    machine.add(bty.Disk("/dev/sdb", "2 GiB"))
    with pytest.raises(bty.FlashRaceError):
        plan.execute()
    machine.remove("/dev/sdb")
    with pytest.raises(bty.RefusedError):
        machine.remove("/dev/sdb")


@pytest.mark.parametrize(
    "disk", [bty.Disk("/dev/sda", "1 MiB"), bty.Disk("/dev/sdc", 1000), bty.Disk("/dev/sdc", 512, logical_sector_bytes=100)], ids=str
)
def test_disks_that_cannot_be_added(machine, disk):
    with pytest.raises(bty.RefusedError):
        machine.add(disk)


@pytest.mark.parametrize(("offset", "length"), [(0, 1 << 64), ((8 << 30) + 1, 0), (8 << 30, 1), (0, None)])
def test_ranges_that_cannot_be_read(machine, offset, length):
    with pytest.raises((ValueError, OverflowError)):
        machine.read("/dev/sda", offset, length)
    with pytest.raises(ValueError, match="not inside the disk"):
        machine.write("/dev/sda", b"x", 8 << 30)


def test_scripts_act_on_the_machine(machine, image):
    outcome = bty.script.run(text=f'flash("{image}", disks::by_serial("A"), #{{ uefi_boot: true }}).disk_bytes')
    assert outcome.value == 2 * MIB and machine.read("/dev/sda", length="2 MiB") == image.read_bytes()


def test_the_firmware_of_this_machine_is_out_of_reach(machine, image):
    with pytest.raises(bty.HostError, match="this machine was not started by UEFI"):
        bty.disks.boot_next("/dev/sda")
    report = bty.flash(image, "/dev/sda", uefi_boot=True)
    assert report.targets[0].boot_entry is None and "UEFI" in report.targets[0].notes[0]


def test_images_differ_from_block_to_block():
    data = image_bytes("64 KiB")
    blocks = {data[at : at + 4096] for at in range(0, len(data), 4096)}
    assert len(blocks) == 12 + 1 and data[510:512] == b"\x55\xaa" and data == image_bytes(65536)
    for size in (0, -4096, 100, "1 KiB", "many"):
        with pytest.raises(ValueError):
            image_bytes(size)


def test_a_server_that_does_not_start(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no such setting\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="no such setting"):
        with WebServer(tmp_path, program=program):
            pass


def test_a_server_has_its_address_once_it_runs(tmp_path):
    server = WebServer(tmp_path / "web")
    with pytest.raises(RuntimeError, match="no address yet"):
        server.url
    with server:
        first = server.url
        assert server.client.machines() == []
    with server, WebServer(tmp_path / "other") as other:
        assert len({first.rpartition(":")[0], server.url.rpartition(":")[0]}) == 1
        assert server.url != other.url


def test_the_server_has_a_command(tmp_path):
    with WebServer(tmp_path / "web") as server:
        assert server.client.machines() == []
        assert server.command("token", "create", "ci", "--scope", "read")
        with pytest.raises(subprocess.CalledProcessError):
            server.command("no-such-command")


def test_fixtures(pytester):
    pytester.makepyfile(
        """
        import bty, pytest

        def test_machine(bty_machine, bty_image):
            assert bty.flash(bty_image, "serial:BTY-TEST-DISK")
            assert bty_machine.read("/dev/sda", length="1 MiB") == bty_image.read_bytes()

        @pytest.mark.bty_size("64 GiB")
        def test_size(bty_machine):
            assert bty.disks.select("/dev/sda").size_bytes == 64 << 30

        def test_disk(bty_disk, bty_image):
            assert bty.flash(bty_image, bty_disk) and bty_disk.size_bytes == 1 << 30
            with open(bty_disk.path, "rb") as file:
                assert file.read(1 << 20) == bty_image.read_bytes()

        def test_server(bty_server):
            assert bty_server.client.catalog() == []
        """
    )
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
    outcome.assert_outcomes(passed=4)


def test_fixtures_are_listed_with_their_purpose(pytester):
    shown = pytester.runpytest_subprocess("--fixtures").stdout.str()
    for fixture in ("bty_machine", "bty_disk", "bty_image", "bty_server"):
        assert fixture in shown
    assert "bty_size(size)" in pytester.runpytest_subprocess("--markers").stdout.str()
