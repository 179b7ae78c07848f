#!/bin/bash
# Builds a small disk image that really boots, on BIOS and on UEFI: GPT, GRUB, a Debian kernel and an initramfs of busybox.
# It says "bty demo: up" on the screen and the first serial port, then gives a shell. Needs no root, no mounts, no loop devices.
#
# usage: make-image.sh OUT.img [BUILD_DIR]      BUILD_DIR keeps the downloaded kernel, default build/demo
#        CMDLINE=bty.poweroff make-image.sh ... adds to the kernel command line; bty.poweroff powers off when up
# needs: the packages of packages.txt
#
# sectors of 512 bytes   what
#      0                 protective MBR with GRUB's boot.img
#      1 -     33        GPT
#     34 -   2047        partition 1, BIOS boot: GRUB's core.img
#   2048 - 129023        partition 2, EFI system, FAT32: kernel, initramfs, grub.cfg, EFI/BOOT/BOOTX64.EFI
# 129024 - 131071        free, GPT backup
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C

here=$(dirname "$(realpath "$0")")
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
    [ -s "$build/vmlinuz" ] || fetch_kernel
    make_initramfs
    make_grub
    assemble "$out.new"
    mv "$out.new" "$out"
    echo "$wanted" >"$stamp"
    echo "built $out"
}

# The small kernel for virtual machines if the mirror has it, else the general one.
fetch_kernel() {
    local name
    mkdir -p "$build/deb"
    rm -rf "$build/deb"/* "$build/kernel"
    find_kernel >"$build/kernel.name" || { apt-get -qq update && find_kernel >"$build/kernel.name"; }
    name=$(cat "$build/kernel.name")
    echo "fetching $name"
    (cd "$build/deb" && apt-get -qq -o APT::Sandbox::User=root download "$name")
    dpkg-deb -x "$build"/deb/*.deb "$build/kernel"
    cp "$build"/kernel/boot/vmlinuz-* "$build/vmlinuz"
    rm -rf "$build/deb" "$build/kernel"
}

# The package behind the first meta package that exists.
find_kernel() {
    local meta name
    for meta in linux-image-cloud-amd64 linux-image-amd64; do
        name=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
        [ -z "$name" ] || { echo "$name"; return; }
    done
    echo "no Debian kernel in the package lists" >&2
    return 1
}

# No modules: all that is spoken to is built into the kernel.
make_initramfs() {
    local root="$build/initramfs"
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys}
    install -m755 "$(command -v busybox)" "$root/bin/busybox"
    install -m755 "$here/init" "$root/init"
    (cd "$root" && find . | sort | cpio --quiet -o -H newc -R 0:0) | gzip -9n >"$build/initrd"
}

make_grub() {
    local modules="part_gpt fat normal linux serial terminal echo test"
    cat >"$build/grub.cfg" <<EOF
serial --unit=0 --speed=115200
terminal_output serial console
linux /vmlinuz $kernel_args
initrd /initrd
boot
EOF
    # BIOS: partition 2 of the disk that was booted; UEFI: the partition that it was loaded from
    grub-mkimage -O i386-pc -p '(,gpt2)/grub' -o "$build/core.img" biosdisk $modules
    grub-mkimage -O x86_64-efi -p /grub -o "$build/BOOTX64.EFI" $modules
}

assemble() {
    local img=$1 esp="$build/esp.fat" core_sectors
    rm -f "$img"
    truncate -s "${size_mib}M" "$img"
    sgdisk -a 1 -n "1:$bios_sector:$((esp_sector - 1))" -t 1:ef02 -c 1:bios \
        -n "2:$esp_sector:$((esp_sector + esp_sectors - 1))" -t 2:ef00 -c 2:esp "$img" >/dev/null

    rm -f "$esp"
    mkfs.vfat -F 32 -s 1 -h $esp_sector -n BTYDEMO -C "$esp" $((esp_sectors / 2)) >/dev/null
    mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/grub
    mcopy -i "$esp" "$build/vmlinuz" "$build/initrd" ::/
    mcopy -i "$esp" "$build/grub.cfg" ::/grub/
    mcopy -i "$esp" "$build/BOOTX64.EFI" ::/EFI/BOOT/
    dd if="$esp" of="$img" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$esp"

    core_sectors=$((($(stat -c %s "$build/core.img") + 511) / 512))
    [ $core_sectors -le $((esp_sector - bios_sector)) ] || { echo "core.img is too large" >&2; return 1; }
    dd if="$build/core.img" of="$img" bs=512 seek=$bios_sector conv=notrunc status=none
    # core.img: its first sector loads the rest, from the sector named in its block list
    poke "$img" $((bios_sector * 512 + 0x1f4)) $((bios_sector + 1))
    # boot.img: code up to the partition table, the sector of core.img, and no check of the drive number (as grub-install does)
    dd if=/usr/lib/grub/i386-pc/boot.img of="$img" bs=1 count=440 conv=notrunc status=none
    poke "$img" $((0x5c)) $bios_sector
    printf '\x90\x90' | dd of="$img" bs=1 seek=$((0x66)) conv=notrunc status=none
}

# poke FILE OFFSET NUMBER: writes a number of 64 bits, little endian.
poke() {
    local bytes='' i
    for i in 0 8 16 24 32 40 48 56; do
        bytes+=$(printf '\\x%02x' $((($3 >> i) & 255)))
    done
    printf "$bytes" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

main
