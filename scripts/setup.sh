#!/usr/bin/env bash
# Installs missing requirements of builds and tests: the Debian or Ubuntu packages of
# scripts/packages, Postgres, and cargo-pgrx. It needs only a Rust toolchain. Run it as root, or as
# a user with sudo. PGW_NO_APT=1 lists missing packages instead of installing them.
#
# usage: scripts/setup.sh [build|test|torture]     test and torture add their own requirements
#   PG   major version of Postgres (default: an installed one with its headers, or the distribution's);
#        a version that this release lacks comes from another (scripts/postgres.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}
say() { printf 'setup: %s\n' "$*" >&2; }

have_pg() {
    local config
    for config in ${PG_CONFIG:-} /usr/lib/postgresql/${PG:-*}/bin/pg_config; do
        [ -x "$config" ] && [ -x "$("$config" --bindir)/initdb" ] && [ -f "$("$config" --includedir-server)/postgres.h" ] && return 0
    done
    return 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt_updated=
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >&2; }
apt_install() {
    if [ -n "${PGW_NO_APT:-}" ] || ! command -v apt-get >/dev/null; then
        say "please install: $*"
        exit 1
    fi
    [ -n "$apt_updated" ] || { apt update; apt_updated=1; }
    say "installing $*"
    apt install -y --no-install-recommends "$@"
}

command -v cargo >/dev/null || { say "no cargo: install a Rust toolchain (https://rustup.rs), version $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer"; exit 1; }

# From scripts/packages: what is of this stage, and not there.
is_there() {
    local programs=$1 probe=$2 program
    if [ -n "$probe" ]; then
        eval "$probe" >/dev/null 2>&1
        return
    fi
    for program in $programs; do command -v "${program%%=*}" >/dev/null || return 1; done
}
missing=()
while IFS='|' read -r stage packages programs probe; do
    read -r stage <<<"$stage"; read -r programs <<<"$programs"; read -r probe <<<"$probe"
    case "$stage $what" in
        build\ * | test\ test | test\ torture | torture\ torture) ;;
        *) continue ;;
    esac
    read -ra packages <<<"$packages"
    is_there "$programs" "$probe" || missing+=("${packages[@]}")
done <scripts/packages
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"

if ! have_pg && ! { [ -n "${PG:-}" ] && scripts/postgres.sh "$PG" cached >/dev/null 2>&1; }; then
    [ -n "${PGW_NO_APT:-}" ] || { apt update; apt_updated=1; }
    here=$(apt-cache show postgresql 2>/dev/null | sed -nE 's/^Version: ([0-9]+).*/\1/p' | head -n 1 || true)
    if [ -z "${PG:-}" ] || apt-cache show "postgresql-$PG" >/dev/null 2>&1; then
        PG=${PG:-${here:-15}}
        apt_install "postgresql-$PG" "postgresql-server-dev-$PG"
        have_pg || { say "Postgres $PG with its server headers is still not there"; exit 1; }
    else
        command -v patchelf >/dev/null || apt_install patchelf
        # As root, the server runs as user postgres.
        id postgres >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt_install postgresql-common
        scripts/postgres.sh "$PG" >/dev/null
    fi
fi

# cargo-pgrx writes the extension's SQL. It must have the version of the pgrx crate.
pgrx=$(sed -nE 's/^pgrx = "=([0-9.]+)".*/\1/p' extension/Cargo.toml)
if [ "$(PATH="$PWD/.tools/bin:$PATH" cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $pgrx" ]; then
    say "installing cargo-pgrx $pgrx into .tools (about four minutes)"
    cargo install cargo-pgrx --version "$pgrx" --locked --root .tools --quiet >&2
fi
