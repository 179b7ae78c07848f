#!/bin/sh
# Installs the reference system into a virtual environment, unless it is installed already. Tests
# and benchmarks use its server and wizard.
#
# usage: setup.sh DIR
set -eu
dir=$1 version=0.61.2 cache=0.6.2
[ "$(cat "$dir/version" 2>/dev/null)" = "$version $cache" ] && exit 0
python3 -m venv "$dir"
"$dir/bin/pip" -q install "bty-lab[web,tui]==$version" "withcache==$cache"
echo "$version $cache" >"$dir/version"
