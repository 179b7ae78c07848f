#!/bin/bash
# Builds a small disk image that does not boot: GPT with one ext4 partition. For systems without the
# tools of make-image.sh.
#
# usage: plain-image.sh OUT.img
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

out=$(realpath -m "${1:?usage: plain-image.sh OUT.img}")
size_mib=64 first_sector=2048 sectors=126976
work="$out.work"
trap 'rm -rf "$work"' EXIT

main() {
    rm -rf "$work" && mkdir -p "$work/files"
    echo "written by the demo of bty" >"$work/files/README"
    cp "$here"/*.sh "$work/files/"

    truncate -s "${size_mib}M" "$work/img"
    printf 'label: gpt\nstart=%s, size=%s, name=demo\n' $first_sector $sectors | sfdisk -q "$work/img"
    truncate -s $((sectors * 512)) "$work/ext4"
    mke2fs -q -t ext4 -L btydemo -d "$work/files" "$work/ext4"
    dd if="$work/ext4" of="$work/img" bs=512 seek=$first_sector conv=notrunc,sparse status=none
    mv "$work/img" "$out"
    echo "built $out"
}

main
