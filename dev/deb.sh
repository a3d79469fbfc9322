#!/usr/bin/env bash
# Builds the Debian package of the agent from a program that cargo has built.
#
#   dev/deb.sh [FOLDER] [PROGRAM]    writes FOLDER/tallyman-agent_<version>_<architecture>.deb and prints its path
#
# FOLDER is target/debian, PROGRAM target/release/tallyman-agent when none is given. The package has the program and the unit. It
# starts nothing by itself: a host runs tasks once it has a kubeconfig, see docs/install.md.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source="$(dirname "$here")"

die() { printf '%s\n' "deb: $*" >&2; exit 1; }

case "${1:-}" in -h | --help | help) sed -n '2,7p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; exit ;; esac
folder="${1:-$source/target/debian}"
program="${2:-$source/target/release/tallyman-agent}"
[ -x "$program" ] || die "$program is missing: run cargo build --release -p tallyman-agent"
command -v dpkg-deb >/dev/null || die "dpkg-deb is missing: packages are built on Debian"

version="$(awk -F'"' '/^version = /{ print $2; exit }' "$source/Cargo.toml")"
architecture="$(dpkg --print-architecture)"
# What it is linked to decides which systems it starts on.
glibc="$(grep -ao 'GLIBC_[0-9.]*' "$program" | sort -uV | tail -n 1 | cut -d_ -f2)"

root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
install -D -m 0755 "$program" "$root/usr/bin/tallyman-agent"
if command -v strip >/dev/null; then strip --strip-debug "$root/usr/bin/tallyman-agent"; fi
unit=lib/systemd/system/tallyman-agent.service
mkdir -p "$root/$(dirname "$unit")" "$root/usr/share/doc/tallyman-agent"
# By hand it lives in /usr/local, in a package it does not.
sed 's#/usr/local/bin/#/usr/bin/#' "$source/node-agent/systemd/tallyman-agent.service" >"$root/$unit"
install -m 0644 "$source/LICENSE" "$root/usr/share/doc/tallyman-agent/copyright"

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: tallyman-agent
Version: $version
Architecture: $architecture
Maintainer: Tallyman <maintainers@tallyman.dev>
Section: admin
Priority: optional
Depends: libc6 (>= $glibc), libgcc-s1, iptables
Recommends: docker.io (>= 20.10) | docker-ce (>= 5:20.10), iproute2
Homepage: https://tallyman.dev
Description: runs Amazon ECS tasks on this Docker host
 The agent of Tallyman: it reads which tasks this host is to run from a
 Kubernetes API, runs their containers on the Docker engine, and reports.
 Stopping, upgrading or removing it stops no container.
END
cat >"$root/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # An upgrade: a new agent takes over what runs. A new host is enabled by its administrator.
  if [ -n "$2" ]; then systemctl try-restart tallyman-agent.service; fi
fi
END
cat >"$root/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl --no-reload disable --now tallyman-agent.service
fi
END
cat >"$root/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
# Records, and the identity of the host.
if [ "$1" = purge ]; then rm -rf /var/lib/tallyman /etc/tallyman; fi
END
chmod 0755 "$root"/DEBIAN/{postinst,prerm,postrm}

mkdir -p "$folder"
package="$folder/tallyman-agent_${version}_${architecture}.deb"
dpkg-deb --root-owner-group -Zgzip --build "$root" "$package" >/dev/null
printf '%s\n' "$package"
