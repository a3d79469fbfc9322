//! One round: raw up and down, then the Service up and down, with the API writes that it took.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Lab, wait_until};

use crate::orders::Orders;

/// Image of every container.
pub const IMAGE: &str = tallyman_lab::image::BUSYBOX;
/// Runs until it is told to stop.
pub const COMMAND: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"];

const PATIENCE: Duration = Duration::from_secs(300);

/// From the order on.
#[derive(Clone, Copy, Debug)]
pub struct Seconds {
    /// Until the last container started, by the engine's own times.
    pub up: f64,
    /// Until the last container ended, by the engine's own times.
    pub ended: f64,
    /// Until everything is known to be stopped: the last stop returned; the Service is steady at 0.
    pub down: f64,
}

/// What a round measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// The raw engine.
    pub raw: Seconds,
    /// The Service.
    pub ours: Seconds,
    /// API writes while scaling up, by `verb resource`.
    pub writes_up: BTreeMap<String, u64>,
    /// API writes while scaling down.
    pub writes_down: BTreeMap<String, u64>,
    /// Engine requests while scaling up, by verb.
    pub calls: BTreeMap<String, u64>,
    /// Milliseconds of processor time while scaling up, by program.
    pub spent_up: BTreeMap<String, u64>,
    /// Milliseconds of processor time while scaling down.
    pub spent_down: BTreeMap<String, u64>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (raw, ours) = (self.raw, self.ours);
        write!(
            f,
            "up raw {:.2} s, ours {:.2} s ({:.2}x); down raw {:.2} s, ours {:.2} s ({:.2}x)",
            raw.up,
            ours.up,
            ours.up / raw.up,
            raw.down,
            ours.down,
            ours.down / raw.down
        )
    }
}

/// Measures one round of `n` tasks.
pub fn round(lab: &Lab, orders: &Orders, n: usize) -> Result<Round> {
    let raw = crate::raw::up_and_down(lab, n).context("the raw engine")?;
    begin(lab)?;
    let calls = crate::measure::calls(lab)?;
    let spent = || crate::processors::spent(lab);
    let before = spent()?;
    let (up, _, writes_up) = scale(lab, orders, n)?;
    let between = spent()?;
    let calls = difference(&crate::measure::calls(lab)?, &calls);
    let (ended, down, writes_down) = scale(lab, orders, 0)?;
    let after = spent()?;
    end(lab)?;
    Ok(Round {
        raw,
        ours: Seconds { up, ended, down },
        writes_up,
        writes_down,
        calls,
        spent_up: difference(&between, &before),
        spent_down: difference(&after, &between),
    })
}

/// Makes the service, without tasks.
pub fn begin(lab: &Lab) -> Result<()> {
    apply(lab, 0)?;
    wait_until("the service to be accepted", PATIENCE, || {
        Ok(service(lab)?["status"]["conditions"][0]["status"] == "True")
    })?;
    Ok(())
}

/// Takes it away, and waits until the host has no container of it.
pub fn end(lab: &Lab) -> Result<()> {
    let delete = |kind: &str| {
        lab.kubectl().ok([
            "delete",
            kind,
            "bench",
            "-n",
            lab.namespace(),
            "--timeout=120s",
        ])
    };
    delete("services.tallyman.dev")?;
    delete("taskdefinitions.tallyman.dev")?;
    wait_until("the host to be empty", PATIENCE, || {
        let left = lab.host(0).docker_ok(["ps", "--all", "--quiet"])?;
        Ok(left.is_empty())
    })?;
    Ok(())
}

fn service(lab: &Lab) -> Result<Value> {
    lab.kubectl()
        .get("services.tallyman.dev", lab.namespace(), "bench")?
        .context("the service is gone")
}

fn apply(lab: &Lab, n: usize) -> Result<()> {
    let meta = json!({ "name": "bench", "namespace": lab.namespace() });
    let definition = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "TaskDefinition", "metadata": meta,
        "spec": { "containerDefinitions": [
            { "name": "sleep", "image": IMAGE, "command": COMMAND, "memory": 16, "stopTimeout": 2 }
        ]},
    });
    let service = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service", "metadata": meta,
        "spec": { "taskDefinition": "bench", "desiredCount": n },
    });
    lab.kubectl().apply(
        &json!({ "apiVersion": "v1", "kind": "List", "items": [definition, service] }).to_string(),
    )?;
    Ok(())
}

/// Scales to `n`; seconds until the last container started or ended, by the engine's own times, seconds until the service
/// is steady, and the writes until then.
pub fn scale(lab: &Lab, orders: &Orders, n: usize) -> Result<(f64, f64, BTreeMap<String, u64>)> {
    let log = lab.audit()?.from_now()?;
    let started = SystemTime::now();
    orders.scale("bench", n, PATIENCE)?;
    let steady = started
        .elapsed()
        .context("the clock went back")?
        .as_secs_f64();
    let seconds = last(lab, "label=tallyman.dev/task", n > 0)?
        .duration_since(started)
        .context("the engine's clock is behind")?
        .as_secs_f64();
    let mut writes = BTreeMap::new();
    for (request, count) in log.counts()? {
        // What keeps hosts and the leader alive is no part of the work, and neither is the order itself.
        let ours = request.user.contains("tallyman");
        if ours && request.is_write() && request.resource != "leases" {
            *writes
                .entry(format!("{} {}", request.verb, request.resource))
                .or_default() += count;
        }
    }
    ensure!(!writes.is_empty(), "the audit log shows no write of ours");
    Ok((seconds, steady, writes))
}

/// When the last container with `label` started, or ended.
pub fn last(lab: &Lab, label: &str, up: bool) -> Result<SystemTime> {
    let host = lab.host(0);
    let ids = host.docker_ok(["ps", "--all", "--quiet", "--filter", label])?;
    let format = if up {
        "{{.State.StartedAt}}"
    } else {
        "{{.State.FinishedAt}}"
    };
    let times = host.docker_ok(
        ["inspect", "--format", format]
            .into_iter()
            .chain(ids.lines()),
    )?;
    let mut last = SystemTime::UNIX_EPOCH;
    for line in times.lines() {
        let at: jiff::Timestamp = line
            .trim()
            .parse()
            .with_context(|| format!("docker printed '{line}'"))?;
        last = last.max(at.into());
    }
    Ok(last)
}

/// Engine requests by verb, as the agent counts them.
pub fn calls(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let page =
        tallyman_lab::http::get(lab.host(0).agent_http(), "/metrics", Duration::from_secs(5))?;
    let mut calls = BTreeMap::new();
    for line in page.body.lines() {
        if let Some(rest) = line.strip_prefix("tallyman_agent_engine_calls_total{verb=\"")
            && let Some((verb, count)) = rest.split_once("\"} ")
        {
            calls.insert(verb.to_owned(), count.trim().parse().unwrap_or(0));
        }
    }
    ensure!(
        !calls.is_empty(),
        "the agent's /metrics counts no engine calls"
    );
    Ok(calls)
}

/// What was counted in between, by the same names.
pub fn difference(
    after: &BTreeMap<String, u64>,
    before: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(k, v)| (k.clone(), v - before.get(k).copied().unwrap_or(0)))
        .collect()
}
