//! From inside a container, by its kernel and its files.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::attack::scene::{Foothold, Scene};
use crate::attack::{From, Haul, Row};
use crate::inside::{container, definition};
use crate::user::PATIENCE;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "10",
        from: From::Container,
        tried: "what can be read: files, mounts, environments and command lines of all processes, the kernel's tables",
        reduced: true,
        run: read_all,
    },
    Row {
        number: "11",
        from: From::Container,
        tried: "what must not work: packet sockets (ARP in another's name), addresses and routes, mounts, namespaces, devices of the host, writes to `/proc/sys`, `/sys` and control groups, the kernel's log, the clock; on the host's network also the agent's own ports and abstract sockets",
        reduced: false,
        run: do_all,
    },
    Row {
        number: "12",
        from: From::Container,
        tried: "task definitions that ask for the host: privileged, its namespaces, its disks, the engine's socket and what leads there, capabilities, profiles taken away",
        reduced: false,
        run: ask_for_all,
    },
];

const SWEEP: &str = r"
env
for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mountinfo /proc/net/unix /proc/net/tcp /proc/keys \
         /proc/sched_debug /proc/timer_list /proc/mounts /proc/swaps /proc/partitions; do
  cat $f; echo
done 2>/dev/null
find / \( -path /proc -o -path /sys -o -path /dev -o -path /bin \) -prune -o -type f -print 2>/dev/null |
  while read -r f; do echo; echo FILE $f; head -c 100000 $f 2>/dev/null; done
find / \( -path /proc -o -path /sys \) -prune -o -type s -print 2>/dev/null | sed 's/^/SOCKET /'
echo done
";

fn read_all(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let host = scene.vault.host;
    for foothold in &scene.footholds {
        let text = foothold.inside.stdin_shell().stdin(SWEEP).check()?;
        ensure!(text.trim_end().ends_with("done"), "the sweep broke off");
        let mode = foothold.mode;
        if let Some(canary) = scene.found(&text) {
            haul.got(format!("{canary} by reading all in mode {mode}"));
        }
        for line in text.lines() {
            if line.starts_with("FILE ") {
                haul.note("a file of its own");
            }
            if let Some(socket) = line.strip_prefix("SOCKET ") {
                haul.got(format!("the socket {socket} in mode {mode}"));
            }
        }
        // By the names that they have on the host.
        for path in [
            host.agent_kubeconfig(),
            host.agent_data(),
            host.engine_socket(),
        ] {
            let line = format!("ls -d '{}'", path.display());
            match foothold.inside.shell(&line)? {
                Ok(_) => haul.got(format!("{} in mode {mode}", path.display())),
                Err(_) => haul.note("no such file"),
            }
        }
    }
    Ok(())
}

/// A line of shell that must fail, and what it would mean if it did not.
type Deed = (&'static str, &'static str);

const DEEDS: &[Deed] = &[
    (
        "a packet socket: ARP",
        "arping -c 1 -w 2 -I eth0 $(ip route | awk '/^default/ { print $3 }')",
    ),
    (
        "NET_RAW",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 13 & 1 )) = 1 ]",
    ),
    (
        "NET_ADMIN",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 12 & 1 )) = 1 ]",
    ),
    (
        "SYS_ADMIN",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 21 & 1 )) = 1 ]",
    ),
    (
        "SYS_PTRACE",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 19 & 1 )) = 1 ]",
    ),
    (
        "SYS_MODULE",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 16 & 1 )) = 1 ]",
    ),
    (
        "DAC_READ_SEARCH",
        "[ $(( 0x$(awk '/CapBnd/ { print $2 }' /proc/1/status) >> 2 & 1 )) = 1 ]",
    ),
    ("new privileges", "! grep -q 'NoNewPrivs:.1' /proc/1/status"),
    (
        "no filter of system calls",
        "! grep -q 'Seccomp:.2' /proc/1/status",
    ),
    (
        "an address of its choice",
        "ip addr add 169.254.170.9/32 dev eth0",
    ),
    (
        "a hardware address of its choice",
        "ip link set eth0 address 02:42:ac:11:00:63",
    ),
    (
        "a route of its choice",
        "ip route add 192.0.2.1/32 dev eth0",
    ),
    ("a firewall", "iptables -t nat -S"),
    ("a mount", "mkdir -p /tmp/m && mount -t tmpfs x /tmp/m"),
    (
        "a mount of /proc",
        "mkdir -p /tmp/m && mount -t proc x /tmp/m",
    ),
    ("/proc/sys to be written", "mount -o remount,rw /proc/sys"),
    (
        "a control group",
        "mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/pids/x || { test -e /sys/fs/cgroup/cgroup.procs && mkdir /sys/fs/cgroup/x; }",
    ),
    (
        "a mount of control groups",
        "mkdir -p /tmp/m && mount -t cgroup -o pids x /tmp/m",
    ),
    ("a user namespace", "unshare -U true"),
    ("a mount namespace", "unshare -m true"),
    ("a network namespace", "unshare -n true"),
    ("another mount namespace", "nsenter -t 1 -m true"),
    (
        "a disk, 8:0",
        "mknod /tmp/d1 b 8 0 && head -c 1 /tmp/d1 | grep -q .",
    ),
    (
        "a disk, 254:0",
        "mknod /tmp/d2 b 254 0 && head -c 1 /tmp/d2 | grep -q .",
    ),
    (
        "a disk, 7:0",
        "mknod /tmp/d3 b 7 0 && head -c 1 /tmp/d3 | grep -q .",
    ),
    (
        "the memory",
        "mknod /tmp/d4 c 1 1 && head -c 1 /tmp/d4 | grep -q .",
    ),
    (
        "the kernel's log, by device",
        "mknod /tmp/d5 c 1 11 && timeout 1 head -c 1 /tmp/d5 | grep -q .",
    ),
    ("the kernel's log", "dmesg | grep -q ."),
    (
        "the kernel's log, by /proc",
        "timeout 1 head -c 1 /proc/kmsg | grep -q .",
    ),
    (
        "the core pattern",
        "v=$(cat /proc/sys/kernel/core_pattern) && echo \"$v\" > /proc/sys/kernel/core_pattern",
    ),
    (
        "forwarding",
        "v=$(cat /proc/sys/net/ipv4/ip_forward) && echo \"$v\" > /proc/sys/net/ipv4/ip_forward",
    ),
    ("the magic key", "echo h > /proc/sysrq-trigger"),
    (
        "the helper of events",
        "v=$(cat /sys/kernel/uevent_helper) && echo \"$v\" > /sys/kernel/uevent_helper",
    ),
    (
        "the clock",
        "! date -s \"$(date '+%Y-%m-%d %H:%M:%S')\" 2>&1 | grep -q 'not permitted'",
    ),
    ("its host name", "hostname $(hostname)"),
    (
        "processes of the host",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -E '[d]ockerd|[c]ontainerd|[t]allyman-agent'",
    ),
    (
        "files of the host by process 1",
        "ls /proc/1/root/usr /proc/1/root/etc/os-release",
    ),
    (
        "a bigger limit of processes",
        "echo max > /sys/fs/cgroup/pids/pids.max || { test -e /sys/fs/cgroup/cgroup.procs && echo max > /sys/fs/cgroup/pids.max; }",
    ),
];

/// On the host's network, where these would be somebody else's.
const ON_THE_HOST: &[Deed] = &[
    (
        "the port of the metadata endpoint",
        "httpd -p 169.254.170.2:51679 -h /tmp",
    ),
    (
        "the port of the metadata endpoint, on every address",
        "httpd -p 51679 -h /tmp",
    ),
    (
        "abstract sockets of engine or agent",
        "grep -E '@.*(containerd|docker|tallyman)' /proc/net/unix",
    ),
];

fn do_all(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    for foothold in &scene.footholds {
        let more = match foothold.mode {
            "host" => ON_THE_HOST,
            _ => &[],
        };
        attempt(haul, foothold, &[DEEDS, more].concat())?;
    }
    Ok(())
}

fn attempt(haul: &mut Haul, foothold: &Foothold<'_>, deeds: &[Deed]) -> Result<()> {
    let mut script = "try() { if timeout 5 sh -c \"$2\" >/tmp/out 2>&1; then echo \"GOT $1\"; else echo \"KEPT $1\"; fi; }\n".to_owned();
    for (what, deed) in deeds {
        let quoted = deed.replace('\'', "'\\''");
        script.push_str(&format!(
            "try '{}' '{quoted}'\n",
            what.replace('\'', "'\\''")
        ));
    }
    // A shell in which everything fails would show nothing.
    script.push_str(
        "try 'to be a shell' 'true && grep -q . /proc/1/status && ip route && awk 1 /dev/null'\n",
    );
    let text = foothold.inside.stdin_shell().stdin(script).check()?;
    let mut lines: Vec<&str> = text.lines().collect();
    ensure!(
        lines.pop() == Some("GOT to be a shell") && lines.len() == deeds.len(),
        "{text}"
    );
    for line in lines {
        match line.strip_prefix("GOT ") {
            Some(what) => {
                haul.note("it worked");
                haul.got(format!("{what} in mode {}", foothold.mode));
            }
            None => haul.note("it failed"),
        }
    }
    Ok(())
}

/// Fields of a task definition, of its container, and what they ask for.
fn demands() -> Vec<(&'static str, Value, Value)> {
    let mounted = |path: &str| {
        let volumes = json!({ "volumes": [{ "name": "v", "host": { "sourcePath": path } }] });
        let points = json!({ "mountPoints": [{ "sourceVolume": "v", "containerPath": "/v" }] });
        (volumes, points)
    };
    let mut all = vec![
        ("privileged", json!({}), json!({ "privileged": true })),
        ("pid", json!({ "pidMode": "host" }), json!({})),
        ("ipc", json!({ "ipcMode": "host" }), json!({})),
    ];
    for (name, path) in [
        ("socket", "/var/run/docker.sock"),
        ("socket-dots", "/srv/../var/run/docker.sock"),
        ("socket-slashes", "//var//run/./docker.sock"),
        ("run", "/run"),
        ("root", "/"),
        ("docker", "/var/lib/docker"),
        ("containerd", "/run/containerd/containerd.sock"),
        ("agent", "/var/lib/tallyman"),
        ("key", "/etc/tallyman"),
        ("etc", "/etc"),
        ("units", "/etc/systemd/system"),
        ("cron", "/etc/cron.d"),
        ("ssh", "/etc/ssh"),
        ("homes", "/home"),
        ("keys", "/root/.ssh"),
        ("programs", "/usr/local/bin"),
        ("boot", "/boot"),
        ("bus", "/run/dbus"),
        ("proc", "/proc"),
        ("dev", "/dev"),
        ("sys", "/sys"),
    ] {
        let (spec, of_container) = mounted(path);
        all.push((name, spec, of_container));
    }
    let local = |device: &str| {
        json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": {
            "scope": "task", "driver": "local",
            "driverOpts": { "type": "none", "o": "bind", "device": device } } }] })
    };
    let (_, points) = mounted("/");
    all.push(("by-driver", local("/var/lib/docker"), points.clone()));
    all.push(("overlay", json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": {
        "scope": "task", "driver": "local",
        "driverOpts": { "type": "overlay", "o": "lowerdir=/,upperdir=/srv/u,workdir=/srv/w", "device": "overlay" } } }] }), points));
    for capability in [
        "SYS_ADMIN",
        "CAP_SYS_ADMIN",
        "sys_admin",
        "ALL",
        "DAC_READ_SEARCH",
        "SYS_MODULE",
        "BPF",
    ] {
        let name: &str = match capability {
            "CAP_SYS_ADMIN" => "cap-prefixed",
            "sys_admin" => "cap-small",
            "ALL" => "cap-all",
            "DAC_READ_SEARCH" => "cap-read",
            "SYS_MODULE" => "cap-module",
            "BPF" => "cap-bpf",
            _ => "cap-admin",
        };
        let add = json!({ "linuxParameters": { "capabilities": { "add": [capability] } } });
        all.push((name, json!({}), add));
    }
    for (name, option) in [
        ("seccomp", "seccomp=unconfined"),
        ("seccomp-colon", "seccomp:unconfined"),
        ("label", "label:disable"),
    ] {
        all.push((
            name,
            json!({}),
            json!({ "dockerSecurityOptions": [option] }),
        ));
    }
    for (name, device) in [
        ("disk", "/dev/sda"),
        ("mem", "/dev/mem"),
        ("disk-dots", "/dev/../dev/vda"),
    ] {
        let devices = json!({ "linuxParameters": { "devices": [{ "hostPath": device }] } });
        all.push((name, json!({}), devices));
    }
    all
}

fn merged(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn ask_for_all(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let user = &scene.user;
    let host = scene.vault.host.name();
    let mut names = Vec::new();
    for (name, spec, of_container) in demands() {
        let name = format!("greedy-{name}");
        let mut one = container("greedy");
        merged(&mut one, of_container);
        let mut object = definition(&name, &json!([one]));
        merged(&mut object["spec"], spec);
        let task = json!({ "kind": "Task", "metadata": { "name": name },
                           "spec": { "taskDefinition": name, "containerInstance": host } });
        match user.apply(&[object]) {
            Ok(_) => {
                user.apply(&[task])?;
                names.push(name);
            }
            // The API server itself may refuse it.
            Err(_) => haul.note("refused at apply"),
        }
    }
    for name in &names {
        let status = wait_until(format!("{name} to be decided on"), PATIENCE, || {
            let status = user.get("tasks", name)?["status"].clone();
            let last = status["lastStatus"].as_str().unwrap_or_default().to_owned();
            Ok(["RUNNING", "STOPPED"]
                .contains(&last.as_str())
                .then_some(status))
        })?;
        if status["lastStatus"] == "RUNNING" || !status["startedAt"].is_null() {
            haul.got(format!("what {name} asks for: {status}"));
        }
        haul.note("refused before it starts");
    }
    let mut args = vec!["delete", "tasks.tallyman.dev", "--timeout=90s"];
    args.extend(names.iter().map(String::as_str));
    user.k(&args)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    user.delete(&names)
}
