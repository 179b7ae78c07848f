#!/bin/bash
# Builds a small disk image that really boots, on BIOS and on UEFI: GPT, GRUB, a Linux kernel and an
# initramfs of busybox. It says "bty demo: up" on the screen and the first serial port, then gives a
# shell. Needs no root, no mounts, no loop devices.
#
# usage: make-image.sh OUT.img [BUILD_DIR]      BUILD_DIR keeps the kernel, default build/demo
#        CMDLINE=bty.poweroff make-image.sh ... adds to the kernel command line; bty.poweroff powers off when up
# needs: the lines "demo" and "image" of needs.txt, and a kernel (kernel.sh)
#
# sectors of 512 bytes   what
#      0                 protective MBR with GRUB's boot.img
#      1 -     33        GPT
#     34 -   2047        partition 1, BIOS boot: GRUB's core.img
#   2048 - 129023        partition 2, EFI system, FAT32: kernel, initramfs, grub.cfg, EFI/BOOT/BOOTX64.EFI
# 129024 - 131071        free, GPT backup
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

out=$(realpath -m "${1:?usage: make-image.sh OUT.img [BUILD_DIR]}")
build=$(realpath -m "${2:-${BUILD_DIR:-build/demo}}")
kernel_args="console=tty0 console=ttyS0,115200 quiet panic=-1 ${CMDLINE:-}"
size_mib=64 bios_sector=34 esp_sector=2048 esp_sectors=126976

main() {
    local stamp="$build/image.stamp" wanted
    wanted="$out $kernel_args $(cat "$here/make-image.sh" "$here/init" | sha256sum)"
    if [ -s "$out" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        echo "$out is up to date"
        return
    fi
    mkdir -p "$build" "$(dirname "$out")"
    rm -f "$stamp" "$out"
    "$here/kernel.sh" "$build/vmlinuz"
    make_initramfs
    make_grub
    assemble "$out.new"
    mv "$out.new" "$out"
    echo "$wanted" >"$stamp"
    echo "built $out"
}

# No modules: the kernel has built in what init uses.
make_initramfs() {
    local root="$build/initramfs"
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys}
    install -m755 "$(command -v busybox)" "$root/bin/busybox"
    install -m755 "$here/init" "$root/init"
    (cd "$root" && find . | sort | bin/busybox cpio -o -H newc -R 0:0 2>"$build/cpio.log") | gzip -9n >"$build/initrd"
}

make_grub() {
    cat >"$build/grub.cfg" <<EOF
serial --unit=0 --speed=115200
terminal_output serial console
linux /vmlinuz $kernel_args
initrd /initrd
boot
EOF
    # BIOS: partition 2 of the disk that was booted; UEFI: the partition that it was loaded from
    grub_mkimage i386-pc "$build/core.img" '(,gpt2)/grub' biosdisk
    grub_mkimage x86_64-efi "$build/BOOTX64.EFI" /grub
}

# grub_mkimage PLATFORM OUT PREFIX [MODULE]...
grub_mkimage() {
    local command
    command=$(first_of 'grub-mkimage|grub2-mkimage') || fail "grub-mkimage is missing"
    "$command" -d "$(grub_dir "$1")" -O "$1" -p "$3" -o "$2" "${@:4}" part_gpt fat normal linux serial terminal echo test
}

# The distribution's directory with GRUB's files for a platform.
grub_dir() {
    local info
    info=$(first_of "/usr/lib/grub/$1/modinfo.sh|/usr/share/grub2/$1/modinfo.sh") || fail "GRUB's files for $1 are missing"
    dirname "$info"
}

assemble() {
    local img=$1 esp="$build/esp.fat" core_sectors
    rm -f "$img" "$esp"
    truncate -s "${size_mib}M" "$img"
    make_partitions "$img"
    make_esp "$esp"
    dd if="$esp" of="$img" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$esp"

    core_sectors=$((($(stat -c %s "$build/core.img") + 511) / 512))
    [ $core_sectors -le $((esp_sector - bios_sector)) ] || fail "core.img is too large"
    dd if="$build/core.img" of="$img" bs=512 seek=$bios_sector conv=notrunc status=none
    # core.img: its first sector loads the rest, from the sector named in its block list
    poke "$img" $((bios_sector * 512 + 0x1f4)) $((bios_sector + 1))
    # boot.img: code up to the partition table, the sector of core.img, and no check of the drive
    # number (as grub-install does)
    dd if="$(grub_dir i386-pc)/boot.img" of="$img" bs=1 count=440 conv=notrunc status=none
    poke "$img" $((0x5c)) $bios_sector
    printf '\x90\x90' | dd of="$img" bs=1 seek=$((0x66)) conv=notrunc status=none
}

make_partitions() {
    sfdisk -q "$1" <<EOF
label: gpt
first-lba: 34
start=$bios_sector, size=$((esp_sector - bios_sector)), type=21686148-6449-6E6F-744E-656564454649, name=bios
start=$esp_sector, size=$esp_sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
EOF
}

# The file system that the firmware and GRUB read.
make_esp() {
    truncate -s $((esp_sectors * 512)) "$1"
    mformat -i "$1" -F -c 1 -T $esp_sectors -h 16 -s 63 -H $esp_sector -v BTYDEMO ::
    mmd -i "$1" ::/EFI ::/EFI/BOOT ::/grub
    mcopy -i "$1" "$build/vmlinuz" "$build/initrd" ::/
    mcopy -i "$1" "$build/grub.cfg" ::/grub/
    mcopy -i "$1" "$build/BOOTX64.EFI" ::/EFI/BOOT/
}

# poke FILE OFFSET NUMBER: writes a number of 64 bits, little endian.
poke() {
    local bytes='' i
    for i in 0 8 16 24 32 40 48 56; do
        bytes+=$(printf '\\x%02x' $((($3 >> i) & 255)))
    done
    # shellcheck disable=SC2059 # the escapes are the data
    printf "$bytes" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

main
