#!/bin/sh
# A fake systemctl for Quadlet units.
echo "systemctl $*" >>"$FAKE/calls"
name=${2%.service}
value() { sed -n "s/^$1=//p" "/etc/containers/systemd/$name.container"; }
case "$1" in
start) "$FAKE/start" "$name" "$(value Label | sed 's/^bty.site=//')" "$(value EnvironmentFile)" "$(value Image)" ;;
stop) kill "$(cat "$FAKE/pids/$name")" 2>/dev/null; rm -f "$FAKE/containers/$name"; sleep 0.3 ;;
esac
