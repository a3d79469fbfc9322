//! What operator and agents tell Prometheus of what really runs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::{http, paths, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "operator and agents measure what ECS measures",
        run: measured,
    },
    Scenario {
        name: "every rule and every panel of the dashboard finds what it shows",
        run: shown,
    },
];

/// Panels of the dashboard that are empty or zero while all is well.
const EMPTY_IS_GOOD: [&str; 2] = [
    "panel Objects that wait for a pass",
    "panel Writes that failed",
];

const ANSWER: Duration = Duration::from_secs(10);

/// What each target answers now, by its name.
fn scraped(user: &User<'_>) -> Result<BTreeMap<String, String>> {
    let mut targets = vec![("operator".to_owned(), user.lab.operator_http())];
    for n in 0..3 {
        targets.push((format!("host-{}", n + 1), user.lab.host(n).agent_http()));
    }
    let mut found = BTreeMap::new();
    for (name, at) in targets {
        found.insert(name, http::get(at, "/metrics", ANSWER)?.body);
    }
    Ok(found)
}

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
    told_by_objects(user)?;
    user.delete(&["counted"])
}

/// The same from outside: what kube-state-metrics tells of the objects, with the configuration that is shipped.
fn told_by_objects(user: &User<'_>) -> Result<()> {
    let kinds = "tclu,cinst,hjoin,tdef,tdrev,tsvc,task";
    let objects = user.k(&["get", kinds, "-o", "json"])?;
    let configuration = paths::source_root()?.join("deploy/monitoring/kube-state-metrics.yaml");
    let told = Tool::new(paths::test_tool("state-metrics")?)
        .arg(configuration)
        .stdin(objects)
        .check()?;
    for (metric, part, wanted) in [
        (
            "kube_tallyman_service_desired_tasks",
            "\"counted\"",
            vec![3.0],
        ),
        (
            "kube_tallyman_service_running_tasks",
            "\"counted\"",
            vec![3.0],
        ),
        (
            "kube_tallyman_service_pending_tasks",
            "\"counted\"",
            vec![0.0],
        ),
        (
            "kube_tallyman_service_condition",
            "type=\"Ready\"",
            vec![1.0],
        ),
        (
            "kube_tallyman_service_rollout_state",
            "rollout_state=\"COMPLETED\",status=\"PRIMARY\"",
            vec![1.0],
        ),
        (
            "kube_tallyman_task_last_status",
            "last_status=\"RUNNING\"",
            vec![1.0; 3],
        ),
        (
            "kube_tallyman_container_instance_agent_connected",
            "",
            vec![1.0; 3],
        ),
    ] {
        let found = values(&told, metric, part)?;
        ensure!(found == wanted, "{metric} {part}: {found:?}");
    }
    Ok(())
}

/// Prometheus' own engine, two minutes of real answers, and everything that rules and dashboard ask.
fn shown(user: &User<'_>) -> Result<()> {
    let mut large = hello("nowhere", "x");
    large["spec"]["containerDefinitions"][0]["memory"] = json!(999_999);
    let mut broken = hello("absent", "x");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/no-such:1");
    // Its CPU is to be seen, and not to be felt.
    let mut busy = hello("shown", "x");
    busy["spec"]["containerDefinitions"][0]["entryPoint"] =
        json!(["sh", "-c", "while :; do sleep 0.05; done"]);
    user.apply(&[
        busy,
        service("shown", 1),
        large,
        service("nowhere", 1),
        broken,
        service("absent", 2),
    ])?;
    user.wait_steady("shown", 1)?;
    let total = |answers: &BTreeMap<String, String>, metric: &str| -> Result<f64> {
        let each = answers.values().map(|text| values(text, metric, ""));
        Ok(each.collect::<Result<Vec<_>>>()?.iter().flatten().sum())
    };
    // Counters that begin at the first failure: a rate needs them twice.
    let grow = [
        "tallyman_operator_placement_failures_total",
        "tallyman_agent_engine_failures_total",
    ];
    let first = wait_until("failures to be counted", PATIENCE, || {
        let now = scraped(user)?;
        for metric in grow {
            ensure!(total(&now, metric)? > 0.0, "{metric} is 0");
        }
        let ready = values(&now["operator"], "tallyman_service_ready", "\"nowhere\"")?;
        ensure!(ready == [0.0], "{ready:?}");
        Ok(Some(now))
    })?;
    user.apply(&[service("shown", 3)])?;
    user.wait_steady("shown", 3)?;
    let second = wait_until("more failures to be counted", PATIENCE, || {
        let now = scraped(user)?;
        for metric in grow {
            let (before, after) = (total(&first, metric)?, total(&now, metric)?);
            ensure!(after > before, "{metric} is still {after}");
        }
        let running = values(
            &now["operator"],
            "tallyman_service_running_tasks",
            "\"shown\"",
        )?;
        ensure!(running == [3.0], "{running:?}");
        Ok(Some(now))
    })?;
    let yields = evaluated(&[first, second])?;
    ensure!(yields.len() > 25, "{yields:#?}");
    let mut highest = BTreeMap::new();
    for y in &yields {
        let shown_in = y["in"].as_str().unwrap_or_default();
        if EMPTY_IS_GOOD.contains(&shown_in) {
            continue;
        }
        ensure!(y["series"] != 0, "this shows nothing: {y:#}");
        let value = y["highest"].as_f64().unwrap_or_default();
        let of_panel = highest.entry(shown_in).or_insert(value);
        *of_panel = of_panel.max(value);
    }
    let flat: Vec<_> = highest.iter().filter(|(_, value)| **value <= 0.0).collect();
    ensure!(flat.is_empty(), "these show zeros alone: {flat:?}");
    user.delete(&["shown", "nowhere", "absent"])
}

/// What each rule and each query of the dashboard yields after these rounds, a minute apart.
fn evaluated(rounds: &[BTreeMap<String, String>]) -> Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let mut evaluate = Tool::new(paths::test_tool("monitoring")?).arg("evaluate");
    for file in ["rules.yaml", "dashboard.json"] {
        evaluate = evaluate.arg(
            paths::source_root()?
                .join("charts/tallyman/files")
                .join(file),
        );
    }
    for (round, answers) in rounds.iter().enumerate() {
        let folder = folder.path().join(round.to_string());
        std::fs::create_dir(&folder)?;
        for (target, text) in answers {
            std::fs::write(folder.join(target), text)?;
        }
        evaluate = evaluate.arg(folder);
    }
    let said = evaluate.check()?;
    serde_json::from_str(&said).context(said)
}
