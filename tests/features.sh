#!/bin/bash
# Lints bty-core in each combination of its features, and the other crates without theirs. Then
# tests what is refused without features, and that the library stays small without a network.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
formats=(bzip2 lz4 qcow2 xz zip)
# oci turns on http
networks=('' http oci)
crates_max=70

lint() {
    echo "   $*"
    "$cargo" clippy --quiet "$@" -- -D warnings
}

for network in "${networks[@]}"; do
    for ((set = 0; set < 1 << ${#formats[@]}; set++)); do
        features=$network
        for i in "${!formats[@]}"; do
            (((set >> i) & 1)) && features+=" ${formats[i]}"
        done
        lint -p bty-core --no-default-features --features "$features"
    done
done
for features in tokio tracing 'tokio tracing testing' 'http tokio tracing'; do
    lint -p bty-core --no-default-features --features "$features"
done
for features in '' command repl 'command formats' 'command oci'; do
    lint -p bty-script --no-default-features --features "$features"
done
for features in '' oci tftp; do
    lint -p bty-web --no-default-features --features "$features"
done
"$cargo" test --quiet -p bty-core --no-default-features --test without_features

crates=$("$cargo" tree -p bty-core --no-default-features --edges normal --prefix none | sed 's/ (\*)$//' | sort -u | wc -l)
echo "bty-core without features: $crates crates"
[ "$crates" -le $crates_max ] || {
    echo "more than $crates_max; cargo tree -p bty-core --no-default-features shows them" >&2
    exit 1
}
