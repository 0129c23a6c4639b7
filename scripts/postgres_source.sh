#!/usr/bin/env bash
# Prints a folder with Postgres' own tests of a major version (src/test/regress,
# src/test/isolation). They come from Debian's source package, which is fetched once with an apt
# configuration of its own: the machine's configuration needs no deb-src lines and does not change.
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

# The Debian archives of this machine, as deb-src lines; for a version of another release, the same
# archives of that release. A release that is not out yet has no security archive.
case $major in
    17) suite=trixie ;;
    18) suite=forky ;;
    *)  suite= ;;
esac
sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)|$(LABEL)' 'Created-By: Packages' |
        sed -nE "s#^(.*) ([a-z/-]+)\|Debian(-Security)?\$#deb-src [signed-by=$keys] \1 \2#p" |
        if [ -n "$suite" ]; then sed -E "s#\] (\S+) [a-z]+#] \1 $suite#"; else cat; fi |
        if [ "$suite" = forky ]; then grep -vE 'forky-(security|updates)'; else cat; fi | sort -u
    [ -z "${PGW_DEBIAN_MIRROR:-}" ] || echo "deb-src [signed-by=$keys] $PGW_DEBIAN_MIRROR ${suite:-$(. /etc/os-release && echo "$VERSION_CODENAME")} main"
}

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
sources >"$apt/sources.list"
[ -s "$apt/sources.list" ] || { say "apt knows no Debian archive to take the source package from"; exit 1; }
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
# A mirror may lack the newest version. The suites compare two runs with each other, so any minor
# version will do.
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
