#!/usr/bin/env bash
# Runs a command on a bare Debian: in a clean clone of HEAD, in a root from debootstrap with git,
# make, sudo, procps, certificates and this machine's Rust toolchain only. scripts/setup.sh must
# install everything else that the two commands of the README need.
#
# usage: scripts/bare_root.sh COMMAND…      as root, with debootstrap: scripts/bare_root.sh make demo
#   BARE_ROOT     folder of the root (default: $TMPDIR/pg_webhook-bare). BARE_ROOT.base keeps a copy of
#                 the fresh root, and each run begins with that copy
#   BARE_SUITE    Debian's suite (default: bookworm)
#   BARE_MIRROR   source of packages (default: that of this machine's apt, or debootstrap's default)
#
# Settings for proxies, pip, npm, cargo and certificates come from this machine. Cargo's downloads
# are shared with it. If the kernel allows it, mounts and processes are in namespaces of their own,
# and end with the command.
set -euo pipefail
cd "$(dirname "$0")/.."
self=$PWD/scripts/bare_root.sh
say() { printf 'bare_root: %s\n' "$*" >&2; }
[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { say "run it as root, for chroot and mounts"; exit 1; }
command -v debootstrap >/dev/null || { say "install debootstrap"; exit 1; }

if [ -z "${BARE_HAS_NAMESPACES:-}" ]; then
    for kinds in '--mount --pid --fork --kill-child --mount-proc' '--mount' ''; do
        # shellcheck disable=SC2086
        if [ -z "$kinds" ] || unshare $kinds true 2>/dev/null; then break; fi
    done
    # shellcheck disable=SC2086
    exec ${kinds:+unshare $kinds} env BARE_HAS_NAMESPACES=1 "$self" "$@"
fi

root=${BARE_ROOT:-${TMPDIR:-/tmp}/pg_webhook-bare}
suite=${BARE_SUITE:-bookworm}
packages=ca-certificates,git,make,sudo,procps
sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
mirror=${BARE_MIRROR:-$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?(https?:[^ ]+).*/\2/p' <<<"$sources" | head -n 1)}
toolchain=$(rustc --print sysroot)
[ -x "$toolchain/bin/cargo" ] || { say "$toolchain has no bin/cargo; install the toolchain with rustup"; exit 1; }

mounted() { awk -v root="$root/" 'index($2, root) == 1 { print $2 }' /proc/self/mounts | sort -r; }
unmount() { mounted | while read -r place; do umount -l "$place" || true; done; }
trap unmount EXIT
trap 'say "line $LINENO failed"' ERR
unmount
[ -z "$(mounted)" ] || { say "something is still mounted in $root"; exit 1; }

if [ ! -e "$root.base/bare_root.done" ]; then
    say "debootstrap $suite into $root.base"
    rm -rf --one-file-system "$root.base"
    debootstrap --variant=minbase --include="$packages" "$suite" "$root.base" ${mirror:+"$mirror"} >&2
    touch "$root.base/bare_root.done"
fi
rm -rf --one-file-system "$root"
cp -a "$root.base" "$root"

# The machine's way to the network.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/usr/local/share/ca-certificates"
cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
env -u TMPDIR chroot "$root" update-ca-certificates >/dev/null 2>&1
for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if grep -qs 'Acquire' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/99host-$(basename "$file")"; fi
done
keep=()
while IFS='=' read -r name value; do
    case $name in
        *TOKEN* | *PASSWORD* | *SECRET* | CARGO_HOME | CARGO_TARGET_DIR | CARGO_MANIFEST* | CARGO_PKG*) ;;
        *_proxy | *_PROXY | PIP_* | NPM_CONFIG_* | npm_config_* | CARGO_* | NODE_EXTRA_CA_CERTS | SSL_CERT_*)
            keep+=("$name=$value")
            # A file or folder that a setting names has to be there too.
            if [ "${value#/}" != "$value" ] && [ -e "$value" ] && [ ! -e "$root$value" ]; then
                mkdir -p "$root$(dirname "$value")"
                cp -aL "$value" "$root$value"
            fi
            ;;
    esac
done < <(env)
copy() { if [ -e "$1" ]; then mkdir -p "$(dirname "$root$2")" && cp -L "$1" "$root$2"; fi; }
copy /etc/pip.conf /etc/pip.conf
copy "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" /root/.config/pip/pip.conf
copy "$HOME/.npmrc" /root/.npmrc
cargo_home=${CARGO_HOME:-$HOME/.cargo}
copy "$cargo_home/config.toml" /root/.cargo/config.toml

bind() { mkdir -p "$root$2" && mount --bind "$1" "$root$2"; }
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount --rbind /sys "$root/sys"
mount --make-rslave "$root/sys"
bind "$toolchain" /opt/rust
mount -o remount,bind,ro "$root/opt/rust"
for folder in registry git; do
    if [ -d "$cargo_home/$folder" ]; then bind "$cargo_home/$folder" "/root/.cargo/$folder"; fi
done

git clone -q --no-hardlinks . "$root/src"
say "in $root: $*"
status=0
chroot "$root" env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${keep[@]}" \
    bash -c 'cd /src && exec "$@"' bash "$@" || status=$?
exit "$status"
