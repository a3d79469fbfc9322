//! The Tallyman operator. Gathers, asks the core, applies, publishes; decides nothing itself.

mod apply;
mod args;
mod dirty;
mod events;
mod http;
mod identity;
mod joins;
mod leader;
mod metrics;
mod pass;
mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tallyman_operator_core::Settings;
use tallyman_operator_core::quotas::Quotas;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::dirty::Dirty;
use crate::events::Recorder;
use crate::http::Health;
use crate::leader::{Candidate, Lead, RenewError};
use crate::pass::Passes;
use crate::snapshot::Snapshot;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_log(&args.log_format);
    let config = config(&args).await?;
    let client =
        Client::try_from(config.clone()).context("cannot make a client for the API server")?;
    // Leases are read and written by a client that does not retry behind our back.
    let mut impatient = config;
    impatient.default_retry = false;
    let lease_client =
        Client::try_from(impatient).context("cannot make a client for the API server")?;

    let health = Arc::new(Health::new());
    let server = tokio::spawn(http::serve(args.http_address, health.clone()));
    let mut server = std::pin::pin!(server);
    tokio::select! {
        result = operate(&args, client, lease_client, health) => result,
        ended = &mut server => ended.context("the HTTP server panicked")?,
    }
}

async fn operate(
    args: &Args,
    client: Client,
    lease_client: Client,
    health: Arc<Health>,
) -> anyhow::Result<()> {
    let dirty = Arc::new(Dirty::default());
    let begin = || {
        Snapshot::start(
            &client,
            lease_client.clone(),
            args.namespace.as_deref(),
            &dirty,
        )
    };
    let standby = begin();
    tokio::select! {
        ready = standby.ready() => ready?,
        () = beat_forever(&health) => {}
        () = terminated() => return Ok(()),
    }
    health.synced();
    tracing::info!("caches filled");

    let identity = identity_of_this_copy();
    let mut candidate = Candidate::new(
        lease_client.clone(),
        &args.lease_namespace,
        identity.clone(),
        args.lease_duration,
    );
    let mut lead = loop {
        health.beat();
        match candidate.acquire(standby.highest_epoch()).await {
            Ok(Some(lead)) => break lead,
            Ok(None) => tracing::debug!("another operator leads"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot take the lead"),
        }
        tokio::select! {
            () = tokio::time::sleep(candidate.standby_period()) => {}
            () = terminated() => return Ok(()),
        }
    };
    tracing::info!(epoch = lead.epoch, identity, "leading");
    health.metrics.leader.set(1);
    // The caches of a standby may lag behind what the last leader wrote: a leader begins with lists of its own.
    drop(standby);
    let snapshot = begin();

    let settings = Settings {
        healthy_after: args.healthy_after,
        task_retention: args.task_retention,
        agent_grace: args.agent_grace,
        replace_after: args.replace_after,
        quotas: Quotas {
            instances_per_cluster: args.instances_per_cluster,
            services_per_cluster: args.services_per_cluster,
            tasks_per_service: args.tasks_per_service,
            launches_per_minute: args.launches_per_minute,
            task_sets_per_service: args.task_sets_per_service,
        },
        ..Settings::default()
    };
    let recorder = Recorder::new(identity);
    let passes = Passes::new(
        client.clone(),
        settings,
        lead.epoch,
        health.clone(),
        recorder,
    );
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let work = tokio::spawn(work(passes, snapshot, dirty, health, stopping));
    let ended = tokio::select! {
        () = joins::run(client, args.namespace.clone()) => {
            Err(anyhow::anyhow!("hosts that join are not served any more"))
        }
        error = keep_lead(&candidate, &mut lead, args.lease_duration) => Err(error),
        () = terminated() => Ok(()),
    };
    match ended {
        // Deposed: what is under way must not go on.
        Err(error) => {
            work.abort();
            Err(error)
        }
        Ok(()) => {
            // Finish the pass, then give the lead back.
            let _ = stop.send(true);
            let _ = tokio::time::timeout(Duration::from_secs(5), work).await;
            candidate.release(lead).await;
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// The loop of the leader.
async fn work(
    mut passes: Passes,
    mut snapshot: Snapshot,
    dirty: Arc<Dirty>,
    health: Arc<Health>,
    mut stopping: tokio::sync::watch::Receiver<bool>,
) {
    if let Err(error) = snapshot.ready().await {
        tracing::error!(%error, "the caches were not filled");
        return;
    }
    dirty.relisted();
    passes.tell(dirty.take(), &snapshot);
    while !*stopping.borrow() {
        health.beat();
        passes.run(&mut snapshot).await;
        let due = passes
            .due()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(10));
        let due = due.min(Instant::now() + Duration::from_secs(10));
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = dirty.changed() => tokio::time::sleep(pass::COALESCE).await,
            _ = stopping.changed() => {}
        }
        passes.tell(dirty.take(), &snapshot);
    }
}

/// Renews the lead until it is lost; returns why.
async fn keep_lead(candidate: &Candidate, lead: &mut Lead, duration: Duration) -> anyhow::Error {
    let deadline = duration * 2 / 3;
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(candidate.period()).await;
        let left = deadline.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, candidate.renew(lead)).await {
            Ok(Ok(())) => renewed = Instant::now(),
            Ok(Err(RenewError::Deposed)) => {
                return anyhow::anyhow!("lost the lead: another operator took it");
            }
            Ok(Err(error)) => tracing::warn!(%error, "lead not renewed"),
            Err(_) => {}
        }
        if renewed.elapsed() >= deadline {
            return anyhow::anyhow!(
                "lost the lead: it could not be renewed for {} s",
                deadline.as_secs()
            );
        }
    }
}

async fn beat_forever(health: &Health) {
    loop {
        health.beat();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

async fn config(args: &Args) -> anyhow::Result<Config> {
    match &args.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .with_context(|| format!("cannot read --kubeconfig {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("--kubeconfig {} is not usable", file.display()))
        }
        None => Config::infer().await.context(
            "no API server is configured: give --kubeconfig, set KUBECONFIG, or run with a service account",
        ),
    }
}

/// Host name, process and start time: a restarted operator is another candidate.
fn identity_of_this_copy() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_else(|_| "unknown".to_owned());
    format!(
        "{}_{}_{}",
        host.trim(),
        std::process::id(),
        jiff::Timestamp::now().as_millisecond()
    )
}

async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn init_log(format: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if format == "json" {
        builder.json().init()
    } else {
        builder.init()
    }
}
