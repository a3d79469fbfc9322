//! The document that the benchmark writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::Engine;
use crate::measure::Round;

/// Two cells: a figure, and the most that it is to be. One that is more says so.
pub fn against(value: f64, most: f64) -> String {
    let missed = if value > most { " (missed)" } else { "" };
    format!("{value:.2}{missed} | {most}")
}

/// docs/benchmarks.md.
pub fn document(tasks: usize, engines: &[Engine]) -> String {
    let mut text = format!(
        "# Benchmarks\n\nWritten by `make bench`. A Service goes from 0 to {tasks} tasks and back on one host; the same engine, \
         driven directly by eight\nworkers with the same containers, is measured in the same round. Ratios are medians of \
         the rounds; seconds are of the machine\nat hand and say little elsewhere.\n\n\
         Up: from the order until the last container started, by the engine's own times. Down: until everything is known to be\n\
         stopped (the last stop call returned; the Service is steady at 0). Ended: until the last container ended, by the\n\
         engine's own times. Orders go to the API server through one open connection, as they do to the raw engine; at its other\n\
         end the API server and its etcd share the machine's processors with everything else.\n\n\
         | engine | up, ours / raw | goal | down, ours / raw | goal | ended, ours / raw | API writes per started task | goal |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for (name, rounds) in engines {
        let goal = if name == "20.10" { 1.15 } else { 1.25 };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {:.2} | {} |",
            against(median(rounds.iter().map(|r| r.ours.up / r.raw.up)), goal),
            against(median(rounds.iter().map(|r| r.ours.down / r.raw.down)), 1.3),
            median(rounds.iter().map(|r| r.ours.ended / r.raw.ended)),
            against(
                median(rounds.iter().map(|r| per_task(&r.writes_up, tasks))),
                2.5
            ),
        );
    }
    text.push_str("\nA Kubernetes Deployment needs 4.5 API writes per started pod on the same API server.\n\n## Rounds\n\n");
    text.push_str("| engine | round | up raw, s | up ours, s | down raw, s | down ours, s |\n|---|---|---|---|---|---|\n");
    for (name, rounds) in engines {
        for (i, r) in rounds.iter().enumerate() {
            let _ = writeln!(
                text,
                "| {name} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                i + 1,
                r.raw.up,
                r.ours.up,
                r.raw.down,
                r.ours.down
            );
        }
    }
    counts(
        &mut text,
        tasks,
        engines,
        "API writes per task, scaling up",
        |r| &r.writes_up,
    );
    counts(
        &mut text,
        tasks,
        engines,
        "API writes per task, scaling down",
        |r| &r.writes_down,
    );
    counts(
        &mut text,
        tasks,
        engines,
        "Engine calls per started task",
        |r| &r.calls,
    );
    text.push_str(
        "\nBelow: what Tallyman and its API server take of the processors that they share with the engine, and the engine alone \
         had in\nthe raw runs.\n",
    );
    counts(
        &mut text,
        tasks,
        engines,
        "Processor time per task in ms, scaling up",
        |r| &r.spent_up,
    );
    counts(
        &mut text,
        tasks,
        engines,
        "Processor time per task in ms, scaling down",
        |r| &r.spent_down,
    );
    text
}

fn counts(
    text: &mut String,
    tasks: usize,
    engines: &[Engine],
    title: &str,
    pick: fn(&Round) -> &BTreeMap<String, u64>,
) {
    let mut keys: Vec<&String> = engines
        .iter()
        .flat_map(|(_, r)| r.iter().flat_map(|r| pick(r).keys()))
        .collect();
    keys.sort();
    keys.dedup();
    let _ = write!(text, "\n## {title}\n\n| |");
    for (name, _) in engines {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(engines.len()));
    text.push('\n');
    for key in keys {
        let _ = write!(text, "| {key} |");
        for (_, rounds) in engines {
            let value = median(
                rounds
                    .iter()
                    .map(|r| per(pick(r).get(key).copied().unwrap_or(0), tasks)),
            );
            let _ = write!(text, " {value:.2} |");
        }
        text.push('\n');
    }
}

fn per_task(writes: &BTreeMap<String, u64>, tasks: usize) -> f64 {
    per(writes.values().sum(), tasks)
}

/// A share of one of `tasks`.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]
pub fn per(count: u64, tasks: usize) -> f64 {
    count as f64 / tasks.max(1) as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
