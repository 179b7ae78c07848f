# shellcheck shell=bash disable=SC2154 # build, bty, bty_web, base, url: run.sh and server.sh set them
# A machine whose only disk is a file: it boots from the network, the server lets it be flashed, and
# it boots its disk. Sourced by run.sh.

mac=52:54:00:de:00:01 serial=DEMO-1

server_flashes_machine() {
    local machine_disk="$build/machine.img" token
    export BTY_WEB_SERVER=$base
    step "telling the server to flash machine $mac once"
    api -X POST -H 'Content-Type: application/json' -d "{\"image_url\":\"$url\",\"name\":\"demo\"}" "$base/catalog/entries" >/dev/null
    "$bty_web" machine set "$mac" --plan bty-flash-once --image demo --disk "$serial" --label demo
    step "simulating the machine's next boots"
    "$bty_web" plan simulate "$mac"

    step "first network boot: the machine's iPXE gets this script"
    network_boot >"$build/boot.ipxe"
    grep -E '^(kernel|iseq)' "$build/boot.ipxe" | cut -c 1-100
    token=$(grep -o 'bty.cycle=[0-9a-f]*' "$build/boot.ipxe" | head -n 1 | cut -d = -f 2)
    step "the live environment gets its plan from the server, and flashes $machine_disk"
    make_old_disk "$machine_disk"
    "$bty" --server "$base" --mac "$mac" --cycle "$token" --disk-file "$machine_disk=$serial" --no-reboot
    step "second network boot: the machine boots its disk"
    network_boot | grep -E '^(kernel|echo|iseq)'
    step "what the server has recorded"
    api "$base/events?subject_id=$mac&limit=20" | timeline
}

# As iPXE does: the bootstrap script leads to the machine's own.
network_boot() {
    local next
    next=$(api "$base/pxe-bootstrap.ipxe" | grep -o 'http[^ ]*')
    api "${next/\$\{mac:hexhyp\}/${mac//:/-}}"
}

# The summaries of events, oldest first.
timeline() {
    grep -o '"ts":"[^"]*"\|"kind":"[^"]*"\|"summary":"[^"]*"' | sed 's/^"[a-z]*":"//; s/"$//' | paste -d ' ' - - - | tac
}
