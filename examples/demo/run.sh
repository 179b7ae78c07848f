#!/bin/bash
# The whole of bty in a minute: builds a bootable image, serves it over HTTP, flashes it to a disk full of old data,
# verifies the disk, and boots it if there is an emulator; then a server that lets a machine be flashed. As root with loop devices the disk is a block device, else a file.
#
# usage: run.sh
#   BTY        the bty command, default target/debug/bty
#   STAY       0: end when all is shown, rather than with Ctrl-C
#   BUILD_DIR  where everything goes, default build/demo
#   BOOT       1: boot, or fail; 0: do not; default: boot when qemu-system-x86_64 is there
#   FIRMWARE   path of a UEFI firmware for the emulator, for example /usr/share/ovmf/OVMF.fd; default BIOS
#   QEMU       the emulator and options of yours, default qemu-system-x86_64
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

here=$(dirname "$(realpath "$0")")
bty=$(realpath -m "${BTY:-target/debug/bty}")
build=$(realpath -m "${BUILD_DIR:-build/demo}")
read -ra qemu <<<"${QEMU:-qemu-system-x86_64}"
marker='bty demo: up'
disk="$build/disk.img" served="$build/served" disk_mib=128
loop='' nginx_pid='' qemu_pid=''

cleanup() {
    [ -z "$qemu_pid" ] || kill "$qemu_pid" 2>/dev/null || true
    [ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || true
    [ -z "$loop" ] || losetup -d "$loop" || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

main() {
    [ -x "$bty" ] || fail "$bty is not there: build it (cargo build) or set BTY"
    install_packages
    mkdir -p "$served"
    "$here/make-image.sh" "$build/demo.img" "$build"
    step "compressing the image"
    [ "$served/demo.img.zst" -nt "$build/demo.img" ] || zstd -q -f -T0 "$build/demo.img" -o "$served/demo.img.zst"
    sha256=$(sha256sum "$served/demo.img.zst" | cut -d ' ' -f 1)
    serve
    flash
    if [ "${BOOT:-}" = 1 ] || { [ -z "${BOOT:-}" ] && command -v "${qemu[0]}" >/dev/null; }; then boot; fi
    BTY=$bty BUILD_DIR=$build "$here/server.sh" "$url"
    step "done"
}

step() { printf '\n== %s\n' "$*"; }
fail() { echo "run.sh: $*" >&2; exit 1; }

install_packages() {
    local missing=() name
    while read -r name; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done <"$here/packages.txt"
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "install these packages first: ${missing[*]}"
    step "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# nginx, because an interrupted transfer can only be resumed from a server with ranges and ETags.
serve() {
    local port user='' try
    [ "$(id -u)" != 0 ] || user='user root;'
    for try in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        cat >"$build/nginx.conf" <<EOF
$user daemon off; pid $build/nginx.pid; error_log stderr;
events {}
http {
    access_log off; sendfile on;
    client_body_temp_path $build/tmp; proxy_temp_path $build/tmp; fastcgi_temp_path $build/tmp;
    uwsgi_temp_path $build/tmp; scgi_temp_path $build/tmp;
    server { listen 127.0.0.1:$port; root $served; }
}
EOF
        nginx -e "$build/nginx.log" -c "$build/nginx.conf" 2>>"$build/nginx.log" &
        nginx_pid=$!
        url="http://127.0.0.1:$port/demo.img.zst"
        # the port may belong to somebody else: then nginx ends
        sleep 0.3
        kill -0 "$nginx_pid" 2>/dev/null && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        wait "$nginx_pid" || true
    done
    fail "nginx does not start, see $build/nginx.log"
}

flash() {
    local target="$disk" create=("--create=${disk_mib}M")
    rm -f "$disk"
    if [ "$(id -u)" = 0 ] && losetup -f >/dev/null 2>&1; then
        # old data everywhere: what the image has as zero must become zero
        head -c "${disk_mib}M" /dev/zero | tr '\0' '\377' >"$disk"
        loop=$(losetup -f --show "$disk")
        target=$loop create=()
    fi
    step "flashing $url to $target"
    "$bty" flash "$url" "$target" "${create[@]}" --yes --sha256 "$sha256"
    step "verifying $target"
    "$bty" verify "$url" "$target"
    [ -z "$loop" ] || { losetup -d "$loop"; loop=''; }
}

boot() {
    local log="$build/serial.log" firmware=() waited=0
    command -v "${qemu[0]}" >/dev/null || fail "${qemu[0]} is not there: apt-get install qemu-system-x86"
    [ -z "${FIRMWARE:-}" ] || firmware=(-bios "$FIRMWARE")
    step "booting $disk"
    : >"$log"
    # plain emulation: works on every host, also where /dev/kvm is there but does nothing
    "${qemu[@]}" -M q35 -m 512 -accel tcg,thread=multi -display none -nic none -no-reboot "${firmware[@]}" \
        -drive "file=$disk,format=raw,if=virtio,snapshot=on" -serial "file:$log" &
    qemu_pid=$!
    until grep -aq "$marker" "$log"; do
        [ $waited -lt 120 ] || { tail -n 20 "$log"; fail "the disk did not boot within 120 seconds, see $log"; }
        kill -0 "$qemu_pid" 2>/dev/null || { tail -n 20 "$log"; fail "the emulator ended early, see $log"; }
        sleep 1
        waited=$((waited + 1))
    done
    grep -a "$marker" "$log"
    kill "$qemu_pid"
    wait "$qemu_pid" 2>/dev/null || true
    qemu_pid=''
}

main
