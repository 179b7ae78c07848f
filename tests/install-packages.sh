#!/bin/sh
# Installs the missing ones of the Debian packages that a file lists.
# usage: install-packages.sh LIST
set -eu

missing() {
    for package in $(grep -v '^#' "$1"); do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || printf ' %s' "$package"
    done
}

wanted=$(missing "$1")
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages; as root: apt-get install$wanted" >&2
    exit 1
fi
# do not start daemons: tests start their own, on other ports
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
# twice, because the first run may remove packages: a qemu-utils that is newer than that of the
# archive conflicts with its emulators
for pass in 1 2; do
    wanted=$(missing "$1")
    [ -n "$wanted" ] || exit 0
    echo "installing:$wanted"
    # shellcheck disable=SC2086 # a list
    apt-get -qq -y --no-install-recommends install $wanted || [ $pass = 1 ]
    [ $pass = 2 ] || apt-get -qq update
done
[ -z "$(missing "$1")" ]
