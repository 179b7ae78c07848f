#!/bin/bash
# Demo of bty: builds an image, flashes it over HTTP to a disk full of old data, verifies the disk
# and boots it; then a server lets a machine be flashed. Runs as a plain user; what the system
# cannot do is left out, and listed at the end.
#
# usage: run.sh [--check]
#   --check    only check what building bty and the demo need: installs it (as root on Debian), or lists it and fails
#
#   BTY, BTY_WEB  the commands, default target/demo/bty and target/demo/bty-web
#   BUILD_DIR     where everything goes, default build/demo
#   PORT          where the server listens, default 8080 or the next free port
#   STAY          0: end when all is shown, rather than with Ctrl-C
#   BOOT          1: boot the disk, or fail; 0: do not; default: boot when possible
#   FIRMWARE      path of a UEFI firmware for the emulator, for example /usr/share/ovmf/OVMF.fd; default BIOS
#   QEMU          the emulator and its options, default qemu-system-x86_64
set -euo pipefail
here=$(dirname "$(realpath "$0")")
bty=$(realpath -m "${BTY:-${CARGO_TARGET_DIR:-target}/demo/bty}")
bty_web=$(realpath -m "${BTY_WEB:-${CARGO_TARGET_DIR:-target}/demo/bty-web}")
build=$(realpath -m "${BUILD_DIR:-build/demo}")
disk="$build/disk.img" disk_mib=128 loop='' bootable=1
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=needs.sh
. "$here/needs.sh"
# shellcheck source=server.sh
. "$here/server.sh"
# shellcheck source=machine.sh
. "$here/machine.sh"
# shellcheck source=emulator.sh
. "$here/emulator.sh"
# the server is on this machine: no proxy leads to it
export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}" NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}"

cleanup() {
    stop_emulator
    stop_server
    [ -z "$loop" ] || losetup -d "$loop" || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

main() {
    [ $# = 0 ] || [ "$*" = --check ] || fail "usage: run.sh [--check]"
    if [ $# = 1 ]; then
        check demo build
        return
    fi
    check_programs
    check demo
    build_image
    step "starting bty-web, and uploading the image"
    start_server
    upload "$image"
    flash
    [ "$boots" = 0 ] || boot "$disk"
    server_flashes_machine
    list_left_out
    step "done; the server's pages: $base/ui/machines"
    [ "${STAY:-1}" = 0 ] || stay
}

stay() {
    trap 'exit 0' INT TERM
    echo "Ctrl-C stops the server"
    wait "$web_pid"
}

check_programs() {
    local program
    for program in "$bty" "$bty_web"; do
        [ -x "$program" ] || fail "$program is missing; build it (make demo does), or set BTY and BTY_WEB"
    done
}

# check PURPOSE...: everything that can be known before the work begins; the demo needs what
# needs.txt has for these purposes.
check() {
    mkdir -p "$build" || fail "cannot make $build; set BUILD_DIR to another directory"
    [ -w "$build" ] || fail "cannot write to $build; set BUILD_DIR to another directory"
    choose_port
    if [ "$(uname -m)" = x86_64 ]; then install_missing demo image; else install_missing demo; fi
    require "$@"
    check_image
    check_emulator
    explain
}

explain() {
    step "the demo of bty"
    if [ $bootable = 1 ]; then
        echo "   - builds a disk image of 64 MiB that boots: partition table, file system, GRUB, Linux, busybox"
        [ -s "$build/vmlinuz" ] || echo "     (downloads a Debian kernel of about 30 MB with apt-get, or copies one of this system)"
    else
        echo "   - builds a disk image of 64 MiB: partition table, file system"
    fi
    echo "   - starts a bty-web server at $base and uploads the image to it"
    echo "   - flashes the image over HTTP to a disk full of old data, and verifies the disk"
    [ "$boots" = 0 ] || echo "   - boots the disk in ${qemu[0]}"
    echo "   - lets the server flash a machine that boots from the network"
    echo "It takes less than a minute. The disks are files in $build; no disk of this machine is touched."
    list_left_out
}

# Decides whether the image can be made bootable.
check_image() {
    local lines
    if [ "$(uname -m)" != x86_64 ]; then
        no_boot "the image is for x86_64, and this machine is $(uname -m)"
        return
    fi
    lines=$(missing image | with_packages | sed 's/^/       /')
    [ -z "$lines" ] || no_boot "missing"$'\n'"$lines"
}

no_boot() {
    bootable=0
    leave_out "an image that boots, and booting it" "$1"
}

no_kernel() {
    [ "${BOOT:-}" != 1 ] || fail "BOOT=1, but there is no kernel"
    boots=0
    no_boot "no kernel could be downloaded with apt-get (Debian: linux-image-cloud-amd64), and none in /boot or /usr/lib/modules can be read"
}

build_image() {
    local name
    if [ $bootable = 1 ] && [ ! -s "$build/vmlinuz" ]; then
        step "getting a Linux kernel"
        "$here/kernel.sh" "$build/vmlinuz" || no_kernel
    fi
    if [ $bootable = 1 ]; then
        step "building an image that boots"
        name=demo
        "$here/make-image.sh" "$build/$name.img" "$build"
    else
        step "building an image: partition table and file system"
        name=plain
        "$here/plain-image.sh" "$build/$name.img"
    fi
    compress "$build/$name.img"
}

# compress FILE: sets image and sha256.
compress() {
    step "compressing the image"
    if command -v zstd >/dev/null; then
        image="$1.zst"
        [ "$image" -nt "$1" ] || zstd -q -f -T0 "$1" -o "$image"
    else
        image="$1.gz"
        [ "$image" -nt "$1" ] || gzip -c "$1" >"$image"
    fi
    sha256=$(sha256sum "$image" | cut -d ' ' -f 1)
    echo "$image, $(stat -c %s "$image" | numfmt --to=iec-i --suffix=B), SHA-256 $sha256"
}

# make_old_disk FILE: old data everywhere, so what is zero in the image must become zero on the
# disk.
make_old_disk() {
    rm -f "$1"
    head -c "${disk_mib}M" /dev/zero | tr '\0' '\377' >"$1"
}

flash() {
    local target=$disk
    make_old_disk "$disk"
    if loop=$(losetup -f -P --show "$disk" 2>/dev/null); then
        target=$loop
    else
        loop=''
        leave_out "writing to a block device" "loop devices need root; a file was the disk"
    fi
    step "flashing $url to $target"
    "$bty" flash "$url" "$target" --yes --sha256 "$sha256"
    step "verifying $target"
    "$bty" verify "$url" "$target"
    [ -z "$loop" ] || { losetup -d "$loop"; loop=''; }
}

main "$@"
