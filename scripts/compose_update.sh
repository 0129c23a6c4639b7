#!/usr/bin/env bash
# Writes pg_webhook--A--B.sql, the script of `alter extension pg_webhook update`, next to the script
# of a fresh installation of B. It joins the changes of tables, which are written by hand
# (extension/update/A--B.sql), and those statements of the installation that can be repeated:
# functions, views, triggers, policies, comments, and the contents of a dump.
#
# usage: scripts/compose_update.sh DIR     the folder with pg_webhook--B.sql
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: scripts/compose_update.sh DIR}
by_hand=$(ls -v extension/update/*--*.sql | tail -n 1)
pair=$(basename "$by_hand" .sql)
fresh=$dir/pg_webhook--${pair#*--}.sql
[ -f "$fresh" ] || { echo "compose_update: $by_hand leads to ${pair#*--}, and $fresh is missing" >&2; exit 1; }
code=$(mktemp)
trap 'rm -f "$code"' EXIT

# A statement that runs once begins at the start of a line, and ends with the next line that ends in
# ";". Function bodies are indented. A block that runs once begins with "do $$ -- once".
sed -E '
    /^(create (schema|sequence|table|(unique )?index|domain|event trigger)|insert|set) /{:a; /;$/d; N; ba}
    /^do \$\$ -- once$/{:b; /\$\$;$/d; N; bb}
    s/^create (function|procedure|view|trigger) /create or replace \1 /
    s/^create policy ([a-z_]+) on ([a-z_.]+)/drop policy if exists \1 on \2;\n&/
' "$fresh" >"$code"
sed -e "/^-- @code@$/{
    r $code
    d
}" "$by_hand" >"$dir/pg_webhook--$pair.sql"
