//! The Helm chart, tried: `tests/chart.rs` looks at what it renders, `tests/node.rs` installs it on a real Kubernetes node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tallyman_lab::command::{Output, Tool};
use tallyman_lab::paths;

/// Namespace of a release, as the documentation has it.
pub const NAMESPACE: &str = "tallyman-system";

/// Name of a release, as the documentation has it.
pub const RELEASE: &str = "tallyman";

/// How long helm may take: it is asked to wait for pods.
const PATIENCE: Duration = Duration::from_secs(180);

/// Helm with settings and caches of its own.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: Option<PathBuf>,
    root: PathBuf,
}

impl Helm {
    /// Helm, keeping what it keeps below `home`, and talking to the cluster of `kubeconfig`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn new(home: &Path, kubeconfig: Option<&Path>) -> Result<Self> {
        Ok(Helm {
            program: paths::node_tool("helm")?,
            home: home.to_owned(),
            kubeconfig: kubeconfig.map(Path::to_owned),
            root: paths::source_root()?,
        })
    }

    /// The folder of a chart.
    pub fn chart(&self, name: &str) -> String {
        self.root.join("charts").join(name).display().to_string()
    }

    /// A chart that people may have installed before: with it a cluster is upgraded from definitions, rights and policies that are
    /// older than those of the tree. Once there are releases, the last one belongs here.
    pub fn previous_chart(&self) -> String {
        let chart = self.root.join("tests/node/previous/tallyman-0.0.1.tgz");
        chart.display().to_string()
    }

    /// Runs `helm args`; a refusal is an answer like any other.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.tool(args).run()
    }

    /// Runs `helm args` and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.tool(args).check()
    }

    fn tool(&self, args: &[&str]) -> Tool {
        let mut tool = Tool::new(&self.program).args(args).timeout(PATIENCE);
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            tool = tool.env(variable, self.home.join(folder));
        }
        match &self.kubeconfig {
            Some(kubeconfig) => tool.env("KUBECONFIG", kubeconfig),
            // What the person at this machine has set up is no part of a test.
            None => tool.env("KUBECONFIG", self.home.join("none")),
        }
    }
}

/// The objects of a stream of YAML documents.
///
/// # Errors
/// When one is no YAML.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    // A document begins at a line of three dashes, also the first one.
    format!("\n{text}")
        .split("\n---\n")
        .filter(|document| {
            document
                .lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        })
        .map(|document| serde_saphyr::from_str(document).with_context(|| document.to_owned()))
        .collect()
}

/// Makes the agent's Debian package of the program that was built beside the running test, and says where in `folder` it is.
///
/// # Errors
/// When cargo-deb is not there, or finds something missing.
pub fn package(folder: &Path) -> Result<PathBuf> {
    let program = paths::built_program("tallyman-agent")?;
    let built = program.parent().context("a program is in a folder")?;
    let target = built.parent().context("profiles have folders")?;
    let profile = built.file_name().and_then(|name| name.to_str());
    let profile = match profile.context("a profile has a name")? {
        "debug" => "dev",
        profile => profile,
    };
    let said = Tool::new(paths::node_tool("cargo-deb")?)
        .args([
            "--package",
            "tallyman-agent",
            "--no-build",
            "--profile",
            profile,
        ])
        .arg("--manifest-path")
        .arg(paths::source_root()?.join("Cargo.toml"))
        .arg("--output")
        .arg(folder)
        .env("CARGO_TARGET_DIR", target)
        .timeout(PATIENCE)
        .check()?;
    let path = said.lines().last().context("cargo-deb says no path")?;
    Ok(PathBuf::from(path))
}
