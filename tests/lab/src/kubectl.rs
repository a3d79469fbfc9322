//! The kubectl command with one kubeconfig: how the lab and its tests speak to the API server, like any user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{Output, Tool};
use crate::paths;
use crate::wait::wait_until;

/// kubectl as one user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// kubectl with this kubeconfig; discovery is cached below `cache`.
    ///
    /// # Errors
    /// When kubectl is missing.
    pub fn new(kubeconfig: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Result<Self> {
        Ok(Kubectl {
            program: paths::control_plane_tool("kubectl")?,
            kubeconfig: kubeconfig.into(),
            cache: cache.into(),
        })
    }

    /// The same kubectl as another user.
    pub fn as_user(&self, kubeconfig: impl Into<PathBuf>) -> Self {
        Kubectl {
            kubeconfig: kubeconfig.into(),
            ..self.clone()
        }
    }

    /// Where kubectl is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The command, for those who want to set more.
    pub fn tool(&self) -> Tool {
        Tool::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
    }

    /// Runs `kubectl args`; a refusal is an answer like any other.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.tool().args(args).run()
    }

    /// Runs `kubectl args` and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        self.tool().args(args).check()
    }

    /// Prints what `kubectl args` says, for whoever looks at a failure.
    pub fn tell(&self, args: &[&str]) {
        let command = args.join(" ");
        match self.run(args) {
            Ok(said) => println!("--- kubectl {command}\n{}{}", said.stdout, said.stderr),
            Err(error) => println!("--- kubectl {command}: {error:#}"),
        }
    }

    /// Runs `kubectl args --output=json`.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Value> {
        let text = self.tool().args(args).arg("--output=json").check()?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// One object, or `None` when it is not there.
    ///
    /// # Errors
    /// When kubectl fails for any other reason.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let text = self.ok([
            "get",
            kind,
            name,
            "-n",
            namespace,
            "--ignore-not-found",
            "--output=json",
        ])?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text)
            .map(Some)
            .context("kubectl printed no JSON")
    }

    /// Objects of a kind in a namespace.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn list(&self, kind: &str, namespace: &str) -> Result<Vec<Value>> {
        let mut list = self.json(["get", kind, "-n", namespace])?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Server-side apply of manifests as text, JSON or YAML.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.tool()
            .args(["apply", "--server-side", "-f", "-"])
            .stdin(manifests)
            .check()
    }

    /// Server-side apply of a file or of all manifests in a folder. CRDs are established on return.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn apply_path(&self, path: &Path) -> Result<String> {
        // Another manager may have applied the same objects before; what is in the tree counts.
        let applied = self
            .tool()
            .args(["apply", "--server-side", "--force-conflicts", "-f"])
            .arg(path)
            .check()?;
        let definitions: Vec<&str> = applied
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|object| object.starts_with("customresourcedefinition"))
            .collect();
        if !definitions.is_empty() {
            self.ok(["wait", "--for=condition=Established", "--timeout=60s"]
                .iter()
                .chain(&definitions))?;
        }
        Ok(applied)
    }

    /// Waits until `ask` finds what it wants in an object.
    ///
    /// # Errors
    /// When it does not within `timeout`.
    pub fn wait_for<T>(
        &self,
        what: &str,
        (kind, namespace, name): (&str, &str, &str),
        timeout: Duration,
        mut ask: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let mut last = None;
        wait_until(what, timeout, || {
            last = self.get(kind, namespace, name)?;
            Ok(last.as_ref().and_then(&mut ask))
        })
        .with_context(|| match &last {
            Some(object) => format!("{kind} {namespace}/{name} has status {}", object["status"]),
            None => format!("{kind} {namespace}/{name} is not there"),
        })
    }
}
