#!/bin/bash
# Builds the examples that are crates of their own as a stranger does. Then runs COMMAND, which runs the
# whole tests, for the tests of those programs. The crates share one target directory, and have the
# versions of Cargo.lock.
# usage: examples.sh COMMAND…
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$PWD/target/examples
for manifest in examples/*/Cargo.toml; do
    dir=$(dirname "$manifest")
    echo "   $dir"
    # a crate elsewhere has its own
    trap 'rm -f "$dir/Cargo.lock"' EXIT
    cp Cargo.lock "$dir/Cargo.lock"
    CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false \
        "$cargo" build --quiet --offline --manifest-path "$manifest"
    rm "$dir/Cargo.lock"
done
BTY_TEST_EXAMPLES=$target/debug "$@" flash::examples
