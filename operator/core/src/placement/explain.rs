//! Everything that is wrong with a host, for people who ask why. Placement itself stops at the first check that fails; here
//! the same checks are asked about one part of the request after the other, so that there is no second copy of a rule.

use super::check::{crowded, lacks_attribute, lacks_room, outside};
use super::ledger::Ledger;
use super::query::Query;
use super::refusal::Refusal;
use super::request::Request;
use crate::definition::Demand;
use crate::names::InstanceName;

impl Ledger {
    /// Every check that a host fails, in their order; none: it takes the task. `None`: there is no such host.
    pub fn objections(&self, instance: &InstanceName, request: &Request) -> Option<Vec<Refusal>> {
        let room = &self.hosts.rooms[self.hosts.number(instance)?];
        let mut found: Vec<Refusal> = room.barred.clone().into_iter().collect();
        let parts = parts(&request.demand);
        found.extend(parts.iter().filter_map(|p| lacks_attribute(room, p)));
        found.extend(parts.iter().filter_map(|p| lacks_room(room, p)));
        let constraints = &request.rules.constraints;
        let mine = room.groups.get(&request.group).copied().unwrap_or(0);
        found.extend(crowded(constraints, mine));
        let facts = room.facts(instance);
        let each = constraints.member_of.iter().map(std::slice::from_ref);
        found.extend(each.filter_map(|query| outside(&facts, query, |_| true)));
        Some(found)
    }

    /// The query is true of a host; false of one that is not there.
    pub fn matches(&self, instance: &InstanceName, query: &Query) -> bool {
        let host = self.hosts.number(instance);
        host.is_some_and(|n| query.matches(&self.hosts.rooms[n].facts(instance)))
    }
}

/// The demand, one thing at a time.
fn parts(demand: &Demand) -> Vec<Demand> {
    let Demand {
        cpu,
        memory,
        gpus,
        gpu_memory,
        addresses,
        ports,
        ports_udp,
        attributes,
    } = demand;
    let nothing = Demand::default;
    let one = |attribute: (&String, &Option<String>)| Demand {
        attributes: [(attribute.0.clone(), attribute.1.clone())].into(),
        ..nothing()
    };
    let tcp = |port: &u16| Demand {
        ports: [*port].into(),
        ..nothing()
    };
    let udp = |port: &u16| Demand {
        ports_udp: [*port].into(),
        ..nothing()
    };
    let sizes = [
        Demand {
            cpu: *cpu,
            ..nothing()
        },
        Demand {
            memory: *memory,
            ..nothing()
        },
    ];
    let gpus = Demand {
        gpus: *gpus,
        ..nothing()
    };
    let gpu_memory = Demand {
        gpu_memory: *gpu_memory,
        ..nothing()
    };
    let all = attributes.iter().map(one).chain(sizes);
    let all = all
        .chain(ports.iter().map(tcp))
        .chain(ports_udp.iter().map(udp));
    let addresses = Demand {
        addresses: *addresses,
        ..nothing()
    };
    all.chain([gpus, gpu_memory, addresses]).collect()
}

impl Refusal {
    /// What one host lacks for `request`, in words that follow its name: "lacks memory: the task needs 512 MiB, 300 are free".
    pub fn of_one(&self, request: &Request) -> String {
        let demand = &request.demand;
        let of = |what: &str, needs: i64, free: i64, unit: &str| {
            format!("lacks {what}: the task needs {needs}{unit}, {free} are free")
        };
        match self {
            Refusal::Missing => "is not in the cluster".to_owned(),
            Refusal::NotRegistered => "has not registered: its agent never reported".to_owned(),
            Refusal::BeyondQuota => {
                "is one host more than the cluster may have (a quota)".to_owned()
            }
            Refusal::Deregistering => "is being deregistered".to_owned(),
            Refusal::Draining => "is draining".to_owned(),
            Refusal::AgentDisconnected => "is not connected: its agent is silent".to_owned(),
            Refusal::EngineUnreachable => "cannot reach its engine".to_owned(),
            Refusal::DiskFull => "has a full disk".to_owned(),
            Refusal::EngineFails => "has an engine that fails".to_owned(),
            Refusal::Attribute(attribute) => format!("lacks the attribute `{attribute}`"),
            Refusal::Cpu { free } => of("CPU", demand.cpu, *free, " units"),
            Refusal::Memory { free } => of("memory", demand.memory, *free, " MiB"),
            Refusal::Port(port) => format!("already uses port {port}"),
            Refusal::Gpu { free } => of("GPUs", demand.gpus, *free, ""),
            Refusal::GpuMemory { free } => {
                of("memory of one GPU", demand.gpu_memory, *free, " MiB")
            }
            Refusal::Address { all } => format!("has no address left for a task: it has {all}"),
            Refusal::DistinctInstance => {
                format!(
                    "already runs a task of `{}` (`distinctInstance`)",
                    request.group
                )
            }
            Refusal::MemberOf(expression) => {
                format!("does not meet `memberOf`: `{expression}` is not true of it")
            }
        }
    }
}
