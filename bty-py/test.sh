#!/bin/sh
# Tests the Python module in a virtual environment: all tests on the system's Python, and tests of
# what may differ on other installed versions, of which CI takes the oldest and the newest. Uses the
# module and the programs of `cargo build --workspace`.
#
# usage: test.sh [PYTEST-ARGUMENT…]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
env=$root/target/py wheels=$root/target/py-wheels
export BTY_PY_BUILT="$root/target/debug" BTY_PY_ROOT="$root" PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
[ -x "$env/bin/python" ] || python3 -m venv "$env"
cmp -s "$here/requirements-test.txt" "$env/requirements" || {
    "$env/bin/pip" -q install --require-hashes -r "$here/requirements-test.txt"
    cp "$here/requirements-test.txt" "$env/requirements"
}
rm -rf "$wheels"
mkdir -p "$wheels"
"$env/bin/python" "$here/build_backend/backend.py" "$wheels"
"$env/bin/pip" -q install --force-reinstall --no-deps "$wheels"/*.whl
cd "$root"
typed="bty-py/python/bty bty-py/tests/typed examples/python/*.py"
"$env/bin/mypy" --cache-dir "$env/mypy" $typed
"$env/bin/pyright" --warnings -p pyproject.toml --pythonpath "$env/bin/python" $typed
"$env/bin/stubtest" --mypy-config-file pyproject.toml bty._bty
cd "$here"
"$env/bin/python" -X dev -m pytest -p no:cacheprovider tests "$@"

# Runs what may differ between versions of Python, on one of them. usage: other VERSION PYTHON
other() {
    env=$root/target/py-$1
    [ -x "$env/bin/pytest" ] || { "$2" -m venv "$env" && "$env/bin/pip" -q install pytest; }
    "$env/bin/pip" -q install --force-reinstall --no-deps "$wheels"/*.whl
    echo "Python $1"
    "$env/bin/python" -X dev -m pytest -q -p no:cacheprovider -k "not hundreds" tests/test_values.py \
        tests/test_flash.py tests/test_script.py tests/test_async.py tests/test_docs.py \
        tests/test_signatures.py tests/test_testing.py
}

own=$("$env/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
others=
for version in 3.9 3.10 3.11 3.12 3.13 3.14; do
    [ "$version" != "$own" ] || continue
    python=$(ls "${HOME:-/root}/.pyenv/versions/$version".*/bin/python 2>/dev/null | tail -n 1 || true)
    [ -n "$python" ] || python=$(command -v "python$version" || true)
    [ -n "$python" ] || { echo "Python $version is not installed: skipped"; continue; }
    others="$others $version=$python"
done
if [ -n "${CI:-}" ]; then
    others=$(printf '%s\n' $others | sed -n '1p;$p' | uniq)
fi
for pair in $others; do other "${pair%%=*}" "${pair#*=}"; done
