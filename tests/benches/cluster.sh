# The common part of the benchmarks, which source it. Starts a throw-away cluster with the release
# build of the extension.
#
# Benchmarks print JSON lines on stdout: {"name": …, "value": …, "unit": …}.
#
#   PG_BIN    a bin directory with the extension installed beside it (default: from
#             scripts/sandbox.sh)
#   ROUNDS    the number of measurements of each variant; the variants alternate, and the median
#             counts

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${PG_BIN:-$(PROFILE=${PROFILE:-release} "$root/scripts/sandbox.sh")}
rounds=${ROUNDS:-5}
# Defaults, except for settings that would make rounds differ: checkpoints, new WAL files,
# autovacuum.
CONF='max_connections = 200
shared_buffers = 512MB
min_wal_size = 4GB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off'
# shellcheck source=scripts/cluster.sh
source "$root/scripts/cluster.sh"

# Prints the median of the numbers in a file.
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# Prints a figure. Arguments: name, value, unit.
report() { printf '{"name": "%s", "value": %.3f, "unit": "%s"}\n' "$@"; }

# Creates the trigger of a watch that emits noun.created on INSERT, as webhook_watch() does.
watch_inserts() {
    sql -c "create trigger webhook_insert after insert on $1 for each row execute function webhook.capture(
        '{\"noun\": \"$1\", \"verbs\": {\"insert\": \"created\"}, \"key\": [{\"name\": \"id\", \"number\": 1}]}')"
}
