# A throw-away cluster, for tests and benchmarks to source. It is stopped and removed when the
# script that sources this file ends.
#
# Reads   bin     a bin directory with the extension installed beside it (scripts/sandbox.sh prints one)
#         CONF    lines for postgresql.conf
# Sets    work    a directory for the script's own files
#         PGHOST, PGUSER, PGDATABASE, so that every client reaches the cluster and no other
# Defines server_start, server_stop MODE, sql (psql for scripts: one value per column, stops at errors)

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_webhook.XXXXXX")
chmod 755 "$work"
mkdir "$work/cluster"
data=$work/cluster/data

# Postgres refuses to run as root.
as_owner() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work/cluster"
    as_owner() { su postgres -s /bin/bash -c "$(printf '%q ' "$@")"; }
fi

server_start() { as_owner "$bin/pg_ctl" -D "$data" -l "$work/cluster/log" -w -s start; }
server_stop() { as_owner "$bin/pg_ctl" -D "$data" -m "$1" -w -s stop; }
sql() { "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

trap 'server_stop immediate 2>/dev/null || true; rm -rf "$work"' EXIT

as_owner "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$work/initdb.log"
cat >>"$data/postgresql.conf" <<EOF2
listen_addresses = ''
unix_socket_directories = '$work/cluster'
${CONF:-}
EOF2
# A server that inherits this would add Rust's call stack to its errors.
unset RUST_BACKTRACE
unset PGPORT PGOPTIONS PGSERVICE PGSERVICEFILE PGPASSFILE PGCLIENTENCODING
export PGHOST=$work/cluster PGUSER=postgres PGDATABASE=postgres
server_start
