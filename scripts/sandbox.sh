#!/usr/bin/env bash
# Creates a private copy of the Postgres installation with this tree's extension in it. So tests,
# demo and benchmarks need no rights on the system's Postgres, and do not change it. Postgres finds
# its files relative to its own binary, so a copied tree is a whole installation.
#
# usage: scripts/sandbox.sh [DIR]      prints the path of the copy's bin directory on stdout
#   PG          major version of the Postgres to copy (scripts/postgres.sh finds or fetches it), or
#   PG_CONFIG   the Postgres to copy (default: newest in /usr/lib/postgresql, or pg_config of the PATH)
#   PROFILE     cargo profile of the extension (default: quick)
set -euo pipefail
cd "$(dirname "$0")/.."

pg_config=${PG_CONFIG:-}
if [ -n "${PG:-}" ]; then
    pg_config=$(scripts/postgres.sh "$PG")
elif [ -z "$pg_config" ]; then
    pg_config=$(ls -v /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | tail -n 1 || true)
    pg_config=${pg_config:-$(command -v pg_config || true)}
fi
[ -x "$pg_config" ] || { echo "sandbox: no pg_config; run 'make setup' or set PG_CONFIG" >&2; exit 1; }
major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
dir=${1:-${TMPDIR:-/tmp}/pg_webhook-$(id -un)/pg$major}

bindir=$("$pg_config" --bindir); libdir=$("$pg_config" --pkglibdir); sharedir=$("$pg_config" --sharedir)
copy_bin=$dir$bindir
if [ ! -x "$copy_bin/postgres" ] || [ "$bindir/postgres" -nt "$copy_bin/postgres" ]; then
    rm -rf "$dir"
    for part in "$bindir" "$libdir" "$sharedir" "$("$pg_config" --includedir-server)"; do
        mkdir -p "$dir$part"
        cp -rL "$part/." "$dir$part/"
    done
    # Debian keeps translations and configuration elsewhere. Neither is needed.
    chmod -R a+rX "$dir"
    touch "$copy_bin/postgres"
fi

# The tests create this again (tests/src/cluster/template.rs). The server would refuse the
# permissions that are set below.
rm -rf "$copy_bin"/e2e-template*
rm -f "$dir$sharedir"/extension/pg_webhook--*.sql
export PATH="$PWD/.tools/bin:$PATH"
export PGRX_PG_CONFIG_PATH=$copy_bin/pg_config
cargo pgrx install --package pg_webhook --manifest-path extension/Cargo.toml --pg-config "$copy_bin/pg_config" \
    --no-default-features --features "pg$major" --profile "${PROFILE:-quick}" >&2
scripts/compose_update.sh "$dir$sharedir/extension"
# The version that the tests update from.
for former in tests/upgrade/pg_webhook--*.sql.gz; do
    gzip -dc "$former" >"$dir$sharedir/extension/$(basename "$former" .gz)"
done
chmod -R a+rX "$dir"
echo "$copy_bin"
