#!/usr/bin/env bash
# Prints a folder with Postgres' own tests of this major version (src/test/regress and src/test/isolation), out of
# Debian's source package. It is fetched once, with an apt configuration of its own: the machine's configuration need
# not have deb-src lines, and does not change.
#
# usage: scripts/postgres_source.sh MAJOR
#   PGW_POSTGRES, PGW_DEBIAN_MIRROR   as in scripts/postgres.sh
set -euo pipefail
cd "$(dirname "$0")/.."
major=${1:?usage: scripts/postgres_source.sh MAJOR}
say() { printf 'postgres_source: %s\n' "$*" >&2; }

if [ "$(id -u)" = 0 ]; then home=/var/cache/pg_webhook; else home=${XDG_CACHE_HOME:-$HOME/.cache}/pg_webhook; fi
tree=${PGW_POSTGRES:-$home}/source$major
if [ -f "$tree/complete" ]; then
    echo "$tree"
    exit
fi

command -v apt-get >/dev/null || { say "no apt-get to fetch the source package with"; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keys" ] || { say "no $keys: install debian-archive-keyring"; exit 1; }

# The archives of Debian that this machine takes packages from, as deb-src lines.
sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)|$(LABEL)' 'Created-By: Packages' |
        sed -nE "s#^(.*) ([a-z/-]+)\|Debian(-Security)?\$#deb-src [signed-by=$keys] \1 \2#p" | sort -u
}
case $major in
    17) suite=trixie ;;
    18) suite=forky ;;
    *)  suite= ;;
esac

mkdir -p "$(dirname "$tree")"
exec 9>"$tree.lock"
flock 9
if [ -f "$tree/complete" ]; then
    echo "$tree"
    exit
fi
rm -rf "$tree"
apt=$tree/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
: >"$apt/status"
if [ -n "$suite" ]; then
    # shellcheck disable=SC2016
    mirror=${PGW_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)}
    [ -n "$mirror" ] || { say "apt knows no Debian mirror: set PGW_DEBIAN_MIRROR"; exit 1; }
    echo "deb-src [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
else
    sources >"$apt/sources.list"
    [ -s "$apt/sources.list" ] || { say "apt knows no Debian archive to take the source package from"; exit 1; }
fi
# The machine's proxies and credentials hold; its sources do not.
apt_with() {
    local program=$1
    shift
    "$program" -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o Acquire::Languages=none "$@" </dev/null
}
apt_with apt-get update >&2
say "the source package of Postgres $major, into $tree (once, about 25 MB)"
# A mirror may not have the newest one yet. The suites compare two runs with each other, so the minor version hardly matters.
fetched=
for version in $(apt_with apt-cache showsrc --only-source "postgresql-$major" | sed -nE 's/^Version: //p' | sort -rV | uniq); do
    if (cd "$apt/archives" && apt_with apt-get source --download-only --only-source "postgresql-$major=$version") >&2; then
        fetched=$version
        break
    fi
    say "no $version there; trying an older one"
done
[ -n "$fetched" ] || { say "the source package of Postgres $major cannot be fetched"; exit 1; }
archive=$(find "$apt/archives" -name "postgresql-$major*.orig.tar.*" ! -name '*.asc' | sort | tail -n 1)
[ -n "$archive" ] || { say "the source package does not hold what was expected"; exit 1; }
tar -xf "$archive" -C "$tree" --strip-components=1 --wildcards '*/src/test/regress' '*/src/test/isolation' '*/contrib/spi'
echo "$fetched" >"$tree/complete.new"
rm -rf "$apt"
chmod -R a+rX "$tree"
mv "$tree/complete.new" "$tree/complete"
echo "$tree"
