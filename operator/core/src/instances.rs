//! Hosts: who is lost, what is left on each, and how each stands.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::{
    ContainerInstanceStatus, DesiredInstanceStatus, Impairment, InstanceStatus, LastStatus,
    StopCode, conditions, labels,
};

use crate::disconnect;
use crate::host_plans;
use crate::names::InstanceName;
use crate::placement::Ledger;
use crate::plan::{Action, Kind, Note, Plan, Target};
use crate::services::time;
use crate::status::{Standing, statements};
use crate::world::{InstanceState, TaskState, World};

/// Stopped reason of the tasks of a host that was deregistered by force.
const FORCED: &str = "Container instance deregistration forced by user";

/// Hosts whose tasks are given up in this pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost {
    hosts: BTreeMap<InstanceName, Extent>,
    /// A host whose agent is not connected, and whose tasks are told so in this pass.
    cut_off: Option<InstanceName>,
}

/// Which tasks of a lost host are given up.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// All: the host does not exist any more.
    All,
    /// Those that have stopped for certain or were never to stop by themselves: somebody deregisters the host by force.
    Forced,
    /// Those whose time has come.
    Due,
}

impl Lost {
    /// The hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &InstanceName> {
        self.hosts.keys()
    }

    /// The host whose tasks are told that its agent is not connected.
    pub fn cut_off(&self) -> Option<&InstanceName> {
        self.cut_off.as_ref()
    }

    /// Stopped reason of a task, if it is given up with its host.
    pub fn reason(&self, world: &World, task: &TaskState) -> Option<String> {
        let host = task.instance.as_ref()?;
        let extent = self.hosts.get(host)?;
        let silent = world.instances.get(host).and_then(|i| i.silent_for());
        let since = |limit| silent.is_some_and(|silent| silent >= limit);
        let due = silent.is_some_and(|silent| disconnect::is_due(world, task, silent));
        let given_up = match extent {
            Extent::All => true,
            Extent::Forced => task.fenced_after.is_none_or(since),
            Extent::Due => due,
        };
        given_up.then(|| match extent {
            Extent::All => format!("Container instance {host} was deregistered"),
            Extent::Forced => FORCED.to_owned(),
            Extent::Due => disconnect::lost(world, host, task),
        })
    }

    /// A task that is given up is to stay if its host comes back.
    pub fn keeps(&self, world: &World, task: &TaskState) -> bool {
        let extent = task.instance.as_ref().and_then(|host| self.hosts.get(host));
        matches!(extent, Some(Extent::Due)) && disconnect::is_kept(world, task)
    }
}

/// Finds the hosts that are lost. One host with tasks is given up per pass, and none while most hosts look dead: then
/// it is more likely that we are cut off than they. The same goes for hosts whose tasks are told that they are cut off.
pub(crate) fn lost(world: &World, now: Timestamp, plan: &mut Plan) -> Lost {
    let mut lost = Lost::default();
    let counts = &world.index.counts;
    let (registered, dead) = (counts.registered, counts.dead);
    let holds = |host: &InstanceName| world.tasks_on(host).any(|(_, t)| t.holds());
    let percent = u32::try_from(dead * 100 / registered.max(1)).unwrap_or(100);
    // A single host cannot be most of a cluster's hosts.
    let braked = registered > 1 && percent >= world.settings.brake_percent;
    let mut given_up = 0;
    let suspects = world.index.suspects.iter();
    for (name, i) in suspects.filter_map(|name| world.instances.get_key_value(name)) {
        if i.identity.deleting && !reachable(world, i) {
            lost.hosts.insert(name.clone(), Extent::Forced);
        } else if disconnect::first_due(world, name, i) && !braked {
            if disconnect::holds_due(world, name, i) {
                if given_up == 1 {
                    plan.wake(now + SignedDuration::from_secs(1));
                    continue;
                }
                given_up = 1;
            }
            lost.hosts.insert(name.clone(), Extent::Due);
        }
    }
    if !braked {
        let mut suspects = world.index.suspects.iter();
        let told = |host: &InstanceName| {
            let connected = world
                .instances
                .get(host)
                .map(|i| i.connected(&world.settings));
            let mut here = world.tasks_on(host);
            connected == Some(false) && here.any(|(_, t)| disconnect::says_connected(world, t))
        };
        lost.cut_off = suspects.find(|host| told(host)).cloned();
    }
    // Tasks whose host does not exist any more.
    for gone in world.index.homeless.iter().filter(|host| holds(host)) {
        lost.hosts.insert(gone.clone(), Extent::All);
    }
    lost
}

/// Tasks that are stopped in this pass.
fn stopped(plan: &Plan) -> BTreeSet<String> {
    let stopped = plan.actions.iter().filter_map(|action| match action {
        Action::StopTask { task, .. } => Some(task.name.clone()),
        _ => None,
    });
    stopped.collect()
}

/// The host's agent answers.
fn reachable(world: &World, i: &InstanceState) -> bool {
    i.host.is_some() && i.connected(&world.settings)
}

/// Keeps a host's finalizer until nothing runs there and nothing is left there, stops what holds a host that is being deleted.
pub(crate) fn plan_one(
    world: &World,
    name: &InstanceName,
    i: &InstanceState,
    ledger: &Ledger,
    now: Timestamp,
    plan: &mut Plan,
) {
    let target = Target::new(Kind::ContainerInstance, name, &i.identity);
    let here = || world.tasks_on(name).filter(|(_, t)| t.holds());
    let fenced = i.identity.finalizers.contains(labels::IN_USE_FINALIZER);
    if i.identity.deleting {
        let stopped = stopped(plan);
        let goes = |t: &TaskState| t.service.is_none() || i.forced;
        for (task, t) in here().filter(|(_, t)| goes(t) && !t.leaving()) {
            // Its service may have stopped it in this pass, because it is deleted itself.
            if stopped.contains(task.as_str()) {
                continue;
            }
            // A run may try elsewhere what its host no longer runs.
            let code = match t.run {
                Some(_) => StopCode::TerminationNotice,
                None => StopCode::UserInitiated,
            };
            let why = match i.forced {
                true => FORCED.to_owned(),
                false => format!("Container instance {name} was deregistered"),
            };
            plan.stop(task, t, code, why);
        }
        // What ran there is not left to lie about; but an agent that is away is not waited for.
        let clears_up = reachable(world, i) && host_plans::left_behind(world, name) > 0;
        if here().next().is_none() && !clears_up && fenced {
            plan.actions.push(Action::RemoveFinalizer {
                target,
                finalizer: labels::IN_USE_FINALIZER,
            });
            return;
        }
    } else if !fenced {
        plan.actions.push(Action::AddFinalizer {
            target: target.clone(),
            finalizer: labels::IN_USE_FINALIZER,
            label: None,
        });
    }
    publish(world, ledger, name, i, &target, now, plan);
    wake(world, name, i, now, plan);
}

/// The last status, without what is the agent's own.
fn previous(i: &InstanceState) -> ContainerInstanceStatus {
    let Some(status) = &i.object.status else {
        return ContainerInstanceStatus {
            observed_generation: conditions::UNOBSERVED,
            ..ContainerInstanceStatus::default()
        };
    };
    ContainerInstanceStatus {
        observed_generation: status.observed_generation,
        conditions: status.conditions.clone(),
        status: status.status,
        agent_connected: status.agent_connected,
        host: None,
        cpu_free: status.cpu_free.clone(),
        memory_free: status.memory_free.clone(),
        remaining_resources: status.remaining_resources.clone(),
        running_tasks_count: status.running_tasks_count,
        pending_tasks_count: status.pending_tasks_count,
        registered_at: status.registered_at.clone(),
    }
}

fn publish(
    world: &World,
    ledger: &Ledger,
    name: &InstanceName,
    i: &InstanceState,
    target: &Target,
    now: Timestamp,
    plan: &mut Plan,
) {
    let previous = previous(i);
    let connected = i.connected(&world.settings);
    let (mut running, mut pending) = (0, 0);
    for (_, t) in world.tasks_on(name) {
        running += i32::from(t.last == LastStatus::Running);
        pending += i32::from(t.last < LastStatus::Running);
    }
    let remaining = i.host.as_ref().and_then(|_| ledger.remaining(name));
    let free = |pick: fn(&tallyman_crds::Resources) -> i64| {
        let registered = &i.host.as_ref()?.registered_resources;
        Some(format!(
            "{}/{}",
            pick(remaining.as_ref()?),
            pick(registered)
        ))
    };
    let (standing, reason, message) = standing(world, name, i);
    let mut next = ContainerInstanceStatus {
        observed_generation: i.identity.generation,
        conditions: Vec::new(),
        status: match (i.identity.deleting, &i.host, i.wanted) {
            (true, _, _) => InstanceStatus::Deregistering,
            (false, None, _) => InstanceStatus::Registering,
            (false, Some(_), DesiredInstanceStatus::Active) => InstanceStatus::Active,
            (false, Some(_), DesiredInstanceStatus::Draining) => InstanceStatus::Draining,
        },
        agent_connected: connected,
        host: None,
        cpu_free: free(|r| r.cpu),
        memory_free: free(|r| r.memory),
        remaining_resources: remaining.clone(),
        running_tasks_count: running,
        pending_tasks_count: pending,
        registered_at: previous
            .registered_at
            .clone()
            .or_else(|| i.host.as_ref().map(|_| time(now))),
    };
    let list = statements(&standing, reason, &message, None);
    next.conditions = conditions::merge(
        &previous.conditions,
        &list,
        i.identity.generation,
        &time(now),
    );
    let was = previous
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY);
    let mut notes = Vec::new();
    if was.is_some_and(|c| c.reason != reason) || (was.is_none() && standing == Standing::Ready) {
        notes.push(Note {
            target: target.clone(),
            warning: standing != Standing::Ready,
            reason,
            message: message.clone(),
        });
    }
    plan.tell(target.clone(), &previous, &next, false, notes);
}

fn standing(
    world: &World,
    name: &InstanceName,
    i: &InstanceState,
) -> (Standing, &'static str, String) {
    let Some(host) = &i.host else {
        let text = format!(
            "Container instance {name} has no agent yet; start tallyman-agent on the host with a token of \
             ServiceAccount {}.",
            tallyman_crds::names::host_identity(name.as_str())
        );
        return (Standing::Reconciling, "AgentNotRegistered", text);
    };
    if !i.connected(&world.settings) {
        let text = format!(
            "The agent of {name} is not connected: its Lease is not renewed. No task is placed there; its service \
             tasks are replaced {} after it was last seen.",
            disconnect::times(world, name)
        );
        return (Standing::Reconciling, "AgentDisconnected", text);
    }
    if !host.engine_reachable {
        let why = host
            .message
            .clone()
            .unwrap_or_else(|| "no answer".to_owned());
        let text = format!(
            "The agent of {name} cannot reach its container engine: {why}. No task is placed there."
        );
        return (Standing::Reconciling, "EngineUnreachable", text);
    }
    if i.identity.deleting {
        let holds = world.tasks_on(name).any(|(_, t)| t.holds());
        return (
            Standing::Reconciling,
            "Deregistering",
            match (holds, i.forced) {
                (false, _) => format!(
                    "{name} leaves when its agent has removed the containers of {} stopped tasks.",
                    host_plans::left_behind(world, name)
                ),
                (true, true) => {
                    format!("{name} leaves when its tasks have stopped, and they stop at once.")
                }
                (true, false) => format!(
                    "{name} leaves when its tasks have stopped; those of services are replaced first. With the annotation \
                     `{}: \"true\"` they stop at once.",
                    labels::FORCE_DEREGISTRATION
                ),
            },
        );
    }
    if i.beyond_quota {
        let text = format!(
            "Cluster {} has {} older container instances, which is its quota (`--instances-per-cluster` of the operator): no \
             task is placed on {name}.",
            world.cluster, world.settings.quotas.instances_per_cluster
        );
        return (Standing::Stalled, "QuotaExceeded", text);
    }
    if let Some(impairment) = host.impairment {
        let why = host.message.clone().unwrap_or_default();
        let (reason, until) = match impairment {
            Impairment::DiskFull => ("DiskFull", "until there is room again"),
            Impairment::EngineFails => ("EngineFails", "for a while, then it is tried again"),
        };
        let text = format!("No task is placed on {name} {until}. {why}");
        return (Standing::Reconciling, reason, text);
    }
    // What the agent says beside it is no reason to place nothing there: GPUs that it cannot find, say.
    let more = host.message.iter().map(|said| format!(" {said}"));
    (
        Standing::Ready,
        "AgentConnected",
        format!(
            "The agent of {name} is connected and its engine answers.{}",
            more.collect::<String>()
        ),
    )
}

/// The next moment at which silence alone changes something.
fn wake(world: &World, name: &InstanceName, i: &InstanceState, now: Timestamp, plan: &mut Plan) {
    let Some(age) = i.silent_for() else { return };
    for limit in disconnect::limits(world, name) {
        if let Some(left) = limit.checked_sub(age).filter(|l| !l.is_zero())
            && let Ok(left) = SignedDuration::try_from(left)
            && let Ok(at) = now.checked_add(left)
        {
            plan.wake(at);
        }
    }
}
