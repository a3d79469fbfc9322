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
mod clock;
mod contact;
mod desk;
mod files;
mod firewall;
mod gpus;
mod heartbeat;
mod host_files;
mod instance;
mod instance_metadata;
mod introspection;
mod jitter;
mod join;
mod ledger;
mod logging;
mod mailbox;
mod metadata;
mod metrics;
mod options;
mod ports;
mod routers;
mod stops;
mod supervisor;
mod token;
mod worker;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::fault_injection::Abilities;
use tallyman_agent_core::metadata::{Injection, Place, Roles};
use tallyman_agent_core::register::{CannotRegister, HostFacts};
use tallyman_agent_core::settings::Parsed;
use tallyman_agent_core::tenure::Rival;
use tallyman_agent_core::{Enforcement, Failing, FirelensSettings, Holdings, Host, HostContext};
use tallyman_agent_docker::DockerEngine;
use tallyman_agent_engine::Counted;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tracing::{error, info, warn};

use crate::agent::{Agent, Parts};
use crate::desk::Desk;
use crate::heartbeat::{Heartbeat, Identity};
use crate::host_files::HostFolders;
use crate::introspection::Facts;
use crate::metadata::files::Folder;
use crate::options::{Command, Options};
use crate::routers::Routers;
use crate::stops::Stops;
use crate::worker::{PATCHES, SLOTS, Shared};

/// ECS: another start would not help (bad settings, a copied machine); the supervisor leaves it at that.
const EXIT_TERMINAL: u8 = 5;

/// How often memory that was freed goes back to the host.
const GIVE_BACK: Duration = Duration::from_secs(30);

/// Folder of containers' metadata files in the data folder.
const FILES: &str = "metadata";

/// Folder of log routers in the data folder.
const ROUTERS: &str = "firelens";

fn main() -> ExitCode {
    let mut options = Options::parse();
    if let Some(Command::Join(options)) = options.command.take() {
        return joined(options);
    }
    let mut parsed = match options::settings() {
        Ok(parsed) => parsed,
        Err(bad) => {
            eprintln!("tallyman-agent: {bad}");
            return ExitCode::from(EXIT_TERMINAL);
        }
    };
    match logging::start(&parsed.settings.process, options.log_format) {
        Ok(warning) => parsed.warnings.extend(warning),
        Err(bad) => {
            eprintln!("tallyman-agent: {bad}");
            return ExitCode::from(EXIT_TERMINAL);
        }
    }
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
            let terminal = error.is::<CannotRegister>() || error.is::<Rival>();
            ExitCode::from(if terminal { EXIT_TERMINAL } else { 1 })
        }
    }
}

/// Joins, and says why not.
fn joined(options: join::JoinOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(join::run(options)),
        Err(error) => Err(error).context("cannot start the runtime"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tallyman-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options, parsed: Parsed) -> anyhow::Result<()> {
    let Parsed { settings, warnings } = parsed;
    for warning in &warnings {
        warn!(warning, "settings");
    }
    let config = api::config(options.kubeconfig.as_deref()).await?;
    let token_file = config.auth_info.token_file.clone();
    let of_token = || token::host_of(token_file.as_deref()?.as_ref());
    let name = options
        .name
        .or_else(of_token)
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
    let docker_host = options
        .docker_host
        .unwrap_or_else(|| settings.process.docker_host.clone());
    let data_dir = options
        .data_dir
        .unwrap_or_else(|| settings.process.data_dir.clone().into());
    let set = std::env::var("ECS_DATADIR").unwrap_or_default();
    if !set.is_empty() && Path::new(&set) != data_dir {
        let used = data_dir.display();
        info!(
            "ECS_DATADIR is `{set}`; `{used}`, which --data-dir or TALLYMAN_DATA_DIR says, goes before"
        );
    }
    let boot_id = options::boot_id();
    info!(
        name,
        namespace,
        api = %config.cluster_url,
        engine = docker_host,
        address = address.as_deref(),
        version = env!("CARGO_PKG_VERSION"),
        "agent starts"
    );

    let gpus = gpus::find(&settings.gpus);

    let _lock = ledger::lock(&data_dir)?;
    let contacts = Arc::new(contact::Contacts::load(&data_dir, boot_id.clone()));
    // The first renewal ends a silence, which the loop is yet to look at.
    let heard = contacts.silences().over();
    let identity = Identity::new(boot_id.as_deref(), &data_dir);
    let mut heartbeat = Heartbeat::new(api.clone(), identity.clone(), Arc::clone(&contacts));
    heartbeat.settle().await?;
    let saved = ledger::load(&data_dir);
    info!(
        plan = saved.plan.is_some(),
        records = saved.records.len(),
        "read what was saved"
    );
    let ledger = ledger::Ledger::open(
        data_dir.clone(),
        saved.records.clone(),
        saved.images.clone(),
    );
    let limits = tallyman_agent_docker::Settings {
        create: settings.tasks.create_timeout,
        start: settings.tasks.start_timeout,
        pull_inactivity: settings.images.pull_inactivity,
        pull_total: settings.images.pull_timeout,
        exclude_ipv6_port_bindings: settings.tasks.exclude_ipv6_port_bindings,
        client_config: tallyman_agent_docker::client_config(),
        cgroups: settings.tasks.cgroup_path.clone().into(),
        ..tallyman_agent_docker::Settings::default()
    };
    let engine = DockerEngine::new(&docker_host, limits).context("DOCKER_HOST")?;
    let engine = Counted::new(engine);
    let counts = engine.counts();
    let asked = settings.metadata.clone();
    let attributes = &settings.registration.instance_attributes;
    let place = Place {
        namespace: namespace.clone(),
        region: asked.region.clone(),
        availability_zone: attributes.get("ecs.availability-zone").cloned(),
        container_instance: name.clone(),
        address: address.clone(),
        tags: settings.registration.instance_tags.clone(),
    };
    // As the engine finds it.
    let data_of_host = match &asked.host_data_dir {
        Some(folder) => format!("{folder}/data"),
        None => std::path::absolute(&data_dir)?.display().to_string(),
    };
    let key_file = token_file
        .as_deref()
        .map(|file| Path::new(file).with_file_name(join::KEY));
    // Wherever the owner has put them.
    let own = [
        Some(data_of_host.clone()),
        docker_host.strip_prefix("unix://").map(str::to_owned),
        saved.engine.as_ref().map(|engine| engine.data_root.clone()),
        options.kubeconfig.as_deref().map(shown),
        token_file.clone(),
        key_file.as_deref().map(shown),
    ];
    let own = own.into_iter().flatten().filter(|path| !path.is_empty());
    let shared = Arc::new(Shared {
        contacts: Arc::clone(&contacts),
        engine: Arc::new(engine),
        api: api.clone(),
        ledger: ledger.clone(),
        host: RwLock::new(HostContext {
            container_instance: name.clone(),
            address: address.clone(),
            pull_behavior: settings.images.pull_behavior,
            cleanup_wait: settings.tasks.cleanup_wait,
            cleanup_jitter: settings.tasks.cleanup_jitter,
            pull_upfront: settings.tasks.pull_upfront,
            enforcement: Enforcement::of(&settings.tasks, saved.engine.as_ref(), true),
            plan_is_live: false,
            silences: contacts.silences(),
            supply: None,
            registries: Arc::new(settings.images.registries()),
        }),
        ports: ports::HostPorts::new(&settings),
        holdings: Holdings::new(&gpus),
        failing: Failing::default(),
        routers: Routers {
            path: data_dir.join(ROUTERS),
        },
        host_files: HostFolders::new(settings.tasks.environment_file_folders.clone(), own),
        slots: Arc::new(Semaphore::new(SLOTS)),
        stops: Stops::default(),
        patches: Semaphore::new(PATCHES),
        desk: Arc::new(Desk::default()),
        files: asked.files.then(|| Folder {
            path: data_dir.join(FILES),
            place: place.clone(),
        }),
    });
    let facts = Arc::new(Facts {
        cluster: Mutex::new(String::new()),
        place,
        ready: AtomicBool::new(false),
        desk: Arc::clone(&shared.desk),
        offhost: asked.offhost_introspection,
    });
    instance_metadata::close(settings.network.block_imds).await;
    let opened = metadata::open(options.task_metadata, &data_dir).await;
    let key = opened.as_ref().map(|opened| opened.key.clone());
    let port_80 = opened.as_ref().map(|opened| opened.port_80);
    let roles = port_80.filter(|_| asked.task_roles).map(|port_80| Roles {
        network_host: asked.task_roles_network_host,
        port_80,
    });
    let faults = match &opened {
        Some(_) => metadata::find_fault_abilities().await,
        None => Abilities::default(),
    };
    if let Some(opened) = opened {
        let shared = Arc::clone(&shared);
        let facts = Arc::clone(&facts);
        let endpoint = metadata::Endpoint::new(shared, facts, opened.key, asked.rate);
        tokio::spawn(metadata::serve(opened.listener, Arc::new(endpoint)));
    }
    let door = Door {
        namespace: namespace.clone(),
        stop_timeout: settings.tasks.stop_timeout,
        volumes: settings.volumes.clone(),
        networking: settings.network.clone(),
        gpus: settings.gpus.clone(),
        pause_image: tallyman_agent_pause::image(),
        pids_limit: settings.tasks.pids_limit,
        disable_privileged: settings.registration.disable_privileged,
        injection: Injection {
            region: asked.region,
            key,
            roles,
            files: asked.files.then(|| format!("{data_of_host}/{FILES}")),
        },
        firelens: FirelensSettings {
            folder: format!("{data_of_host}/{ROUTERS}"),
            asynchronous: settings.tasks.firelens_async,
        },
    };
    tokio::spawn(agent::images::run(
        Arc::clone(&shared.engine),
        ledger.clone(),
        settings.clone(),
    ));
    let measured = metrics::routes(metrics::Source {
        shared: Arc::clone(&shared),
        counts,
        place: (namespace.clone(), name.clone()),
        usage: !asked.disable_usage,
    });
    let agent = Agent::new(Parts {
        shared,
        facts: Arc::clone(&facts),
        host: Host::new(door),
        settings,
        host_facts: HostFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            address,
            boot_id,
            gpus,
            roles,
            faults,
            ledger_trouble: None,
            forgotten: Vec::new(),
            rival: None,
            clock: None,
        },
        saved_plan: saved.plan,
        saved_records: saved.records,
        saved_engine: saved.engine,
        heard,
        identity,
    });

    let (sender, plans) = mpsc::channel(16);
    tokio::spawn(mailbox::plan(api.clone(), sender));
    let (sender, supplies) = mpsc::channel(16);
    tokio::spawn(mailbox::supply(api.clone(), key_file, sender));
    let rival = tokio::spawn(heartbeat.run());
    tokio::spawn(async {
        loop {
            tokio::time::sleep(GIVE_BACK).await;
            tallyman_agent_heap::give_back();
        }
    });
    if let Some(file) = token_file {
        tokio::spawn(token::run(api, file.into()));
    }
    let everywhere = IpAddr::from(if asked.offhost_introspection {
        Ipv4Addr::UNSPECIFIED
    } else {
        Ipv4Addr::LOCALHOST
    });
    let http_address = options
        .http_address
        .unwrap_or_else(|| SocketAddr::new(everywhere, introspection::PORT));
    let everybody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), metrics::PORT);
    let metrics_address = options
        .metrics_address
        .or(asked.serve_metrics.then_some(everybody));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        outcome = agent.run(plans, supplies) => outcome,
        outcome = introspection::serve(http_address, facts, measured.clone()) => outcome,
        outcome = metrics::serve(metrics_address, measured) => outcome,
        rival = rival => Err(rival?.into()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    info!("agent ends; containers are left as they are");
    supervisor::stopping();
    ledger.flush().await;
    if port_80 == Some(true) {
        metadata::close().await;
    }
    outcome
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
