#!/bin/bash
# Gets a Linux kernel for the image: from Debian's or Ubuntu's mirror when there is apt-get, else
# one of this system that can be read.
#
# usage: kernel.sh OUT
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

out=$(realpath -m "${1:?usage: kernel.sh OUT}")
work="$out.work"
trap 'rm -rf "$work"' EXIT

main() {
    [ ! -s "$out" ] || return 0
    mkdir -p "$(dirname "$out")"
    download || copy_installed || fail "no kernel: none could be downloaded with apt-get, and none of this system can be read"
}

# No configured mirror, or no network: the caller tries something else.
download() {
    local name deb
    command -v apt-get >/dev/null && command -v apt-cache >/dev/null && command -v dpkg-deb >/dev/null || return 1
    name=$(find_package) || { apt-get -qq update 2>/dev/null && name=$(find_package); } || return 1
    echo "downloading the package $name"
    rm -rf "$work" && mkdir -p "$work"
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$name") || return 1
    deb=("$work"/*.deb)
    dpkg-deb -x "${deb[0]}" "$work" && take "$work"/boot/vmlinuz-*
}

# The package behind the first meta package that exists: the small kernel for virtual machines, else
# the general one.
find_package() {
    local meta name
    for meta in linux-image-cloud-amd64 linux-image-amd64 linux-image-virtual linux-image-generic; do
        name=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
        [ -z "$name" ] || { echo "$name"; return; }
    done
    return 1
}

copy_installed() {
    local path
    for path in "/boot/vmlinuz-$(uname -r)" /usr/lib/modules/*/vmlinuz /lib/modules/*/vmlinuz /boot/vmlinuz*; do
        take "$path" && echo "using the kernel $path" && return
    done
    return 1
}

# Copies a kernel if it can be read and is one for x86 (HdrS at byte 514).
take() {
    [ -f "$1" ] && [ -r "$1" ] && [ "$(dd if="$1" bs=1 skip=514 count=4 status=none)" = HdrS ] || return 1
    cp "$1" "$out.new" && mv "$out.new" "$out"
}

main
