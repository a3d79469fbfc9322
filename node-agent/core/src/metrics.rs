//! What the agent tells Prometheus: what each running container uses, as ECS' agent measures it (ECS metrics publication), and
//! what was asked of the engine. Names are explained in `docs/metrics.md`, and a test holds that against what is here.
//!
//! ECS divides by cluster and service; here that is done by recording rules (`charts/tallyman/files`), which have what all hosts
//! tell and what the operator tells of reservations. So no measurement goes through the API server.

use std::fmt::Write as _;

use tallyman_agent_engine::Stats;

use crate::metadata::TaskSight;

/// A container that runs, and what it uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// Cluster of its task.
    pub cluster: String,
    /// Service of its task; empty when it is of none.
    pub service: String,
    /// Name of its task.
    pub task: String,
    /// Its name in the task definition.
    pub container: String,
    /// Seconds of one core since it began.
    pub cpu_seconds: f64,
    /// Bytes, without the cache of files.
    pub memory_bytes: u64,
}

/// Containers of a task that may run, by their names in the task definition, with the engine's names.
pub fn measured(sight: &TaskSight) -> Vec<(String, String)> {
    let known = |name: &str| {
        let record = sight.record.containers.get(name)?;
        (record.started && record.end.is_none()).then(|| sight.engine_name(name))?
    };
    let defined = sight.task.defined().map(|one| one.name.clone());
    defined
        .filter_map(|name| Some((name.clone(), known(&name)?)))
        .collect()
}

/// What a container uses, by a sample of the engine; `None` when that says nothing of it.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds to seconds")]
pub fn usage(sight: &TaskSight, container: &str, stats: &Stats) -> Option<Usage> {
    let number = |path: &[&str]| {
        let mut at = stats.get(*path.first()?)?;
        for key in path.get(1..)? {
            at = at.get(key)?;
        }
        at.as_u64()
    };
    let nanoseconds = number(&["cpu_stats", "cpu_usage", "total_usage"])?;
    let used = number(&["memory_stats", "usage"])?;
    // The first by version 1 of control groups, the second by version 2.
    let cache = number(&["memory_stats", "stats", "cache"])
        .or_else(|| number(&["memory_stats", "stats", "file"]))
        .unwrap_or(0);
    let group = sight.task.group.as_deref().unwrap_or_default();
    Some(Usage {
        cluster: sight.task.cluster.clone(),
        service: group
            .strip_prefix("service:")
            .unwrap_or_default()
            .to_owned(),
        task: sight.task.name.clone(),
        container: container.to_owned(),
        cpu_seconds: nanoseconds as f64 / 1e9,
        memory_bytes: used.saturating_sub(cache),
    })
}

/// What was asked of the engine, of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// `create`, `start`, ...
    pub verb: String,
    /// How often.
    pub calls: u64,
    /// How often in vain.
    pub failures: u64,
    /// How long all of them took, in seconds.
    pub seconds: f64,
}

/// Text format of Prometheus. `namespace` and `host`: of the ContainerInstance.
pub fn text(namespace: &str, host: &str, calls: &[Calls], usage: &[Usage]) -> String {
    let mut text = String::new();
    let of_verb = |of: fn(&Calls) -> f64| -> Vec<(String, f64)> {
        let labels = |c: &Calls| format!("verb=\"{}\"", escaped(&c.verb));
        calls.iter().map(|c| (labels(c), of(c))).collect()
    };
    let place = format!(
        "namespace=\"{}\",container_instance=\"{}\"",
        escaped(namespace),
        escaped(host)
    );
    let of_container = |of: fn(&Usage) -> f64| -> Vec<(String, f64)> {
        let labels = |u: &Usage| {
            format!(
                "{place},cluster=\"{}\",service=\"{}\",task=\"{}\",container=\"{}\"",
                escaped(&u.cluster),
                escaped(&u.service),
                escaped(&u.task),
                escaped(&u.container)
            )
        };
        usage.iter().map(|u| (labels(u), of(u))).collect()
    };
    let families = [
        (
            "tallyman_agent_engine_calls_total",
            "counter",
            "Calls to the container engine.",
            of_verb(|c| whole(c.calls)),
        ),
        (
            "tallyman_agent_engine_failures_total",
            "counter",
            "Calls to the container engine that failed.",
            of_verb(|c| whole(c.failures)),
        ),
        (
            "tallyman_agent_engine_call_seconds_total",
            "counter",
            "How long calls to the container engine took.",
            of_verb(|c| c.seconds),
        ),
        (
            "tallyman_container_cpu_seconds_total",
            "counter",
            "Processor time of a container.",
            of_container(|u| u.cpu_seconds),
        ),
        (
            "tallyman_container_memory_bytes",
            "gauge",
            "Memory of a container, without the cache of files.",
            of_container(|u| whole(u.memory_bytes)),
        ),
    ];
    for (name, kind, help, samples) in families {
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of Prometheus are floats"
)]
fn whole(n: u64) -> f64 {
    n as f64
}

/// Value of a label.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn some() -> String {
        let usage = Usage {
            cluster: "default".to_owned(),
            service: "web".to_owned(),
            task: "web-000001".to_owned(),
            container: "a\"b".to_owned(),
            cpu_seconds: 1.5,
            memory_bytes: 2048,
        };
        let calls = Calls {
            verb: "start".to_owned(),
            calls: 3,
            failures: 1,
            seconds: 0.25,
        };
        text("prod", "host-a", &[calls], &[usage])
    }

    #[test]
    fn the_text_is_that_of_prometheus() {
        let text = some();
        for line in [
            "# TYPE tallyman_container_cpu_seconds_total counter",
            "tallyman_agent_engine_calls_total{verb=\"start\"} 3",
            "tallyman_agent_engine_call_seconds_total{verb=\"start\"} 0.25",
            "tallyman_container_cpu_seconds_total{namespace=\"prod\",container_instance=\"host-a\",cluster=\"default\",\
             service=\"web\",task=\"web-000001\",container=\"a\\\"b\"} 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    /// Rows `| `name` | agent | ...` of the document are the families that are told.
    #[test]
    fn the_document_lists_what_is_told() {
        let document = include_str!("../../../docs/metrics.md");
        let rows = document.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            rest.starts_with("agent | ").then(|| name.to_owned())
        });
        let documented: BTreeSet<String> = rows.collect();
        let text = some();
        let told = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
        let told = told.filter_map(|l| l.split(' ').next()).map(str::to_owned);
        assert_eq!(told.collect::<BTreeSet<_>>(), documented);
    }
}
