#!/bin/sh
# Resolve the locked requirements from pyproject.toml. Hashes stay, index addresses do not.
set -eu
cd "$(dirname "$0")/.."
uv=.sightline/tools/bin/uv
[ -x "$uv" ] || uv=uv
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade "$@"; }
compile pyproject.toml --extra dev -o requirements/dev.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
compile pyproject.toml --extra bench -c requirements/dev.txt -o requirements/bench.txt
