//! What hosts have, what is reserved of it, and for whom.

use std::collections::BTreeMap;

use serde_json::json;
use tallyman_crds::{ContainerInstance, GROUP};
use tallyman_operator_core::Objects;
use tallyman_operator_core::placement::{Invalid, Ledger, Query};
use tallyman_operator_core::world::{cluster_name, cluster_names};

use crate::session::world;
use crate::table::{Cell, Data, Listing, Table, Tone, object};
use crate::words::{name, ours, resource, word};

/// What neither table can tell.
pub const NOT_KNOWN: &str = "Reserved, not used: this is what tasks set aside. What containers really take, `/metrics` of agents and operator \
                             tells (docs/metrics.md), and `docker stats` on their host.";

/// `512/2048 25%`.
fn part(reserved: i64, whole: i64) -> String {
    match (reserved.max(0) * 100).checked_div(whole) {
        Some(percent) => format!("{reserved}/{whole} {percent}%"),
        None => format!("{reserved}/{whole}"),
    }
}

/// Hosts and what is reserved on them, from their status.
pub fn hosts(objects: &Objects) -> Listing {
    let headings = [
        "HOST",
        "CLUSTER",
        "STATUS",
        "AGENT",
        "CPU RESERVED",
        "MEMORY RESERVED",
        "TASKS",
    ];
    let mut table = Table::new(&headings, &["GPUS RESERVED", "PORTS"]);
    let mut data = Vec::new();
    for i in &objects.instances {
        let status = i.status.clone().unwrap_or_default();
        let has = status.host.as_ref().map(|h| h.registered_resources.clone());
        let left = status.remaining_resources.clone();
        let of = |whole: fn(&tallyman_crds::Resources) -> i64| match (&has, &left) {
            (Some(has), Some(left)) => Some((whole(has) - whole(left), whole(has))),
            _ => None,
        };
        let gpus = |r: &tallyman_crds::Resources| i64::try_from(r.gpu.len()).unwrap_or(0);
        let (cpu, memory, gpus) = (of(|r| r.cpu), of(|r| r.memory), of(gpus));
        let text =
            |v: Option<(i64, i64)>| v.map_or_else(|| "not known".to_owned(), |(r, w)| part(r, w));
        let ports: Vec<String> = left
            .iter()
            .flat_map(|r| &r.ports)
            .map(ToString::to_string)
            .collect();
        data.push(json!({
            "namespace": i.metadata.namespace, "host": name(&i.metadata), "cluster": cluster_name(i.spec.cluster.as_deref()), "status": status.status, "agentConnected": status.agent_connected,
            "registered": has, "remaining": left, "runningTasks": status.running_tasks_count, "pendingTasks": status.pending_tasks_count,
        }));
        table.rows.push(vec![
            name(&i.metadata).into(),
            cluster_name(i.spec.cluster.as_deref()).into(),
            word(&status.status).into(),
            connected(status.agent_connected),
            text(cpu).into(),
            text(memory).into(),
            format!(
                "{} running, {} pending",
                status.running_tasks_count, status.pending_tasks_count
            )
            .into(),
            text(gpus).into(),
            ports.join(",").into(),
        ]);
    }
    Listing {
        table,
        names: objects.instances.iter().map(|i| ours(&**i)).collect(),
        data: Data::Rows(data),
    }
}

fn connected(is: bool) -> Cell {
    if is {
        Cell::new("connected", Tone::Good)
    } else {
        Cell::new("silent", Tone::Bad)
    }
}

/// Services and what their tasks hold, the largest first.
pub fn services(objects: &Objects, namespace: &str) -> Listing {
    let mut rows = Vec::new();
    for cluster in cluster_names(objects) {
        let world = world(objects, namespace, &cluster);
        for service in world.services.keys() {
            let mut held = (0, 0, 0, 0_usize);
            let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
            for (_, t) in world.tasks_of(service).filter(|(_, t)| t.holds()) {
                held.0 += t.demand.cpu;
                held.1 += t.demand.memory;
                held.2 += t.demand.gpus;
                held.3 += 1;
                if let Some(host) = &t.instance {
                    *hosts.entry(host.to_string()).or_default() += 1;
                }
            }
            rows.push((held, service.to_string(), cluster.clone(), hosts));
        }
    }
    rows.sort_by(|a, b| (b.0.1, b.0.0, &a.1).cmp(&(a.0.1, a.0.0, &b.1)));
    let mut table = Table::new(
        &[
            "SERVICE",
            "CLUSTER",
            "TASKS",
            "CPU RESERVED",
            "MEMORY RESERVED",
        ],
        &["GPUS RESERVED", "HOSTS"],
    );
    let mut data = Vec::new();
    for ((cpu, memory, gpus, tasks), service, cluster, hosts) in &rows {
        let on: Vec<String> = hosts
            .iter()
            .map(|(host, n)| format!("{host} {n}"))
            .collect();
        data.push(json!({ "namespace": namespace, "service": service, "cluster": cluster, "tasks": tasks, "cpu": cpu, "memory": memory, "gpus": gpus, "hosts": hosts }));
        table.rows.push(vec![
            service.as_str().into(),
            cluster.as_str().into(),
            tasks.to_string().into(),
            format!("{cpu} units").into(),
            format!("{memory} MiB").into(),
            gpus.to_string().into(),
            on.join(", ").into(),
        ]);
    }
    Listing {
        table,
        names: rows
            .iter()
            .map(|(_, service, ..)| resource(GROUP, "service", service))
            .collect(),
        data: Data::Rows(data),
    }
}

/// Hosts of which `query` is true; all without one.
pub fn instances(objects: &Objects, namespace: &str, query: Option<&Query>) -> Listing {
    let mut chosen: Vec<&ContainerInstance> = Vec::new();
    for cluster in cluster_names(objects) {
        let world = world(objects, namespace, &cluster);
        let ledger = Ledger::of(&world);
        let is_chosen = |host: &str| query.is_none_or(|q| ledger.matches(&host.into(), q));
        let here = world
            .instances
            .iter()
            .filter(|(host, _)| is_chosen(host.as_str()));
        let names: Vec<String> = here.map(|(host, _)| host.to_string()).collect();
        let found = objects
            .instances
            .iter()
            .filter(|i| names.iter().any(|n| n == name(&i.metadata)));
        chosen.extend(found.map(|i| &**i));
    }
    let mut table = Table::new(
        &[
            "HOST",
            "CLUSTER",
            "STATUS",
            "AGENT",
            "CPU FREE",
            "MEMORY FREE",
            "TASKS",
        ],
        &["ENGINE", "ATTRIBUTES"],
    );
    for i in &chosen {
        let status = i.status.clone().unwrap_or_default();
        let given = i.spec.attributes.iter().map(|a| match &a.value {
            Some(value) => format!("{}={value}", a.name),
            None => a.name.clone(),
        });
        let given: Vec<String> = given.collect();
        table.rows.push(vec![
            name(&i.metadata).into(),
            cluster_name(i.spec.cluster.as_deref()).into(),
            word(&status.status).into(),
            connected(status.agent_connected),
            status.cpu_free.unwrap_or_default().into(),
            status.memory_free.unwrap_or_default().into(),
            (status.running_tasks_count + status.pending_tasks_count)
                .to_string()
                .into(),
            status.host.map(|h| h.engine).unwrap_or_default().into(),
            given.join(" ").into(),
        ]);
    }
    Listing {
        table,
        names: chosen.iter().map(|i| ours(*i)).collect(),
        data: Data::Objects(chosen.iter().map(object).collect()),
    }
}

/// An expression that does not parse, with a mark below the column where it stops making sense.
pub fn pointed(expression: &str, wrong: &Invalid) -> String {
    let line: String = expression
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let before = " ".repeat(wrong.column.saturating_sub(1));
    format!("--filter, {wrong}\n  {line}\n  {before}^")
}
