#!/bin/sh
# Fetches the boot programs of Debian's package ipxe into DIR, with a list of their digests. The
# suite must have an iPXE whose EFI programs load autoexec.ipxe. Does nothing if the programs are
# present. The package is verified against the signed index of the archive; package lists of this
# system do not change.
#
# usage: ipxe.sh DIR [SUITE]
set -eu
dir=$1 suite=${2:-trixie}
[ "$(cat "$dir/suite" 2>/dev/null)" = "$suite" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/parts"
# the mirror that this system uses
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -n 's/^deb \(\[[^]]*\] \)\?\(https\?:[^ ]*\) .*/\2/p; s/^URIs: *\(https\?:[^ ]*\).*/\1/p' | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main" >"$work/sources.list"
apt="apt-get -qq -o Dir::Etc::SourceList=$work/sources.list -o Dir::Etc::SourceParts=$work/parts -o Dir::State::Lists=$work/lists
    -o Dir::Cache::Archives=$work/archives -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root"
$apt update
(cd "$work" && $apt download ipxe)
dpkg-deb -x "$work"/ipxe_*.deb "$work/root"

mkdir -p "$dir"
for name in snponly.efi ipxe.efi undionly.kpxe ipxe.lkrn ipxe-arm64.efi snponly-arm64.efi; do
    found=$(find "$work/root/usr/lib/ipxe" -name "$name" | head -n 1)
    [ -z "$found" ] || cp -L "$found" "$dir/$name"
done
(cd "$dir" && sha256sum ./*.* >SHA256SUMS)
basename "$work"/ipxe_*.deb >"$dir/source"
echo "$suite" >"$dir/suite"
