"""Runs the unmodified examples and the notebook, and the programs of the wheel."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MIB, ROOT
from test_client import MAC

import bty
from bty.client import Server

EXAMPLES = ROOT / "examples" / "python"


def run(name, *args):
    return subprocess.run([sys.executable, "-X", "dev", EXAMPLES / name, *map(str, args)], capture_output=True, text=True)


def test_flash_disk(image, disk):
    done = run("flash_disk.py", image, disk.path)
    assert done.returncode == 0 and "proven equal" in done.stderr
    assert bty.verify(image, disk).is_equal
    failed = run("flash_disk.py", image, "/nowhere")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr


def test_many_disks(tmp_path, image, disk):
    other = bty.disks.create_file(tmp_path / "other", 4 * MIB)
    done = run("many_disks.py", image, disk.path, other.path, "/nowhere")
    assert done.stdout.count("proven equal") == 2 and "/nowhere:" in done.stdout, done.stderr


def test_station(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_station.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout


def test_try_plan():
    assert run("try_plan.py").stdout == "it writes to /dev/nvme0n1\n"


def test_fleet(web):
    Server(web[0]).bind(MAC, "ipxe-exit")
    assert run("fleet.py", web[0]).stdout.startswith(f"{MAC} ipxe-exit")


def test_notebook():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.read(EXAMPLES / "flash.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    shown = [data for cell in book.cells for output in cell.get("outputs", ()) for data in output.get("data", {})]
    assert "image/svg+xml" in shown and "text/html" in shown
    # the notebook is stored without output
    assert all(not cell.get("outputs") for cell in nbformat.read(EXAMPLES / "flash.ipynb", as_version=4).cells)


@pytest.mark.parametrize("program", ["bty", "bty-web", "bty-lab"])
def test_programs_of_the_wheel(program):
    path = Path(sys.prefix) / "bin" / program
    shown = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    assert bty.__version__ in shown
    # an executable and not a Python script, because it starts itself again
    assert path.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("page", ["bty-py/README.md", "docs/reference/python.md"])
def test_first_snippet_of_a_page(page, image, disk):
    text = (ROOT / page).read_text()
    snippet = text.split("```python\n", 1)[1].split("```", 1)[0]
    names = {
        "https://images.example/debian-13.img.zst": str(image),
        "serial:4C530001230412115574": str(disk.path),
    }
    for name, real in names.items():
        assert name in snippet
        snippet = snippet.replace(name, real)
    done = subprocess.run([sys.executable, "-I", "-c", snippet], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "proven equal" in done.stdout
