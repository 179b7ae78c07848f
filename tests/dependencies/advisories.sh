#!/bin/sh
# Compares Cargo.lock with the RustSec advisory database. Fetches the database first, and uses an earlier
# copy if that fails. Fails without a database, or if it has no commit in the last 30 days.
# usage: advisories.sh TOOLS VERSION
set -eu
tools=$1 version=$2 days=30
PATH="$tools/bin:$PATH"
command -v cargo-deny >/dev/null || cargo install --locked --root "$tools" --version "$version" cargo-deny
fail() {
    echo "advisories were NOT checked: $1" >&2
    exit 1
}
[ "$(cargo-deny --version)" = "cargo-deny $version" ] || fail "$(command -v cargo-deny) is not version $version; remove it"
cargo deny fetch db || echo "warning: the advisory database cannot be fetched; trying the copy of an earlier fetch" >&2
# the age limit of cargo-deny itself counts from the last attempt to fetch, even a failed one
newest=0
for copy in "${CARGO_HOME:-$HOME/.cargo}"/advisory-dbs/advisory-db-*; do
    time=$(git -C "$copy" log -1 --format=%ct 2>/dev/null) || continue
    [ "$time" -le "$newest" ] || newest=$time
done
[ "$newest" -gt 0 ] || fail "there is no copy of https://github.com/rustsec/advisory-db; run this with a network"
age=$((($(date +%s) - newest) / 86400))
[ "$age" -le "$days" ] || fail "the newest change in the advisory database is $age days old, more than $days; run this with a network"
echo "the newest change in the advisory database is $age days old"
cargo deny --offline check advisories
