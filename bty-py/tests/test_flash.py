"""Flashing, canceling and failing; with threads, signals and forks."""

import functools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import MIB
from slow import slow_image

import bty
from bty.testing import image_bytes


def test_flash_writes_and_proves(image, disk):
    events = []
    report = bty.flash(image, disk, progress=events.append)
    assert Path(disk.path).read_bytes()[: 2 * MIB] == image.read_bytes()
    assert report.is_success and report.disk_bytes == 2 * MIB
    assert report.targets[0].verified_bytes >= 2 * MIB
    assert [event.phase for event in events if event.event == "phase"][:3] == ["wipe", "write", "verify"]
    assert all(isinstance(event.source_bytes, int) for event in events if event.event == "progress")
    assert bty.verify(image, disk).is_equal


def test_difference_is_found(image, disk):
    bty.flash(image, disk)
    with open(disk.path, "r+b") as file:
        file.seek(MIB + 7)
        file.write(b"\x55\xaa")
    report = bty.verify(image, disk)
    assert not report.is_equal and report.first_difference.offset in (MIB + 7, MIB + 8)


def test_digest_that_differs_leaves_nothing_bootable(image, disk):
    with pytest.raises(bty.FlashIntegrityError) as raised:
        bty.flash(image, disk, sha256="0" * 64)
    assert raised.value.kind == "integrity"
    assert Path(disk.path).read_bytes()[:512] == bytes(512)


@pytest.mark.parametrize("way", ["zeros", "random", "discard"])
def test_an_erased_disk_holds_nothing_of_before(image, disk, way):
    bty.flash(image, disk)
    phases = []
    report = bty.disks.erase(disk, way, progress=lambda event: phases.append(event.phase))
    assert (report.way, report.is_attested) == (way, False)
    assert report.erased_bytes == report.verified_bytes == disk.size_bytes
    assert set(phases) >= {"wipe", "write", "verify"}
    content = Path(disk.path).read_bytes()
    assert content[:MIB] == bytes(MIB)
    assert (content == bytes(len(content))) == (way != "random")


def test_a_disk_that_cannot_be_erased_in_a_way_is_left_alone(image, disk):
    bty.flash(image, disk)
    before = Path(disk.path).read_bytes()
    with pytest.raises(bty.RefusedError, match="not an NVMe disk"):
        bty.disks.erase(disk, "nvme_format")
    with pytest.raises(bty.UsageError, match="unknown way to erase"):
        bty.disks.erase(disk, "quickly")
    assert Path(disk.path).read_bytes() == before


def test_all_refusals_at_once(tmp_path, image):
    small = bty.disks.create_file(tmp_path / "small", MIB)
    plan = bty.Plan(image, [small.replace(is_read_only=True)])
    assert {refusal.reason for refusal in plan.validate()} == {"too_small", "read_only"}
    with pytest.raises(bty.RefusedError) as raised:
        plan.execute()
    assert {refusal.reason for refusal in raised.value.refusals} == {"too_small", "read_only"}
    assert Path(small.path).read_bytes() == bytes(MIB)


def test_disk_that_changed_after_the_plan(image, disk):
    plan = bty.Plan(image, disk)
    plan.check()
    os.truncate(disk.path, 3 * MIB)
    with pytest.raises(bty.FlashRaceError) as raised:
        plan.execute()
    (refusal,) = raised.value.refusals
    assert (refusal.reason, refusal.message) == ("no_target", str(raised.value))


def test_plan_survives_pickling(image, disk):
    import pickle

    plan = pickle.loads(pickle.dumps(bty.Plan(image, disk, fix_gpt=False)))
    assert plan == bty.Plan(image, disk)
    assert plan.execute().is_success


def test_misspelt_option_is_no_option(image, disk):
    with pytest.raises(TypeError, match="verfy"):
        bty.Plan(image, disk, verfy=False)
    with pytest.raises(TypeError):
        bty.flash(image, disk, verfy=False)


def test_four_at_once(tmp_path, image):
    disks = [bty.disks.create_file(tmp_path / f"disk{n}", 4 * MIB) for n in range(4)]
    reports = {}
    threads = [threading.Thread(target=lambda n=n: reports.update({n: bty.flash(image, disks[n])})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reports[n].is_success for n in range(4)] == [True] * 4
    assert all(Path(disk.path).read_bytes()[: 2 * MIB] == image.read_bytes() for disk in disks)


def test_four_targets_of_one_flash(tmp_path, image):
    disks = [bty.disks.create_file(tmp_path / f"disk{n}", 4 * MIB) for n in range(4)]
    report = bty.flash(image, disks)
    assert [target.disk.path for target in report.targets] == [disk.path for disk in disks]


def test_other_threads_run_meanwhile(disk):
    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, release):
        counted = []

        def count():
            while not counted or len(counted) < 100:
                counted.append(1)
                time.sleep(0)
            release.set()

        thread = threading.Thread(target=count)
        thread.start()
        # would not end if the other thread could not run
        assert bty.flash(address, disk).is_success
        thread.join()


@pytest.mark.parametrize("kind", ["token", "function", "event"])
def test_cancel(disk, kind):
    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        token, event = bty.CancelToken(), threading.Event()
        cancel = {"token": token, "function": lambda: event.is_set(), "event": event.is_set}[kind]

        def progress(happened):
            if happened.event == "progress" and happened.phase == "write":
                token.cancel()
                event.set()

        with pytest.raises(bty.FlashCancelled) as raised:
            bty.flash(address, disk, progress=progress, cancel=cancel)
        assert raised.value.kind == "cancelled"
    assert Path(disk.path).read_bytes()[:512] == bytes(512)


def test_callback_that_raises(disk):
    class Mine(Exception):
        pass

    def progress(event):
        if event.phase == "write":
            raise Mine("enough")

    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        with pytest.raises(Mine, match="enough"):
            bty.flash(address, disk, progress=progress)
    assert Path(disk.path).read_bytes()[:512] == bytes(512)
    # the disk is released
    assert bty.disks.probe(disk.path).uses == []


def test_events_as_an_iterator(image, disk):
    with bty.flashing(image, disk) as work:
        kinds = {event.event for event in work}
        assert "progress" in kinds
        assert list(work) == []
    assert work.result().is_success and not work.is_running


def test_leaving_the_block_by_an_exception_cancels(disk):
    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        with pytest.raises(KeyError):
            with bty.flashing(address, disk) as work:
                raise KeyError
        assert not work.is_running
        with pytest.raises(bty.FlashCancelled):
            work.result()


def test_what_failed_is_raised_at_the_end_of_the_block(image, disk):
    with pytest.raises(bty.FlashIntegrityError):
        with bty.flashing(image, disk, sha256="0" * 64):
            pass


def test_boot_next_makes_an_entry_of_ours_and_leaves_all_others(disk, tmp_path):
    made = subprocess.run(["sgdisk", "-n", "1:2048:+1M", "-t", "1:ef00", disk.path], capture_output=True, text=True)
    assert made.returncode == 0, made
    efivars = tmp_path / "efivars"
    efivars.mkdir()
    with pytest.raises(bty.HostError, match="not started by UEFI"):
        bty.disks.boot_next(disk, efivars=efivars)
    guid = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    entry = bytes([7, 0, 0, 0, 1, 0, 0, 0, 0, 0]) + "debian\0".encode("utf-16-le")
    (efivars / f"Boot0000-{guid}").write_bytes(entry)
    assert [bty.disks.boot_next(disk.path, efivars=efivars, label="mine") for _ in range(2)] == [0xFF, 0xFF]
    assert (efivars / f"BootNext-{guid}").read_bytes() == bytes([7, 0, 0, 0, 0xFF, 0])
    assert (efivars / f"Boot0000-{guid}").read_bytes() == entry
    assert "mine\0".encode("utf-16-le") in (efivars / f"Boot00FF-{guid}").read_bytes()
    assert len(list(efivars.iterdir())) == 3


def test_a_machine_without_uefi_is_left_as_it_is(disk):
    told = bty.flash.register_uefi_boot_entry(Path(disk.path), label="bty test")
    # even if this machine was started by UEFI, the disk has no EFI system partition
    assert re.match("skipped UEFI boot entry: (this machine was not started by UEFI|the disk has no EFI system partition)$", told)


def run_python(text, *args):
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(text), *map(str, args)]
    # background jobs of a shell ignore Ctrl-C, and children inherit that
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def test_ctrl_c(disk):
    program = """
        import bty, sys
        def progress(event):
            if event.phase == "write":
                print("writing", flush=True)
        try:
            bty.flash(sys.argv[1], sys.argv[2], progress=progress)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        child = run_python(program, address, disk.path)
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGINT)
        # without the signal it would wait forever for the server, which waits for the end of this
        # block
        out, err = child.communicate(timeout=300)
    assert "interrupted" in out, err
    assert child.returncode == 0
    assert Path(disk.path).read_bytes()[:512] == bytes(512)


def test_fork(image, disk):
    program = """
        import bty, os, sys, warnings
        warnings.simplefilter("ignore")
        address, image, disk, other = sys.argv[1:]
        assert bty.images.open(address).info.disk_bytes
        remote = bty.images.open(address)
        child = os.fork()
        if child == 0:
            try:
                assert bty.flash(image, disk).is_success
                assert bty.images.open(address).info.disk_bytes
                try:
                    remote.read_fully()
                except RuntimeError as error:
                    assert "fork" in str(error)
                else:
                    os._exit(3)
                os._exit(0)
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bty.flash(image, other).is_success
    """
    other = bty.disks.create_file(disk.path.with_name("other"), 4 * MIB)
    with slow_image(image_bytes(MIB), 2 * MIB) as (address, _):
        child = run_python(program, address, image, disk.path, other.path)
        out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err


@pytest.mark.parametrize("begin", ["bty.flashing(*sys.argv[1:])", "asyncio.run(asyncio.wait_for(bty.aflash(*sys.argv[1:]), 0.3))"])
def test_program_that_ends_meanwhile(disk, begin):
    with slow_image(image_bytes(4 * MIB), 3 * MIB) as (address, _):
        child = run_python(f"import asyncio, bty, contextlib, sys\nwith contextlib.suppress(asyncio.TimeoutError):\n    work = {begin}", address, disk.path)
        out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert Path(disk.path).read_bytes()[:512] == bytes(512)


#: Flashes many times, and prints the growth of memory, open files and threads.
MANY_FLASHES = """
import os, sys, time
from pathlib import Path
import bty

image, disk = Path(sys.argv[1]), bty.disks.create_file(Path(sys.argv[2]), 131072)

def flash(times):
    for _ in range(times):
        assert bty.flash(image, disk, progress=lambda event: event.to_dict()).is_success

def held():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

flash(100)
before = held()
flash(400)
# the kernel lists a thread for a moment after it has been joined
deadline = time.monotonic() + 60
while any(now > then for now, then in zip(held()[1:], before[1:])) and time.monotonic() < deadline:
    time.sleep(0.01)
print(*(now - then for now, then in zip(held(), before)))
"""


def test_hundreds_of_flashes_leave_nothing_behind(tmp_path):
    image = tmp_path / "tiny.img"
    image.write_bytes(image_bytes(65536))
    # a single malloc arena: with one per thread, freed memory stays with threads that have ended
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    run = [sys.executable, "-c", MANY_FLASHES, image, tmp_path / "disk"]
    memory, files, threads = map(int, subprocess.run(run, check=True, capture_output=True, text=True, env=env).stdout.split())
    assert files <= 0 and threads <= 0
    # less than a leak of one event per flash
    assert memory < 8 * MIB


@pytest.mark.skipif(os.environ.get("BTY_TEST_NO_ROOT") is not None, reason="BTY_TEST_NO_ROOT is set")
def test_loop_device(tmp_path, image):
    backing = tmp_path / "backing"
    with open(backing, "wb") as file:
        file.truncate(8 * MIB)
    path = subprocess.run(["losetup", "--find", "--show", backing], check=True, capture_output=True, text=True).stdout.strip()
    try:
        assert path in [str(disk.path) for disk in bty.disks.list()]
        assert bty.flash(image, path).is_success
        told = []
        plan = bty.flash.make_plan(bty.flash.probe_image(image), bty.flash.probe_target(Path(path)))
        assert bty.flash.validate_plan(plan) == []
        bty.flash.execute_plan(plan, progress=told.append)
        assert [event.event for event in told if event.event != "writing_progress"] == ["started", "writing", "synced", "partprobed", "done"]
        assert told[-2].event == "partprobed" and told[0].total_bytes == 2 * MIB
        with pytest.raises(bty.FlashCancelled, match="flash cancelled by operator"):
            bty.flash.execute_plan(plan, cancel=lambda: True)
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def test_reports_are_as_true_as_what_they_tell(image, disk):
    report = bty.flash(image, disk)
    assert report and report.targets[0] and bty.verify(image, disk)
    with open(disk.path, "r+b") as file:
        file.seek(MIB + 7)
        file.write(b"\x55\xaa")
    compared = bty.verify(image, disk)
    assert not compared and bool(compared) is compared.is_equal
    failed = report.to_dict()
    failed["targets"][0]["failure"] = {"kind": "target", "message": "x", "hint": None, "offset": None, "difference": None}
    failed = bty.FlashReport.from_dict(failed)
    assert not failed and not failed.targets[0]
    check = bty.Catalog([bty.Entry("a", "http://127.0.0.1:1/a.img")]).check()[0]
    assert not check and bool(check) is check.is_ok


def test_paths_that_are_not_utf8(tmp_path, image):
    odd = os.fsencode(tmp_path) + b"/o\xff.img"
    with open(odd, "wb") as file:
        file.write(image.read_bytes())
    disk = bty.disks.create_file(os.fsdecode(os.fsencode(tmp_path) + b"/d\xfe"), 4 * MIB)
    assert os.fsencode(disk.path) == os.fsencode(tmp_path) + b"/d\xfe"
    assert bty.flash(Path(os.fsdecode(odd)), disk) and bty.verify(os.fsdecode(odd), disk.path)
    assert bty.Disk.from_dict(disk.to_dict()) == disk
    (found,) = [file for file in bty.images.list(tmp_path) if file.name == "o\\xff.img"]
    assert os.fsencode(found.path) == odd and bty.verify(found, disk)
