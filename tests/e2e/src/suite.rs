//! Runs scenarios on a lab, one after the other, and tells how they went.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tallyman_lab::{EngineGeneration, HostOptions, Lab, paths};

use crate::conditions::Conditions;
use crate::scenarios::traces;
use crate::user::User;

/// One promise, shown.
pub struct Scenario {
    /// Reads as a sentence.
    pub name: &'static str,
    /// Shows it.
    pub run: fn(&User<'_>) -> Result<()>,
}

/// A promise about a host that joins. Those come last: their hosts stay.
pub struct Joining {
    /// Reads as a sentence.
    pub name: &'static str,
    /// Shows it, with a host of such options.
    pub run: fn(&mut Lab, &HostOptions) -> Result<()>,
}

/// Times that tests shorten; everything else is as a user gets it.
const OPERATOR_FLAGS: [&str; 4] = [
    "--healthy-after=3s",
    "--agent-grace=25s",
    "--replace-after=40s",
    "--lease-duration=4s",
];

/// From where agents take ports of the host, as their variable says.
pub const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 36_000..=36_499;

/// MiB of the second host's disk: room for every image and container of the scenarios, and soon filled.
const SMALL_DISK: u32 = 768;

/// Processes that a task may have on the third host.
pub const MOST_PROCESSES: u32 = 200;

/// Log drivers that the second host offers.
pub const WITHOUT_GELF: &str =
    r#"["awslogs","fluentd","journald","json-file","local","none","splunk","syslog"]"#;

/// With which the first host's engine sends to CloudWatch Logs.
pub const AWS_KEY: &str = "KEY4711";

/// One of the labs that run side by side, each with scenarios of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What engines do, on Docker 20.10.
    Debian2010,
    /// The same on current Docker.
    Current,
    /// What operator and agents decide whatever the engine, on current Docker.
    Deciding,
}

impl Lane {
    /// All of them, with the words that choose them.
    pub const ALL: [(&str, Lane); 3] = [
        ("20.10", Lane::Debian2010),
        ("current", Lane::Current),
        ("deciding", Lane::Deciding),
    ];

    /// Which engine its hosts have.
    pub fn generation(self) -> EngineGeneration {
        match self {
            Lane::Debian2010 => EngineGeneration::Debian2010,
            Lane::Current | Lane::Deciding => EngineGeneration::Current,
        }
    }

    /// Where scenarios about an engine meet engines of this generation.
    pub fn about(generation: EngineGeneration) -> Lane {
        match generation {
            EngineGeneration::Debian2010 => Lane::Debian2010,
            EngineGeneration::Current => Lane::Current,
        }
    }
}

/// A folder of this machine for what scenarios mount.
pub fn folder(lane: Lane) -> PathBuf {
    let id = std::process::id();
    std::env::temp_dir().join(format!("tallyman-e2e-{id}-{lane:?}"))
}

/// The directory of the pipes of MPS on the first host.
pub fn pipes(lane: Lane) -> PathBuf {
    let id = std::process::id();
    std::env::temp_dir().join(format!("tallyman-e2e-{id}-{lane:?}-mps"))
}

/// What stands for MPS' control daemons while they run: who listens at `control` in their directories.
static DAEMONS: Mutex<BTreeMap<Lane, UnixListener>> = Mutex::new(BTreeMap::new());

/// MPS' control daemon of the first host begins.
///
/// # Errors
/// It cannot listen.
pub fn daemon_begins(lane: Lane) -> Result<()> {
    let pipes = pipes(lane);
    std::fs::create_dir_all(&pipes)?;
    let control = pipes.join("control");
    // One that was killed left it.
    if control.exists() {
        std::fs::remove_file(&control)?;
    }
    let daemon = UnixListener::bind(&control).context("MPS' control daemon")?;
    let mut daemons = DAEMONS.lock().unwrap_or_else(PoisonError::into_inner);
    daemons.insert(lane, daemon);
    Ok(())
}

/// MPS' control daemon of the first host is killed, and leaves its socket's file.
pub fn daemon_is_killed(lane: Lane) {
    let mut daemons = DAEMONS.lock().unwrap_or_else(PoisonError::into_inner);
    daemons.remove(&lane);
}

/// How scenarios went.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many came true.
    pub passed: usize,
    /// A line for each that did not.
    pub failures: Vec<String>,
}

/// Runs every scenario whose name holds one of `filters` (all when there is none) on a lab of three hosts.
///
/// # Errors
/// The lab does not come up.
pub fn run(
    lane: Lane,
    scenarios: &[Scenario],
    joining: &[Joining],
    filters: &[String],
) -> Result<Tally> {
    let meant =
        |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    let chosen: Vec<_> = scenarios.iter().filter(|s| meant(s.name)).collect();
    let joining: Vec<_> = joining.iter().filter(|s| meant(s.name)).collect();
    if chosen.is_empty() && joining.is_empty() {
        return Ok(Tally::default());
    }
    println!("\nlab: 3 hosts, {lane:?}");
    let generation = lane.generation();
    let started = Instant::now();
    let mut lab = Lab::builder()
        .host("host-1", first_host(lane)?)
        .host(
            "host-2",
            HostOptions {
                disk_mib: Some(SMALL_DISK),
                agent_env: [(
                    "ECS_AVAILABLE_LOGGING_DRIVERS".to_owned(),
                    WITHOUT_GELF.to_owned(),
                )]
                .into(),
                ..HostOptions::new(generation)
            },
        )
        .host(
            "host-3",
            HostOptions {
                live_restore: false,
                agent_env: [
                    ("ECS_TASK_PIDS_LIMIT".to_owned(), MOST_PROCESSES.to_string()),
                    ("ECS_DISABLE_PRIVILEGED".to_owned(), "true".to_owned()),
                ]
                .into(),
                ..HostOptions::new(generation)
            },
        )
        .operator_binary(binary("tallyman-operator")?)
        .operator_args(OPERATOR_FLAGS)
        .operator_env("OTEL_EXPORTER_OTLP_ENDPOINT", traces::endpoint()?)
        .agent_env(
            "ECS_DYNAMIC_HOST_PORT_RANGE",
            &format!("{}-{}", DYNAMIC_PORTS.start(), DYNAMIC_PORTS.end()),
        )
        .agent_binary(binary("tallyman-agent")?)
        .agent_env("AWS_DEFAULT_REGION", "eu-north-1")
        .agent_env("ECS_ENABLE_CONTAINER_METADATA", "true")
        .agent_env("ECS_CONTAINER_INSTANCE_TAGS", r#"{"rack":"r1"}"#)
        .start()
        .context("the lab did not come up")?;
    println!(
        "lab of {lane:?} up in {:.1} s\n",
        started.elapsed().as_secs_f64()
    );
    let conditions = Conditions::watch(lab.kubectl().kubeconfig())?;
    let mut tally = Tally::default();
    for scenario in chosen {
        let started = Instant::now();
        let result = (scenario.run)(&User::new(&lab));
        let result = result.and(conditions.hold());
        tally.take(&lab, lane, scenario.name, started, result);
    }
    for scenario in joining {
        let started = Instant::now();
        let result = (scenario.run)(&mut lab, &plain_host(generation));
        let result = result.and(conditions.hold());
        tally.take(&lab, lane, scenario.name, started, result);
    }
    drop(conditions);
    if !tally.failures.is_empty() {
        tell_logs(&lab);
        lab.save_logs();
    }
    lab.down().context("the lab did not go down")?;
    std::fs::remove_dir_all(pipes(lane)).context("the pipes of MPS")?;
    Ok(tally)
}

impl Tally {
    /// Counts a scenario, tells how it went, and clears up after one that failed.
    fn take(&mut self, lab: &Lab, lane: Lane, name: &str, started: Instant, result: Result<()>) {
        let user = User::new(lab);
        let result = result.and_then(|()| user.leaves_nothing());
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {lane:?}: {name} ... ok ({seconds:.1} s)");
            }
            Err(error) => {
                let line =
                    format!("test {lane:?}: {name} ... FAILED ({seconds:.1} s)\n  {error:#}");
                println!("{line}");
                self.failures.push(line);
                user.describe();
                user.clean();
            }
        }
    }
}

/// A host like any other.
fn plain_host(generation: EngineGeneration) -> HostOptions {
    HostOptions::new(generation)
}

/// A host that allows a folder for files of variables. Its engine has credentials of AWS. It has two GPUs as far as its files say, and what stands for the
/// vendor's hook: Docker takes it for its GPU driver and runs it before a container's first process. What stands for MPS is there, too.
fn first_host(lane: Lane) -> Result<HostOptions> {
    let toolkit = paths::source_root()?.join("tests/e2e/toolkit");
    let info = toolkit.join("nvidia-gpu-info.json").display().to_string();
    let pipes = pipes(lane);
    daemon_begins(lane)?;
    let mut options = HostOptions::new(lane.generation());
    options.tools = Some(toolkit);
    let credentials = [
        ("AWS_ACCESS_KEY_ID", AWS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "lab"),
    ];
    options.dockerd_env = credentials
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    options.agent_env = [
        ("ECS_ENABLE_GPU_SUPPORT".to_owned(), "true".to_owned()),
        ("ECS_NVIDIA_GPU_INFO_FILE".to_owned(), info),
        (
            "ECS_NVIDIA_MPS_PIPE_DIRECTORY".to_owned(),
            pipes.display().to_string(),
        ),
        (
            "ECS_ENVIRONMENT_FILE_FOLDERS".to_owned(),
            json!([folder(lane).join("allowed")]).to_string(),
        ),
    ]
    .into();
    Ok(options)
}

fn tell_logs(lab: &Lab) {
    println!("--- operator\n{}", lab.operator().log_tail());
    for host in lab.hosts() {
        println!("--- agent of {}\n{}", host.name(), host.agent().log_tail());
    }
}

/// A program of this workspace, built beside the test.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("this program has no path")?;
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("this program is in no target folder")?;
    let path = folder.join(name);
    if !path.is_file() {
        bail!(
            "{} is missing: run `cargo build --workspace --bins --features tallyman-operator/otlp` first (`make test` does)",
            path.display()
        );
    }
    Ok(path)
}
