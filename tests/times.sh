#!/bin/bash
# Prints the duration and the CPU time of each step of CI, run one after the other, and the 30 slowest
# tests, as Markdown. Does not clean first: run it in a fresh clone to measure a cold build.
# usage: times.sh THREADS MACHINES
set -euo pipefail
threads=$1 machines=$2
export CI=1
rm -f target/step-times
for step in packages build lint unit test-browser test-python docs deny; do make "$step" >&2; done
harness=$(CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=$PWD/.cargo/lint \
    cargo test --workspace --test tests --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\/tests-[^"]*\)".*/\1/p')
# libtest reports times only with nightly options
run() { (cd tests && RUSTC_BOOTSTRAP=1 CARGO_MANIFEST_DIR=$PWD ../tests/step "$@"); }
list=$(mktemp)
trap 'rm -f "$list"' EXIT
report="-Z unstable-options --report-time"
# shellcheck disable=SC2086 # several words
{
    RUST_TEST_THREADS=$threads run whole "$harness" $report
    RUST_TEST_THREADS=$machines run chain "$harness" $report --ignored --skip matrix::
} | tee "$list" >&2

echo '| step | seconds | of CPU time |'
echo '|---|---|---|'
awk -F '\t' '{ printf "| %s | %s | %s |\n", $1, $2, $3 }' target/step-times
echo
echo '| test | seconds |'
echo '|---|---|'
sed -n 's/^test \(.*\) \.\.\. ok <\([0-9.]*\)s>$/\2 \1/p' "$list" | sort -rn | head -n 30 | awk '{ printf "| %s | %.1f |\n", $2, $1 }'
