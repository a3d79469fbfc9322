#!/usr/bin/env bash
# Gets everything the lab, the tests and `make up` stand on: Debian packages, a Kubernetes control plane
# and current Docker, the last two built from the pinned Go modules beside this script.
#
#   dev/tools.sh build           what compiling Tallyman needs (checks only)
#   dev/tools.sh packages        Debian packages for the lab: Docker 20.10, busybox, iptables, iproute2
#   dev/tools.sh shells          zsh and fish, in which completion is tested
#   dev/tools.sh control-plane   etcd, kube-apiserver, kube-controller-manager, kubectl  -> .tools/bin
#   dev/tools.sh engines         current Docker, containerd and runc                     -> .tools/engines/current/bin
#                                and for tests an image registry, a program that reads   -> .tools/engines/bin
#                                task metadata, a log router, what Flux, Argo, Prometheus and kube-state-metrics do
#   dev/tools.sh node            Helm, kubelet, kube-scheduler, network plugins, systemd,
#                                cargo-deb                                               -> .tools/bin
#                                and ctr beside the engine whose containerd the node has
#   dev/tools.sh all             all of the above (the default)
#   dev/tools.sh supply          cargo-deny and cargo-cyclonedx                          -> .tools/bin
#   dev/tools.sh machine         a whole Debian 12 for QEMU: kernel, initrd and disk          -> .tools/machine
#
# It may be run any number of times: what is there and unchanged costs nothing. With KUBEBUILDER_ASSETS pointing at a
# folder with kube-apiserver, etcd and kubectl, those are used and not built.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="$(dirname "$here")/.tools"
control_plane_bin="$tools/bin"
engines_bin="$tools/engines/current/bin"
stamps="$tools/stamps"

say() { printf '%s\n' "tools: $*" >&2; }
die() { printf '%s\n' "tools: $*" >&2; exit 1; }

# --- Debian packages --------------------------------------------------------------------------------------------

apt_updated=""

# install_packages REASON PACKAGE...: installs them all at once, after saying what and why.
install_packages() {
  local reason="$1"; shift
  command -v apt-get >/dev/null || die "missing: $* ($reason). This is no Debian machine; please install them by its own means."
  [ "$(id -u)" = 0 ] || die "missing: $* ($reason). Run as root, or: sudo apt-get install -y $*"
  say "installing $* ($reason)"
  local log; log="$(mktemp)"
  if ! apt_get_install "$@" >"$log" 2>&1; then
    if [ -z "$apt_updated" ]; then
      say "the package lists are stale, updating them"
      apt-get update >>"$log" 2>&1 || true
      apt_updated=yes
      apt_get_install "$@" >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "apt-get could not install $*; its last lines are above."; }
    else
      tail -n 30 "$log" >&2; die "apt-get could not install $*; its last lines are above."
    fi
  fi
  rm -f "$log"
}

# Where there is a service manager it is left as the package sets it up; where there is none, postinst notices by itself.
apt_get_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# have COMMAND: as root finds it, also where the PATH of the caller lacks the sbin folders.
have() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

is_static() {
  local path; path="$(PATH="$PATH:/usr/sbin:/sbin" command -v "$1")" || return 1
  # ldd fails on a static program, which is the answer and no error.
  { LC_ALL=C ldd "$path" 2>&1 || true; } | grep -Eq 'not a dynamic|statically linked'
}

packages() {
  local missing=()
  # A docker command may come from elsewhere (docker.com); the engine for the lab is always a dockerd in one of these folders.
  have dockerd && have containerd && have runc && have docker-proxy && have docker || missing+=(docker.io)
  have iptables || missing+=(iptables)
  have ip || missing+=(iproute2)
  have nsenter || missing+=(util-linux)
  have losetup && have mount || missing+=(mount)
  have mkfs.ext4 || missing+=(e2fsprogs)
  have strace || missing+=(strace)
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
  # Images are made of it alone, so it has to be the one without libraries.
  is_static busybox || missing+=(busybox-static)
  [ ${#missing[@]} = 0 ] || install_packages "Docker engine, small images and host networks for the lab" "${missing[@]}"
  # From Debian 13 on the docker command is a package of its own.
  have docker || install_packages "the docker command" docker-cli
}

shells() {
  local missing=()
  have zsh || missing+=(zsh)
  have fish || missing+=(fish)
  [ ${#missing[@]} = 0 ] || install_packages "shells whose completion is tested" "${missing[@]}"
}

need_cc() {
  have cc || have gcc || install_packages "a linker for Rust and a C compiler for cgo" gcc libc6-dev
}

# --- build prerequisites ----------------------------------------------------------------------------------------

build() {
  have cargo || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] ||
    die "cargo is missing. Tallyman is built with Rust 1.95: install it from https://rustup.rs and run this again."
  need_cc
}

need_go() {
  have go || [ -x /usr/local/go/bin/go ] ||
    die "go is missing. $1 is built with Go 1.26 or newer: install it from https://go.dev/doc/install and run this again."
  have go || PATH="$PATH:/usr/local/go/bin"
}

# digest FILE...: of the content that a build depends on.
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }

# current STAMP DIGEST FILE...: true when the stamp matches and every file is there.
current() {
  local stamp="$1" digest="$2"; shift 2
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] || return 1
  local file; for file in "$@"; do [ -x "$file" ] || return 1; done
}

# go_build MODULE CGO OUT PACKAGE [FLAGS...]: written beside and moved into place, so that a running binary is never torn.
go_build() {
  local module="$1" cgo="$2" out="$3" package="$4"; shift 4
  local began=$SECONDS
  say "building $(basename "$out")"
  (cd "$here/$module" && CGO_ENABLED=$cgo GOFLAGS=-buildvcs=false go build -o "$out.new" "$@" "$package")
  mv -f "$out.new" "$out"
  say "built $(basename "$out") in $((SECONDS - began)) s"
}

# --- control plane ----------------------------------------------------------------------------------------------

module_version() { (cd "$here/$1" && awk -v m="$2" '$1 == m && $2 ~ /^v/ { print $2; exit }' go.mod); }

control_plane() {
  local part wanted=()
  for part in etcd kube-apiserver kubectl kube-controller-manager; do
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$part" ]; then continue; fi
    wanted+=("$part")
  done
  [ ${#wanted[@]} -gt 0 ] || { say "control plane: all parts come from KUBEBUILDER_ASSETS"; return 0; }

  mkdir -p "$control_plane_bin" "$stamps"
  local sum; sum="$(digest "$here/control-plane/go.mod" "$here/control-plane/go.sum")"
  local todo=()
  for part in "${wanted[@]}"; do
    current "$stamps/$part" "$sum" "$control_plane_bin/$part" || todo+=("$part")
  done
  [ ${#todo[@]} -gt 0 ] || return 0

  need_go "The control plane"
  local version; version="$(module_version control-plane k8s.io/kubernetes)"
  local minor; minor="${version#v1.}"; minor="${minor%%.*}"
  # Without a version in the binary, clients cannot parse what the server calls itself.
  local flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
  flags="$flags -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
  say "control plane $version: building ${todo[*]} (about five minutes when cold on two cores)"
  for part in "${todo[@]}"; do
    case "$part" in
      etcd) go_build control-plane 0 "$control_plane_bin/etcd" go.etcd.io/etcd/server/v3 -ldflags "-s -w" ;;
      *) go_build control-plane 0 "$control_plane_bin/$part" "k8s.io/kubernetes/cmd/$part" -ldflags "$flags" ;;
    esac
    printf '%s\n' "$sum" >"$stamps/$part"
  done
}

# --- engines ----------------------------------------------------------------------------------------------------

registry() {
  local bin="$tools/engines/bin" sum
  mkdir -p "$bin" "$stamps"
  sum="$(digest "$here/registry/go.mod" "$here/registry/go.sum")"
  current "$stamps/registry" "$sum" "$bin/registry" && return 0
  need_go "The registry"
  go_build registry 0 "$bin/registry" github.com/distribution/distribution/v3/cmd/registry -ldflags "-s -w"
  printf '%s\n' "$sum" >"$stamps/registry"
}

# A program of ours for the end-to-end tests: the folder of its module is called as it is.
test_program() {
  local name="$1" what="$2" bin="$tools/engines/bin" sum
  mkdir -p "$bin" "$stamps"
  sum="$(digest "$here/$name/go.mod" "$here/$name/go.sum" "$here/$name"/*.go)"
  current "$stamps/$name" "$sum" "$bin/$name" && return 0
  need_go "$what"
  go_build "$name" 0 "$bin/$name" . -ldflags "-s -w"
  printf '%s\n' "$sum" >"$stamps/$name"
}

engines() {
  registry
  # OpenTelemetry's resource detector for ECS, and the AWS SDK.
  test_program metadata-reader "The metadata reader"
  # What log routers do, as far as tests need it: neither Fluent Bit nor Fluentd is in a package registry of Debian or Go.
  test_program log-router "The log router"
  # What Flux' kustomize-controller does, and the Lua interpreter of Argo CD.
  test_program gitops "The GitOps program"
  # What Prometheus does with alert rules, and Grafana with a dashboard.
  test_program monitoring "The monitoring program"
  # What kube-state-metrics does with objects of ours.
  test_program state-metrics "The program of kube-state-metrics"
  mkdir -p "$engines_bin" "$stamps"
  local sum; sum="$(digest "$here/engines/go.mod" "$here/engines/go.sum")"
  local parts=(dockerd docker-proxy containerd containerd-shim-runc-v2 runc)
  local part todo=()
  for part in "${parts[@]}"; do
    current "$stamps/engine-$part" "$sum" "$engines_bin/$part" || todo+=("$part")
  done
  [ ${#todo[@]} -gt 0 ] || return 0

  need_go "Current Docker"
  need_cc
  have pkg-config && pkg-config --exists libseccomp ||
    install_packages "headers for building runc with seccomp" libseccomp-dev pkg-config
  local moby containerd
  moby="$(module_version engines github.com/moby/moby/v2)"
  containerd="$(module_version engines github.com/containerd/containerd/v2)"
  local moby_flags="-s -w -X github.com/moby/moby/v2/dockerversion.Version=${moby#v}"
  local containerd_flags="-s -w -X github.com/containerd/containerd/v2/version.Version=${containerd#v}"
  say "current Docker $moby: building ${todo[*]} (about three minutes when cold on two cores)"
  for part in "${todo[@]}"; do
    case "$part" in
      dockerd | docker-proxy)
        go_build engines 1 "$engines_bin/$part" "github.com/moby/moby/v2/cmd/$part" -ldflags "$moby_flags" ;;
      containerd | containerd-shim-runc-v2)
        go_build engines 1 "$engines_bin/$part" "github.com/containerd/containerd/v2/cmd/$part" -ldflags "$containerd_flags" ;;
      runc)
        go_build engines 1 "$engines_bin/runc" github.com/opencontainers/runc -tags seccomp -ldflags "-s -w" ;;
    esac
    printf '%s\n' "$sum" >"$stamps/engine-$part"
  done
}

# --- node -------------------------------------------------------------------------------------------------------

helm() {
  local sum; sum="$(digest "$here/helm/go.mod" "$here/helm/go.sum")"
  mkdir -p "$control_plane_bin" "$stamps"
  current "$stamps/helm" "$sum" "$control_plane_bin/helm" && return 0
  need_go "Helm"
  local version; version="$(module_version helm helm.sh/helm/v4)"
  go_build helm 0 "$control_plane_bin/helm" helm.sh/helm/v4/cmd/helm \
    -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version"
  printf '%s\n' "$sum" >"$stamps/helm"
}

# cargo_tool NAME VERSION: a command of cargo, as its authors locked it.
cargo_tool() {
  local name="$1" version="$2"
  mkdir -p "$control_plane_bin" "$stamps"
  current "$stamps/$name" "$version" "$control_plane_bin/$name" && return 0
  have cargo || die "cargo is missing: install it from https://rustup.rs and run this again."
  local began=$SECONDS
  say "building $name $version"
  cargo install --quiet --locked --force --root "$tools" --version "$version" "$name"
  printf '%s\n' "$version" >"$stamps/$name"
  say "built $name in $((SECONDS - began)) s"
}

# Packs the agent for Debian hosts.
cargo_deb() {
  have dpkg-shlibdeps || install_packages "it finds which C library the agent's package needs" dpkg-dev
  cargo_tool cargo-deb 3.8.0
}

# Looks at what the project is made of.
supply() {
  cargo_tool cargo-deny 0.20.2
  cargo_tool cargo-cyclonedx 0.5.9
}

node() {
  helm
  cargo_deb
  # The agent's unit is started by it, in namespaces of its own.
  [ -x /lib/systemd/systemd ] || install_packages "a service manager that starts the agent's unit in tests" systemd
  mkdir -p "$control_plane_bin" "$engines_bin" "$stamps"
  local sum; sum="$(digest "$here/node/go.mod" "$here/node/go.sum")"
  local version; version="$(module_version node k8s.io/kubernetes)"
  local minor; minor="${version#v1.}"; minor="${minor%%.*}"
  local flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
  flags="$flags -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
  local part
  for part in kubelet kube-scheduler cni-bridge cni-host-local; do
    current "$stamps/$part" "$sum" "$control_plane_bin/$part" && continue
    need_go "A Kubernetes node"
    case "$part" in
      cni-bridge)
        go_build node 0 "$control_plane_bin/$part" github.com/containernetworking/plugins/plugins/main/bridge -ldflags "-s -w" ;;
      cni-host-local)
        go_build node 0 "$control_plane_bin/$part" github.com/containernetworking/plugins/plugins/ipam/host-local -ldflags "-s -w" ;;
      *) go_build node 0 "$control_plane_bin/$part" "k8s.io/kubernetes/cmd/$part" -ldflags "$flags" ;;
    esac
    printf '%s\n' "$sum" >"$stamps/$part"
  done
  # Of the same build as the containerd that it talks to.
  sum="$(digest "$here/engines/go.mod" "$here/engines/go.sum")"
  if ! current "$stamps/engine-ctr" "$sum" "$engines_bin/ctr"; then
    need_go "A Kubernetes node"
    go_build engines 0 "$engines_bin/ctr" github.com/containerd/containerd/v2/cmd/ctr -ldflags "-s -w"
    printf '%s\n' "$sum" >"$stamps/engine-ctr"
  fi
}

# --- a whole machine --------------------------------------------------------------------------------------------

# The mirror of this machine's own Debian, where it names one for that release.
debian_mirror() {
  apt-get indextargets --format '$(SITE) $(CODENAME)' 2>/dev/null | awk '$2 == "bookworm" { print $1; exit }'
}

# What is in the disk beside Debian's packages. The one who starts the machine brings a second disk, whose script `boot` runs first:
# it says who the machine is, what its address is, and who may log in. What is emulated may take longer than systemd expects.
machine_files() {
  cat <<'END'
== /etc/fstab
/dev/vda / ext4 defaults 0 1
/dev/vdb /seed ext4 ro 0 0
== /etc/systemd/system/seed.service
[Unit]
Description=What is on the second disk
RequiresMountsFor=/seed
Before=network-online.target ssh.service containerd.service docker.service
Wants=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/sbin/modprobe virtio_net
ExecStart=/bin/sh /seed/boot
[Install]
WantedBy=multi-user.target
== /etc/systemd/system.conf.d/slow.conf
[Manager]
DefaultTimeoutStartSec=10min
DefaultDeviceTimeoutSec=10min
END
}

machine() {
  local folder="$tools/machine" stamp="$stamps/machine" sum
  mkdir -p "$folder" "$stamps"
  have qemu-system-x86_64 && have debootstrap && have mke2fs && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
    install_packages "a whole machine for tests" qemu-system-x86 debootstrap e2fsprogs debian-archive-keyring
  have ssh && have ssh-keygen || install_packages "a way into that machine" openssh-client
  sum="$({ declare -f machine machine_files; machine_files; } | sha256sum | cut -d' ' -f1)"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && [ -f "$folder/vmlinuz" ] && [ -f "$folder/initrd" ] && [ -f "$folder/root.img" ] && return 0
  [ "$(id -u)" = 0 ] || die "a disk is filled as root."

  local began=$SECONDS root="$folder/root" log="$folder/log"
  say "making a Debian machine (about five minutes; what is said is in $log)"
  empty_machine "$root"
  # Its own service manager starts what is installed, not this one's.
  if ! {
    debootstrap --variant=minbase \
      --include=systemd,systemd-sysv,dbus,udev,kmod,initramfs-tools,iproute2,iptables,procps,openssh-server,ca-certificates \
      bookworm "$root" $(debian_mirror) &&
      printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 0755 "$root/usr/sbin/policy-rc.d" &&
      sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf" &&
      printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules" &&
      chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        linux-image-cloud-amd64 docker.io apparmor nfs-kernel-server nfs-common
  } >"$log" 2>&1; then
    tail -n 30 "$log" >&2; die "the machine could not be made; its last lines are above."
  fi
  rm -f "$root/usr/sbin/policy-rc.d" "$root"/var/cache/apt/archives/*.deb
  mkdir -p "$root/seed"
  local line file=""
  while IFS= read -r line; do
    case "$line" in
      "== "*) file="$root${line#== }"; mkdir -p "${file%/*}"; : >"$file" ;;
      *) printf '%s\n' "$line" >>"$file" ;;
    esac
  done < <(machine_files)
  chroot "$root" systemctl -q enable seed.service
  # Each machine is another.
  : >"$root/etc/machine-id"
  cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
  cp "$root"/boot/initrd.img-* "$folder/initrd"
  umount_machine "$root"
  rm -f "$folder/root.img"
  truncate -s 6G "$folder/root.img"
  mke2fs -q -t ext4 -d "$root" "$folder/root.img"
  empty_machine "$root"
  printf '%s\n' "$sum" >"$stamp"
  say "made a Debian machine in $((SECONDS - began)) s"
}

# What a chroot was given goes before its files do.
umount_machine() {
  local mounted
  { grep -o " $1/[^ ]*" /proc/mounts || true; } | sort -r | while read -r mounted; do umount "$mounted"; done
}

empty_machine() { umount_machine "$1"; rm -rf --one-file-system "$1"; }

# --- main -------------------------------------------------------------------------------------------------------

mkdir -p "$tools"
# Two runs at once would build everything twice.
exec 9>"$tools/lock"
flock 9

[ $# -gt 0 ] || set -- all
for what in "$@"; do
  case "$what" in
    build) build ;;
    packages) packages ;;
    shells) shells ;;
    control-plane) control_plane ;;
    engines) engines ;;
    node) node ;;
    supply) supply ;;
    machine) machine ;;
    all) build; packages; shells; control_plane; engines; node ;;
    -h | --help | help) sed -n '2,20p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' ;;
    *) die "unknown: $what (build, packages, shells, control-plane, engines, node, supply, machine, all)" ;;
  esac
done
