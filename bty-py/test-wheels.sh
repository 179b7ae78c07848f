#!/bin/sh
# Tests the packages of `bty-py/wheels` by installing them: each wheel on a Python of its
# architecture, also on the newest version, and the sdist without a network.
#
# usage: test-wheels.sh [WHEELS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
wheels=$(realpath "${1:-$root/target/wheels}")
work=$root/target/wheels-work
tests="tests/test_values.py tests/test_flash.py tests/test_script.py tests/test_async.py tests/test_docs.py"
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 BTY_PY_ROOT="$root"
mkdir -p "$work"

echo "a new environment, nothing but the wheel"
rm -rf "$work/new"
python3 -m venv "$work/new"
"$work/new/bin/pip" -q install --no-index "$wheels"/bty_lab-*manylinux*_x86_64.whl
"$work/new/bin/pip" -q install pytest==8.4.2
(cd "$here" && "$work/new/bin/python" -X dev -m pytest -q -p no:cacheprovider $tests tests/test_client.py)

echo "uvx"
"$work/new/bin/pip" -q install uv==0.13.9
rm -rf "$work/site"
"$work/new/bin/uvx" --offline --no-index --find-links "$wheels" --python python3 bty-lab init "$work/site"
[ -f "$work/site/envvars" ]

# a root file system of Debian sid, which has the newest Python, also for other architectures
sid() {
    arch=$1
    [ -d "$work/sid-$arch" ] || (cd "$root/media" && python3 -c "from pathlib import Path; from builder import cross
cross.make(Path('$work/sid-$arch'), '$arch', 'python3,python3-pytest,gdisk,mount')")
}
inside() {
    arch=$1 wheel=$2
    shift 2
    sid "$arch"
    rm -rf "$work/sid-$arch/wheel"
    python3 -m zipfile -e "$wheels"/$wheel "$work/sid-$arch/wheel"
    unshare --mount --pid --fork sh -eu -c '
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount --rbind /sys "$1/sys"
        mkdir -p "$1/source"
        mount --bind "$2" "$1/source"
        dir=$1
        shift 2
        exec chroot "$dir" env PYTHONPATH=/wheel PYTHONDONTWRITEBYTECODE=1 BTY_PY_ROOT=/source "$@"
    ' sh "$work/sid-$arch" "$root" "$@"
}
echo "the newest Python"
inside amd64 'bty_lab-*_x86_64.whl' sh -c "cd /source/bty-py && python3 --version && python3 -X dev -m pytest -q -p no:cacheprovider -k 'not thousand' $tests"
echo "arm64"
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
update-binfmts --enable qemu-aarch64
inside arm64 'bty_lab-*_aarch64.whl' sh -c 'cd /source/bty-py && python3 -m pytest -q -p no:cacheprovider -k "writes_and_proves or cancel or decide" tests/test_flash.py tests/test_script.py &&
    for program in bty bty-web bty-lab; do chmod +x /wheel/*.data/scripts/$program && /wheel/*.data/scripts/$program --version; done'

echo "the sdist, without a network"
rm -rf "$work/offline"
# also those of other systems: maturin asks for all
(cd "$root" && cargo fetch --locked)
PATH="$root/target/py/bin:$PATH" CARGO_NET_OFFLINE=true CARGO_TARGET_DIR="$work/offline-target" BTY_PY_PROFILE=dev unshare --net \
    "$root/target/py/bin/pip" -q wheel --no-index --no-deps --no-build-isolation -w "$work/offline" "$wheels"/bty_lab-*.tar.gz
ls "$work/offline"/bty_lab-*.whl
