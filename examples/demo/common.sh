# shellcheck shell=bash
# Sourced by the scripts of the demo.

export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
left_out=()

step() { printf '\n== %s\n' "$*"; }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

# leave_out WHAT WHY: remembers a part that the demo skips; run.sh lists them at the end.
leave_out() { left_out+=("$1: $2"); }

list_left_out() {
    [ ${#left_out[@]} -gt 0 ] || return 0
    step "left out"
    printf '   - %s\n' "${left_out[@]}"
}

# Prints the first of several alternatives (a|b) that is a command in PATH or a readable file.
first_of() {
    local name names
    IFS='|' read -ra names <<<"$1"
    for name in "${names[@]}"; do
        case $name in
        /*) [ ! -r "$name" ] || { echo "$name"; return; } ;;
        *) ! command -v "$name" || return 0 ;;
        esac
    done
    return 1
}
