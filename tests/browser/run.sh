#!/bin/sh
# Tests the pages in a browser: all tests, or those in the given files. The server must be built.
# usage: run.sh [FILE...]
#        run.sh --speed         no test: prints how long pages take
#        run.sh --screenshots   no test: makes the screenshots of the documentation
set -eu
here=$(cd "$(dirname "$0")" && pwd)
chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || { echo "needs $chromium: apt-get install --no-install-recommends chromium" >&2; exit 2; }
program=${BTY_WEB:-$here/../../target/debug/bty-web}
[ -x "$program" ] || { echo "needs $program: cargo build --workspace" >&2; exit 2; }
cd "$here"
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules ]; then
    npm ci --no-audit --no-fund
    touch node_modules
fi
# test a copy, so that a concurrent build cannot replace it
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp "$program" "$copy/bty-web"
if [ "${1:-}" = --speed ]; then
    BTY_WEB=$copy/bty-web node speed.mjs
    exit
fi
if [ "${1:-}" = --screenshots ]; then
    BTY_WEB=$copy/bty-web node screenshots.mjs
    exit
fi
[ $# -gt 0 ] || set -- *.test.mjs
BTY_WEB=$copy/bty-web node --test --test-concurrency=2 "$@"
