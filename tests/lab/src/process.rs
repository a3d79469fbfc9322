//! A process of the lab: etcd, an engine, the operator, an agent. Each can be ended in any manner and started again.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::procfs::ProcessId;
use crate::state::{Ledger, RecordedProcess};
use crate::wait::{GiveUp, settle, wait_until};
use crate::{command, interrupt};

pub use rustix::process::Signal;

/// Marks every process of a run, so that also those are found that died before they could be written down.
pub const MARK: &str = "TALLYMAN_LAB_ID";

const KILL_PATIENCE: Duration = Duration::from_secs(10);
const LOG_TAIL: u64 = 2000;

/// How a process is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Program, absolute or searched in PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside PATH, HOME and a few of that kind; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// Folders before PATH.
    pub path: Vec<PathBuf>,
    /// Network namespace to run in.
    pub namespace: Option<String>,
}

impl CommandSpec {
    /// A program without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        CommandSpec {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            path: Vec::new(),
            namespace: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds `--name value`.
    pub fn flag(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.arg(format!("--{name}={value}"))
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Puts a folder before PATH.
    pub fn path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.path.push(folder.into());
        self
    }

    /// Runs it in a network namespace; `None` is the machine's own.
    pub fn namespace(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(str::to_owned);
        self
    }

    fn command(&self, mark: &str) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.program),
            Some(namespace) => {
                // Not `ip netns exec`: that mounts a new /sys, which hides cgroup v1 from an engine.
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{namespace}"))
                    .arg("--")
                    .arg(&self.program);
                command
            }
        };
        let first: Vec<&Path> = self.path.iter().map(PathBuf::as_path).collect();
        command.args(&self.args).env_clear();
        for name in ["HOME", "LANG", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("PATH", command::search_path(&first))
            .env(MARK, mark)
            .envs(&self.env);
        command
    }
}

/// A process under the lab's hand. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Arc<Ledger>,
    name: String,
    log: PathBuf,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    command: CommandSpec,
    process: Option<ProcessId>,
    /// Ours to reap, if we started it.
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet. `name` is unique in the run, and names the log.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn new(ledger: &Arc<Ledger>, name: &str, command: CommandSpec) -> Result<Self> {
        let log = ledger.logs()?.join(format!("{name}.log"));
        ledger.update(|state| {
            state.processes.retain(|known| known.name != name);
            state.processes.push(RecordedProcess {
                name: name.to_owned(),
                process: None,
                command: command.clone(),
            });
        })?;
        let now = Now {
            command,
            process: None,
            child: None,
        };
        Ok(Process(Arc::new(Inner {
            ledger: Arc::clone(ledger),
            name: name.to_owned(),
            log,
            now: Mutex::new(now),
        })))
    }

    /// [`Process::new`], started.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(ledger: &Arc<Ledger>, name: &str, command: CommandSpec) -> Result<Self> {
        let process = Self::new(ledger, name, command)?;
        process.start()?;
        Ok(process)
    }

    /// A process that an earlier command of the same run has started.
    ///
    /// # Errors
    /// When the run has none of this name.
    pub fn attach(ledger: &Arc<Ledger>, name: &str) -> Result<Self> {
        let state = ledger.state();
        let log = state.work.join("logs").join(format!("{name}.log"));
        let recorded = state
            .processes
            .into_iter()
            .find(|known| known.name == name)
            .with_context(|| format!("this run has no process {name}"))?;
        Ok(Process(Arc::new(Inner {
            ledger: Arc::clone(ledger),
            name: name.to_owned(),
            log,
            now: Mutex::new(Now {
                command: recorded.command,
                process: recorded.process,
                child: None,
            }),
        })))
    }

    /// Its name in the run.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its standard output and error, of all incarnations.
    pub fn log_path(&self) -> &Path {
        &self.0.log
    }

    /// How it is started.
    pub fn command(&self) -> CommandSpec {
        self.now().command.clone()
    }

    /// Changes how it is started the next time.
    pub fn set_command(&self, command: CommandSpec) {
        self.now().command = command;
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&self) -> Result<()> {
        let _busy = interrupt::busy();
        let mut now = self.now();
        if now.running() {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0.log)
            .with_context(|| format!("cannot write {}", self.0.log.display()))?;
        let child = now
            .command
            .command(&self.0.ledger.id())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal reaches us alone; we end the others in order.
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: {}",
                    self.0.name,
                    now.command.program.display()
                )
            })?;
        now.process = ProcessId::of(child.id());
        now.child = Some(child);
        let (process, command) = (now.process, now.command.clone());
        drop(now);
        self.0.ledger.update(|state| {
            for known in state
                .processes
                .iter_mut()
                .filter(|known| known.name == self.0.name)
            {
                known.process = process;
                known.command = command.clone();
            }
        })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut now = self.now();
        now.running()
            .then(|| now.process.map(|process| process.pid))
            .flatten()
    }

    /// It runs.
    pub fn is_running(&self) -> bool {
        self.now().running()
    }

    /// Sends a signal. True when there was a process to receive it.
    pub fn signal(&self, signal: Signal) -> bool {
        self.now()
            .process
            .is_some_and(|process| process.signal(signal))
    }

    /// SIGKILL, and waits until it is gone. Fine when it is gone already.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill9(&self) -> Result<()> {
        self.signal(Signal::KILL);
        self.wait_exit(KILL_PATIENCE)
    }

    /// SIGTERM, and SIGKILL after `grace`. True when it went by itself.
    ///
    /// # Errors
    /// When it survives both.
    pub fn stop(&self, grace: Duration) -> Result<bool> {
        self.signal(Signal::TERM);
        if self.wait_exit(grace).is_ok() {
            return Ok(true);
        }
        self.kill9()?;
        Ok(false)
    }

    /// SIGKILL and start.
    ///
    /// # Errors
    /// When it survives, or does not start.
    pub fn restart(&self) -> Result<()> {
        self.kill9()?;
        self.start()
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// When it is not, after `timeout`.
    pub fn wait_exit(&self, timeout: Duration) -> Result<()> {
        settle(timeout, || !self.is_running())
            .map_err(|()| anyhow::anyhow!("{} still runs after {timeout:?}", self.0.name))
    }

    /// Waits until `ready` says so; gives up with the end of the log when the process ends before.
    ///
    /// # Errors
    /// When it ends or `timeout` passes.
    pub fn wait_ready<A: crate::wait::Answer>(
        &self,
        what: &str,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<A>,
    ) -> Result<A::Value> {
        wait_until(what, timeout, || {
            if !self.is_running() {
                let told = self.log_tail();
                return Err(
                    GiveUp(format!("{} ended; its log ends with:\n{told}", self.0.name)).into(),
                );
            }
            ready()
        })
        .with_context(|| format!("log: {}", self.0.log.display()))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = std::fs::File::open(&self.0.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("({error})"))
    }

    /// Fails unless it runs.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn expect_running(&self) -> Result<()> {
        if !self.is_running() {
            bail!(
                "{} is not running; its log ends with:\n{}",
                self.0.name,
                self.log_tail()
            );
        }
        Ok(())
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn running(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            self.child = None;
        }
        self.process.is_some_and(ProcessId::is_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Arc<Ledger>) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(Some(&folder.path().join("lab"))).unwrap();
        (folder, ledger)
    }

    fn shell(script: &str) -> CommandSpec {
        CommandSpec::new("sh").args(["-c", script])
    }

    #[test]
    fn a_process_dies_with_its_ledger_and_its_children_too() {
        let (_folder, ledger) = ledger();
        let process = Process::spawn(&ledger, "p", shell("sleep 60 & sleep 60")).unwrap();
        let id = ledger.id();
        settle(Duration::from_secs(5), || {
            crate::procfs::with_variable(MARK, &id).len() == 3
        })
        .unwrap();
        drop(process);
        drop(ledger);
        assert_eq!(crate::procfs::with_variable(MARK, &id), []);
    }

    #[test]
    fn kill_and_restart_keep_the_name_and_the_log() {
        let (_folder, ledger) = ledger();
        let process = Process::spawn(&ledger, "p", shell("echo here; exec sleep 60")).unwrap();
        let first = process.pid().unwrap();
        settle(Duration::from_secs(5), || process.log_tail() == "here\n").unwrap();
        process.restart().unwrap();
        assert_ne!(process.pid().unwrap(), first);
        settle(Duration::from_secs(5), || {
            process.log_tail() == "here\nhere\n"
        })
        .unwrap();
        let again = Process::attach(&ledger, "p").unwrap();
        assert_eq!(again.pid(), process.pid());
        again.kill9().unwrap();
        assert!(!process.is_running());
    }

    #[test]
    fn a_process_that_ends_early_says_why() {
        let (_folder, ledger) = ledger();
        let process = Process::spawn(&ledger, "p", shell("echo no disk >&2; exit 1")).unwrap();
        let error = process
            .wait_ready("p", Duration::from_secs(5), || Ok(false))
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("p ended; its log ends with:\nno disk"),
            "{error:#}"
        );
    }

    #[test]
    fn what_ignores_sigterm_is_killed() {
        let (_folder, ledger) = ledger();
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let process = Process::spawn(&ledger, "p", shell(script)).unwrap();
        settle(Duration::from_secs(5), || process.log_tail() == "ready\n").unwrap();
        assert!(!process.stop(Duration::from_millis(100)).unwrap());
        assert!(!process.is_running());
    }
}
