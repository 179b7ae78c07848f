# shellcheck shell=bash disable=SC2154,SC2034 # run.sh sets build and bootable, and uses boots
# Boots a disk in an emulator. Sourced by run.sh, after common.sh and needs.sh.

marker='bty demo: up' boots=1 qemu_pid='' boot_seconds=180
read -ra qemu <<<"${QEMU:-qemu-system-x86_64}"

# Sets boots to 0 if the disk will not be booted.
check_emulator() {
    local reason=''
    [ -z "${FIRMWARE:-}" ] || [ -r "$FIRMWARE" ] || fail "cannot read FIRMWARE=$FIRMWARE"
    if [ "$bootable" = 0 ]; then
        reason="the image would not boot"
    elif ! command -v "${qemu[0]}" >/dev/null; then
        reason="missing: ${qemu[0]}"
        [ -n "${QEMU:-}" ] || reason="missing: $(missing boot | with_packages)"
        leave_out "booting the disk" "$reason"
    fi
    [ "${BOOT:-}" != 1 ] || [ -z "$reason" ] || { list_left_out >&2; fail "BOOT=1, but the disk cannot be booted: $reason"; }
    if [ "${BOOT:-}" = 0 ] || [ -n "$reason" ]; then boots=0; fi
}

boot() {
    local log="$build/serial.log" firmware=() deadline=$((SECONDS + boot_seconds))
    [ -z "${FIRMWARE:-}" ] || firmware=(-bios "$FIRMWARE")
    step "booting $1 in ${qemu[0]}"
    : >"$log"
    # plain emulation: works on every host, also where /dev/kvm is there but does nothing
    "${qemu[@]}" -M q35 -m 512 -accel tcg,thread=multi -display none -nic none -no-reboot "${firmware[@]}" \
        -drive "file=$1,format=raw,if=virtio,snapshot=on" -serial "file:$log" 2>"$build/emulator.log" &
    qemu_pid=$!
    # from the marker on: before it there may be escape sequences of GRUB
    until grep -aoE "$marker.*" "$log"; do
        [ $SECONDS -lt $deadline ] || { tail -n 20 "$log"; fail "the disk did not boot within $boot_seconds seconds, see $log"; }
        kill -0 "$qemu_pid" 2>/dev/null || { cat "$build/emulator.log"; fail "the emulator ended early, see $log"; }
        sleep 0.2
    done
    stop_emulator
}

stop_emulator() {
    [ -z "$qemu_pid" ] || { kill "$qemu_pid" 2>/dev/null && wait "$qemu_pid" 2>/dev/null; } || true
    qemu_pid=''
}
