//! A person's shell: kubectl and its plugin in the PATH, the lab's kubeconfig, and this source tree as the folder.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::command::{Output, Tool};
use tallyman_lab::paths;

use crate::suite::binary;
use crate::user::User;

impl User<'_> {
    /// Runs a line of shell as a person would.
    ///
    /// # Errors
    /// It cannot be run, or hangs.
    pub fn shell(&self, line: &str) -> Result<Output> {
        let plugin = binary("kubectl-tally")?;
        let folders = [self.kubectl().program(), &plugin].map(Path::parent);
        let mut path = OsString::new();
        for folder in folders {
            path.push(folder.context("a program is in no folder")?);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let root = paths::source_root()?;
        Tool::new("bash")
            .arg("-c")
            .arg(format!("cd '{}' && {line}", root.display()))
            .env("PATH", path)
            .env("KUBECONFIG", self.kubectl().kubeconfig())
            .timeout(Duration::from_secs(180))
            .run()
    }

    /// `kubectl tally ...`: it must end with `code`. What it printed.
    ///
    /// # Errors
    /// It ends otherwise.
    pub fn tally(&self, args: &str, code: i32) -> Result<Output> {
        let line = format!("kubectl tally -n {} {args}", self.namespace());
        let output = self.shell(&line)?;
        ensure!(
            output.code == Some(code),
            "`{line}` ended with {:?} and not {code}:\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(output)
    }
}
