"""Content of the wheel and the sdist. The backend builds both; `make test-python` makes the wheel
from the results of cargo."""

import importlib.metadata
import importlib.util
import tarfile

from conftest import ROOT

import bty


def backend():
    spec = importlib.util.spec_from_file_location("backend", ROOT / "bty-py/build_backend/backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_is_that_of_the_workspace():
    assert bty.__version__ == importlib.metadata.version("bty-lab") == backend()._version()


def test_wheel_needs_nothing_and_is_for_all_pythons():
    wheel = importlib.metadata.distribution("bty-lab")
    assert wheel.requires is None
    assert "Tag: cp39-abi3-" in wheel.read_text("WHEEL")
    names = {str(path) for path in wheel.files}
    assert {"bty/py.typed", "bty/_bty.pyi", "bty/_bty.abi3.so"} <= names
    assert {path.rsplit("/", 1)[-1] for path in names if "/bin/" in path} == set(backend().PROGRAMS)


def test_sdist_has_all_that_is_built(tmp_path):
    name = backend().build_sdist(tmp_path)
    with tarfile.open(tmp_path / name) as archive:
        names = {path.partition("/")[2] for path in archive.getnames()}
    assert {"PKG-INFO", "pyproject.toml", "Cargo.lock", "bty-py/Cargo.toml", "bty-py/build_backend/backend.py", "bty-web/Cargo.toml"} <= names
