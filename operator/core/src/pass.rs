//! One pass over a cluster: who is asked, in which order.
//!
//! The order is the same however many are asked, and all share one ledger, so that a pass over those who are awake says
//! what a pass over everybody says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::attention::{Attention, Due, Heard, Unit};
use crate::names::{InstanceName, TaskName};
use crate::placement::Ledger;
use crate::plan::Plan;
use crate::tasks::Remembered;
use crate::world::{InstanceState, World};
use crate::{
    clusters, host_plans, instances, runs, schedules, services, supplies, task_sets, tasks,
};

/// Decides for whoever of `world` is awake.
pub(crate) fn pass(
    world: &World,
    ledger: &mut Ledger,
    attention: &mut Attention,
    now: Timestamp,
) -> Plan {
    let due = attention.begin(now);
    let mut pass = Pass {
        world,
        ledger,
        attention,
        due,
        now,
        plan: Plan::default(),
    };
    clusters::plan_one(world, now, &mut pass.plan);
    let mut hosts = pass.hosts();
    // What earlier passes decided goes out first: hosts work on it while the rest is written.
    for (name, (i, heard)) in &mut hosts {
        hear(heard, &mut pass.plan, |plan| {
            supplies::plan_one(world, name, i, plan)
        });
    }
    for (name, (i, heard)) in &mut hosts {
        hear(heard, &mut pass.plan, |plan| {
            host_plans::plan_one(world, name, i, now, plan)
        });
    }
    pass.tasks();
    pass.runs();
    pass.schedules();
    pass.services();
    // Few, and each is looked at: it says which service it waits for.
    task_sets::plan_strays(world, now, &mut pass.plan);
    pass.what_is_left(hosts);
    pass.plan.failures = pass.ledger.failures();
    pass.ledger.end_pass();
    let mut plan = pass.plan;
    attention.wake_at().into_iter().for_each(|at| plan.wake(at));
    plan
}

/// A pass under way.
struct Pass<'w, 'p> {
    world: &'w World,
    ledger: &'p mut Ledger,
    attention: &'p mut Attention,
    due: Due,
    now: Timestamp,
    plan: Plan,
}

/// Lets a unit decide, and adds to what was heard of it.
fn hear(heard: &mut Heard, plan: &mut Plan, decide: impl FnOnce(&mut Plan)) {
    let (said, wake_at) = (plan.len(), plan.wake_at.take());
    decide(plan);
    heard.spoke |= plan.len() > said;
    heard.wake_at = [heard.wake_at, plan.wake_at].into_iter().flatten().min();
    plan.wake_at = [wake_at, plan.wake_at].into_iter().flatten().min();
}

/// Hosts that are asked, and what was heard of each so far.
type Hosts<'w> = BTreeMap<&'w InstanceName, (&'w InstanceState, Heard)>;

impl<'w> Pass<'w, '_> {
    /// Those of `all` that are asked, in order of name; with `false` those that are asked only once something was placed.
    fn asked<N: Ord, S>(
        &self,
        all: &'w BTreeMap<N, S>,
        name: fn(&Unit) -> Option<&N>,
    ) -> Vec<(&'w N, &'w S, bool)> {
        let (awake, seekers) = match &self.due {
            Due::All => return all.iter().map(|(n, s)| (n, s, true)).collect(),
            Due::Some { awake, seekers } => (awake, seekers),
        };
        let mut found = BTreeMap::new();
        found.extend(seekers.iter().filter_map(|u| Some((name(u)?, false))));
        found.extend(awake.iter().filter_map(|u| Some((name(u)?, true))));
        let there = found.into_iter().filter_map(|(name, is_awake)| {
            let (name, state) = all.get_key_value(name)?;
            Some((name, state, is_awake))
        });
        there.collect()
    }

    /// Asks a unit, unless it is a seeker at rest and nothing was placed yet.
    fn ask(
        &mut self,
        is_awake: bool,
        unit: impl FnOnce() -> Unit,
        decide: impl FnOnce(&mut Ledger, &mut Plan),
    ) {
        if !is_awake && self.ledger.placed() == 0 {
            return;
        }
        let mut heard = Heard::default();
        self.ledger.was_asked();
        let placed = self.ledger.placed();
        hear(&mut heard, &mut self.plan, |plan| decide(self.ledger, plan));
        heard.asked = self.ledger.was_asked();
        // Who keeps room without a word has to keep it in the next pass, too.
        heard.spoke |= self.ledger.placed() > placed;
        self.attention.note(unit, heard);
    }

    fn hosts(&self) -> Hosts<'w> {
        let asked = self.asked(&self.world.instances, Unit::as_host).into_iter();
        asked.map(|(n, i, _)| (n, (i, Heard::default()))).collect()
    }

    fn tasks(&mut self) {
        let (world, now) = (self.world, self.now);
        let lost = instances::lost(world, now, &mut self.plan);
        let mut asked: BTreeMap<&TaskName, _> = BTreeMap::new();
        let awake = self.asked(&world.tasks, Unit::as_task).into_iter();
        asked.extend(awake.map(|(name, t, _)| (name, &**t)));
        // Which hosts are lost or cut off is found out in every pass, and so is what is on them.
        let hosts = lost.hosts().chain(lost.cut_off());
        asked.extend(hosts.flat_map(|host| world.tasks_on(host)));
        let mut remembered = Remembered::default();
        for (name, t) in asked {
            let unit = || Unit::Task(name.clone());
            self.ask(true, unit, |ledger, plan| {
                tasks::plan_one(world, name, t, &lost, ledger, &mut remembered, now, plan)
            });
        }
    }

    fn runs(&mut self) {
        let (world, now) = (self.world, self.now);
        let mut left = runs::AT_ONCE;
        let asked = self.asked(&world.runs, Unit::as_run);
        for (name, run, is_awake) in &asked {
            let unit = || Unit::Run((*name).clone());
            self.ask(*is_awake, unit, |ledger, plan| {
                runs::plan_one(world, name, run, ledger, &mut left, now, plan)
            });
        }
        if left == 0 {
            // Who came too late has said nothing of it.
            for (name, _, _) in asked {
                self.attention.touch(Unit::Run(name.clone()));
            }
        }
    }

    fn schedules(&mut self) {
        let (world, now) = (self.world, self.now);
        for (name, s, _) in self.asked(&world.schedules, Unit::as_schedule) {
            let unit = || Unit::Schedule(name.clone());
            self.ask(true, unit, |_, plan| {
                schedules::plan_one(world, name, s, now, plan)
            });
        }
    }

    /// Daemons first, so that they have room on a host that is new.
    fn services(&mut self) {
        let (world, now) = (self.world, self.now);
        let asked = self.asked(&world.services, Unit::as_service);
        let (daemons, replicas): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|(_, s, _)| s.daemon);
        for (name, s, is_awake) in daemons.into_iter().chain(replicas) {
            let unit = || Unit::Service(name.clone());
            self.ask(is_awake, unit, |ledger, plan| {
                services::plan_one(world, name, s, ledger, now, plan)
            });
        }
    }

    /// How hosts stand, once it is known what was placed there. What is left on these is told now, and again when the
    /// tasks are there, or are not.
    fn what_is_left(&mut self, mut hosts: Hosts<'w>) {
        let world = self.world;
        let placed: BTreeSet<&InstanceName> = self.ledger.placed_on();
        for name in placed {
            if let Some((name, i)) = world.instances.get_key_value(name) {
                let before = self.attention.wake_of(&Unit::Host(name.clone()));
                let (_, heard) = hosts.entry(name).or_insert((i, Heard::default()));
                heard.spoke = true;
                heard.wake_at = [heard.wake_at, before].into_iter().flatten().min();
            }
        }
        for (name, (i, mut heard)) in hosts {
            hear(&mut heard, &mut self.plan, |plan| {
                instances::plan_one(world, name, i, self.ledger, self.now, plan)
            });
            self.attention.note(|| Unit::Host(name.clone()), heard);
        }
    }
}
