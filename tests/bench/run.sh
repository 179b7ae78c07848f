#!/bin/sh
# Compares the speed of bty with that of common alternatives, on real images and a loop device, and
# writes docs/benchmarks.md. Needs root, about an hour, and 20 GiB in build/bench. The first run
# also builds the images, which takes half an hour. Run it on an otherwise idle machine.
#
# usage: run.sh [--quick] [--rounds N] [--only WORD] [--output FILE] [--render]
# `bench.py --help` describes the options.
#   BTY    the bty command, default: a release build of this tree
#   WORK   where images and results go, default build/bench
set -eu
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

here=$(dirname "$(realpath "$0")")
tree=$(realpath "$here/../..")
cd "$tree"

case " $* " in
*" --render "* | *" --help "*) exec python3 "$here/bench.py" "$@" ;;
esac
[ "$(id -u)" = 0 ] || { echo "run.sh: needs root: it sets up a loop device" >&2; exit 1; }
tests/install-packages.sh "$here/packages.txt"
if [ -z "${BTY:-}" ]; then
    "${CARGO:-cargo}" build --release -p bty-script
    BTY="${CARGO_TARGET_DIR:-target}/release/bty"
fi
BTY=$(realpath "$BTY")
export BTY
exec python3 "$here/bench.py" "$@"
