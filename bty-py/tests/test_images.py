"""Images that are packed, checked, and created from disks."""

import asyncio
import hashlib
import http.server
import pickle
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import MIB

import bty
from bty.testing import MemoryHost


def test_a_packed_image_is_checked_and_flashed(tmp_path, image, disk):
    packed, events = tmp_path / "system.img.zst", []
    report = bty.pack(image, packed, level=1, frame_bytes="32 KiB", progress=events.append)
    assert (report.path, report.source) == (packed, str(image)) and report.disk_bytes == 2 * MIB
    assert report.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest() == bty.images.sidecar_digest(packed)
    assert [event.phase for event in events if event.event == "phase"] == ["read", "verify"]
    checked = bty.images.check_packed(packed)
    assert (checked.index_sha256, checked.frames) == (report.index_sha256, report.frames)
    assert bty.images.open(packed).info.pack_index_sha256 == report.index_sha256
    with bty.images.open(packed) as opened:
        assert bty.images.check_packed(opened) == checked
    assert bty.flash(packed, disk) and bty.verify(image, disk)
    if (zstd := subprocess.run(["zstd", "-dqc", packed], capture_output=True)).returncode == 0:
        assert zstd.stdout == image.read_bytes()


def test_a_damaged_packed_image_is_found(tmp_path, image):
    packed = bty.pack(image, tmp_path / "system.img.zst").path
    Path(f"{packed}.sha256").unlink()
    data = bytearray(packed.read_bytes())
    data[len(data) * 4 // 5] ^= 1  # behind what opening the image decodes
    packed.write_bytes(data)
    with pytest.raises(bty.FlashIntegrityError, match="system.img.zst"):
        bty.images.check_packed(packed)


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 20}, {"frame_bytes": 5}, {"frame_bytes": "2 GiB"}])
def test_options_of_packing_out_of_range(tmp_path, image, options):
    with pytest.raises(bty.UsageError):
        bty.pack(image, tmp_path / "a.img.zst", **options)
    assert not list(tmp_path.glob("a.img.zst*"))


def test_packing_replaces_nothing(tmp_path, image):
    (tmp_path / "a.img.zst").write_bytes(b"mine")
    for name in ("a.img.zst", "a.img"):
        with pytest.raises(bty.RefusedError):
            bty.pack(image, tmp_path / name)
    assert (tmp_path / "a.img.zst").read_bytes() == b"mine"


def test_packing_is_cancelled_and_leaves_no_file(tmp_path, image):
    token = bty.CancelToken()
    token.cancel()
    with pytest.raises(bty.FlashCancelled):
        bty.pack(image, tmp_path / "a.img.zst", cancel=token)
    assert not list(tmp_path.glob("a.img.zst*"))


@pytest.mark.parametrize(("name", "format"), [("a.img", "raw"), ("a.img.zst", "zstd"), ("a.qcow2", "qcow2")])
def test_an_image_of_a_disk(tmp_path, image, disk, name, format):
    bty.flash(image, disk)
    report = bty.images.create(disk, tmp_path / name)
    assert (report.format, report.disk, report.disk_bytes) == (format, bty.disks.probe(disk.path), 4 * MIB)
    assert report.sha256 == bty.images.sidecar_digest(report.path)
    assert bty.verify(report.path, disk)


def test_an_image_of_a_disk_in_memory(tmp_path, image):
    with MemoryHost(bty.Disk("/dev/sda", "4 MiB", serial="A")):
        bty.flash(image, "serial:A")
        report = bty.images.create("serial:A", tmp_path / "a.img")
        assert bty.verify(report.path, "serial:A")
    assert report.path.read_bytes()[: 2 * MIB] == image.read_bytes()


def test_an_image_that_cannot_be_created_has_all_reasons(tmp_path, disk):
    (tmp_path / "a.txt").touch()
    with pytest.raises(bty.RefusedError) as raised:
        bty.images.create(disk, tmp_path / "a.txt", shrink=True)
    reasons = {refusal.reason: refusal.remedy for refusal in raised.value.refusals}
    assert reasons == {"no_partitions": "no_shrink", "name": None, "exists": None}


def test_async_versions(tmp_path, image, disk):
    async def work():
        events = []
        packed = await bty.aio.pack_image(image, tmp_path / "a.img.zst", progress=events.append)
        created = await bty.aio.create_image(disk, tmp_path / "b.img")
        return events, packed, await bty.aio.check_packed(packed.path), created

    events, packed, checked, created = asyncio.run(work())
    assert events and packed.index_sha256 == checked.index_sha256 and created.disk_bytes == 4 * MIB


def test_scripts_pack_and_create(tmp_path, image, disk):
    text = f"""
        let packed = images::pack("{image}", "{tmp_path}/a.img.zst", #{{ level: 1 }});
        let created = images::create("{disk.path}", "{tmp_path}/b.qcow2");
        [images::check_packed(packed.path).index_sha256 == packed.index_sha256, created.format]
    """
    assert bty.script.run(text=text).value == [True, "qcow2"]


def test_a_dry_run_records_packing_and_creating(tmp_path, image, disk):
    text = f"""
        images::pack("{image}", "{tmp_path}/a.img.zst");
        images::create("{disk.path}", "{tmp_path}/b.qcow2").format
    """
    outcome = bty.script.run(text=text, dry_run=True)
    assert [effect["effect"] for effect in outcome.effects] == ["pack", "create_image"]
    assert outcome.value == "qcow2" and not list(tmp_path.glob("[ab].*"))


def test_a_flash_of_an_entry_reads_its_packed_form(tmp_path, image, disk):
    class Ranges(http.server.BaseHTTPRequestHandler):
        """Serves ranges, without which the index of a packed image cannot be read by itself."""

        protocol_version = "HTTP/1.1"

        def do_GET(self):
            data = (tmp_path / self.path.lstrip("/")).read_bytes()
            start, end = 0, len(data)
            if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
                first, last = asked.groups()
                start = int(first) if first else len(data) - int(last)
                end = min(int(last) + 1, len(data)) if first and last else len(data)
            self.send_response(206 if asked else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start:end])

        def log_message(self, *args):
            pass

    report = bty.pack(image, tmp_path / "packed.img.zst")
    shutil.copy(image, tmp_path / "published.img")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        entry = bty.Entry(
            "system",
            f"{base}/published.img",
            packed=f"{base}/packed.img.zst",
            index_sha256=report.index_sha256,
        )
        assert pickle.loads(pickle.dumps(entry)) == entry
        assert bty.flash(entry, disk).image.source == entry.packed
        assert bty.flash(entry, disk, delta="never").image.source == entry.src
        assert bty.images.open(entry).info.source == entry.src
        assert bty.images.check_packed(entry).index_sha256 == report.index_sha256
        assert bty.verify(image, disk)
        server.shutdown()
