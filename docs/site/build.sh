#!/bin/sh
# Builds the documentation into target/site, and checks it: links, anchors, spelling, and that
# nothing is loaded from elsewhere.
# usage: build.sh
set -eu
cd "$(dirname "$0")/../.."
env=target/tools/docs here=docs/site
export PIP_DISABLE_PIP_VERSION_CHECK=1 NO_MKDOCS_2_WARNING=1
[ -x $env/bin/python ] || python3 -m venv $env
cmp -s $here/requirements.txt $env/requirements || {
    $env/bin/pip -q install --no-compile --require-hashes -r $here/requirements.txt
    cp $here/requirements.txt $env/requirements
}
$env/bin/python $here/pictures.py --check
$env/bin/mkdocs build --strict
$env/bin/codespell --config $here/codespell.cfg docs README.md
$env/bin/python $here/check.py target/site
