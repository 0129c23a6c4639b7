#!/usr/bin/env bash
# Installs the Python and JavaScript libraries of the tests under target/foreign, from PyPI into a
# venv and from npm. They are libraries for signatures and CloudEvents, schemas of OpenAPI, AsyncAPI
# and JSON Schema, Prometheus's parser, Express, and axe-core, which finds barriers on a page. schemathesis
# and openapi-python-client get venvs of their own, because their dependencies conflict with the
# others. Does nothing if everything is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${CARGO_TARGET_DIR:-target}/foreign
python=(standardwebhooks==1.1.0 cloudevents==2.2.0 svix==2.9.1 stripe==16.1.0 githubkit==0.16.1 jsonschema==4.26.0
    openapi-spec-validator==0.9.0 rfc3339-validator==0.1.4 'hishel[async,httpx]<2' cryptography prometheus-client pyyaml)
fuzzer=(schemathesis==4.32.5)
generator=(openapi-python-client==0.29.1)
node=(@asyncapi/specs@6.11.1 axe-core@4.14.1 express@5.3.0 standardwebhooks@1.1.1 cloudevents@10.0.0 svix@2.5.0 @octokit/webhooks-methods@6.0.0 stripe@23.1.0)
mkdir -p "$dir"

if [ "$(cat "$dir/venv/installed" 2>/dev/null)" != "${python[*]}" ]; then
    rm -rf "$dir/venv"
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "${python[@]}"
    echo "${python[*]}" >"$dir/venv/installed"
fi
if [ "$(cat "$dir/fuzzer/installed" 2>/dev/null)" != "${fuzzer[*]}" ]; then
    rm -rf "$dir/fuzzer"
    python3 -m venv "$dir/fuzzer"
    "$dir/fuzzer/bin/pip" install --quiet --disable-pip-version-check "${fuzzer[@]}"
    echo "${fuzzer[*]}" >"$dir/fuzzer/installed"
fi
if [ "$(cat "$dir/generator/installed" 2>/dev/null)" != "${generator[*]}" ]; then
    rm -rf "$dir/generator"
    python3 -m venv "$dir/generator"
    "$dir/generator/bin/pip" install --quiet --disable-pip-version-check "${generator[@]}"
    echo "${generator[*]}" >"$dir/generator/installed"
fi
if [ "$(cat "$dir/node/installed" 2>/dev/null)" != "${node[*]}" ]; then
    rm -rf "$dir/node"
    mkdir -p "$dir/node"
    npm install --prefix "$dir/node" --silent --no-audit --no-fund --no-save "${node[@]}" >&2
    echo "${node[*]}" >"$dir/node/installed"
fi
