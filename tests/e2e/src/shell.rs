//! A person's shell: kubectl and its plugin in the PATH, the lab's kubeconfig, and this source tree as the folder.

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
        let mut folders = Vec::new();
        for program in [self.kubectl().program(), &plugin] {
            let folder = program.parent().context("a program is in no folder")?;
            folders.push(folder.display().to_string());
        }
        let (root, folders) = (paths::source_root()?, folders.join(":"));
        Tool::new("bash")
            .arg("-c")
            .arg(format!(
                "PATH='{folders}':$PATH; cd '{}'; {line}",
                root.display()
            ))
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
