#!/usr/bin/env bash
# Builds the image of the operator or the agent from a program that cargo has built, without a registry or a network:
# FROM scratch, with the program and what it is linked to.
#
#   dev/image.sh operator [TAG] [PROGRAM]    TAG: localhost/tallyman/operator:<version>
#   dev/image.sh agent [TAG] [PROGRAM]       TAG: localhost/tallyman/agent:<version>
#
# PROGRAM is target/release/tallyman-<name> when none is given. The engine is the one of DOCKER_HOST.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source="$(dirname "$here")"

die() { printf '%s\n' "image: $*" >&2; exit 1; }

name="${1:-}"
case "$name" in
  operator) folder=operator ;;
  agent) folder=node-agent ;;
  -h | --help | help) sed -n '2,8p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; exit ;;
  *) die "say which: operator or agent" ;;
esac
version="$(awk -F'"' '/^version = /{ print $2; exit }' "$source/Cargo.toml")"
tag="${2:-localhost/tallyman/$name:$version}"
program="${3:-$source/target/release/tallyman-$name}"
[ -x "$program" ] || die "$program is missing: run cargo build --release --locked -p tallyman-$name"

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
root="$context/root"

# put FILE PATH: a copy at PATH of the image, and whatever it is linked to where the linker looks for it.
put() {
  install -D -m 0755 "$1" "$root$2"
  # A program without libraries is told of as an error, and has none.
  { LC_ALL=C ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
    [ -e "$root$library" ] || install -D -m 0755 "$(readlink -f "$library")" "$root$library"
  done
}

put "$program" "/usr/bin/tallyman-$name"
# Names of functions stay, for backtraces; lines go, which are most of a debug build.
if command -v strip >/dev/null; then strip --strip-debug "$root/usr/bin/tallyman-$name"; fi
mkdir -p "$root/etc" "$root/run" "$root/tmp"
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
# glibc looks names up by itself: files, then the name servers of resolv.conf.
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

if [ "$name" = agent ]; then
  iptables="$(PATH="$PATH:/usr/sbin:/sbin" command -v iptables)" || die "iptables is missing: apt-get install iptables"
  real="$(readlink -f "$iptables")"
  put "$real" "/usr/sbin/$(basename "$real")"
  [ "$(basename "$real")" = iptables ] || ln -s "$(basename "$real")" "$root/usr/sbin/iptables"
  # Matches and targets are files that it loads by name.
  for module in /usr/lib/*/xtables/lib{xt,ipt}_*.so; do put "$module" "$module"; done
  certificates=/etc/ssl/certs/ca-certificates.crt
  [ -f "$certificates" ] || die "$certificates is missing: apt-get install ca-certificates"
  install -D -m 0644 "$certificates" "$root$certificates"
fi

cp "$source/$folder/Dockerfile" "$context/"
# The builder of the engine itself: nothing has to be installed beside docker.
DOCKER_BUILDKIT=0 docker build --quiet \
  --label "org.opencontainers.image.title=tallyman-$name" \
  --label "org.opencontainers.image.version=$version" \
  --label "org.opencontainers.image.licenses=Apache-2.0" \
  --tag "$tag" "$context" >/dev/null
printf '%s\n' "$tag"
