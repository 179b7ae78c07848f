#!/bin/bash
# Packs each crate that is meant for the registry, and builds what was packed, with the packed
# predecessors in place of the registry's. Uploads nothing. Needs cargo 1.90 or later, and a
# network.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
# in the order in which they are published
crates=(bty-core bty-tftp bty-script bty-web)

packages=()
for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
"$cargo" publish --dry-run --allow-dirty "${packages[@]}"

# what the registry and its users want beside the sources
for crate in "${crates[@]}"; do
    files=$("$cargo" package --list --allow-dirty -p "$crate" 2>/dev/null)
    for wanted in README.md 'LICENSE.*'; do
        grep -qx "$wanted" <<<"$files" || {
            echo "$crate: no $wanted in the package" >&2
            exit 1
        }
    done
done
