#!/bin/sh
# Starts a service like its container. usage: start.sh NAME SITE ENVVARS IMAGE
name=$1 site=$2 envvars=$3 image=$4
echo "$site|running|$image" >"$FAKE/containers/$name"
set -a
. "$envvars"
BTY_PATHS_STATE_DIR="$FAKE/state/$name"
# no password: a container would get it from bty.toml
BTY_ADMIN_OPEN=1
set +a
case "$name" in
bty-web) set -- serve ;;
bty-cache) set -- cache --data-dir "$BTY_PATHS_STATE_DIR" ;;
bty-tftp) set -- tftp --root "$FAKE/ipxe" --metrics 127.0.0.1:6969 ;;
esac
mkdir -p "$BTY_PATHS_STATE_DIR"
setsid "$BTY_WEB" "$@" >"$FAKE/$name.log" 2>&1 </dev/null &
echo $! >"$FAKE/pids/$name"
