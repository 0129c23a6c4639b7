#!/usr/bin/env bash
# Prints the pg_config of a Postgres of this major version with server headers: the system's, or one
# from the Debian release that contains it, in a folder of its own. Nothing is installed there, and
# no script of a package runs. The packages and their libraries are unpacked, and their programs are
# patched to use the loader and the libraries in the same folder. So Debian 12 runs Postgres 18
# beside its own, without chroot and without root. An extension that is compiled here runs there,
# because that libc is newer.
#
# usage: scripts/postgres.sh MAJOR [cached]     17, 18, or the system's version; cached: fetches nothing
#   PGW_POSTGRES        folder of the trees (default: /var/cache/pg_webhook for root, and
#                       ~/.cache/pg_webhook for others). Root's is not in its home, because the server
#                       runs as user postgres
#   PGW_DEBIAN_MIRROR   Debian's mirror (default: that of this machine's apt)
set -euo pipefail
cd "$(dirname "$0")/.."
major=${1:?usage: scripts/postgres.sh MAJOR [cached]}
say() { printf 'postgres: %s\n' "$*" >&2; }

installed=/usr/lib/postgresql/$major/bin/pg_config
if [ -x "$installed" ] && [ -f "$("$installed" --includedir-server)/postgres.h" ]; then
    echo "$installed"
    exit
fi

case $major in
    17) suite=trixie ;;
    18) suite=forky ;;
    *)  say "Postgres $major is not installed (with its server headers), and no current Debian release has it"; exit 1 ;;
esac
if [ "$(id -u)" = 0 ]; then home=/var/cache/pg_webhook; else home=${XDG_CACHE_HOME:-$HOME/.cache}/pg_webhook; fi
home=${PGW_POSTGRES:-$home}
tree=$home/pg$major
bin=$tree/usr/lib/postgresql/$major/bin
if [ -f "$tree/complete" ]; then
    echo "$bin/pg_config"
    exit
fi
[ "${2:-}" != cached ] || exit 1

command -v apt-get >/dev/null || { say "no Postgres $major, and no apt-get to get it with"; exit 1; }
command -v patchelf >/dev/null || { say "patchelf is missing (scripts/setup.sh installs it)"; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keys" ] || { say "no $keys: install debian-archive-keyring"; exit 1; }
mirror=${PGW_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)}
[ -n "$mirror" ] || { say "apt knows no Debian mirror: set PGW_DEBIAN_MIRROR"; exit 1; }

# One at a time; who waited finds it done.
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if [ -f "$tree/complete" ]; then
    echo "$bin/pg_config"
    exit
fi

say "Postgres $major from Debian $suite, into $tree (once, about 100 MB)"
rm -rf "$tree"
apt=$tree/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
: >"$apt/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
# An apt without installed packages. It uses the proxies and credentials of the machine, but not its
# sources.
apt_get() {
    apt-get -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o Acquire::Languages=none "$@" </dev/null >&2
}
apt_get update
apt_get install --yes --no-install-recommends --download-only "postgresql-$major"
# Its headers and pg_regress; the compilers it depends on are not called.
(cd "$apt/archives" && apt_get download "postgresql-server-dev-$major")
for package in "$apt"/archives/*.deb; do
    dpkg-deb --extract "$package" "$tree"
done
# Neither a system nor its documentation.
find "$tree" -mindepth 1 -maxdepth 1 ! -name 'lib*' ! -name usr -exec rm -rf {} +
find "$tree/usr" -mindepth 1 -maxdepth 1 ! -name 'lib*' ! -name include ! -name share -exec rm -rf {} +
find "$tree/usr/share" -mindepth 1 -maxdepth 1 ! -name postgresql -exec rm -rf {} +

multiarch=$(basename "$(dirname "$(find "$tree/usr/lib" "$tree/lib" -name libc.so.6 2>/dev/null | head -n 1)")")
loader=$(find "$tree" -name 'ld-linux*.so.*' -o -name 'ld64.so.*' | sort | head -n 1)
[ -x "$bin/postgres" ] && [ -n "$loader" ] || { say "the packages of $suite do not hold what was expected"; exit 1; }
find "$tree/usr/lib/postgresql" -type f -perm -u=x | while read -r program; do
    # DT_RPATH, not DT_RUNPATH: it holds for what the program's libraries need, too.
    [ "$(head -c 4 "$program" | tail -c 3)" != ELF ] || [[ $program = *.so* ]] ||
        patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$tree/usr/lib/$multiarch:$tree/lib/$multiarch" "$program"
done
chmod -R a+rX "$home"
"$bin/postgres" --version >&2
touch "$tree/complete"
echo "$bin/pg_config"
