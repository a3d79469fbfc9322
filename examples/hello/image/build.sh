#!/bin/sh
# Makes the image localhost/tallyman/hello:1 from nothing but a static busybox: no registry, no download.
#
#   build.sh [NAME]     imports it into the Docker that DOCKER_HOST names, as NAME or localhost/tallyman/hello:1
#   build.sh --rootfs   writes its root file system to standard output, as a tar archive
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
busybox="$(PATH="$PATH:/usr/bin:/bin" command -v busybox)" || {
  echo "busybox is missing: install the package busybox-static" >&2
  exit 1
}

root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT INT TERM
mkdir -p "$root/bin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/www"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for command in $("$busybox" --list); do
  [ "$command" = busybox ] || ln -s busybox "$root/bin/$command"
done
printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
install -m 0755 "$here/entrypoint" "$root/bin/entrypoint"

# The same files give the same bytes, whenever and wherever it is made.
archive() {
  tar --create --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
}

if [ "${1:-}" = --rootfs ]; then
  archive
else
  archive | docker import \
    --change 'ENTRYPOINT ["/bin/entrypoint"]' \
    --change 'ENV PATH=/bin' \
    --change 'EXPOSE 80' \
    - "${1:-localhost/tallyman/hello:1}"
fi
