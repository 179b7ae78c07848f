#!/bin/sh
# Runs the unit tests of the reference package's modules against the Python module of this tree, from a copy outside of it. Most of those that cannot
# pass put something in the place of a program that is not started here; docs/python.md counts them.
#
# usage: python.sh PYTHON DIR    PYTHON has the module and pytest; the tests are kept in DIR
set -eu
python=$1 dir=$2 version=0.61.2 least=102
[ -d "$dir/bty_lab-$version" ] || {
    mkdir -p "$dir"
    "$python" -m pip -q download --no-deps --no-binary :all: -d "$dir" "bty-lab==$version"
    tar -xzf "$dir/bty_lab-$version.tar.gz" -C "$dir"
}
cd "$dir/bty_lab-$version/tests"
"$python" -m pytest -q -p no:cacheprovider --noconftest test_flash.py test_images.py test_disks.py test_catalog.py --tb=no >../outcome || true
tail -n 1 ../outcome
passed=$(sed -n 's/.* \([0-9]*\) passed.*/\1/p' ../outcome)
[ "$passed" -ge "$least" ] || { cat ../outcome; echo "$passed of the reference's tests pass, not $least"; exit 1; }
