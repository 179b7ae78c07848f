#!/bin/sh
# Tests the Python module in a virtual environment: all tests on the system's Python, and tests of what
# may differ on other installed versions. Uses the module and the programs of `cargo build --workspace`.
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
own=$("$env/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.9 3.10 3.11 3.12 3.13 3.14; do
    [ "$version" != "$own" ] || continue
    python=$(ls "${HOME:-/root}/.pyenv/versions/$version".*/bin/python 2>/dev/null | tail -n 1 || true)
    [ -n "$python" ] || python=$(command -v "python$version" || true)
    [ -n "$python" ] || { echo "Python $version is not installed: skipped"; continue; }
    other=$root/target/py-$version
    [ -x "$other/bin/pytest" ] || { "$python" -m venv "$other" && "$other/bin/pip" -q install pytest; }
    "$other/bin/pip" -q install --force-reinstall --no-deps "$wheels"/*.whl
    echo "Python $version"
    "$other/bin/python" -X dev -m pytest -q -p no:cacheprovider -k "not hundreds" tests/test_values.py tests/test_flash.py tests/test_script.py tests/test_async.py tests/test_docs.py tests/test_signatures.py tests/test_testing.py
done
