"""Build backend of the wheel: maturin builds the module, and cargo builds the programs, which
become scripts of the wheel unchanged.

They must be executables and not entry points of Python, because `bty-web` starts itself again for
the scripts of plans.

`BTY_PY_PROFILE=dev` builds without optimization, for tests. `BTY_PY_BUILT=DIR` uses the results of
`cargo build --workspace` in DIR, so that tests build nothing twice.
"""

import base64
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

#: Programs that the wheel installs, and their cargo packages.
PROGRAMS = {"bty": "bty-script", "bty-web": "bty-web", "bty-lab": "bty-lab"}

HERE = Path(__file__).resolve().parent.parent
SCRIPTS = HERE / "wheel-data" / "scripts"


def _profile():
    return os.environ.get("BTY_PY_PROFILE", "release")


def _workspace():
    """Returns the directory of the workspace, in a checkout and in an sdist."""
    return HERE.parent


def _build_programs():
    """Builds the programs, and copies them to the data directory of maturin."""
    packages = [word for package in PROGRAMS.values() for word in ("-p", package)]
    target = Path(os.environ.get("CARGO_TARGET_DIR", _workspace() / "target"))
    names = [word for name in PROGRAMS for word in ("--bin", name)]
    build = ["cargo", "build", "--locked", "--profile", _profile(), *packages, *names]
    triple = os.environ.get("CARGO_BUILD_TARGET")
    subprocess.run(build, cwd=_workspace(), check=True)
    built = target / (triple or "") / ("debug" if _profile() == "dev" else _profile())
    put({name: built / name for name in PROGRAMS})


def put(programs):
    """Copies programs, given as names and paths, to the data directory of maturin."""
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    SCRIPTS.mkdir(parents=True)
    for name, path in programs.items():
        shutil.copy2(path, SCRIPTS / name)


def _maturin():
    import maturin

    return maturin


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    built = os.environ.get("BTY_PY_BUILT")
    if built:
        return _pack(Path(built), Path(wheel_directory))
    _build_programs()
    if _profile() != "release":
        os.environ["MATURIN_PEP517_ARGS"] = f"--profile {_profile()}"
    return _maturin().build_wheel(wheel_directory, config_settings, metadata_directory)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    # without this hook, pip would build everything to learn the version; maturin needs the
    # directory to exist
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return _maturin().prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def build_sdist(sdist_directory, config_settings=None):
    """Writes the sdist with the whole tree, which the programs need."""
    version, root = _version(), _workspace()
    name = f"bty_lab-{version}"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True).stdout.decode()
    with tarfile.open(Path(sdist_directory) / f"{name}.tar.gz", "w:gz") as archive:
        for path in sorted(filter(None, listed.split("\0"))):
            archive.add(root / path, f"{name}/{path}", recursive=False)
        entry, text = tarfile.TarInfo(f"{name}/PKG-INFO"), _metadata(version)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return f"{name}.tar.gz"


def get_requires_for_build_wheel(config_settings=None):
    return []


def get_requires_for_build_sdist(config_settings=None):
    return []


def _version():
    text = (_workspace() / "Cargo.toml").read_text()
    return re.search(r'\[workspace\.package\]\s*version = "([^"]+)"', text)[1]


def _metadata(version):
    """Returns the minimal metadata of the package."""
    return f"Metadata-Version: 2.1\nName: bty-lab\nVersion: {version}\nRequires-Python: >=3.9\n".encode()


def _pack(built, wheel_directory):
    """Writes a wheel like that of maturin from a library that is already built. For tests on this
    machine only.
    """
    version, machine = _version(), sysconfig.get_platform().replace("-", "_")
    info, tag = f"bty_lab-{version}.dist-info", f"cp39-abi3-{machine}"
    files = {f"bty/{path.name}": path for path in sorted((HERE / "python/bty").iterdir()) if path.suffix in (".py", ".pyi", ".typed")}
    files["bty/py.typed"] = HERE / "python/bty/py.typed"
    binaries = {"bty/_bty.abi3.so": "lib_bty.so", **{f"bty_lab-{version}.data/scripts/{name}": name for name in PROGRAMS}}
    texts = {
        f"{info}/METADATA": _metadata(version),
        f"{info}/entry_points.txt": b"[pytest11]\nbty = bty.pytest_plugin\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: bty\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    name, records = f"bty_lab-{version}-{tag}.whl", []
    with zipfile.ZipFile(wheel_directory / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        contents = {inside: path.read_bytes() for inside, path in files.items()} | {inside: _stripped(built / name) for inside, name in binaries.items()}
        for inside, content in [*contents.items(), *texts.items()]:
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = (stat.S_IFREG | (0o755 if "/scripts/" in inside or inside.endswith(".so") else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{inside},sha256={digest},{len(content)}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*records, f"{info}/RECORD,,", ""]))
    return name


def _stripped(path):
    """Returns the content of a binary without debug information."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["strip", "-o", out.name, path], check=True)
        return Path(out.name).read_bytes()


if __name__ == "__main__":
    # usage: backend.py DIR   writes a wheel to DIR from $BTY_PY_BUILT
    print(build_wheel(sys.argv[1]))
