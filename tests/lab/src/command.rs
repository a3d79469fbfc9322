//! Runs a command to its end, with a limit on time, and speaks in sentences when it fails.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::interrupt;
use crate::process::Signal;
use crate::procfs::ProcessId;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A command to be run once.
#[derive(Clone, Debug)]
pub struct Tool {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    timeout: Duration,
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code 0.
    pub success: bool,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Tool {
    /// `program` is searched in PATH, and in the folders of administrators' commands.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Tool {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the command reads; nothing by default.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Longest time it may take; 120 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it; a failing command is an answer like any other.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub fn run(&self) -> Result<Output> {
        let (code, stdout, stderr) = self.collect()?;
        Ok(Output {
            success: code == Some(0),
            code,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// Also when it fails; the message holds its standard error.
    pub fn check(&self) -> Result<String> {
        let output = self.run()?;
        if !output.success {
            bail!(self.failure(&output));
        }
        Ok(output.stdout)
    }

    /// [`Tool::check`] for output that is no text.
    ///
    /// # Errors
    /// As [`Tool::check`].
    pub fn check_bytes(&self) -> Result<Vec<u8>> {
        let (code, stdout, stderr) = self.collect()?;
        if code != Some(0) {
            bail!(
                "`{self}` failed: {}",
                String::from_utf8_lossy(&stderr).trim()
            );
        }
        Ok(stdout)
    }

    fn failure(&self, output: &Output) -> String {
        let said = [output.stderr.trim(), output.stdout.trim()]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or("it said nothing");
        match output.code {
            Some(code) => format!("`{self}` failed with code {code}: {said}"),
            None => format!("`{self}` was ended by a signal: {said}"),
        }
    }

    fn collect(&self) -> Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        interrupt::check();
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("PATH", search_path(&[]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is ours to handle; the commands that clean up must survive it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{self}`"))?;
        let _running = Running::note(child.id());
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                if let Some(mut pipe) = stdin {
                    // A command that does not read to the end says so by its exit code.
                    let _ = pipe.write_all(&self.stdin);
                }
            });
            let out = threads.spawn(|| read_all(stdout));
            let err = threads.spawn(|| read_all(stderr));
            let deadline = Instant::now() + self.timeout;
            let mut pause = Duration::from_millis(1);
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() >= deadline {
                    child.kill()?;
                    child.wait()?;
                    return Err(anyhow!("`{self}` took longer than {:?}", self.timeout));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            };
            // It may have been ended because everything ends.
            interrupt::check();
            let out = out.join().unwrap_or_default();
            let err = err.join().unwrap_or_default();
            Ok((status.code(), out, err))
        })
    }
}

/// Commands that run now, on any thread.
static RUNNING: Mutex<BTreeSet<ProcessId>> = Mutex::new(BTreeSet::new());

/// A command is in [`RUNNING`] as long as this lives.
struct Running(Option<ProcessId>);

impl Running {
    fn note(pid: u32) -> Self {
        let process = ProcessId::of(pid);
        RUNNING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(process);
        Running(process)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            RUNNING
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(process);
        }
    }
}

/// Kills the commands that other threads wait for: after Ctrl-C they could only write what is being removed.
pub(crate) fn end_running() {
    for process in RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        process.signal(Signal::KILL);
    }
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is still worth having.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(&self.program);
        write!(
            f,
            "{}",
            program.file_name().unwrap_or(&self.program).display()
        )?;
        for arg in &self.args {
            write!(f, " {}", arg.display())?;
        }
        Ok(())
    }
}

/// PATH with `first` before everything else and the administrators' folders at the end.
pub fn search_path(first: &[&Path]) -> OsString {
    let mut path = OsString::new();
    for folder in first {
        path.push(folder);
        path.push(":");
    }
    if let Some(own) = std::env::var_os("PATH") {
        path.push(own);
        path.push(":");
    }
    path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_goes_in_and_output_comes_out() {
        let big = vec![b'x'; 1 << 20];
        let copied = Tool::new("cat").stdin(big.clone()).check_bytes().unwrap();
        assert_eq!(copied, big);
    }

    #[test]
    fn a_failure_is_a_sentence_with_what_the_command_said() {
        let error = Tool::new("sh")
            .args(["-c", "echo no room >&2; exit 3"])
            .check()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c echo no room >&2; exit 3` failed with code 3: no room"
        );
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = Tool::new("sleep")
            .arg("60")
            .timeout(Duration::from_millis(50))
            .run()
            .unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
    }

    #[test]
    fn a_missing_command_is_named() {
        let error = Tool::new("no-such-command").run().unwrap_err();
        assert!(error.to_string().contains("no-such-command"), "{error}");
    }
}
