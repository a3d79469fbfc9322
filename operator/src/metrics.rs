//! What /metrics shows. Values are the core's (`figures`, and what a pass says); here they get names, which `docs/metrics.md`
//! explains and a test holds against it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tallyman_operator_core::figures::{Cluster, Service, percent};

/// Bytes of a MiB.
const MIB: i64 = 1024 * 1024;

/// Labels of a write.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WriteLabels {
    /// `create`, `patch`, `replace`, `delete`.
    pub verb: &'static str,
    /// Plural of the kind.
    pub resource: &'static str,
    /// `ok`, `exists`, `conflict`, `gone`, `error`.
    pub result: &'static str,
}

/// Names and values of labels.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, String)>);

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeLabel as _;
        for (name, value) in &self.0 {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl Labels {
    fn with(&self, name: &'static str, value: &str) -> Labels {
        let mut labels = self.clone();
        labels.0.push((name, value.to_owned()));
        labels
    }
}

type Whole = Family<Labels, Gauge>;
type Share = Family<Labels, Gauge<f64, AtomicU64>>;

/// Gauges of clusters and services: set together, from figures.
#[derive(Debug, Default)]
struct Gauges {
    cluster_cpu_registered: Whole,
    cluster_cpu_reserved: Whole,
    cluster_cpu_reservation: Share,
    cluster_memory_registered: Whole,
    cluster_memory_reserved: Whole,
    cluster_memory_reservation: Share,
    cluster_gpus_registered: Whole,
    cluster_gpus_reserved: Whole,
    cluster_gpu_reservation: Share,
    cluster_instances: Whole,
    cluster_tasks: Whole,
    cluster_open_runs: Whole,
    service_desired: Whole,
    service_running: Whole,
    service_pending: Whole,
    service_ready: Whole,
    service_state: Whole,
    service_deployments: Whole,
    service_cpu_reserved: Whole,
    service_memory_allowed: Whole,
}

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    gauges: Gauges,
    writes: Family<WriteLabels, Counter>,
    placement_failures: Family<Labels, Counter>,
    pass_seconds: Histogram,
    start_seconds: Histogram,
    queue: Gauge,
    unreadable: Gauge,
    unreadable_joins: AtomicUsize,
    /// 1 while this copy leads.
    pub leader: Gauge,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            gauges: Gauges::default(),
            writes: Family::default(),
            placement_failures: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            start_seconds: Histogram::new(exponential_buckets(0.25, 2.0, 12)),
            queue: Gauge::default(),
            unreadable: Gauge::default(),
            unreadable_joins: AtomicUsize::default(),
            leader: Gauge::default(),
            registry: Mutex::default(),
        };
        let mut own = Registry::with_prefix("tallyman");
        metrics.gauges.register(&mut own);
        let operator = own.sub_registry_with_prefix("operator");
        operator.register(
            "api_writes",
            "Writes to the API server",
            metrics.writes.clone(),
        );
        operator.register(
            "placement_failures",
            "Times that no host was found for a task, by the ECS reason of the closest host; a task that waits is tried again and counts again",
            metrics.placement_failures.clone(),
        );
        operator.register(
            "pass_seconds",
            "Duration of a pass, from its start to the end of its writes",
            metrics.pass_seconds.clone(),
        );
        operator.register(
            "queue_depth",
            "Objects that changed and that no pass has looked at yet",
            metrics.queue.clone(),
        );
        operator.register(
            "unreadable_objects",
            "Objects that are stored in a way that this version cannot read",
            metrics.unreadable.clone(),
        );
        operator.register("leader", "1 while this copy leads", metrics.leader.clone());
        own.register(
            "task_start_seconds",
            "From the creation of a Task until it is RUNNING",
            metrics.start_seconds.clone(),
        );
        Metrics {
            registry: Mutex::new(own),
            ..metrics
        }
    }

    /// Counts a write.
    pub fn wrote(&self, verb: &'static str, resource: &'static str, result: &'static str) {
        self.writes
            .get_or_create(&WriteLabels {
                verb,
                resource,
                result,
            })
            .inc();
    }

    /// A pass took so long, and found no host so often.
    pub fn passed(&self, took: Duration, failures: &BTreeMap<&'static str, u64>) {
        self.pass_seconds.observe(took.as_secs_f64());
        for (reason, times) in failures {
            let labels = Labels::default().with("reason", reason);
            self.placement_failures
                .get_or_create(&labels)
                .inc_by(*times);
        }
    }

    /// So many objects wait for a pass.
    pub fn waiting(&self, objects: usize) {
        self.queue.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// So many HostJoins cannot be read; shown with the next pass.
    pub fn unreadable_joins(&self, joins: usize) {
        self.unreadable_joins.store(joins, Ordering::Relaxed);
    }

    /// So many objects of other kinds cannot be read.
    pub fn unreadable(&self, objects: usize) {
        let objects = objects + self.unreadable_joins.load(Ordering::Relaxed);
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        self.unreadable.set(objects);
    }

    /// Shows these figures instead of those before, and counts tasks that began to run since.
    pub fn show(&self, clusters: &[Cluster], starts: &[f64]) {
        // Who asks meanwhile waits, and sees no half of it.
        let _registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.clear();
        for cluster in clusters {
            self.gauges.show(cluster);
        }
        for seconds in starts {
            self.start_seconds.observe(*seconds);
        }
    }

    /// The metrics in OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Gauges {
    fn all(&self) -> [(&'static str, &'static str, &Whole); 17] {
        [
            (
                "cluster_cpu_registered_units",
                "CPU units that the hosts of a cluster registered",
                &self.cluster_cpu_registered,
            ),
            (
                "cluster_cpu_reserved_units",
                "CPU units that tasks hold there",
                &self.cluster_cpu_reserved,
            ),
            (
                "cluster_memory_registered_bytes",
                "Memory that the hosts of a cluster registered",
                &self.cluster_memory_registered,
            ),
            (
                "cluster_memory_reserved_bytes",
                "Memory that tasks hold there",
                &self.cluster_memory_reserved,
            ),
            (
                "cluster_gpus_registered",
                "GPUs that the hosts of a cluster registered",
                &self.cluster_gpus_registered,
            ),
            (
                "cluster_gpus_reserved",
                "GPUs that tasks hold there",
                &self.cluster_gpus_reserved,
            ),
            (
                "cluster_container_instances",
                "Hosts of a cluster",
                &self.cluster_instances,
            ),
            ("cluster_tasks", "Tasks of a cluster", &self.cluster_tasks),
            (
                "cluster_open_runs",
                "RunTasks of a cluster that have not ended",
                &self.cluster_open_runs,
            ),
            (
                "service_desired_tasks",
                "Tasks that a service wants",
                &self.service_desired,
            ),
            (
                "service_running_tasks",
                "Tasks of a service that are RUNNING",
                &self.service_running,
            ),
            (
                "service_pending_tasks",
                "Tasks of a service that are placed and do not run yet",
                &self.service_pending,
            ),
            (
                "service_ready",
                "1 when the condition Ready of a service is True",
                &self.service_ready,
            ),
            (
                "service_state",
                "1 for the reason of the condition Ready of a service",
                &self.service_state,
            ),
            (
                "service_deployments",
                "Deployments of a service by rolloutState",
                &self.service_deployments,
            ),
            (
                "service_cpu_reserved_units",
                "CPU units that the RUNNING tasks of a service reserve",
                &self.service_cpu_reserved,
            ),
            (
                "service_memory_allowed_bytes",
                "Memory that the RUNNING tasks of a service may use: hard limits, else reservations",
                &self.service_memory_allowed,
            ),
        ]
    }

    fn shares(&self) -> [(&'static str, &'static str, &Share); 3] {
        [
            (
                "cluster_cpu_reservation_percent",
                "ECS' CPUReservation: CPU units that tasks hold, of those registered",
                &self.cluster_cpu_reservation,
            ),
            (
                "cluster_memory_reservation_percent",
                "ECS' MemoryReservation: memory that tasks hold, of that registered",
                &self.cluster_memory_reservation,
            ),
            (
                "cluster_gpu_reservation_percent",
                "ECS' GPUReservation: GPUs that tasks hold, of those registered",
                &self.cluster_gpu_reservation,
            ),
        ]
    }

    fn register(&self, registry: &mut Registry) {
        for (name, help, family) in self.all() {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in self.shares() {
            registry.register(name, help, family.clone());
        }
    }

    fn clear(&self) {
        self.all().iter().for_each(|(_, _, family)| family.clear());
        self.shares()
            .iter()
            .for_each(|(_, _, family)| family.clear());
    }

    fn show(&self, c: &Cluster) {
        let at = Labels::default()
            .with("namespace", &c.namespace)
            .with("cluster", &c.name);
        let set = |family: &Whole, value: i64| {
            family.get_or_create(&at).set(value);
        };
        set(&self.cluster_cpu_registered, c.registered.cpu);
        set(&self.cluster_cpu_reserved, c.reserved.cpu);
        set(&self.cluster_memory_registered, c.registered.memory * MIB);
        set(&self.cluster_memory_reserved, c.reserved.memory * MIB);
        set(&self.cluster_gpus_registered, c.registered.gpus);
        set(&self.cluster_gpus_reserved, c.reserved.gpus);
        set(&self.cluster_open_runs, c.open_runs);
        let share = |family: &Share, part: i64, whole: i64| {
            family.get_or_create(&at).set(percent(part, whole));
        };
        let (part, whole) = (&c.reserved, &c.registered);
        share(&self.cluster_cpu_reservation, part.cpu, whole.cpu);
        share(&self.cluster_memory_reservation, part.memory, whole.memory);
        share(&self.cluster_gpu_reservation, part.gpus, whole.gpus);
        for (standing, count) in &c.instances {
            let labels = at.with("standing", standing.as_str());
            self.cluster_instances.get_or_create(&labels).set(*count);
        }
        for (state, count) in [("running", c.running), ("pending", c.pending)] {
            let labels = at.with("state", state);
            self.cluster_tasks.get_or_create(&labels).set(count);
        }
        for service in &c.services {
            self.show_service(&at, service);
        }
    }

    fn show_service(&self, cluster: &Labels, s: &Service) {
        let at = cluster.with("service", s.name.as_str());
        let set = |family: &Whole, value: i64| {
            family.get_or_create(&at).set(value);
        };
        set(&self.service_desired, s.desired);
        set(&self.service_running, s.running);
        set(&self.service_pending, s.pending);
        set(&self.service_ready, i64::from(s.ready));
        set(&self.service_cpu_reserved, s.cpu_reserved);
        set(&self.service_memory_allowed, s.memory_allowed * MIB);
        let labels = at.with("reason", &s.reason);
        self.service_state.get_or_create(&labels).set(1);
        for (state, count) in &s.rollouts {
            let labels = at.with("rollout_state", state);
            self.service_deployments.get_or_create(&labels).set(*count);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use tallyman_operator_core::figures::{Amount, Standing};
    use tallyman_operator_core::names::ServiceName;

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// Everything there is, told once.
    fn told() -> String {
        let metrics = Metrics::new();
        let service = Service {
            name: ServiceName::from("web"),
            desired: 3,
            running: 2,
            pending: 1,
            ready: false,
            reason: "RollingOut".to_owned(),
            rollouts: BTreeMap::from([("IN_PROGRESS", 1)]),
            cpu_reserved: 512,
            memory_allowed: 1024,
        };
        let cluster = Cluster {
            namespace: "prod".to_owned(),
            name: "default".to_owned(),
            registered: Amount {
                cpu: 18_432,
                memory: 33_926,
                gpus: 2,
            },
            reserved: Amount {
                cpu: 10_240,
                memory: 20_480,
                gpus: 1,
            },
            instances: BTreeMap::from([(Standing::Active, 2)]),
            running: 10,
            pending: 0,
            services: vec![service],
            open_runs: 0,
        };
        // What is shown is shown instead of what was.
        metrics.show(std::slice::from_ref(&cluster), &[]);
        metrics.show(&[cluster], &[0.4]);
        metrics.wrote("patch", "tasks", "ok");
        let failures = BTreeMap::from([("RESOURCE:CPU", 2)]);
        metrics.passed(Duration::from_millis(3), &failures);
        metrics.waiting(7);
        metrics.leader.set(1);
        metrics.text()
    }

    /// Names of what is told, of a histogram its own.
    fn names(text: &str) -> BTreeSet<String> {
        let samples = text.lines().filter(|l| !l.starts_with('#'));
        let names = samples.filter_map(|l| l.split(['{', ' ']).next());
        names
            .map(|name| {
                let parts = ["_bucket", "_sum", "_count"];
                let whole = parts.iter().find_map(|part| name.strip_suffix(part));
                whole.unwrap_or(name).to_owned()
            })
            .collect()
    }

    /// Metrics of the document: name, whose it is.
    fn documented() -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
        let row = |line: &str| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (of, _) = rest.split_once(" | ")?;
            Some((name.to_owned(), of.to_owned()))
        };
        text.lines().filter_map(row).collect()
    }

    #[test]
    fn shares_are_those_of_the_worked_example() {
        let text = told();
        let of = |name: &str| -> f64 {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert_eq!(
            of("tallyman_cluster_cpu_reservation_percent{").floor(),
            55.0
        );
        assert_eq!(
            of("tallyman_cluster_memory_reservation_percent{").floor(),
            60.0
        );
        let failures = "tallyman_operator_placement_failures_total{reason=\"RESOURCE:CPU\"} 2";
        assert!(text.contains(failures), "{text}");
    }

    #[test]
    fn the_document_lists_what_is_told() {
        let of_operator = documented().into_iter().filter(|(_, of)| of == "operator");
        let documented: BTreeSet<String> = of_operator.map(|(name, _)| name).collect();
        assert_eq!(names(&told()), documented);
    }
}
