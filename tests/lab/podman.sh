#!/bin/sh
# A fake podman that records its calls. Files in $FAKE control it. Its containers are the real
# programs, started as processes.
#   images/NAME       exists for each image, and contains its architecture
#   containers/NAME   site|state|image
#   fails             lines of a verb that fails, and its message
echo "podman $*" >>"$FAKE/calls"
[ ! -e "$FAKE/fails" ] || while read -r verb text; do
    [ "$verb" != "$1" ] || { echo "Error: $text" >&2; exit 125; }
done <"$FAKE/fails"
for last; do :; done
case "$1" in
version) cat "$FAKE/version" ;;
image) cat "$FAKE/images/$(echo "$last" | tr / _)" 2>/dev/null || { echo "Error: $last: image not known" >&2; exit 125; } ;;
pull) echo amd64 >"$FAKE/images/$(echo "$last" | tr / _)" ;;
container) cat "$FAKE/containers/$last" 2>/dev/null || exit 125 ;;
run)
    for word; do
        case "$word" in
        --name=*) name=${word#--name=} ;;
        --label=bty.site=*) site=${word#--label=bty.site=} ;;
        --env-file=*) envvars=${word#--env-file=} ;;
        esac
    done
    "$FAKE/start" "$name" "$site" "$envvars" "$last"
    ;;
rm) [ ! -e "$FAKE/containers/$last" ] || { kill "$(cat "$FAKE/pids/$last")" 2>/dev/null; rm "$FAKE/containers/$last"; sleep 0.3; } ;;
rmi) rm "$FAKE/images/$(echo "$last" | tr / _)" ;;
logs) echo "the last words of $last" ;;
esac
