# shellcheck shell=bash disable=SC2154 # build, bty_web: run.sh sets them
# Starts bty-web with a state of its own, and uploads images to it. Sourced by run.sh, after
# common.sh.
#   PORT  where the server listens; default 8080, or the next free port

web_pid='' server_log="$build/server.log"

# A connection succeeds when a program listens there.
port_in_use() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# choose_port [FROM]: sets port and base.
choose_port() {
    port=${PORT:-${1:-8080}}
    [[ $port =~ ^[0-9]+$ ]] || fail "PORT=$port is not a number"
    if port_in_use "$port"; then
        [ -z "${PORT:-}" ] || fail "port $PORT is in use; set PORT to another one, or leave it out to take a free one"
        while port_in_use "$port"; do port=$((port + 1)); done
        echo "port ${1:-8080} is in use; the server takes port $port"
    fi
    base="http://127.0.0.1:$port"
}

start_server() {
    until launch; do
        if [ -n "${PORT:-}" ] || ! grep -qi 'in use' "$server_log"; then
            tail -n 5 "$server_log" >&2
            fail "bty-web does not start, see $server_log"
        fi
        # another program was faster
        choose_port $((port + 1))
    done
    echo "bty-web serves at $base (log: $server_log)"
}

launch() {
    local state="$build/server" deadline=$((SECONDS + 60))
    rm -rf "$state" && mkdir -p "$state/config"
    # an empty directory replaces the configuration of this machine
    BTY_PATHS_STATE_DIR=$state BTY_SERVER_HOST=127.0.0.1 BTY_SERVER_PORT=$port "$bty_web" --config "$state/config" 2>"$server_log" &
    web_pid=$!
    while kill -0 "$web_pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        ! api "$base/healthz" >/dev/null 2>&1 || return 0
        sleep 0.05
    done
    stop_server
    return 1
}

stop_server() {
    [ -z "$web_pid" ] || { kill "$web_pid" 2>/dev/null && wait "$web_pid" 2>/dev/null; } || true
    web_pid=''
}

api() { curl --silent --show-error --fail --noproxy '*' "$@"; }

# upload FILE: sets url. The server answers requests for parts of the file, so an interrupted flash
# can be resumed.
upload() {
    local name=${1##*/}
    api -T "$1" "$base/boot/$name" >/dev/null
    url="$base/boot/$name"
    echo "$url"
}
