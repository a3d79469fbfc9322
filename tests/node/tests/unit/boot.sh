#!/bin/bash
# Boots a system of its own: this machine's files with others over them, and systemd, which starts the agent's unit and nothing
# else. All of it ends with it.
#
# $1: a folder. In it, made before: `over`, files that go over this machine's. Made here: `told`, what came of it.
set -euo pipefail
folder="$1"
if [ "${2:-}" != inside ]; then
  # In control groups of its own: systemd takes those below its own for its own.
  group="$(basename "$folder")"
  groups=()
  for above in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ -e "$above/cgroup.procs" ] && [ ! -L "$above" ]; then
      groups+=("$above/$group")
    fi
  done
  mkdir "${groups[@]}"
  trap 'find "${groups[@]}" -depth -type d -exec rmdir {} +' EXIT
  (
    for one in "${groups[@]}"; do
      # A new group has no processors and takes nobody, in the first generation.
      if [ -e "$one/cpuset.cpus" ] && [ ! -e "$one/cgroup.controllers" ]; then
        cat "$one/../cpuset.cpus" >"$one/cpuset.cpus"
        cat "$one/../cpuset.mems" >"$one/cpuset.mems"
      fi
      echo "$BASHPID" >"$one/cgroup.procs"
    done
    exec timeout --kill-after=5 90 unshare --fork --pid --mount --uts --ipc --cgroup --net bash "$0" "$folder" inside
  )
  exit
fi
mount --make-rprivate /
mkdir "$folder/root" "$folder/told" "$folder/disk"
mount -t tmpfs tmpfs "$folder/disk"
mkdir "$folder/disk/upper" "$folder/disk/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$folder/root"
cd "$folder/root"
mount -t proc proc proc
mount --rbind /sys sys
# It sees the control groups of its own and no other: systemd removes whatever is empty below what it takes for the root. Above those of
# the first generation is a tmpfs, in which systemd makes folders and which it makes read-only, so it gets one of its own.
group="$(basename "$folder")"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount --bind "/sys/fs/cgroup/$group" sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  for above in /sys/fs/cgroup/*; do
    if [ -e "$above/$group/cgroup.procs" ] && [ ! -L "$above" ]; then
      mkdir "sys/fs/cgroup/${above##*/}"
      mount --bind "$above/$group" "sys/fs/cgroup/${above##*/}"
    fi
  done
fi
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
cp -r "$folder/over/." .
mkdir -p var/log/journal mnt/told
mount --bind "$folder/told" mnt/told

cat >etc/systemd/system/try.target <<'END'
[Unit]
Wants=systemd-journald.service tallyman-agent.service try.service
After=systemd-journald.service
END
# Waits for the agent's first words, or its end, and tells.
cat >etc/systemd/system/try.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/bash /etc/try.sh
END
cat >etc/try.sh <<'END'
for _ in $(seq 300); do
  journalctl --unit tallyman-agent --output cat --no-pager >/mnt/told/journal
  grep -q 'read what was saved' /mnt/told/journal && break
  case "$(systemctl show tallyman-agent --property SubState --value)" in failed | auto-restart) break ;; esac
  sleep 0.1
done
journalctl --unit tallyman-agent --output cat --no-pager >/mnt/told/journal
systemctl show tallyman-agent --property ActiveState,SubState,Result,ExecMainStatus >/mnt/told/state
(cd / && find data log var/lib/tallyman var/log/tallyman var/log/ecs -type f 2>/dev/null) >/mnt/told/files
systemctl exit 0
END
exec chroot . /usr/bin/env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=try.target --log-target=null --show-status=0
