"""Values, arguments and exceptions. Invalid input raises, and never aborts the process."""

import copy
import errno
import hashlib
import os
import pickle
import sys
import traceback
from pathlib import Path

import pytest

import bty


def test_values_are_like_dataclasses(image, disk):
    report = bty.flash(image, disk)
    for value in [disk, report, report.image, report.targets[0], report.phases[0], bty.images.list(image.parent)[0], bty.images.open(image).read_fully()]:
        assert type(value).from_dict(value.to_dict()) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
        assert repr(value).startswith(type(value).__name__ + "(")
        assert value != 1 and value is not None
        assert len({value, copy.deepcopy(value)}) == 1
    changed = disk.replace(serial="A", size_bytes=5)
    assert (changed.serial, changed.size_bytes, disk.serial) == ("A", 5, None)
    assert changed != disk
    with pytest.raises(TypeError, match="no field"):
        disk.replace(sreial="A")
    with pytest.raises(AttributeError):
        disk.path = Path("/dev/sda")


def test_values_are_made_of_their_fields(image, disk):
    assert bty.Content(kind="ext4") == bty.Content(kind="ext4", label=None)
    for value in [*bty.flash(image, disk).targets, bty.images.open(image).info, bty.inventory.dmi()]:
        assert type(value)(**value.to_dict()) == value
    with pytest.raises(TypeError, match="Content has no field knid"):
        bty.Content(kind="ext4", knid="x")
    with pytest.raises(ValueError, match="missing field `kind`"):
        bty.Content()
    assert len({bty.Plan(image, disk), bty.Plan(image, disk), bty.Plan(image, disk, raw=True)}) == 2
    assert len({bty.Catalog(), bty.Catalog([]), bty.Catalog([bty.Entry("a", "https://h/a.img")])}) == 2


def test_a_disk_of_a_few_facts():
    disk = bty.Disk("/dev/sda", "8 GiB", serial="A")
    assert (disk.kind, disk.size_bytes, disk.serial, disk.logical_sector_bytes) == ("disk", 8 << 30, "A", 512)
    assert (disk.partitions, disk.uses, disk.is_read_only, disk.table) == ([], [], False, None)
    used = bty.Disk("/dev/sda", 512, uses=[bty.Use(use="swap", device="/dev/sda1")], content=bty.Content(kind="ext4"))
    assert (used.uses[0].kind, used.content.kind) == ("swap", "ext4")
    assert bty.Disk.from_dict(used.to_dict()) == used == used.replace() and repr(disk) == repr(disk.replace())
    assert os.fsencode(bty.Disk(os.fsdecode(b"/dev/\xff"), 0).path) == b"/dev/\xff"
    for bad in ({"kind": "floppy"}, {"table": "apm"}):
        with pytest.raises(ValueError, match="unknown variant"):
            bty.Disk("/dev/sda", 512, **bad)


def test_sizes_may_be_text(tmp_path):
    assert bty.disks.create_file(tmp_path / "disk", "4 MiB").size_bytes == 4 << 20
    assert bty.Disk.planned_file("/disk", "4M").size_bytes == 4 << 20
    assert bty.Disk("/dev/sda", 512).replace(size_bytes="500GB").size_bytes == 500_000_000_000
    assert bty.Partition(number=1, start_bytes="1 MiB", size_bytes="2 MiB").start_bytes == 1 << 20
    assert bty.Entry("a", "https://h/a.img", size_bytes="1 KiB").size_bytes == 1024
    assert bty.size.human("1024K") == "1.0 MiB"
    with pytest.raises(bty.UsageError, match='"many" is not a size'):
        bty.Disk("/dev/sda", "many")


@pytest.mark.parametrize("text", ["usb", "serial=X", "size>8G"])
def test_conditions_are_no_paths(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(text).write_bytes(bytes(1 << 20))
    with pytest.raises(bty.UsageError, match="looks like a condition") as raised:
        bty.disks.select(text)
    assert f"./{text}" in raised.value.hint and "where:" in raised.value.hint
    assert bty.disks.select(f"./{text}").kind == bty.disks.probe(Path(text)).kind == "file"


def test_types(disk):
    assert isinstance(disk.path, Path) and isinstance(disk.size_bytes, int) and disk.kind == "file"
    event_types = []
    bty.images.open(disk.path).read_fully(progress=event_types.append)
    assert all(pickle.loads(pickle.dumps(event)) == event for event in event_types)


def test_events_have_one_class_for_each_kind():
    counts = {"source_bytes": 1, "source_total": None, "decoded_bytes": 2, "decoded_total": 3}
    events = [
        bty.PhaseEvent(phase="write"),
        bty.ProgressEvent(phase="write", elapsed_ms=5, targets=[], **counts),
        bty.NoticeEvent(message="slow"),
        bty.TargetFailedEvent(target="/dev/sda", kind="target", message="gone"),
    ]
    assert [event.event for event in events] == ["phase", "progress", "notice", "target_failed"]
    for event in events:
        assert bty.events.from_dict(event.to_dict()) == event and isinstance(event, bty.Event.__args__)
        assert len({event, pickle.loads(pickle.dumps(event))}) == 1
    # what events of other kinds have
    assert (events[2].phase, events[2].decoded_bytes, events[2].targets, events[1].message) == (None, None, [], None)
    assert not hasattr(events[0], "nothing")
    with pytest.raises(ValueError, match='expected event "phase", found "notice"'):
        bty.PhaseEvent.from_dict(events[2].to_dict())


def test_uses_name_the_user():
    use = bty.Use.from_dict({"use": "mounted", "device": "/dev/sda1", "mountpoint": "/mnt"})
    assert (use.kind, use.device, str(use)) == ("mounted", Path("/dev/sda1"), "/dev/sda1 is mounted on /mnt (unmount it)")


def test_paths_of_all_kinds(image, disk):
    class Named:
        def __fspath__(self):
            return str(image)

    for path in [image, str(image), Named(), bty.images.list(image.parent)[0]]:
        assert bty.images.open(path).info.path == image.resolve()
    assert bty.flash(image, str(disk.path)).is_success
    assert bty.flash(image, Path(disk.path)).is_success


def test_catalog():
    text = 'version = 1\n[[images]]\nname = "debian 13 amd64"\nsrc = "https://example.org/a.img.zst"\n'
    catalog = bty.catalog.parse(text)
    entry = catalog.by_name("debian 13 amd64")
    assert len(catalog) == 1 and list(catalog) == [entry] and catalog[-1] == entry and "debian 13 amd64" in catalog
    assert (entry.format, entry.arch, entry.ref) == ("img.zst", "x86_64", bty.catalog.image_ref(entry.src))
    assert bty.catalog.parse(catalog.to_toml()) == catalog
    assert pickle.loads(pickle.dumps(catalog)) == catalog and hash(entry) == hash(pickle.loads(pickle.dumps(entry)))
    assert bty.Entry.from_dict({"name": entry.name, "src": entry.src, "sha256": None}) == entry
    longer = catalog.with_entry(bty.Entry("b", "oras://ghcr.io/me/b:1"))
    assert [entry.name for entry in longer] == ["debian 13 amd64", "b"]
    with pytest.raises(bty.CatalogError, match="already"):
        longer.with_entry(entry)
    with pytest.raises(bty.UsageError) as raised:
        catalog.find("debian 13 amd65")
    assert "did you mean" in raised.value.hint
    with pytest.raises(bty.CatalogError):
        bty.catalog.parse("version = 2")
    with pytest.raises(IndexError):
        catalog[1]


def test_exceptions_are_those_of_python_too(tmp_path, image):
    with pytest.raises(FileNotFoundError) as raised:
        bty.images.open(tmp_path / "none.img")
    assert isinstance(raised.value, bty.SourceError) and raised.value.path == str(tmp_path / "none.img")
    again = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(again, FileNotFoundError) and again.kind == "source" and str(again) == str(raised.value)
    with pytest.raises(FileNotFoundError):
        bty.images.list(tmp_path / "none")
    with pytest.raises(ValueError):
        bty.images.open("ftp://example.org/a.img")
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    with pytest.raises(ValueError):
        bty.images.open(tmp_path / "a.tar.gz")
    assert issubclass(bty.FlashCancelled, bty.FlashError) and issubclass(bty.FlashError, RuntimeError) and issubclass(bty.OrasError, OSError)


def test_errors_of_the_system_have_its_numbers(tmp_path):
    path = str(tmp_path / "none.img")
    for error in (raised_by(bty.images.open, path), pickle.loads(pickle.dumps(raised_by(bty.images.open, path)))):
        assert (error.errno, error.filename, error.strerror) == (errno.ENOENT, path, os.strerror(errno.ENOENT))
        assert str(error).startswith(f"opening {path}: ") and "[Errno" not in str(error)
    with pytest.raises(NotADirectoryError) as raised:
        bty.images.open(f"{__file__}/none.img")
    assert raised.value.errno == errno.ENOTDIR
    # without an error of the system there is no number
    with pytest.raises(bty.SourceError) as raised:
        raise bty.SourceError("the source is short")
    assert (raised.value.errno, str(raised.value)) == (None, "the source is short")


def raised_by(function, *args):
    with pytest.raises(Exception) as raised:
        function(*args)
    return raised.value


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes are from Python 3.11")
def test_tracebacks_show_the_hint():
    error = raised_by(bty.size.parse, "many")
    assert error.__notes__ == [f"next: {error.hint}"] == pickle.loads(pickle.dumps(error)).__notes__
    assert traceback.format_exception(error)[-1] == f"next: {error.hint}\n"


def test_refusals_are_never_empty(tmp_path, image):
    for call in (
        lambda: bty.disks.probe(tmp_path / "none"),
        lambda: bty.disks.select("serial:NO-SUCH-DISK"),
        lambda: bty.disks.only(lambda _: False),
        lambda: bty.flash(image, tmp_path / "none"),
        lambda: bty.Plan(image, []).check(),
    ):
        error = raised_by(call)
        assert isinstance(error, bty.RefusedError) and [refusal.reason for refusal in error.refusals] == ["no_target"]
        assert error.refusals[0].message in str(error)
        assert pickle.loads(pickle.dumps(error)).refusals == error.refusals


BAD = [None, 1, 1.5, object(), b"\xff\x00", [], {}, "nul\0byte", Path("nul\0byte"), "\ud800", -1, 1 << 200]


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        bty.images.open,
        bty.images.list,
        bty.images.sidecar_digest,
        bty.disks.probe,
        bty.disks.select,
        bty.size.parse,
        bty.catalog.load,
        bty.catalog.parse,
        bty.catalog.image_ref,
        bty.oras.resolve,
        lambda bad: bty.Catalog([bad]),
        bty.Disk.from_dict,
        bty.Plan.from_dict,
        bty.events.from_dict,
        lambda bad: bty.Plan(bad, "/nowhere"),
        lambda bad: bty.Plan(__file__, bad).check(),
        lambda bad: bty.Entry(bad, bad),
        lambda bad: bty.Client(attempts=bad, connect_timeout=bad, ca_files=bad, http_proxy=7),
        lambda bad: bty.flash(bad, bad),
        lambda bad: bty.flash(__file__, "/nowhere", cancel=bad or 1),
        lambda bad: bty.Disk.planned_file(bad, bad),
        lambda bad: bty.script.run(text=bad if bad is not None else 1),
        lambda bad: bty.script.run(text="1", timeout=bad if not isinstance(bad, (int, float)) and bad is not None else -1),
        lambda bad: bty.script.run(text="f()", functions={"f": lambda: object()}),
    ],
)
def test_bad_input_raises(call, bad):
    with pytest.raises(Exception) as raised:
        call(bad)
    # a panic would be a BaseException
    assert isinstance(raised.value, (bty.Error, TypeError, ValueError, OverflowError, OSError, AttributeError))


@pytest.mark.parametrize("size", [-1, 1 << 64, 1 << 200, 1.5, "many", "-1", "1 XB", None])
def test_bad_sizes(tmp_path, size):
    with pytest.raises((TypeError, OverflowError, ValueError)):
        bty.disks.create_file(tmp_path / "disk", size)
    assert not (tmp_path / "disk").exists()


def test_closed_image(image, disk):
    with bty.images.open(image) as opened:
        plan = bty.Plan(opened, disk)
    assert opened.closed and opened.info.disk_bytes
    for call in (opened.read_fully, lambda: bty.flash(opened, disk), lambda: bty.verify(opened, disk), lambda: plan.execute(image=opened)):
        with pytest.raises(ValueError, match="closed"):
            call()
    opened.close()
    # the plan has its own handle
    assert plan.execute().is_success


def test_options_of_clients(tmp_path):
    for options in ({"connect_timeout": -1}, {"connect_timeout": float("nan")}, {"attempts": -1}, {"spool_dir": "a\0b"}, {"nothing": 1}):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            bty.Client(**options)
    with pytest.raises(OSError):
        bty.images.open("http://127.0.0.1:1/a.img", client=bty.Client(attempts=1))


def test_everything_that_is_told_is_there():
    for name in bty.__all__:
        assert getattr(bty, name) is not None
    with pytest.raises(AttributeError):
        bty.nothing


def test_deprecated_names_still_work(image, disk):
    plan = bty.Plan(image, disk)
    with pytest.warns(DeprecationWarning, match=r"use dry_run_report\(\)"):
        assert plan.foresee() == plan.dry_run_report()
    with pytest.warns(DeprecationWarning, match="use min_disk_bytes"):
        assert plan.image.least_bytes == plan.image.min_disk_bytes == plan.image.disk_bytes


def test_refusals_and_errors_say_what_helps(tmp_path, image):
    used = bty.Disk("/dev/sda", "1 MiB", uses=[bty.Use(use="swap", device="/dev/sda1")])
    assert [refusal.reason for refusal in used.refusals()] == ["in_use"]
    part = bty.Disk("/dev/sda1", "1 MiB", kind="partition")
    (refusal,) = part.refusals()
    assert (refusal.reason, refusal.remedy) == ("partition", "allow_partition")
    assert part.refusals(allow_partition=True) == []
    assert "remedy" not in refusal.to_dict() and pickle.loads(pickle.dumps(refusal)) == refusal
    error = raised_by(bty.images.open, tmp_path / "none.img")
    assert error.remedy == "list_images" == pickle.loads(pickle.dumps(error)).remedy
    assert raised_by(bty.size.parse, "many").remedy is None
    assert bty.Plan(image, bty.Disk("/dev/sda", "8 GiB")).remedies() == ["sha256"]


def test_options_of_a_delta_flash(image, disk):
    options = bty.Plan(image, disk).options
    assert (options.delta, options.stash_bytes, options.proven_disk) == ("auto", 64 << 20, False)
    options = bty.Plan(image, disk, delta="always", stash="1 GiB", proven_disk=True).options
    assert (options.delta, options.stash_bytes, options.proven_disk) == ("always", 1 << 30, True)
    assert bty.Plan(image, disk, stash=0).options.stash_bytes == 0
    assert options == bty.FlashOptions(delta="always", stash_bytes="1 GiB", proven_disk=True)
    with pytest.raises(bty.UsageError, match='unknown delta mode "sometimes"') as raised:
        bty.flash(image, disk, delta="sometimes")
    assert raised.value.hint == "use one of: auto, always, never"
    with pytest.raises(bty.UsageError, match='"much" is not a size'):
        bty.flash(image, disk, stash="much")


def test_a_report_names_its_proof_and_what_the_disk_held(image, disk):
    (target,) = bty.flash(image, disk, delta="never").targets
    assert (target.proof, target.delta) == ("full", None)
    assert bty.flash(image, disk, verify=False).targets[0].proof == "none"
    held = bty.DeltaReport(kept_bytes="3 MiB", moved_bytes=0, fetched_bytes=512, source_bytes=99, stash_peak_bytes=0)
    changed = target.replace(proof="sample", delta=held)
    assert (changed.proof, changed.delta, changed.delta.kept_bytes) == ("sample", held, 3 << 20)
    assert pickle.loads(pickle.dumps(changed)) == changed
    with pytest.raises(ValueError, match="unknown variant"):
        target.replace(proof="hearsay")


def test_the_digest_is_computed_on_demand(tmp_path, image, disk):
    qcow2 = tmp_path / "a.qcow2"
    bty.images.create(image, qcow2)
    (tmp_path / "a.qcow2.sha256").unlink()
    with bty.images.open(qcow2) as opened:
        assert bty.flash(opened, disk).source_sha256 is None
    with bty.images.open(qcow2, compute_sha256=True) as opened:
        assert bty.flash(opened, disk).source_sha256 == hashlib.sha256(qcow2.read_bytes()).hexdigest()
