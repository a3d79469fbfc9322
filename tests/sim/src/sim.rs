//! The driver: whose turn it is, how time passes, and the report when something is wrong.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tallyman_agent_engine::ContainerSummary;
use tallyman_crds::{LastStatus, labels};
use tallyman_operator_core::leadership::{self, Hearing};
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::{Kind, Settings, World, families, plan};

use crate::agent::Agent;
use crate::api::{self, Gap, Object, Server};
use crate::invariants::{self, Monitor};
use crate::operator::{CrashPoint, NAMESPACE, Operator};
use crate::perturbation::Fate;
use crate::rng::Rng;
use crate::trace::Trace;

/// Another leader takes over this long after one died.
const TAKE_OVER: SignedDuration = SignedDuration::from_secs(4);

/// What everybody has in common.
#[derive(Debug)]
pub struct Shared {
    /// The API server.
    pub server: Server,
    /// All chance.
    pub rng: Rng,
    /// The time.
    pub now: Timestamp,
    /// What happened last.
    pub trace: Trace,
    /// The invariants.
    pub monitor: Monitor,
    /// In how many of a hundred cases a watch brings less than there is.
    pub lag: u8,
    /// Operators that believe they lead.
    pub leaders: usize,
    /// What was to go wrong with the first operator did.
    pub came_to_pass: bool,
}

impl Shared {
    /// Notes what `who` did.
    pub fn note(&mut self, who: &str, what: &str) {
        self.trace.note(self.now, who, what);
    }
}

/// A cluster in one thread.
pub struct Sim {
    /// What everybody has in common.
    pub shared: Shared,
    /// Operators, the current leader last.
    pub operators: Vec<Operator>,
    /// Hosts.
    pub agents: Vec<Agent>,
    /// Settings of the operators.
    pub settings: Settings,
    /// Where the first operator dies.
    pub operator_crash: Option<CrashPoint>,
    /// Which write of the first operator is answered by an error.
    pub operator_unanswered: Option<CrashPoint>,
    /// Before which write the first operator hangs.
    pub operator_pause: Option<u64>,
    /// What a watch of the first operator meets.
    pub operator_gap: Option<Gap>,
    /// How to tell it again, when that takes more than name and seed.
    pub again: Option<String>,
    pub(crate) fate: Option<Fate>,
    /// Nothing more goes wrong for now.
    pub(crate) calm: bool,
    name: String,
    seed: u64,
    steps: u64,
    /// When everybody last had a turn: what falls due at this moment is not done yet.
    looked_at: Timestamp,
    epoch: i64,
    next_leader_at: Option<Timestamp>,
    hearing: Hearing,
}

/// The store and the Lease of the operator as they once were.
#[derive(Clone, Debug)]
pub struct Backup {
    store: api::Backup,
    epoch: i64,
}

impl Sim {
    /// An empty cluster with `hosts` hosts, `host-a` first, of 4 processors and 8 GiB.
    pub fn new(name: &str, seed: u64, hosts: usize) -> Sim {
        let start = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
        let trace = Trace::new(option("TALLYMAN_SIM_TRACE").is_some());
        let shared = Shared {
            server: Server::default(),
            rng: Rng::new(seed),
            now: start,
            trace,
            monitor: Monitor::default(),
            lag: 0,
            leaders: 0,
            came_to_pass: false,
        };
        let mut sim = Sim {
            shared,
            operators: Vec::new(),
            agents: Vec::new(),
            settings: Settings::default(),
            operator_crash: None,
            operator_unanswered: None,
            operator_pause: None,
            operator_gap: None,
            again: None,
            fate: None,
            calm: false,
            name: name.to_owned(),
            seed,
            steps: 0,
            looked_at: start,
            epoch: 0,
            next_leader_at: Some(start),
            hearing: Hearing::default(),
        };
        for n in 0..hosts {
            sim.add_host(n);
        }
        sim
    }

    fn add_host(&mut self, n: usize) {
        let letter = char::from(b'a' + u8::try_from(n).unwrap_or(0));
        let name = format!("host-{letter}");
        self.join(&name);
        match Agent::new(&name, self.shared.now) {
            Ok(agent) => self.agents.push(agent),
            Err(why) => self.fail(&why),
        }
    }

    // --- time ---

    /// Everybody's turn once, in any order; then the invariants; then time passes.
    pub fn step(&mut self) {
        self.steps += 1;
        self.looked_at = self.shared.now;
        self.meet_fate();
        self.elect();
        let mut order: Vec<usize> = (0..self.operators.len() + self.agents.len()).collect();
        self.shared.rng.shuffle(&mut order);
        let mut busy = false;
        for actor in order {
            busy |= match self.operators.get_mut(actor) {
                Some(operator) => operator.step(&mut self.shared),
                None => {
                    let n = actor - self.operators.len();
                    self.agents[n].step(&mut self.shared)
                }
            };
        }
        self.bury();
        self.shared.server.collect(self.shared.now);
        self.check();
        let soonest = self.soonest();
        let wait = if busy {
            let pause = self.shared.rng.between(10, 150);
            SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_millis(100))
        } else {
            let until = soonest.duration_since(self.shared.now);
            until.clamp(
                SignedDuration::from_millis(50),
                SignedDuration::from_secs(5),
            )
        };
        self.shared.now += wait;
    }

    fn soonest(&self) -> Timestamp {
        let operators = self
            .operators
            .iter()
            .filter(|o| !o.paused)
            .map(Operator::due);
        let agents = self.agents.iter().map(|a| a.due(self.shared.now));
        let far = self.shared.now + SignedDuration::from_secs(5);
        operators
            .chain(agents)
            .chain(self.next_leader_at)
            .chain(self.fate_due())
            .fold(far, Timestamp::min)
    }

    /// A leader takes over when there is none.
    fn elect(&mut self) {
        if self.next_leader_at.is_some_and(|at| at <= self.shared.now) && !self.shared.server.down {
            self.next_leader_at = None;
            let numbers = |kind, path: &str| -> Vec<i64> {
                let all = self.shared.server.all(kind);
                all.filter_map(|(_, o)| o.pointer(path)?.as_i64()).collect()
            };
            let plans = numbers(Kind::HostPlan, "/spec/leaderEpoch");
            let hosts = numbers(Kind::ContainerInstance, "/status/host/appliedPlanEpoch");
            self.epoch = leadership::next(self.epoch, plans, hosts);
            let name = format!("operator-{}", self.epoch);
            let mut operator = Operator::start(&name, self.epoch, &self.settings, &self.shared);
            operator.hearing = std::mem::take(&mut self.hearing);
            operator.crash = self.operator_crash.take();
            operator.unanswered = self.operator_unanswered.take();
            operator.pause_at = self.operator_pause.take();
            operator.cache.gap = self.operator_gap.take();
            self.shared.note(&name, "leads");
            self.operators.push(operator);
        }
        self.shared.leaders = self.operators.len();
    }

    fn bury(&mut self) {
        let led = self.operators.last_mut().filter(|o| o.dead);
        let mut wait = TAKE_OVER;
        let dead = led.is_some();
        if let Some(last) = led {
            if let Some(above) = last.outranked {
                // It keeps the lead, with another number.
                self.epoch = self.epoch.max(above);
                self.hearing = std::mem::take(&mut last.hearing);
                wait = SignedDuration::ZERO;
            } else if last.notices_at.is_some() && last.epoch == self.epoch {
                // The Lease is still its own.
                wait = SignedDuration::ZERO;
            }
        }
        self.operators.retain(|o| !o.dead);
        if dead {
            self.next_leader_at.get_or_insert(self.shared.now + wait);
        }
    }

    /// A copy of the store and of the Lease of the operator.
    pub fn backup(&mut self) -> Backup {
        self.shared.note("fate", "makes a backup");
        Backup {
            store: self.shared.server.backup(),
            epoch: self.epoch,
        }
    }

    /// etcd is restored from a backup, as Kubernetes wants it done: no API server is up meanwhile. So agents list anew as soon
    /// as they reach it again, and a leader learns of it with the next renewal.
    pub fn restore(&mut self, backup: Backup) {
        self.shared.note("fate", "RESTORES the backup");
        self.shared.monitor.restored(&self.agents);
        self.shared.server.restore(backup.store);
        self.epoch = backup.epoch;
        for operator in &mut self.operators {
            let pause = self.shared.rng.between(0, 2_000);
            let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
            operator.notices_at = Some(self.shared.now + pause);
        }
    }

    /// The leader hangs and another takes over; it goes on later with the writes that it had decided.
    pub fn depose(&mut self) {
        if let Some(leader) = self.operators.last_mut() {
            leader.paused = true;
            leader.deposed = true;
            self.shared.note(&leader.name, "hangs; another takes over");
        }
        self.shared.monitor.two_leaders = true;
        self.next_leader_at = Some(self.shared.now);
    }

    /// Every operator dies, and none leads for so long.
    pub fn without_operator(&mut self, seconds: i64) {
        self.shared.note("fate", "takes the operators away");
        self.operators.clear();
        self.next_leader_at = Some(self.shared.now + SignedDuration::from_secs(seconds));
        self.run(seconds);
    }

    /// Leaders that hang go on.
    pub fn resume(&mut self) {
        for operator in &mut self.operators {
            operator.paused = false;
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, seconds: i64) {
        let end = self.shared.now + SignedDuration::from_secs(seconds);
        while self.shared.now < end {
            self.step();
        }
    }

    /// Lets time pass until `condition` holds.
    pub fn until(&mut self, what: &str, seconds: i64, condition: impl Fn(&Sim) -> bool) {
        let end = self.shared.now + SignedDuration::from_secs(seconds);
        while !condition(self) {
            if self.shared.now >= end {
                self.fail(&format!(
                    "S9: within {seconds} s it never came true that {what}"
                ));
            }
            self.step();
        }
    }

    // --- the end ---

    fn check(&mut self) {
        self.shared.monitor.check(
            &self.shared.server,
            &self.agents,
            &self.settings,
            self.shared.now,
        );
        if let Some(broken) = self.shared.monitor.verdict() {
            let broken = broken.to_owned();
            self.fail(&broken);
        }
    }

    /// Ends every disturbance, and lets the system come to rest: S8 and S9.
    pub fn come_to_rest(&mut self) {
        self.end_fate();
        self.calm = true;
        self.shared.server.down = false;
        self.shared.lag = 0;
        self.resume();
        for operator in &mut self.operators {
            let stalled: Vec<Kind> = operator.cache.stalled().collect();
            for kind in stalled {
                operator.cache.relist_kind(kind, &self.shared.server);
                operator.wake(self.shared.now);
            }
        }
        self.shared.note("sim", "comes to rest");
        self.until("every service is ready", 3600, Sim::all_ready);
        self.shared.monitor.two_leaders = false;
        self.run(60);
        self.until("nothing moves", 900, |sim| sim.quiet() && sim.all_ready());
        // The last counts may be held back for a little.
        self.run(3);
        self.at_rest();
        self.calm = false;
    }

    /// Every service says that it is as wanted, of its present spec, and no deleted one is left.
    pub fn all_ready(&self) -> bool {
        let server = &self.shared.server;
        let mut all = server.all(Kind::Service).chain(server.all(Kind::TaskSet));
        all.all(|(_, s)| {
            let observed = s["status"]["observedGeneration"] == s["metadata"]["generation"];
            let ready = s["status"]["conditions"][0]["status"] == "True";
            observed && ready && s["metadata"]["deletionTimestamp"].is_null()
        })
    }

    fn quiet(&self) -> bool {
        self.shared.server.all(Kind::Task).all(|(_, t)| {
            let settled =
                t["status"]["lastStatus"] == "RUNNING" || t["status"]["lastStatus"] == "STOPPED";
            let comes_back = t["status"]["lastStatus"] == "RUNNING" && self.is_absent(t);
            settled && !comes_back && t["metadata"]["deletionTimestamp"].is_null()
        })
    }

    /// It was replaced, and its host is not back for a minute.
    fn is_absent(&self, task: &Value) -> bool {
        let back = task["status"]["absence"]["backSince"].as_str();
        let back = back.and_then(|text| text.parse::<Timestamp>().ok());
        let counts = back.is_some_and(|at| self.shared.now >= at + SignedDuration::from_secs(60));
        !task["status"]["absence"].is_null() && !counts
    }

    fn at_rest(&mut self) {
        let mut objects = self.shared.server.gather();
        for host in self.shared.server.leases().keys() {
            let heard = Silence::since_heard(std::time::Duration::ZERO);
            objects.silence.insert(host.clone(), heard);
        }
        let world = World::gather(&objects, NAMESPACE, "default", &self.settings, self.epoch);
        for plan in [
            families::plan(&objects, NAMESPACE, self.looked_at),
            plan(&world, self.looked_at),
        ] {
            if !plan.actions.is_empty() || !plan.publications.is_empty() {
                self.fail(&format!(
                    "S8: at rest there is still to do {:?} and to say {:?}",
                    plan.actions, plan.publications
                ));
            }
        }
        let misled = self.misled();
        if !misled.is_empty() {
            self.fail(&format!(
                "S23: agents believe otherwise of the services of {misled:?} than their status says"
            ));
        }
        let mistaken = invariants::mistaken(&self.shared.server);
        if !mistaken.is_empty() {
            self.fail(&format!(
                "S28: at rest {mistaken:?} say otherwise than their hosts whether these are connected"
            ));
        }
        let mut running: Vec<String> = self.tasks(|t| {
            t.status
                .as_ref()
                .is_some_and(|s| s.last_status == LastStatus::Running)
        });
        let mut alive: Vec<String> = Vec::new();
        for agent in &self.agents {
            let forgotten = agent.forgotten();
            let known = |c: &&ContainerSummary| {
                let of = c.labels.get(labels::CONTAINER_TASK_UID);
                !of.is_some_and(|uid| forgotten.contains(uid.as_str()))
            };
            for container in agent
                .engine
                .containers()
                .iter()
                .filter(|c| c.phase.is_alive())
                .filter(known)
            {
                alive.push(
                    container
                        .labels
                        .get(labels::CONTAINER_TASK)
                        .cloned()
                        .unwrap_or_default(),
                );
            }
        }
        for agent in &self.agents {
            let uids: Vec<String> = agent
                .engine
                .containers()
                .iter()
                .filter_map(|c| c.labels.get(labels::CONTAINER_TASK_UID).cloned())
                .collect();
            for volume in agent.engine.volumes() {
                let owner = volume.labels.get(labels::CONTAINER_TASK_UID);
                if owner.is_some_and(|uid| !uids.contains(uid)) {
                    self.fail(&format!(
                        "S13: {} has volume {} of a task without containers",
                        agent.name, volume.name
                    ));
                }
            }
        }
        running.sort();
        alive.sort();
        alive.dedup();
        if running != alive {
            self.fail(&format!(
                "S9: RUNNING are {running:?}, and alive are the containers of {alive:?}"
            ));
        }
    }

    /// Names of the tasks for which `pick` holds.
    pub fn tasks(&self, pick: impl Fn(&tallyman_crds::Task) -> bool) -> Vec<String> {
        let all = self.shared.server.typed(Kind::Task);
        let tasks = all.iter().filter_map(|o| {
            if let Object::Task(t) = o {
                Some(t)
            } else {
                None
            }
        });
        tasks
            .filter(|t| pick(t))
            .filter_map(|t| t.metadata.name.clone())
            .collect()
    }

    /// Containers on all engines, dead ones too.
    pub fn containers(&self) -> usize {
        self.agents
            .iter()
            .map(|a| a.engine.containers().len())
            .sum()
    }

    /// Volumes on all engines that are a task's own.
    pub fn own_volumes(&self) -> usize {
        let volumes = self.agents.iter().flat_map(|a| a.engine.volumes());
        volumes
            .filter(|v| v.labels.contains_key(labels::CONTAINER_TASK_UID))
            .count()
    }

    /// Ends the story with a report of how to see it again.
    #[expect(clippy::panic, reason = "this is how a test fails")]
    pub fn fail(&self, why: &str) -> ! {
        panic!(
            "\n{why}\n\nstory {} of seed {}, step {}, {}\n  {}\n\nservices, runs, schedules:\n  {}\n\nagain: {}\n",
            self.name,
            self.seed,
            self.steps,
            self.shared.now,
            self.shared.trace.text(),
            self.services(),
            self.again.clone().unwrap_or_else(|| format!(
                "TALLYMAN_SIM_SEED={} cargo test -p tallyman-sim -- {}",
                self.seed, self.name
            )),
        )
    }

    fn services(&self) -> String {
        let kinds = [
            Kind::Service,
            Kind::TaskSet,
            Kind::RunTask,
            Kind::ScheduledTask,
        ];
        let all = kinds
            .into_iter()
            .flat_map(|kind| self.shared.server.all(kind));
        let lines: Vec<String> = all
            .map(|(n, s)| {
                format!(
                    "{n}: {} ({})",
                    s["status"]["message"], s["status"]["conditions"][0]["reason"]
                )
            })
            .collect();
        lines.join("\n  ")
    }
}

pub(crate) fn option(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Tells a story with several seeds: `seeds` of them, or as the environment says.
pub fn story(name: &str, seeds: u64, hosts: usize, tell: impl Fn(&mut Sim)) {
    if let Some(seed) = option("TALLYMAN_SIM_SEED").and_then(|s| s.parse().ok()) {
        tell(&mut Sim::new(name, seed, hosts));
        return;
    }
    let seeds = option("TALLYMAN_SIM_SEEDS")
        .and_then(|s| s.parse().ok())
        .unwrap_or(seeds);
    for seed in 1..=seeds {
        tell(&mut Sim::new(name, seed, hosts));
    }
}
