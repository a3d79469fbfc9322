//! The walls between crates, as a table and as questions to cargo (`ARCHITECTURE.md`, walls).
//!
//! A manifest says what a crate names itself; what it reaches through others, with the features that it gets when built
//! alone, only cargo knows. Test dependencies are free: walls hold for what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What one crate may be made of.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// The crate.
    pub package: &'static str,
    /// Crates of this workspace that its manifest may name.
    pub ours: &'static [&'static str],
    /// Packages that its manifest must not name.
    pub never_named: &'static [&'static str],
    /// Packages that must not be in its tree at all.
    pub never_reached: &'static [&'static str],
}

/// Clients and runtimes: what only shells and adapters hold.
const NO_CLIENT: &[&str] = &[
    "tokio",
    "kube-client",
    "kube-runtime",
    "bollard",
    "hyper",
    "reqwest",
];
/// The same, and chance: a core gets it as an argument.
const PURE: &[&str] = &[
    "tokio",
    "kube-client",
    "kube-runtime",
    "bollard",
    "hyper",
    "reqwest",
    "rand",
    "fastrand",
    "getrandom",
    "uuid",
];

/// The table of the design: crate, what it may name of ours, what it never names, what it never reaches.
pub const WALLS: &[Wall] = &[
    Wall {
        package: "tallyman-crds",
        ours: &[],
        never_named: &["bollard", "tokio"],
        never_reached: NO_CLIENT,
    },
    Wall {
        package: "tallyman-join",
        ours: &[],
        never_named: &["kube", "k8s-openapi"],
        never_reached: NO_CLIENT,
    },
    Wall {
        package: "tallyman-operator-core",
        ours: &["tallyman-crds"],
        never_named: &["kube", "futures", "tracing"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-operator-otlp",
        ours: &["tallyman-operator-core"],
        never_named: &["kube", "k8s-openapi", "tracing"],
        never_reached: &["kube-client", "kube-runtime", "bollard", "reqwest"],
    },
    Wall {
        package: "tallyman-agent-core",
        ours: &["tallyman-crds", "tallyman-agent-engine"],
        never_named: &["kube", "futures", "tracing"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-agent-engine",
        ours: &["tallyman-crds"],
        never_named: &["kube", "k8s-openapi"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-agent-docker",
        ours: &["tallyman-agent-engine"],
        never_named: &["kube", "k8s-openapi"],
        never_reached: &[
            "kube-client",
            "kube-runtime",
            "tallyman-agent-core",
            "tallyman-operator-core",
        ],
    },
    Wall {
        package: "tallyman-agent-heap",
        ours: &[],
        never_named: &["kube", "k8s-openapi"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-agent-pause",
        ours: &["tallyman-crds", "tallyman-agent-engine"],
        never_named: &["kube", "k8s-openapi"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-operator",
        ours: &[
            "tallyman-crds",
            "tallyman-join",
            "tallyman-operator-core",
            "tallyman-operator-otlp",
        ],
        never_named: &["bollard"],
        never_reached: &[
            "bollard",
            "tallyman-agent-core",
            "tallyman-agent-engine",
            "tallyman-agent-docker",
        ],
    },
    Wall {
        package: "tallyman-cli",
        ours: &["tallyman-crds", "tallyman-join", "tallyman-operator-core"],
        never_named: &["bollard"],
        never_reached: &[
            "bollard",
            "tallyman-operator",
            "tallyman-agent",
            "tallyman-agent-core",
            "tallyman-agent-engine",
            "tallyman-agent-docker",
        ],
    },
    Wall {
        package: "tallyman-agent",
        ours: &[
            "tallyman-crds",
            "tallyman-join",
            "tallyman-agent-core",
            "tallyman-agent-engine",
            "tallyman-agent-docker",
            "tallyman-agent-heap",
            "tallyman-agent-pause",
        ],
        never_named: &["bollard"],
        never_reached: &["tallyman-operator-core", "tallyman-operator"],
    },
    Wall {
        package: "tallyman-sim",
        ours: &[
            "tallyman-crds",
            "tallyman-agent-core",
            "tallyman-agent-engine",
            "tallyman-operator-core",
        ],
        never_named: &["kube"],
        never_reached: PURE,
    },
    Wall {
        package: "tallyman-fuzz",
        ours: &[
            "tallyman-crds",
            "tallyman-join",
            "tallyman-operator-core",
            "tallyman-agent-core",
            "tallyman-agent-engine",
            "tallyman-cli",
            "tallyman-sim",
        ],
        never_named: &["kube", "tokio"],
        never_reached: &["bollard", "tallyman-operator", "tallyman-agent"],
    },
];

/// The pure crates: each has a `clippy.toml` that takes clocks, chance and unordered maps away.
pub const CORES: &[&str] = &["operator/core", "node-agent/core"];

/// What every core's `clippy.toml` disallows.
pub const DISALLOWED: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::env::var",
    "std::fs::read",
    "std::fs::write",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// The only files that write a status to the API server: the operator's one writer; the agent's verb, and the two that
/// use it, for tasks and for the host. Every write to `Task.status` is found here. The two last write that of a HostJoin: who
/// asks, and who answers.
pub const STATUS_WRITERS: &[&str] = &[
    "operator/src/apply.rs",
    "node-agent/src/api.rs",
    "node-agent/src/instance.rs",
    "node-agent/src/worker.rs",
    "node-agent/src/join.rs",
    "operator/src/joins.rs",
];

/// Root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

fn cargo(arguments: &[&str]) -> Result<String, String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "cargo {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Packages of the workspace with what their manifests name as normal dependencies.
///
/// # Errors
/// Cargo cannot be run, or says what cannot be read.
pub fn named() -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let text = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ])?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    Ok(list(&metadata["packages"])
        .iter()
        .map(|package| {
            let normal = list(&package["dependencies"]);
            let normal = normal
                .iter()
                .filter(|d| d["kind"].is_null())
                .map(|d| text(&d["name"]));
            (text(&package["name"]), normal.collect())
        })
        .collect())
}

/// Every package in the tree of `package` when it is built alone.
///
/// # Errors
/// Cargo cannot be run.
pub fn reached(package: &str) -> Result<BTreeSet<String>, String> {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    Ok(tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Rust files of the workspace, relative to its root, with their text.
///
/// # Errors
/// A file cannot be read.
pub fn sources() -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let relative = path
                    .strip_prefix(root())
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                found.insert(relative, text);
            }
        }
    }
    Ok(found)
}
