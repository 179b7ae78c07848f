#!/bin/bash
# Boots fleets of simulated machines from a server, each with a new seed, until a decision is wrong
# or the script is interrupted.
#
# usage: fleet.sh BTY_WEB [RUNS]
set -euo pipefail
bty_web=$1 runs=${2:-50}
state=$(mktemp -d) port=$((20000 + RANDOM % 12000)) web_pid=''
trap 'kill "$web_pid" 2>/dev/null || true; rm -rf "$state"' EXIT
printf 'version = 1\n[[images]]\nname = "x"\nsrc = "https://images.example/x.img"\n' >"$state/catalog.toml"
BTY_PATHS_STATE_DIR=$state BTY_SERVER_HOST=127.0.0.1 BTY_SERVER_PORT=$port "$bty_web" 2>"$state/log" &
web_pid=$!
until curl --silent "http://127.0.0.1:$port/images" | grep -q '"x"'; do sleep 0.1; done
for run in $(seq "$runs"); do
    seed=$RANDOM$RANDOM
    echo "== run $run of $runs, seed $seed"
    "$bty_web" simulate-fleet --server "http://127.0.0.1:$port" --machines 1000 --boots 8 --faults $((run % 5 * 10)) --seed "$seed"
done
