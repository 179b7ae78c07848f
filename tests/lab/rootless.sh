#!/bin/sh
# Deploys a site as a user without root, who has only subordinate ids. The user exists in this mount
# namespace only.
# usage: rootless.sh HOME BTY_LAB ARCHIVE
set -eu
home=$1 lab=$2 archive=$3
mkdir -p "$home/etc" "$home/run" "$home/storage"
for name in passwd group subuid subgid; do
    cat "/etc/$name" >"$home/etc/$name" 2>/dev/null || :
done
echo "btytest:x:4243:4243::$home:/bin/sh" >>"$home/etc/passwd"
echo "btytest:x:4243:" >>"$home/etc/group"
echo "btytest:4000000:65536" | tee -a "$home/etc/subuid" >>"$home/etc/subgid"
for name in passwd group subuid subgid; do
    touch "/etc/$name"
    mount --bind "$home/etc/$name" "/etc/$name"
done
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/storage"\nrunroot = "%s/run/containers"\n' "$home" "$home" >"$home/storage.conf"
sed "s|^tmp_dir.*|tmp_dir = \"$home/run/libpod\"|" "$CONTAINERS_CONF" >"$home/containers.conf"
cp "$archive" "$home/images.tar.zst"
chown -R 4243:4243 "$home"
chmod 755 "${home%/home}"
export HOME="$home" XDG_RUNTIME_DIR="$home/run" CONTAINERS_CONF="$home/containers.conf" CONTAINERS_STORAGE_CONF="$home/storage.conf"
export LAB="$lab"
cd "$home"
exec setpriv --reuid=4243 --regid=4243 --init-groups sh -euc '
    trap "podman system migrate" EXIT
    "$LAB" deploy site --images images.tar.zst
    "$LAB" doctor site
    stat -c "%u %n" site/data/bty/state.db
    "$LAB" purge site --all --yes
'
