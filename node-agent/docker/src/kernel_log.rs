//! Whom the kernel killed for want of memory, by its own log.
//!
//! Docker hears of such a kill and of the exit in two ways, and on 20.10 forgets the first when the second is quicker: under
//! load one container in five is told with `OOMKilled: false`, and of most of these there is no `oom` event either, since
//! containerd's shim finds the control group gone. Counters of the group are gone with it. The kernel writes to its log
//! before it sends the signal, and the log outlives container, engine and agent: so it is asked.
//!
//! Docker's own "yes" is enough; only its "no" after a SIGKILL is checked. A kernel log that cannot be read (an agent in a
//! container without `/dev/kmsg`) leaves it at that.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use tallyman_agent_engine::{ContainerState, Phase};
use tracing::debug;

/// Records of the kernel since boot, as many as its buffer holds.
const LOG: &str = "/dev/kmsg";
/// The longest record that the kernel gives out.
const RECORD: usize = 8192;
/// Exit code of a container whose first process got SIGKILL.
const KILLED: i64 = 128 + 9;
/// A container that was started later than this after its creation may be in a further run (the least
/// `restartAttemptPeriod` of ECS is 60 s), and the log may tell of an earlier one.
const FIRST_RUN: Duration = Duration::from_secs(60);

/// Corrects what Docker said of how a container ended.
pub(crate) async fn correct(state: &mut ContainerState) {
    let first_run = match (state.created_at, state.started_at) {
        (Some(created), Some(started)) => started.since(created) < FIRST_RUN,
        _ => false,
    };
    if let Phase::Exited {
        exit_code: KILLED,
        oom_killed: oom_killed @ false,
        ..
    } = &mut state.phase
        && first_run
    {
        let id = state.id.clone();
        let asked = tokio::task::spawn_blocking(move || tells_of(Path::new(LOG), &id)).await;
        *oom_killed = match asked.unwrap_or_else(|error| Err(error.into())) {
            Ok(told) => told,
            Err(error) => {
                debug!(%error, "the kernel's log cannot be read");
                false
            }
        };
    }
}

/// Whether a record of the log says that a process of the container was killed.
fn tells_of(log: &Path, container: &str) -> io::Result<bool> {
    // NONBLOCK: otherwise the end of the log is a wait for the next record.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut log = File::from(open(log, flags, Mode::empty())?);
    let mut record = [0; RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                let record = record.get(..length).unwrap_or_default();
                if victim(&String::from_utf8_lossy(record)).is_some_and(|it| it.contains(container))
                {
                    return Ok(true);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Ok(false),
                // The oldest records were overwritten meanwhile; the next read goes on behind them.
                ErrorKind::BrokenPipe | ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

/// The control group of the process that a record says was killed for memory. From Linux 5.0 on
/// `...;oom-kill:constraint=CONSTRAINT_MEMCG,...,task_memcg=/docker/<id>,task=sh,...`, before that
/// `...;Task in /docker/<id> killed as a result of limit of /docker/<id>`.
fn victim(record: &str) -> Option<&str> {
    let (_, message) = record.split_once(';')?;
    if let Some(fields) = message.strip_prefix("oom-kill:") {
        let (_, group) = fields.split_once("task_memcg=")?;
        return group.split(',').next();
    }
    let (group, _) = message.strip_prefix("Task in ")?.split_once(" killed ")?;
    Some(group)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ID: &str = "e98c8da5e79d9f226e0a7d84d90a9948f47fdbdd2d7a6e1c83f22d2bdb8ebc7d";

    #[test]
    fn the_victim_is_read_from_either_form() {
        let new = format!(
            "6,112380,24185568087,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={ID},mems_allowed=0,\
             oom_memcg=/ecs/host/task,task_memcg=/ecs/host/task/{ID},task=sh,pid=29764,uid=0\n"
        );
        assert_eq!(
            victim(&new),
            Some(format!("/ecs/host/task/{ID}").as_str()),
            "{new}"
        );
        let old =
            format!("6,1,2,-;Task in /docker/{ID} killed as a result of limit of /docker/other\n");
        assert_eq!(victim(&old), Some(format!("/docker/{ID}").as_str()));
        for other in [
            "6,1,2,-;docker0: port 1(veth8e8327f) entered disabled state",
            "3,1,2,-;Memory cgroup out of memory: Killed process 29764 (sh) total-vm:26852kB",
            "",
        ] {
            assert_eq!(victim(other), None, "{other}");
        }
    }

    #[test]
    fn a_container_is_found_by_its_id() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        writeln!(
            log,
            "6,1,2,-;oom-kill:oom_memcg=/ecs/host/full,task_memcg=/ecs/host/full/{ID},task=sh"
        )
        .unwrap();
        assert!(tells_of(log.path(), ID).unwrap());
        assert!(!tells_of(log.path(), &ID.replace('e', "a")).unwrap());
        assert!(tells_of(Path::new("/nowhere"), ID).is_err());
    }
}
