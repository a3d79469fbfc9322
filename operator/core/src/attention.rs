//! What a pass has to decide on.
//!
//! A world is decided on unit by unit: a host with its plan and status, a task, a run, a schedule, a service. A unit whose
//! last decision said nothing is **at rest**: as long as what it depends on stays the same, it says nothing again, so it is
//! not asked again. It is awake when something that it depends on changed, when the time has come that it asked for, and
//! as long as it said something: so what pacing held back, and what failed, is decided anew by nobody's bookkeeping.
//!
//! Who looks at what others hold (for room, say) is a **seeker**. It is asked again when something is left otherwise than
//! before, and in a pass that placed something before its turn.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::names::{InstanceName, RunTaskName, ScheduledTaskName, ServiceName, TaskName};

/// What is decided on as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Host(InstanceName),
    Task(TaskName),
    Run(RunTaskName),
    Schedule(ScheduledTaskName),
    Service(ServiceName),
}

impl Unit {
    pub fn as_host(&self) -> Option<&InstanceName> {
        match self {
            Unit::Host(name) => Some(name),
            Unit::Task(_) | Unit::Run(_) | Unit::Schedule(_) | Unit::Service(_) => None,
        }
    }

    pub fn as_task(&self) -> Option<&TaskName> {
        match self {
            Unit::Task(name) => Some(name),
            Unit::Host(_) | Unit::Run(_) | Unit::Schedule(_) | Unit::Service(_) => None,
        }
    }

    pub fn as_run(&self) -> Option<&RunTaskName> {
        match self {
            Unit::Run(name) => Some(name),
            Unit::Host(_) | Unit::Task(_) | Unit::Schedule(_) | Unit::Service(_) => None,
        }
    }

    pub fn as_schedule(&self) -> Option<&ScheduledTaskName> {
        match self {
            Unit::Schedule(name) => Some(name),
            Unit::Host(_) | Unit::Task(_) | Unit::Run(_) | Unit::Service(_) => None,
        }
    }

    pub fn as_service(&self) -> Option<&ServiceName> {
        match self {
            Unit::Service(name) => Some(name),
            Unit::Host(_) | Unit::Task(_) | Unit::Run(_) | Unit::Schedule(_) => None,
        }
    }
}

/// What a unit said when it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// It said something.
    pub spoke: bool,
    /// It looked at what others hold.
    pub asked: bool,
    /// When it wants to be asked again.
    pub wake_at: Option<Timestamp>,
}

/// Who is asked in a pass.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// Everybody.
    All,
    /// Who is awake; of those seekers who are not, nobody before something was placed.
    Some {
        awake: BTreeSet<Unit>,
        seekers: BTreeSet<Unit>,
    },
}

/// Who is awake, and who wakes when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attention {
    /// `None`: everybody is.
    awake: Option<BTreeSet<Unit>>,
    wakes: BTreeMap<Unit, Timestamp>,
    order: BTreeSet<(Timestamp, Unit)>,
    seekers: BTreeSet<Unit>,
    /// Nothing is remembered of anybody who has not been asked in this pass.
    fresh: bool,
}

impl Attention {
    /// Something that `unit` depends on changed.
    pub fn touch(&mut self, unit: Unit) {
        if let Some(awake) = &mut self.awake {
            awake.insert(unit);
        }
    }

    /// Something is left otherwise than before.
    pub fn touch_seekers(&mut self) {
        if let Some(awake) = &mut self.awake {
            awake.extend(self.seekers.iter().cloned());
        }
    }

    /// Wakes those whose time has come at `now`, and says which hosts are awake.
    pub fn awake_hosts(&mut self, now: Timestamp) -> Vec<InstanceName> {
        let Some(awake) = &mut self.awake else {
            return Vec::new();
        };
        while self.order.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, unit)) = self.order.pop_first() {
                self.wakes.remove(&unit);
                awake.insert(unit);
            }
        }
        awake.iter().map_while(Unit::as_host).cloned().collect()
    }

    /// Begins a pass at `now`: of whoever is due nothing is remembered any more.
    pub fn begin(&mut self, now: Timestamp) -> Due {
        self.awake_hosts(now);
        self.fresh = self.awake.is_none();
        match self.awake.replace(BTreeSet::new()) {
            None => Due::All,
            Some(awake) => {
                for unit in &awake {
                    self.forget(unit);
                }
                let seekers = self.seekers.clone();
                Due::Some { awake, seekers }
            }
        }
    }

    fn forget(&mut self, unit: &Unit) {
        self.seekers.remove(unit);
        if let Some(at) = self.wakes.remove(unit) {
            self.order.remove(&(at, unit.clone()));
        }
    }

    /// Takes down what a unit said.
    pub fn note(&mut self, unit: impl FnOnce() -> Unit, heard: Heard) {
        let nothing = !heard.spoke && !heard.asked && heard.wake_at.is_none();
        if nothing && self.fresh {
            return;
        }
        let unit = unit();
        if !self.fresh {
            self.forget(&unit);
        }
        if heard.asked {
            self.seekers.insert(unit.clone());
        }
        if let Some(at) = heard.wake_at {
            self.wakes.insert(unit.clone(), at);
            self.order.insert((at, unit.clone()));
        }
        if heard.spoke {
            self.touch(unit);
        }
    }

    /// When a unit wants to be asked again, as it said last.
    pub fn wake_of(&self, unit: &Unit) -> Option<Timestamp> {
        self.wakes.get(unit).copied()
    }

    /// When the first of those that wait for a time wants to be asked again.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }
}
