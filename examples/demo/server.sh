#!/bin/bash
# A server with a state of its own, and a machine whose only disk is a file: it boots from the network, is flashed over HTTP, and boots its disk.
# Prints what the server has written down, and stays up until Ctrl-C.
#
# usage: server.sh IMAGE_URL
#   BTY, BTY_WEB  the commands, default target/debug/bty and target/debug/bty-web
#   BUILD_DIR     where everything goes, default build/demo
#   PORT          where the server listens, default 8080
#   STAY          0: end when it is done
set -euo pipefail

image=$1
bty=$(realpath -m "${BTY:-target/debug/bty}")
bty_web=$(realpath -m "${BTY_WEB:-target/debug/bty-web}")
build=$(realpath -m "${BUILD_DIR:-build/demo}")
port=${PORT:-8080} mac=52:54:00:de:00:01 serial=DEMO-1
base="http://127.0.0.1:$port" state="$build/server" disk="$build/machine.img"
web_pid=''

cleanup() { [ -z "$web_pid" ] || kill "$web_pid" 2>/dev/null || true; }
trap cleanup EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$*"; }
fail() { echo "server.sh: $*" >&2; exit 1; }
api() { curl --silent --show-error --fail-with-body "$@"; }

main() {
    command -v curl >/dev/null || fail "curl is not there"
    step "starting a server at $base"
    rm -rf "$state" && mkdir -p "$state"
    BTY_PATHS_STATE_DIR=$state BTY_SERVER_HOST=127.0.0.1 BTY_SERVER_PORT=$port "$bty_web" 2>"$build/server.log" &
    web_pid=$!
    for _ in $(seq 100); do
        api "$base/healthz" >/dev/null 2>&1 && break
        kill -0 "$web_pid" 2>/dev/null || fail "it does not start, see $build/server.log (is port $port taken? set PORT)"
        sleep 0.05
    done
    export BTY_WEB_SERVER=$base
    api -X POST -H 'Content-Type: application/json' -d "{\"image_url\":\"$image\",\"name\":\"demo\"}" "$base/catalog/entries" >/dev/null
    "$bty_web" machine set "$mac" --plan bty-flash-once --image demo --disk "$serial" --label demo
    step "what the machine will do at its next boots"
    "$bty_web" plan simulate "$mac"

    step "first boot from the network: iPXE asks"
    boot | tee "$build/boot.ipxe" | grep -E '^(kernel|iseq)' | cut -c 1-100
    token=$(grep -o 'bty.cycle=[0-9a-f]*' "$build/boot.ipxe" | head -n 1 | cut -d = -f 2)
    step "the live environment asks, and does as it is told"
    rm -f "$disk" && head -c 128M /dev/zero | tr '\0' '\377' >"$disk"
    "$bty" --server "$base" --mac "$mac" --cycle "$token" --disk-file "$disk=$serial" --no-reboot
    step "second boot from the network: iPXE boots the disk"
    boot | grep -E '^(kernel|echo|iseq)'
    step "what happened"
    api "$base/events?subject_id=$mac&limit=20" | timeline
    step "the server is at $base/ui/machines (its log: $build/server.log)"
    [ "${STAY:-1}" = 0 ] || { echo "Ctrl-C ends it"; wait "$web_pid"; }
}

# as iPXE does: the bootstrap script leads to the machine's own
boot() {
    local url
    url=$(api "$base/pxe-bootstrap.ipxe" | grep -o 'http[^ ]*')
    api "${url/\$\{mac:hexhyp\}/${mac//:/-}}"
}

# the summaries of events, oldest first
timeline() {
    grep -o '"ts":"[^"]*"\|"kind":"[^"]*"\|"summary":"[^"]*"' | sed 's/^"[a-z]*":"//; s/"$//' | paste -d ' ' - - - | tac
}

main
