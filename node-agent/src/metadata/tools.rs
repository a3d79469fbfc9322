//! Programs of the host that change networks, run within bounds. Whoever runs them waits on a thread that may be blocked.

use std::process::Stdio;
use std::time::Duration;

use tallyman_agent_core::fault_injection::{Command, NotRun, Ran, Tools};
use tokio::process;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// ECS: for all commands of a request together.
const PATIENCE: Duration = Duration::from_secs(5);
/// For each one after that: it takes back what was begun.
const MOMENT: Duration = Duration::from_secs(1);

/// The programs, for one request.
pub struct HostTools {
    deadline: Instant,
}

impl HostTools {
    /// For a request that comes now.
    pub fn now() -> Self {
        Self {
            deadline: Instant::now() + PATIENCE,
        }
    }
}

impl Tools for HostTools {
    fn run(&self, command: &Command) -> Result<Ran, NotRun> {
        Handle::current().block_on(self.ran(command))
    }
}

impl HostTools {
    async fn ran(&self, command: &Command) -> Result<Ran, NotRun> {
        let [program, arguments @ ..] = command.words() else {
            return Err(NotRun::Absent("there is none".to_owned()));
        };
        let output = process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let until = self.deadline.max(Instant::now() + MOMENT);
        let ran = match timeout_at(until, output).await {
            Ok(Ok(output)) => Ran {
                code: output.status.code(),
                out: String::from_utf8_lossy(&output.stdout).into_owned(),
                err: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Ok(Err(error)) => return Err(NotRun::Absent(error.to_string())),
            Err(_) => return Err(NotRun::TimedOut),
        };
        debug!(%command, code = ran.code, err = ran.err.trim(), "ran");
        Ok(ran)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tallyman_agent_core::fault_injection::{Act, Answer, Kind, Place, Request, perform};

    use super::*;

    #[tokio::test]
    async fn a_process_that_is_gone_gets_no_fault() {
        let body = br#"{"Port":80,"Protocol":"tcp","TrafficType":"egress"}"#;
        let request = Request::read(Kind::BlackHolePort, Act::Start, body).unwrap();
        let place = Place::Own {
            // Above every process id that Linux gives.
            pid: 1 << 23,
            addresses: Vec::new(),
        };
        let answer = tokio::task::spawn_blocking(move || {
            perform(Act::Start, &request, &place, &HostTools::now())
        });
        let answer = answer.await.unwrap();
        let Answer::Failed(words) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            words.starts_with("start network-blackhole-port: "),
            "{words}"
        );
    }
}
