#!/bin/sh
# Checks licences, sources and directions of dependencies, unless they are those of the last check that passed: tests/dependencies/deny.passed has its digest. The program
# is compiled from source when it is needed and not there, which takes longer than everything else here.
# usage: deny.sh TOOLS VERSION
set -eu
tools=$1 version=$2 passed=tests/dependencies/deny.passed
digest=$(cat Cargo.lock deny.toml | sha256sum | cut -d ' ' -f 1)
if [ "$(cat $passed 2>/dev/null)" = "$digest" ]; then
    echo "Cargo.lock and deny.toml have not changed since the last check"
    exit 0
fi
PATH="$tools/bin:$PATH"
command -v cargo-deny >/dev/null || cargo install --locked --root "$tools" --version "$version" cargo-deny
cargo deny check licenses bans sources
echo "$digest" >$passed
