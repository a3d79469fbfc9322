//! The Tallyman operator. Gathers, asks the core, applies, publishes; decides nothing itself.

mod apply;
mod args;
mod dirty;
mod events;
mod http;
mod identity;
mod joins;
mod leader;
mod logging;
mod metrics;
mod pass;
mod readable;
mod snapshot;
mod traces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tallyman_operator_core::Settings;
use tallyman_operator_core::leadership::Hearing;
use tallyman_operator_core::quotas::Quotas;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::dirty::Dirty;
use crate::events::Recorder;
use crate::http::Health;
use crate::leader::{Candidate, Lead, RenewError};
use crate::pass::Passes;
use crate::snapshot::Snapshot;
use crate::traces::Outlet;

/// How often a leader looks, at most, whether hosts hold plans of a later one: it costs a look at every host.
const HEAR_EVERY: Duration = Duration::from_secs(2);

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    logging::start(&args.log_format);
    let config = config(&args).await?;
    let client =
        Client::try_from(config.clone()).context("cannot make a client for the API server")?;
    // Leases are read and written by a client that does not retry behind our back.
    let mut impatient = config;
    impatient.default_retry = false;
    let lease_client =
        Client::try_from(impatient).context("cannot make a client for the API server")?;

    let outlet = Outlet::from_env()?;
    let health = Arc::new(Health::new());
    let server = tokio::spawn(http::serve(args.http_address, health.clone()));
    let mut server = std::pin::pin!(server);
    tokio::select! {
        result = operate(&args, client, lease_client, health, outlet) => result,
        ended = &mut server => ended.context("the HTTP server panicked")?,
    }
}

async fn operate(
    args: &Args,
    client: Client,
    lease_client: Client,
    health: Arc<Health>,
    outlet: Outlet,
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
        match candidate.acquire(|lease| standby.next_epoch(lease)).await {
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
    let mut hearing = Hearing::default();
    loop {
        let passes = Passes::new(
            client.clone(),
            settings.clone(),
            lead.epoch,
            health.clone(),
            Recorder::new(identity.clone()),
            outlet.clone(),
        );
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let mut work = tokio::spawn(work(
            passes,
            begin(),
            dirty.clone(),
            health.clone(),
            stopping,
            std::mem::take(&mut hearing),
        ));
        let joins = joins::run(
            client.clone(),
            args.namespace.clone(),
            Recorder::new(identity.clone()),
            health.clone(),
        );
        let ended = tokio::select! {
            () = joins => {
                End::Lost(anyhow::anyhow!("hosts that join are not served any more"))
            }
            end = keep_lead(&candidate, &mut lead, args.lease_duration) => end,
            heard = &mut work => match heard {
                Ok(Some(outranked)) => End::Outranked(outranked),
                Ok(None) => End::Lost(anyhow::anyhow!("the caches were not filled")),
                Err(error) => End::Lost(anyhow::anyhow!("the passes ended: {error}")),
            },
            () = terminated() => End::Stopped,
        };
        match ended {
            // Deposed: what is under way must not go on.
            End::Lost(error) => {
                work.abort();
                return Err(error);
            }
            // Everything that is known is of a state that is no more.
            End::WentBack => {
                work.abort();
                let above = lead.epoch;
                lead = candidate.raise(lead, above).await?;
                tracing::warn!(
                    epoch = lead.epoch,
                    "the API server went back to an older state; everything is listed anew"
                );
            }
            End::Outranked(outranked) => {
                lead = candidate.raise(lead, outranked.above).await?;
                hearing = outranked.hearing;
                tracing::warn!(
                    epoch = lead.epoch,
                    "hosts hold plans of a later leader: the API server went back to an older state; everything is listed anew"
                );
            }
            End::Stopped => {
                // Finish the pass, then give the lead back.
                let _ = stop.send(true);
                let _ = tokio::time::timeout(Duration::from_secs(5), work).await;
                candidate.release(lead).await;
                tracing::info!("stopped");
                return Ok(());
            }
        }
    }
}

/// How leading under one number ends.
enum End {
    /// Another leads, or nothing works.
    Lost(anyhow::Error),
    /// The API server went back to an older state.
    WentBack,
    /// Hosts hold plans of a later leader.
    Outranked(Outranked),
    /// The process is to end.
    Stopped,
}

/// A number that is too low.
struct Outranked {
    /// The next one must be above this.
    above: i64,
    /// Whom it came from.
    hearing: Hearing,
}

/// The loop of the leader. Ends when it is to stop, or its number is too low.
async fn work(
    mut passes: Passes,
    mut snapshot: Snapshot,
    dirty: Arc<Dirty>,
    health: Arc<Health>,
    mut stopping: tokio::sync::watch::Receiver<bool>,
    mut hearing: Hearing,
) -> Option<Outranked> {
    if let Err(error) = snapshot.ready().await {
        tracing::error!(%error, "the caches were not filled");
        return None;
    }
    dirty.relisted();
    passes.tell(dirty.take(), &snapshot);
    let mut heard_at: Option<Instant> = None;
    while !*stopping.borrow() {
        health.beat();
        if heard_at.is_none_or(|at| at.elapsed() >= HEAR_EVERY) {
            heard_at = Some(Instant::now());
            let held = snapshot.held_epochs();
            let held = held.iter().map(|(host, epoch)| (host.as_str(), *epoch));
            let heard = hearing.hear(passes.epoch(), held);
            for complaint in heard.complaints {
                tracing::warn!("{complaint}");
            }
            if let Some(above) = heard.above {
                return Some(Outranked { above, hearing });
            }
        }
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
    None
}

/// Renews the lead until it is lost, or is that of an older state.
async fn keep_lead(candidate: &Candidate, lead: &mut Lead, duration: Duration) -> End {
    let deadline = duration * 2 / 3;
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(candidate.period()).await;
        let left = deadline.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, candidate.renew(lead)).await {
            Ok(Ok(())) => renewed = Instant::now(),
            Ok(Err(RenewError::Deposed)) => {
                return End::Lost(anyhow::anyhow!("lost the lead: another operator took it"));
            }
            Ok(Err(RenewError::WentBack)) => return End::WentBack,
            Ok(Err(error @ RenewError::Unreachable(_))) => {
                tracing::warn!(%error, "lead not renewed");
            }
            Err(_) => {}
        }
        if renewed.elapsed() >= deadline {
            return End::Lost(anyhow::anyhow!(
                "lost the lead: it could not be renewed for {} s",
                deadline.as_secs()
            ));
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
