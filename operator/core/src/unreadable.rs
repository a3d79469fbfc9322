//! Objects that are stored and cannot be read: stored under an older definition that took more, or a type of ours is wrong. What
//! is known of them is their metadata; what is told of them, and what waits for them, is decided here.
//!
//! Such an object is not absent, and nobody may take it for that: whose service is gone stops. So what is its own is left as it
//! is, and everything else goes on. Of what people want (Services, TaskDefinitions, runs, schedules) that is all. From what is
//! (hosts, tasks, plans, revisions, clusters) everything else in a cluster is reckoned, so that cluster waits as a whole. A plan is
//! only a copy of that: one that cannot be read is deleted and made anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use tallyman_crds::readable::Unread;

use crate::gather::{cluster_name, object_name};
use crate::plan::{Action, Kind, Note, Target};

/// Reason of the events that tell of such an object.
pub const REASON: &str = "Unreadable";

/// What people are to do about it.
const PUT_RIGHT: &str = "Put the field right, or delete the object";

/// What is told of an object of a kind, what comes of it, and what waits for it.
fn sentence(kind: &str, unread: &Unread, next: &str, waits: &str) -> String {
    let (name, problem) = (object_name(&unread.metadata), unread.problem());
    format!(
        "({kind} {name}) is stored in a way that this version cannot read: {problem}. {next}. {waits}."
    )
}

/// What is told of a HostJoin that cannot be read: joins are beside the passes, and nothing in these waits for one.
pub fn of_join(unread: &Unread) -> String {
    sentence(
        "HostJoin",
        unread,
        PUT_RIGHT,
        "Until then no host joins by it; hosts that have joined and other joins do not wait",
    )
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its kind.
    pub kind: Kind,
    /// What is known of it.
    pub unread: Unread,
}

/// What waits until an object can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waits {
    /// What is its own.
    Itself,
    /// Its cluster.
    Cluster(String),
    /// Nobody knows of which cluster it is, or it is of all.
    Namespace,
}

impl Unreadable {
    fn waits(&self) -> Waits {
        match self.kind {
            Kind::TaskDefinition
            | Kind::Service
            | Kind::RunTask
            | Kind::ScheduledTask
            | Kind::TaskSet => Waits::Itself,
            Kind::Cluster => Waits::Cluster(object_name(&self.unread.metadata)),
            Kind::Task | Kind::ContainerInstance | Kind::HostPlan => match &self.unread.cluster {
                Some(given) => Waits::Cluster(cluster_name(Some(given)).to_owned()),
                None => Waits::Namespace,
            },
            Kind::TaskDefinitionRevision | Kind::Secret => Waits::Namespace,
        }
    }

    /// What is told of it, on the object itself.
    pub fn note(&self) -> Note {
        let waits = match self.waits() {
            Waits::Itself => {
                "Until then it and what is its own are left as they are; nothing else waits for it"
                    .to_owned()
            }
            Waits::Cluster(cluster) => format!(
                "Until then nothing is decided in cluster `{cluster}`, and its tasks run on; other clusters do not wait"
            ),
            Waits::Namespace => {
                "Until then nothing is decided in this namespace, and its tasks run on; other namespaces do not wait"
                    .to_owned()
            }
        };
        let next = match self.kind {
            Kind::HostPlan => "It is deleted and made anew; its host keeps to the one before",
            _ => PUT_RIGHT,
        };
        Note {
            target: self.target(),
            warning: true,
            reason: REASON,
            message: sentence(self.kind.as_str(), &self.unread, next, &waits),
        }
    }

    fn target(&self) -> Target {
        Target::of(self.kind, &self.unread.metadata)
    }

    /// What ends it without anybody's help: all that a plan says is known elsewhere.
    pub(crate) fn remedy(&self) -> Option<Action> {
        let leaves = self.unread.metadata.deletion_timestamp.is_some();
        (self.kind == Kind::HostPlan && !leaves).then(|| Action::Delete(self.target()))
    }
}

/// What waits in a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    everything: bool,
    clusters: BTreeSet<String>,
}

impl Held {
    pub(crate) fn by(unreadable: &[Arc<Unreadable>]) -> Held {
        let mut held = Held::default();
        for object in unreadable {
            match object.waits() {
                Waits::Itself => {}
                Waits::Cluster(name) => {
                    held.clusters.insert(name);
                }
                Waits::Namespace => held.everything = true,
            }
        }
        held
    }

    /// Nothing is decided in the namespace.
    pub(crate) fn everything(&self) -> bool {
        self.everything
    }

    /// Nothing is decided in this cluster.
    pub(crate) fn holds(&self, cluster: &str) -> bool {
        self.everything || self.clusters.contains(cluster)
    }
}

/// What a world knows of them: that they are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct There {
    /// Kind and name of each.
    names: BTreeSet<(Kind, String)>,
    /// uids of the schedules that made a run that cannot be read.
    schedules: BTreeSet<String>,
}

impl There {
    pub(crate) fn of(unreadable: &[Arc<Unreadable>]) -> There {
        let name = |u: &Arc<Unreadable>| (u.kind, object_name(&u.unread.metadata));
        let runs = unreadable.iter().filter(|u| u.kind == Kind::RunTask);
        let owners = runs.flat_map(|u| u.unread.metadata.owner_references.iter().flatten());
        There {
            names: unreadable.iter().map(name).collect(),
            schedules: owners.map(|owner| owner.uid.clone()).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// An object of this kind and name is there and cannot be read.
    pub(crate) fn has(&self, kind: Kind, name: &str) -> bool {
        // Nearly always nothing is there, and names are long.
        !self.is_empty() && self.names.contains(&(kind, name.to_owned()))
    }

    /// A run of the schedule of this uid cannot be read: nobody knows whether it has ended.
    pub(crate) fn has_run_of(&self, schedule: &str) -> bool {
        self.schedules.contains(schedule)
    }
}
