# Sourced: a throw-away cluster in $dir, stopped and removed when the shell ends. Postgres refuses to run as root, so
# root hands it to the user postgres.
#   cluster_start BIN [SETTING…]   BIN: bin directory; sets PGHOST, PGUSER, PGDATABASE; settings as name=value

if [ "$(id -u)" = 0 ]; then as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
else as_postgres() { "$@"; }; fi

cluster_start() {
    bin=$1; shift
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pg_webhook.XXXXXX")
    trap cluster_stop EXIT
    if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; chmod 755 "$dir"; fi
    (cd "$dir" && as_postgres "$bin/initdb" --pgdata="$dir/data" --username=postgres --auth=trust --no-sync >"$dir/initdb.log") ||
        { cat "$dir/initdb.log" >&2; return 1; }
    {
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$dir'"
        printf '%s\n' "$@"
    } >>"$dir/data/postgresql.conf"
    (cd "$dir" && as_postgres "$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/log" --wait start >/dev/null) || { cat "$dir/log" >&2; return 1; }
    export PGHOST=$dir PGUSER=postgres PGDATABASE=postgres PATH=$bin:$PATH
}

cluster_stop() {
    (cd "$dir" && as_postgres "$bin/pg_ctl" --pgdata="$dir/data" --mode=immediate stop >/dev/null 2>&1) || true
    rm -rf "$dir"
}
