//! What /proc tells about processes. A process is its pid and its start time: pids are used again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::wait;

/// One process, and no later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this pid now, zombies included.
    pub fn of(pid: u32) -> Option<Self> {
        Stat::read(pid).map(|stat| ProcessId {
            pid,
            started: stat.started,
        })
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// It runs: neither gone, nor a zombie, nor another one with its pid.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_over())
    }

    /// Sends a signal if it is alive. True when it was sent.
    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive()
            && i32::try_from(self.pid)
                .ok()
                .and_then(Pid::from_raw)
                .is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

/// Kills all of them and waits until they are gone.
///
/// # Errors
/// When some are still there after `timeout`.
pub fn kill_all(processes: &[ProcessId], timeout: Duration) -> anyhow::Result<()> {
    for process in processes {
        process.signal(Signal::KILL);
    }
    wait::settle(timeout, || {
        processes.iter().all(|process| !process.is_alive())
    })
    .map_err(|()| {
        let left: Vec<_> = processes
            .iter()
            .filter(|process| process.is_alive())
            .map(|left| left.pid)
            .collect();
        anyhow::anyhow!("processes {left:?} survive SIGKILL")
    })
}

struct Stat {
    state: char,
    threads: u32,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state ppid ...`; the name may hold anything, also brackets and blanks.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // Fields 20 and 22 of the line; the state is field 3.
        let threads = fields.nth(16)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        Some(Stat {
            state,
            threads,
            started,
        })
    }

    /// All that it held is free. A zombie whose other threads still end holds its files and ports.
    fn is_over(&self) -> bool {
        self.state == 'X' || self.state == 'Z' && self.threads <= 1
    }
}

/// All processes of the machine, of this pid namespace.
fn all() -> impl Iterator<Item = ProcessId> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(ProcessId::of)
}

/// Live processes that were started with `name=value` in their environment.
pub fn with_variable(name: &str, value: &str) -> Vec<ProcessId> {
    let wanted = format!("{name}={value}");
    all()
        .filter(|process| {
            fs::read(format!("/proc/{}/environ", process.pid)).is_ok_and(|bytes| {
                bytes
                    .split(|b| *b == 0)
                    .any(|item| item == wanted.as_bytes())
            })
        })
        .filter(|process| process.is_alive())
        .collect()
}

/// Live containerd shims that belong to the containerd with this socket.
pub fn shims(containerd_socket: &Path) -> Vec<ProcessId> {
    let socket = containerd_socket.as_os_str().as_encoded_bytes();
    all()
        .filter(|process| {
            fs::read(format!("/proc/{}/cmdline", process.pid)).is_ok_and(|bytes| {
                let mut args = bytes.split(|b| *b == 0);
                args.next()
                    .is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"))
                    && args.any(|arg| arg == socket)
            })
        })
        .filter(|process| process.is_alive())
        .collect()
}

/// Files of the Unix sockets on which a process listens, of those below `folder`.
pub fn socket_files(process: ProcessId, folder: &Path) -> BTreeSet<PathBuf> {
    let open: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", process.pid))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            fs::read_link(entry.path())
                .ok()?
                .to_str()
                .map(str::to_owned)
        })
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    // The table of its own network namespace.
    let table = fs::read_to_string(format!("/proc/{}/net/unix", process.pid)).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [_, _, _, _, _, _, inode, path] if open.contains(*inode) => {
                    Some(PathBuf::from(path))
                }
                _ => None,
            }
        })
        .filter(|path| path.starts_with(folder))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_blanks_do_not_shift_the_fields() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.threads, stat.started), ('S', 1, 987_654));
    }

    #[test]
    fn a_zombie_is_over_once_its_last_thread_ended() {
        let over = |state: char, threads: u32| {
            let line = format!(
                "42 (a) {state} 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 9 0 0"
            );
            Stat::parse(&line).unwrap().is_over()
        };
        assert!(over('X', 0) && over('Z', 1) && over('Z', 0));
        assert!(!over('Z', 3) && !over('S', 1));
    }

    #[test]
    fn this_process_is_alive_and_an_earlier_one_with_its_pid_is_not() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(
            !ProcessId {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
    }

    #[test]
    fn a_process_is_found_by_its_environment() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("TALLYMAN_PROCFS_TEST", "yes")
            .spawn()
            .unwrap();
        let expected = ProcessId::of(child.id()).unwrap();
        // The environment is the child's own from its exec on.
        wait::settle(Duration::from_secs(5), || {
            with_variable("TALLYMAN_PROCFS_TEST", "yes") == [expected]
        })
        .unwrap();
        child.kill().unwrap();
        // A zombie until it is waited for.
        wait::settle(Duration::from_secs(5), || !expected.is_alive()).unwrap();
        child.wait().unwrap();
    }
}
