//! The explanation when no host takes a task: data first, sentences from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::plural;
use super::refusal::Refusal;
use crate::definition::Demand;
use crate::names::{Group, InstanceName};
use crate::world::TASK_ADDRESSES;

/// Every host of the cluster, or every one that was asked, and its reason. Shared: many tasks may meet the same refusals.
pub type Refusals = Arc<BTreeMap<InstanceName, Refusal>>;

/// Why no host takes a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    /// What it demands.
    pub demand: Box<Demand>,
    /// Its group.
    pub group: Group,
    /// Who refused it.
    pub refusals: Refusals,
}

impl Unplaceable {
    /// How many tasks that each had a host to go to were refused, and all refusals as one.
    pub fn all(refused: Vec<Unplaceable>) -> Option<(i64, Unplaceable)> {
        let n = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        let mut refused = refused.into_iter();
        let mut whole = refused.next()?;
        let mut refusals = Arc::unwrap_or_clone(whole.refusals);
        for one in refused {
            refusals.extend(Arc::unwrap_or_clone(one.refusals));
        }
        whole.refusals = Arc::new(refusals);
        Some((n, whole))
    }

    /// The ECS sentence without its subject: "no container instance met all of its requirements. Reason: ...".
    pub fn ecs_sentence(&self) -> String {
        let head =
            "was unable to place a task because no container instance met all of its requirements.";
        match self.closest() {
            None => format!("{head} Reason: No Container Instances were found in your cluster."),
            Some((name, refusal)) => format!(
                "{head} The closest matching container-instance {name} {}",
                refusal.ecs_sentence()
            ),
        }
    }

    /// The host that failed the latest check, and by the least.
    pub fn closest(&self) -> Option<(&InstanceName, &Refusal)> {
        self.refusals
            .iter()
            .max_by_key(|(name, r)| (r.rank(), r.free(), std::cmp::Reverse((*name).clone())))
    }

    /// Counts per reason in a few words: `5 hosts lack memory, 1 is draining`; `no hosts` in an empty cluster.
    pub fn short(&self) -> String {
        if self.refusals.is_empty() {
            return "the cluster has no hosts".to_owned();
        }
        self.reasons(false)
    }

    /// The whole explanation: "Of 6 hosts, 5 lack memory (a task needs 512 MiB, the most free is 300 on `c`), ...".
    pub fn sentence(&self) -> String {
        if self.refusals.is_empty() {
            return "The cluster has no hosts; `kubectl tally join` lets one join.".to_owned();
        }
        let n = self.refusals.len();
        format!("Of {n} {}, {}.", plural(n, "host"), self.reasons(true))
    }

    fn reasons(&self, detailed: bool) -> String {
        let mut groups: BTreeMap<u8, Vec<(&InstanceName, &Refusal)>> = BTreeMap::new();
        for (name, r) in self.refusals.iter() {
            groups.entry(r.rank()).or_default().push((name, r));
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|g| std::cmp::Reverse(g.len()));
        let mut text = String::new();
        for (i, group) in groups.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            let n = group.len();
            let s = if n == 1 { "s" } else { "" };
            let is = if n == 1 { "is" } else { "are" };
            let noun = if detailed {
                String::new()
            } else {
                format!(" {}", plural(n, "host"))
            };
            let _ = write!(text, "{n}{noun} ");
            let _ = match group[0].1 {
                Refusal::Missing => write!(text, "{is} not in the cluster"),
                Refusal::NotRegistered => write!(
                    text,
                    "ha{} not registered yet",
                    if n == 1 { "s" } else { "ve" }
                ),
                Refusal::BeyondQuota => write!(text, "{is} beyond the quota of the cluster"),
                Refusal::Deregistering => write!(text, "{is} being deregistered"),
                Refusal::Draining => write!(text, "{is} draining"),
                Refusal::AgentDisconnected => write!(text, "{is} not connected"),
                Refusal::EngineUnreachable => write!(
                    text,
                    "cannot reach {} engine",
                    if n == 1 { "its" } else { "their" }
                ),
                Refusal::DiskFull => {
                    write!(text, "ha{} a full disk", if n == 1 { "s" } else { "ve" })
                }
                Refusal::EngineFails => write!(
                    text,
                    "ha{} an engine that fails",
                    if n == 1 { "s" } else { "ve" }
                ),
                Refusal::Attribute(_) => write!(text, "lack{s} an attribute"),
                Refusal::Cpu { .. } => write!(text, "lack{s} CPU"),
                Refusal::Memory { .. } => write!(text, "lack{s} memory"),
                Refusal::Port(_) => write!(text, "already use{s} a port of the task"),
                Refusal::Gpu { .. } => write!(text, "lack{s} GPUs"),
                Refusal::GpuMemory { .. } => write!(text, "lack{s} memory of one GPU"),
                Refusal::Address { .. } => write!(
                    text,
                    "ha{} no address left for a task",
                    if n == 1 { "s" } else { "ve" }
                ),
                Refusal::DistinctInstance => {
                    write!(text, "already run{s} a task of `{}`", self.group)
                }
                Refusal::MemberOf(_) => write!(
                    text,
                    "do{} not meet `memberOf`",
                    if n == 1 { "es" } else { "" }
                ),
            };
            if detailed {
                self.detail(&mut text, group);
            }
        }
        text
    }

    fn detail(&self, text: &mut String, group: &[(&InstanceName, &Refusal)]) {
        let most = group
            .iter()
            .max_by_key(|(name, r)| (r.free(), std::cmp::Reverse(*name)));
        let Some((name, refusal)) = most else { return };
        let _ = match refusal {
            Refusal::Cpu { free } => {
                write!(
                    text,
                    " (a task needs {} units, the most free is {free} on `{name}`)",
                    self.demand.cpu
                )
            }
            Refusal::Memory { free } => {
                write!(
                    text,
                    " (a task needs {} MiB, the most free is {free} on `{name}`)",
                    self.demand.memory
                )
            }
            Refusal::Port(port) => write!(text, " (port {port} on `{name}`)"),
            Refusal::Gpu { free } => {
                write!(
                    text,
                    " (a task needs {}, the most free is {free} on `{name}`)",
                    self.demand.gpus
                )
            }
            Refusal::GpuMemory { free } => {
                write!(
                    text,
                    " (a task needs {} MiB, the most free is {free} on `{name}`)",
                    self.demand.gpu_memory
                )
            }
            Refusal::Address { all } => {
                write!(text, " (attribute `{TASK_ADDRESSES}` of `{name}` is {all})")
            }
            Refusal::Attribute(a) => write!(text, " (`{a}` on `{name}`)"),
            Refusal::DistinctInstance => write!(text, " (`distinctInstance`)"),
            Refusal::MemberOf(expression) => {
                write!(text, " (`{expression}` is not true of `{name}`)")
            }
            Refusal::Missing => write!(text, " (`{name}`)"),
            Refusal::NotRegistered
            | Refusal::BeyondQuota
            | Refusal::Deregistering
            | Refusal::Draining
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable => Ok(()),
            Refusal::DiskFull => write!(text, " (`{name}`)"),
            Refusal::EngineFails => write!(text, " (`{name}`)"),
        };
    }
}
