# shellcheck shell=bash disable=SC2154 # here, build: run.sh sets them
# Finds the commands and files of needs.txt. Sourced by run.sh, after common.sh.

# missing PURPOSE...: the lines of needs.txt for these purposes whose command or file is not there,
# without the purpose.
missing() {
    local purpose name packages
    while read -r purpose name packages; do
        [[ " $* " = *" $purpose "* ]] || continue
        is_there "$name" || echo "$name $packages"
    done <"$here/needs.txt"
}

is_there() {
    local name=$1 path
    [ "$name" != cargo ] || name=${CARGO:-cargo} name=${name%% *}
    path=$(first_of "$name") || return 1
    # the image has no libraries: a dynamically linked busybox does not run there
    [ "$name" != busybox ] || ! head -c 4096 "$path" | grep -aq '/ld-'
}

# Reads lines of missing; prints each with the packages that bring it.
with_packages() {
    local name debian fedora arch
    while read -r name debian fedora arch; do
        name=${name//|/ or }
        [ "$name" != busybox ] || name='busybox, statically linked'
        case $debian,$fedora,$arch in
        https:*) echo "$name ($debian)" ;;
        "$debian,$debian,$debian") echo "$name (package $debian)" ;;
        *) echo "$name (Debian: $debian, Fedora: $fedora, Arch: $arch)" ;;
        esac
    done
}

# require PURPOSE...: ends the demo with a list when something is missing.
require() {
    local lines line
    lines=$(missing "$@")
    [ -n "$lines" ] || return 0
    echo "missing; install these first:" >&2
    while read -r line; do echo "   - $line"; done < <(with_packages <<<"$lines") >&2
    exit 1
}

# install_missing PURPOSE...: as root on Debian and its derivatives, installs what is missing.
install_missing() {
    local lines packages log="$build/apt.log"
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    lines=$(missing "$@")
    [ -n "$lines" ] || return 0
    mapfile -t packages < <(while read -r _ debian _; do echo "$debian"; done <<<"$lines" | sort -u)
    step "installing Debian packages: ${packages[*]}"
    echo "The demo builds its disk image with them. Log: $log"
    apt-get -q update >"$log" 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${packages[@]}" >>"$log" 2>&1 && return
    echo "apt-get failed:"
    tail -n 3 "$log"
}
