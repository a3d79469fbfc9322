//! What operator and agents tell Prometheus of what really runs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tallyman_lab::{http, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "operator and agents measure what ECS measures",
    run: measured,
}];

const ANSWER: Duration = Duration::from_secs(10);

/// Values of a metric whose labels hold `part`.
fn values(text: &str, metric: &str, part: &str) -> Result<Vec<f64>> {
    let lines = text.lines().filter(|l| {
        let rest = l.strip_prefix(metric);
        rest.is_some_and(|rest| rest.starts_with('{')) && l.contains(part)
    });
    lines
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value.parse().with_context(|| line.to_owned())
        })
        .collect()
}

fn measured(user: &User<'_>) -> Result<()> {
    let mut definition = hello("counted", "x");
    definition["spec"]["containerDefinitions"][0]["memoryReservation"] = json!(16);
    user.apply(&[definition, service("counted", 3)])?;
    user.wait_steady("counted", 3)?;
    let part = "service=\"counted\"";
    wait_until("the operator to tell of the service", PATIENCE, || {
        let text = http::get(user.lab.operator_http(), "/metrics", ANSWER)?.body;
        // Reserved is what counts for placement, allowed is the hard limit.
        for (metric, wanted) in [
            ("tallyman_service_desired_tasks", 3.0),
            ("tallyman_service_running_tasks", 3.0),
            ("tallyman_service_pending_tasks", 0.0),
            ("tallyman_service_cpu_reserved_units", 48.0),
            (
                "tallyman_service_memory_allowed_bytes",
                3.0 * 32.0 * 1_048_576.0,
            ),
        ] {
            let found = values(&text, metric, part)?;
            ensure!(found == [wanted], "{metric}: {found:?}");
        }
        let share = values(&text, "tallyman_cluster_cpu_reservation_percent", "default")?;
        ensure!(
            share.iter().all(|p| *p > 0.0 && *p <= 100.0) && !share.is_empty(),
            "{share:?}"
        );
        Ok(true)
    })?;
    let mut running = 0;
    for n in 0..3 {
        let text = http::get(user.lab.host(n).agent_http(), "/metrics", ANSWER)?.body;
        let memory = values(&text, "tallyman_container_memory_bytes", part)?;
        let cpu = values(&text, "tallyman_container_cpu_seconds_total", part)?;
        ensure!(memory.len() == cpu.len(), "{memory:?} {cpu:?}");
        ensure!(
            memory.iter().all(|m| *m > 0.0 && *m < 32.0 * 1_048_576.0),
            "{memory:?}"
        );
        ensure!(cpu.iter().all(|s| *s > 0.0 && *s < 60.0), "{cpu:?}");
        running += memory.len();
        let took = values(
            &text,
            "tallyman_agent_engine_call_seconds_total",
            "verb=\"start\"",
        )?;
        ensure!(took.iter().sum::<f64>() > 0.0, "starts took {took:?}");
    }
    ensure!(running == 3, "agents measure {running} containers of 3");
    user.delete(&["counted"])
}
