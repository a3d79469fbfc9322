//! Every perturbation of a life, planned: the life is told once undisturbed and counted, and then once for each thing that
//! can go wrong at each of its writes, calls, events and moments, with the same seed.
//!
//! A life that is disturbed is held to its undisturbed self: it must come to rest as wanted (the life's own conditions and
//! the invariants), and where nothing happened to containers, no task more may have been made (S22).
//!
//! `TALLYMAN_SIM_SHARE=1` tells every plan, `=5` every fifth; `TALLYMAN_SIM_SEEDS=10` does so with ten seeds;
//! `TALLYMAN_SIM_PLAN=roll/1/245` tells that one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tallyman_operator_core::Kind;

use crate::lives::{LIVES, Life};
use crate::operator::CrashPoint;
use crate::perturbation::{CLASSES, Lie, Perturbation};
use crate::sim::{Sim, option};

/// Deeds and calls of an agent after which the next ones show nothing new.
const MOST: u64 = 150;
/// Events of a kind after which the next ones show nothing new.
const MOST_EVENTS: usize = 60;

/// A life with something that goes wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    life: &'static Life,
    seed: u64,
    /// Which of the life's plans, counted from 1.
    number: usize,
    what: Perturbation,
    /// Tasks that the undisturbed life makes.
    tasks: u64,
}

/// How many plans were told and came to pass, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of each of [`CLASSES`].
    pub by_class: [usize; CLASSES.len()],
}

impl Told {
    /// Of all classes.
    pub fn total(&self) -> usize {
        self.by_class.iter().sum()
    }

    /// Names of the classes.
    pub fn classes() -> impl Iterator<Item = &'static str> {
        CLASSES.into_iter()
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = CLASSES.iter().zip(self.by_class);
        let rows = rows.map(|(class, n)| format!("{n:>7}  {class}\n"));
        let rows: String = rows.collect();
        format!("{rows}{:>7}  planned perturbations in all", self.total())
    }
}

/// Tells `some` plans of `of` of every life; or as the environment says.
pub fn tell((some, of): (usize, usize)) -> Told {
    let chosen = option("TALLYMAN_SIM_PLAN");
    let given = |name: &str| option(name).and_then(|s| s.parse::<u64>().ok());
    let share = given("TALLYMAN_SIM_SHARE").map(|s| usize::try_from(s).unwrap_or(1));
    let (some, of) = share.map_or((some, of), |share| (1, share.max(1)));
    let seeds = given("TALLYMAN_SIM_SEEDS").unwrap_or(1);
    let mut parts = chosen.iter().flat_map(|text| text.split('/'));
    let (life, seed, number) = (parts.next(), parts.next(), parts.next());
    let seed = seed.and_then(|s| s.parse::<u64>().ok());
    let number = number.and_then(|s| s.parse::<usize>().ok());
    let mut plans = Vec::new();
    for seed in seed.map_or(1..=seeds, |seed| seed..=seed) {
        for told in LIVES
            .iter()
            .filter(|l| life.is_none_or(|name| name == l.name))
        {
            let all = plans_of(told, seed);
            // Another share with each seed, so that many seeds tell everything.
            let turn = usize::try_from(seed).unwrap_or(0);
            plans.extend(all.into_iter().filter(|p| match number {
                Some(number) => p.number == number,
                None => (p.number + turn) % of < some,
            }));
        }
    }
    assert!(!plans.is_empty(), "no such plan: {chosen:?}");
    let counts = [const { AtomicUsize::new(0) }; CLASSES.len()];
    across(&plans, |plan| {
        if plan.tell() {
            counts[plan.what.class()].fetch_add(1, Ordering::Relaxed);
        }
    });
    Told {
        by_class: counts.map(AtomicUsize::into_inner),
    }
}

/// Does something for each of `all`, on every processor.
pub fn across<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

impl Plan {
    /// Says whether it came to pass: a life may end a moment before.
    fn tell(&self) -> bool {
        let mut sim = Sim::new(self.life.name, self.seed, self.life.hosts);
        let name = format!("{}/{}/{}", self.life.name, self.seed, self.number);
        sim.again = Some(format!(
            "TALLYMAN_SIM_PLAN={name} cargo test -p tallyman-sim --test it perturbations  ({:?})",
            self.what
        ));
        sim.perturb(self.what);
        (self.life.tell)(&mut sim);
        let made = tasks_made(&sim);
        let due = match self.what {
            Perturbation::ApiAway { .. } => self.life.goes_by_the_clock(),
            Perturbation::AgentDies { disk, .. } => disk && self.life.is_fenced(),
            _ => false,
        };
        if !self.what.harms() && !due && made > self.tasks {
            let tasks = self.tasks;
            sim.fail(&format!(
                "S22: {made} tasks were made, and {tasks} without what went wrong"
            ));
        }
        sim.came_to_pass()
    }
}

fn tasks_made(sim: &Sim) -> u64 {
    sim.shared
        .server
        .made
        .get(&Kind::Task)
        .copied()
        .unwrap_or(0)
}

fn plans_of(life: &'static Life, seed: u64) -> Vec<Plan> {
    let mut sim = Sim::new(life.name, seed, life.hosts);
    let born = sim.shared.now;
    (life.tell)(&mut sim);
    let tasks = tasks_made(&sim);
    let seconds = sim.shared.now.duration_since(born).as_secs();
    let writes: u64 = sim.operators.iter().map(|o| o.writes).sum();
    let agent = &sim.agents[0];
    let (deeds, calls) = (agent.deeds.min(MOST), agent.engine.call_count().min(MOST));
    let mut all = Vec::new();
    for (at, carried_out) in points(writes) {
        let point = CrashPoint { at, carried_out };
        all.push(Perturbation::OperatorDies(point));
        all.push(Perturbation::OperatorUnanswered(point));
    }
    for at in 0..writes {
        for seconds in [6, 50] {
            all.push(Perturbation::LeaderPauses { at, seconds });
        }
    }
    for kind in [
        Kind::Task,
        Kind::Service,
        Kind::HostPlan,
        Kind::ContainerInstance,
        Kind::TaskDefinition,
        Kind::TaskDefinitionRevision,
        Kind::TaskSet,
        Kind::RunTask,
        Kind::ScheduledTask,
        Kind::Secret,
    ] {
        for from in 1..=sim.shared.server.events(kind).min(MOST_EVENTS) {
            let lag = |seconds| Perturbation::OperatorLags {
                kind,
                from,
                seconds,
            };
            let miss = |events| Perturbation::OperatorMisses { kind, from, events };
            all.extend([lag(4), lag(30), miss(2), miss(3), miss(5)]);
        }
    }
    for (at, carried_out) in points(deeds) {
        let point = CrashPoint { at, carried_out };
        // A host that was registered anew is another one. Without a disk its agent cannot know the containers of the one
        // before as its own, and touches none of them: they stay.
        let disks = if life.name == "host-leaves" { 1 } else { 2 };
        for disk in [false, true].into_iter().take(disks) {
            all.push(Perturbation::AgentDies { point, disk });
        }
    }
    for (at, carried_out) in points(sim.agents[0].reports.min(MOST)) {
        let point = CrashPoint { at, carried_out };
        all.push(Perturbation::AgentUnanswered(point));
    }
    for from in 1..=plans_written(&sim).min(MOST_EVENTS) {
        let lag = |seconds| Perturbation::AgentLags { from, seconds };
        let miss = |events| Perturbation::AgentMisses { from, events };
        all.extend([lag(4), lag(30), miss(2), miss(3)]);
    }
    for call in 1..=calls {
        for lie in [Lie::TimeoutBefore, Lie::TimeoutAfter, Lie::Interrupted] {
            all.push(Perturbation::EngineLies { call, lie });
        }
        for seconds in [5, 40] {
            all.push(Perturbation::EngineAway { call, seconds });
        }
        for live_restore in [true, false] {
            all.push(Perturbation::EngineRestarts { call, live_restore });
        }
    }
    for at in (0..seconds).step_by(5) {
        for host in 0..life.hosts {
            for seconds in [15, 70, 400] {
                all.push(Perturbation::CutOff { host, at, seconds });
            }
            all.push(Perturbation::Reboots { host, at });
        }
        // From the beginning on it would decide which host is there first, and with it where tasks go.
        for seconds in [10, 120].into_iter().filter(|_| at > 0) {
            all.push(Perturbation::ApiAway { at, seconds });
        }
    }
    let numbered = all.into_iter().zip(1..);
    numbered
        .map(|(what, number)| Plan {
            life,
            seed,
            number,
            what,
            tasks,
        })
        .collect()
}

fn points(count: u64) -> impl Iterator<Item = (u64, bool)> {
    (1..=count).flat_map(|at| [(at, false), (at, true)])
}

/// Events of HostPlans: the agents watch one of them each, and count those of all, as the server does.
fn plans_written(sim: &Sim) -> usize {
    sim.shared.server.events(Kind::HostPlan)
}
