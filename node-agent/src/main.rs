//! `tallyman-agent`: runs a host's tasks on its container engine and reports them.
//!
//! Why: this is the process. It wires the core (`tallyman-agent-core`, which decides) to the engine
//! adapter (`tallyman-agent-docker`), the API server and the disk.
//!
//! Where: [`agent`] is the host's loop, [`worker`] that of each task, [`assignments`] reads the plan,
//! [`api`] and [`instance`] write statuses, [`heartbeat`] renews the Lease, [`ledger`] is the disk.
//!
//! Never: nothing here chooses what runs, when a task has ended or what people are told; that is the core.

mod address;
mod agent;
mod api;
mod assignments;
mod files;
mod heartbeat;
mod instance;
mod introspection;
mod jitter;
mod ledger;
mod logging;
mod options;
mod ports;
mod token;
mod worker;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context;
use clap::Parser;
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::register::{CannotRegister, HostFacts};
use tallyman_agent_core::settings::Parsed;
use tallyman_agent_core::{Host, HostContext, Settings};
use tallyman_agent_docker::DockerEngine;
use tallyman_agent_engine::Counted;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tracing::{error, info, warn};

use crate::agent::{Agent, Parts};
use crate::introspection::Facts;
use crate::options::Options;
use crate::worker::{PATCHES, SLOTS, Shared};

/// ECS: another start would not help (bad settings); the supervisor leaves it at that.
const EXIT_TERMINAL: u8 = 5;

fn main() -> ExitCode {
    let options = Options::parse();
    let parsed = match Settings::parse(&options::environment()) {
        Ok(parsed) => parsed,
        Err(bad) => {
            eprintln!("tallyman-agent: {bad}");
            return ExitCode::from(EXIT_TERMINAL);
        }
    };
    logging::start(parsed.settings.process.log_level, options.log_format);
    // One thread: all the work is waiting, and each further thread costs a heap of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(options, parsed));
            // Calls to the engine that are under way are given up; the next start looks what became of them.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error).context("cannot start the runtime"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "agent ends");
            let terminal = error.downcast_ref::<CannotRegister>().is_some();
            ExitCode::from(if terminal { EXIT_TERMINAL } else { 1 })
        }
    }
}

async fn run(options: Options, parsed: Parsed) -> anyhow::Result<()> {
    let Parsed { settings, warnings } = parsed;
    for warning in &warnings {
        warn!(warning, "settings");
    }
    let config = api::config(options.kubeconfig.as_deref()).await?;
    let name = options
        .name
        .or_else(options::host_name)
        .context("the host has no name; give --name")?;
    let namespace = options
        .namespace
        .unwrap_or_else(|| config.default_namespace.clone());
    let api = api::Api::connect(&config, &namespace, &name)?;
    let address = options.address.or_else(|| {
        let port = config.cluster_url.port_u16().unwrap_or(443);
        address::guess(config.cluster_url.host(), port).map(|address| address.to_string())
    });
    let boot_id = options::boot_id();
    let holder = format!("{}/{}", boot_id.as_deref().unwrap_or("unknown"), start_id());
    info!(
        name,
        namespace,
        api = %config.cluster_url,
        engine = options.docker_host,
        address = address.as_deref(),
        version = env!("CARGO_PKG_VERSION"),
        "agent starts"
    );

    let _lock = ledger::lock(&options.data_dir)?;
    let saved = ledger::load(&options.data_dir);
    info!(
        plan = saved.plan.is_some(),
        records = saved.records.len(),
        "read what was saved"
    );
    let ledger = ledger::Ledger::open(options.data_dir.clone(), saved.records.clone());
    let engine = DockerEngine::new(
        &options.docker_host,
        tallyman_agent_docker::Settings::default(),
    )
    .context("--docker-host")?;
    let engine = Counted::new(engine);
    let counts = engine.counts();
    let shared = Arc::new(Shared {
        engine: Arc::new(engine),
        api: api.clone(),
        ledger: ledger.clone(),
        host: RwLock::new(HostContext {
            container_instance: name.clone(),
            address: address.clone(),
            pull_behavior: settings.images.pull_behavior,
            cleanup_wait: settings.tasks.cleanup_wait,
            plan_is_live: false,
        }),
        ports: ports::HostPorts::new(&settings),
        slots: Arc::new(Semaphore::new(SLOTS)),
        patches: Semaphore::new(PATCHES),
        views: Mutex::new(BTreeMap::new()),
    });
    let shown = Arc::clone(&shared);
    let facts = Arc::new(Facts {
        cluster: Mutex::new(String::new()),
        container_instance: format!("{namespace}/{name}"),
        ready: AtomicBool::new(false),
        counts,
        tasks: Box::new(move || {
            shown
                .views
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        }),
    });
    let door = Door {
        namespace: namespace.clone(),
        stop_timeout: settings.tasks.stop_timeout,
        volumes: settings.volumes.clone(),
        networking: settings.network.clone(),
        pause_image: tallyman_agent_pause::image(),
        pids_limit: settings.tasks.pids_limit,
        disable_privileged: settings.registration.disable_privileged,
    };
    let agent = Agent::new(Parts {
        shared,
        facts: Arc::clone(&facts),
        host: Host::new(door),
        settings,
        host_facts: HostFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            address,
            boot_id,
        },
        saved_plan: saved.plan,
        saved_records: saved.records,
        saved_engine: saved.engine,
    });

    let (sender, news) = mpsc::channel(16);
    tokio::spawn(assignments::run(api.clone(), sender));
    tokio::spawn(heartbeat::run(api.clone(), holder));
    if let Some(file) = config.auth_info.token_file.clone() {
        tokio::spawn(token::run(api, file.into()));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        outcome = agent.run(news) => outcome,
        outcome = introspection::serve(options.http_address, facts) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    info!("agent ends; containers are left as they are");
    ledger.flush().await;
    outcome
}

/// Differs from start to start.
fn start_id() -> String {
    format!(
        "{}-{:x}",
        std::process::id(),
        jiff::Timestamp::now().as_millisecond()
    )
}
