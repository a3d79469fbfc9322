//! What must not be left.

use tallyman_lab::command::Tool;
use tallyman_lab::{process, procfs};

/// What a run leaves on the machine, if it leaves something.
pub fn traces(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in procfs::with_variable(process::MARK, id) {
        found.push(format!("process {}", process.pid));
    }
    for folder in ["/run/netns", "/sys/class/net", "/run/tallyman-lab"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(id) {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        for entry in std::fs::read_dir(hierarchy.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(id) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
        }
    }
    for file in ["/proc/self/mountinfo", "/proc/net/unix"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        found.extend(
            table
                .lines()
                .filter(|line| line.contains(id))
                .map(str::to_owned),
        );
    }
    let rules = Tool::new("iptables-save").check().unwrap_or_default();
    found.extend(
        rules
            .lines()
            .filter(|line| line.contains(id))
            .map(str::to_owned),
    );
    found
}
