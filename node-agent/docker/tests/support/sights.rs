//! What a program looks for inside its container, as one line for busybox' shell.

use tallyman_agent_engine::conformance::{Sight, UNSEEN};

/// Ends with 0, or with [`UNSEEN`] and the index of the first sight that is not there.
pub fn script(sights: &[Sight]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (code, sight) in (UNSEEN..).zip(sights) {
        lines.push(format!("{{ {}; }} || exit {code}", test(sight)));
    }
    lines.push("exit 0".to_owned());
    lines.join("\n")
}

fn test(sight: &Sight) -> String {
    match sight {
        Sight::Limit { name, soft, hard } => format!(
            "grep -Eq '^{} +{} +{} ' /proc/self/limits",
            in_proc(name),
            limit(*soft),
            limit(*hard)
        ),
        Sight::Sysctl(name, value) => {
            let path = name.replace('.', "/");
            format!("test \"$(busybox cat /proc/sys/{path})\" = '{value}'")
        }
        // One of the two, by generation of cgroups.
        Sight::ProcessesAtMost(most) => {
            let most = most.map_or_else(|| "max".to_owned(), |most| most.to_string());
            format!(
                "test \"$(busybox cat /sys/fs/cgroup/pids.max || busybox cat /sys/fs/cgroup/pids/pids.max)\" = {most}"
            )
        }
        Sight::SharedMemory(None) => "! grep -q ' /dev/shm ' /proc/self/mounts".to_owned(),
        Sight::SharedMemory(Some(bytes)) => mounted("/dev/shm", *bytes, ""),
        Sight::InMemory(path, bytes, option) => mounted(path, *bytes, option),
        Sight::WritableRoot(writable) => wanted(*writable, "busybox touch /written"),
        Sight::Capability(name, held) => {
            let mask = 1_u64 << number(name);
            wanted(
                *held,
                &format!(
                    "test $(( 0x$(busybox awk '/^CapEff/ {{ print $2 }}' /proc/self/status) & {mask} )) -ne 0"
                ),
            )
        }
        Sight::NoNewPrivileges(set) => {
            let number = u8::from(*set);
            format!("grep -Eq '^NoNewPrivs:\\s+{number}$' /proc/self/status")
        }
        Sight::EngineInit(init) => wanted(*init, "grep -q '^/[a-z/]*docker-init' /proc/1/cmdline"),
        Sight::Device(path, there) => wanted(*there, &format!("test -c {path}")),
        Sight::WritableDevice(path, writable) => wanted(*writable, &format!("sh -c ': >> {path}'")),
        Sight::Hostname(name) => format!("test \"$(busybox hostname)\" = {name}"),
        Sight::Host(address, name) => format!("grep -Eq '^{address}\\s+{name}$' /etc/hosts"),
        Sight::Nameserver(address) => {
            format!("grep -q '^nameserver {address}$' /etc/resolv.conf")
        }
        Sight::SearchDomains(domains) => {
            format!("grep -q '^search {domains}$' /etc/resolv.conf")
        }
        Sight::OnlyLoopback(only) => wanted(!*only, "grep ':' /proc/net/dev | grep -vq '^ *lo:'"),
        Sight::Terminal(terminal) => wanted(*terminal, "test -t 0"),
        Sight::OpenInput(open) => {
            let closed = "test \"$(busybox readlink /proc/self/fd/0)\" = /dev/null";
            wanted(!*open, closed)
        }
        Sight::HostProcesses(shared) => wanted(!*shared, "test $$ = 1"),
    }
}

fn wanted(wanted: bool, test: &str) -> String {
    let not = if wanted { "" } else { "! " };
    format!("{not}{{ {test}; }} 2>/dev/null")
}

/// The kernel shows sizes in KiB.
fn mounted(path: &str, bytes: i64, option: &str) -> String {
    let size = bytes / 1024;
    format!(
        "grep ' {path} tmpfs ' /proc/self/mounts | grep -E 'size={size}k[, ]' | grep -q '{option}'"
    )
}

fn limit(value: i64) -> String {
    match value {
        -1 => "unlimited".to_owned(),
        value => value.to_string(),
    }
}

/// Name of a limit in `/proc/self/limits`.
fn in_proc(name: &str) -> &'static str {
    match name {
        "core" => "Max core file size",
        "nofile" => "Max open files",
        "nproc" => "Max processes",
        other => panic!("no case looks for the limit {other}"),
    }
}

/// Bit of a capability (`linux/capability.h`).
fn number(capability: &str) -> u32 {
    match capability {
        "CHOWN" => 0,
        "KILL" => 5,
        "NET_BIND_SERVICE" => 10,
        "SYS_PTRACE" => 19,
        other => panic!("no case looks for the capability {other}"),
    }
}
