"""Values, arguments and exceptions. Invalid input raises, and never aborts the process."""

import ast
import copy
import pickle
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
    changed = disk.replace(serial="A", size_bytes=5)
    assert (changed.serial, changed.size_bytes, disk.serial) == ("A", 5, None)
    assert changed != disk
    with pytest.raises(TypeError, match="no field"):
        disk.replace(sreial="A")
    with pytest.raises(AttributeError):
        disk.path = Path("/dev/sda")


def test_types(disk):
    assert isinstance(disk.path, Path) and isinstance(disk.size_bytes, int) and disk.kind == "file"
    event_types = []
    bty.images.open(disk.path).read_fully(progress=event_types.append)
    assert all(pickle.loads(pickle.dumps(event)) == event for event in event_types)


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
        bty.Event.from_dict,
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


@pytest.mark.parametrize("size", [-1, 1 << 64, 1 << 200, 1.5, "1", None])
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


def test_stubs_have_every_public_name_of_the_native_classes():
    stubs = ast.parse(Path(bty.__file__).with_name("_bty.pyi").read_text())
    described = {node.name: node for node in stubs.body if isinstance(node, ast.ClassDef)}
    native = {name: kind for name, kind in vars(bty._bty).items() if isinstance(kind, type)}
    assert set(described) == set(native)
    for name, kind in native.items():
        members = {node.name for node in described[name].body if isinstance(node, ast.FunctionDef)}
        assert {one for one in members if not one.startswith("_")} == {one for one in vars(kind) if not one.startswith("_")}, name
