#!/bin/sh
# Checks licenses, sources and directions of dependencies, unless Cargo.lock and deny.toml are unchanged
# since the last check that passed, whose digest is in tests/dependencies/deny.passed. Compiles
# cargo-deny if it is missing, which takes minutes.
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
