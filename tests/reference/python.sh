#!/bin/sh
# Runs tests of the reference packages against the Python module of this tree, for the modules that
# both have. Most tests that cannot pass mock a program that bty does not start;
# docs/reference/python.md has the numbers. Tests that flash need root and losetup.
#
# usage: python.sh PYTHON DIR    PYTHON has the module and pytest; the tests are kept in DIR
set -eu
python=$1 dir=$2
here=$(cd "$(dirname "$0")" && pwd)

# fetch NAME FILE VERSION
fetch() {
    [ -d "$dir/$2-$3" ] && return
    mkdir -p "$dir"
    "$python" -m pip -q download --no-deps --no-binary :all: -d "$dir" "$1==$3"
    tar -xzf "$dir/$2-$3.tar.gz" -C "$dir"
}

# run LEAST TESTS…    in the directory of the tests
run() {
    least=$1
    shift
    "$python" -m pytest -q -p no:cacheprovider --noconftest -W ignore --tb=no "$@" >"$dir/outcome" || true
    echo "$*: $(tail -n 1 "$dir/outcome")"
    passed=$(sed -n 's/^\(.* \)*\([0-9]*\) passed.*/\2/p' "$dir/outcome")
    [ "${passed:-0}" -ge "$least" ] || { cat "$dir/outcome"; echo "not $least of these pass"; exit 1; }
}

fetch bty-lab bty_lab 0.61.2
fetch withcache withcache 0.6.2
# tests import the OCI module from withcache; this redirects them to bty
shim=$dir/shim/withcache
mkdir -p "$shim"
cp "$here/withcache.py" "$shim/__init__.py"
cd "$dir/bty_lab-0.61.2/tests"
run 102 test_flash.py test_images.py test_disks.py test_catalog.py
run 3 -m integration test_flash_integration.py
cd "$dir/withcache-0.6.2/tests"
rm -rf ../src
PYTHONPATH="$dir/shim" run 5 test_oras.py
