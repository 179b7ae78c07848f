#!/bin/bash
# Runs schemathesis, which generates requests from the OpenAPI document, against a server without a
# password.
#
# usage: schemathesis.sh BTY_WEB VENV [MAX_EXAMPLES]
set -euo pipefail
bty_web=$(realpath "$1") venv=$(realpath -m "$2") examples=${3:-60}
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" -q install 'schemathesis>=4,<5'
fi
state=$(mktemp -d) port=$((20000 + RANDOM % 12000)) web_pid=''
trap 'kill "$web_pid" 2>/dev/null || true; rm -rf "$state"' EXIT
# fetches of boot artifacts fail, so that no other host is contacted
BTY_BOOT_RELEASE_REPO=http://127.0.0.1:9/none BTY_PATHS_STATE_DIR=$state BTY_SERVER_HOST=127.0.0.1 BTY_SERVER_PORT=$port \
    "$bty_web" 2>"$state/log" &
web_pid=$!
until curl --silent --fail "http://127.0.0.1:$port/healthz" >/dev/null; do sleep 0.1; done
# schemathesis writes its caches into the current directory
cd "$state"
# streams do not end; the check of undefined methods is left out, because the router answers those
# requests itself
"$venv/bin/schemathesis" run "http://127.0.0.1:$port/openapi.json" \
    --phases examples,coverage,fuzzing --max-examples "$examples" \
    --exclude-path-regex '^/events/(stream|machines|workers)$' \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --suppress-health-check all --workers 2
! grep -q panicked "$state/log"
