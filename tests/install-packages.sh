#!/bin/sh
# Installs the Debian packages listed in a file, those that are missing.
# usage: install-packages.sh LIST
set -eu

missing=""
for package in $(grep -v '^#' "$1"); do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages; as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
# daemons are started by the tests themselves, on ports of their own
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086 # a list
apt-get -qq -y --no-install-recommends install $missing || {
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install $missing
}
