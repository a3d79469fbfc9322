//! Runs scenarios on a lab, one after the other, and tells how they went.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tallyman_lab::{EngineGeneration, HostOptions, Lab, paths};

use crate::user::User;

/// One promise, shown.
pub struct Scenario {
    /// Reads as a sentence.
    pub name: &'static str,
    /// Shows it.
    pub run: fn(&User<'_>) -> Result<()>,
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

/// Runs every scenario whose name holds one of `filters` (all when there is none) on a lab of three hosts with engines
/// of `generation`. Returns the numbers of those that passed and failed.
///
/// # Errors
/// The lab does not come up.
pub fn run(
    generation: EngineGeneration,
    scenarios: &[Scenario],
    filters: &[String],
) -> Result<(usize, usize)> {
    let chosen: Vec<_> = scenarios
        .iter()
        .filter(|s| filters.is_empty() || filters.iter().any(|f| s.name.contains(f.as_str())))
        .collect();
    if chosen.is_empty() {
        return Ok((0, 0));
    }
    println!("\nlab: 3 hosts, {generation:?}");
    let started = Instant::now();
    let lab = Lab::builder()
        .host("host-1", gpu_host(generation)?)
        .hosts(2, generation)
        .operator_binary(binary("tallyman-operator")?)
        .operator_args(OPERATOR_FLAGS)
        .agent_env(
            "ECS_DYNAMIC_HOST_PORT_RANGE",
            &format!("{}-{}", DYNAMIC_PORTS.start(), DYNAMIC_PORTS.end()),
        )
        .agent_binary(binary("tallyman-agent")?)
        .agent_env("AWS_DEFAULT_REGION", "eu-north-1")
        .agent_env("ECS_ENABLE_CONTAINER_METADATA", "true")
        .start()
        .context("the lab did not come up")?;
    println!("lab up in {:.1} s\n", started.elapsed().as_secs_f64());
    let (mut passed, mut failed) = (0, 0);
    for scenario in chosen {
        let started = Instant::now();
        let user = User::new(&lab);
        let result = (scenario.run)(&user).and_then(|()| user.leaves_nothing());
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!(
                    "test {:?}: {} ... ok ({seconds:.1} s)",
                    generation, scenario.name
                );
            }
            Err(error) => {
                failed += 1;
                println!(
                    "test {:?}: {} ... FAILED ({seconds:.1} s)\n  {error:#}",
                    generation, scenario.name
                );
                user.describe();
                user.clean();
            }
        }
    }
    if failed > 0 {
        tell_logs(&lab);
        lab.keep().ok();
    }
    lab.down().context("the lab did not go down")?;
    Ok((passed, failed))
}

/// A host with two GPUs as far as its files say, and with what stands for the vendor's hook: Docker takes it for its GPU
/// driver and runs it before a container's first process.
fn gpu_host(generation: EngineGeneration) -> Result<HostOptions> {
    let toolkit = paths::source_root()?.join("tests/e2e/toolkit");
    let info = toolkit.join("nvidia-gpu-info.json").display().to_string();
    let mut options = HostOptions::new(generation);
    options.tools = Some(toolkit);
    options.agent_env = [
        ("ECS_ENABLE_GPU_SUPPORT".to_owned(), "true".to_owned()),
        ("ECS_NVIDIA_GPU_INFO_FILE".to_owned(), info),
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
            "{} is missing: run `cargo build --workspace` first (`make test` does)",
            path.display()
        );
    }
    Ok(path)
}
