//! What can go wrong once in a life, and at which moment of it.
//!
//! The classes are those of Sieve (OSDI '22: intermediate states, stale states, unobserved states) and what else befalls
//! processes, networks and engines. Moments are counted in the life's own deeds: the n-th write, call or event is the same
//! in every telling with the same seed, up to the moment itself.

use jiff::{SignedDuration, Timestamp};
use tallyman_agent_engine::fake::Mishap;
use tallyman_operator_core::Kind;

use crate::api::Gap;
use crate::operator::CrashPoint;
use crate::sim::Sim;

/// How an engine does not tell the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing is done, and the call times out.
    TimeoutBefore,
    /// It is done, and the call times out.
    TimeoutAfter,
    /// It is done, and the connection breaks before the answer.
    Interrupted,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    /// The operator dies at a write.
    OperatorDies(CrashPoint),
    /// A write of the operator is answered by an error, done or not.
    OperatorUnanswered(CrashPoint),
    /// The leader hangs before a write, another takes over, and it goes on so many seconds later.
    LeaderPauses {
        /// At which write.
        at: u64,
        /// For how long.
        seconds: i64,
    },
    /// A watch of the operator brings nothing for so many seconds.
    OperatorLags {
        /// Of this kind.
        kind: Kind,
        /// From this event on.
        from: usize,
        /// For how long.
        seconds: i64,
    },
    /// A watch of the operator ends with 410 Gone, and so many events are never seen.
    OperatorMisses {
        /// Of this kind.
        kind: Kind,
        /// From this event on.
        from: usize,
        /// How many.
        events: usize,
    },
    /// The first host's agent dies at a deed.
    AgentDies {
        /// At which.
        point: CrashPoint,
        /// Its disk goes with it.
        disk: bool,
    },
    /// A report of the first host's agent is answered by an error, taken or not.
    AgentUnanswered(CrashPoint),
    /// A watch of the first host's agent brings nothing for so many seconds.
    AgentLags {
        /// From this event of HostPlans on.
        from: usize,
        /// For how long.
        seconds: i64,
    },
    /// So many plans are never seen by the first host's agent.
    AgentMisses {
        /// From this event of HostPlans on.
        from: usize,
        /// How many.
        events: usize,
    },
    /// A call of the first host's engine is not answered truly.
    EngineLies {
        /// Which call.
        call: u64,
        /// How.
        lie: Lie,
    },
    /// The first host's engine does not answer for so many seconds.
    EngineAway {
        /// From which call on.
        call: u64,
        /// For how long.
        seconds: i64,
    },
    /// The first host's engine restarts.
    EngineRestarts {
        /// After which call.
        call: u64,
        /// Its containers survive.
        live_restore: bool,
    },
    /// A host is cut off.
    CutOff {
        /// Which.
        host: usize,
        /// At which second of the life.
        at: i64,
        /// For how long.
        seconds: i64,
    },
    /// The API server is away.
    ApiAway {
        /// At which second of the life.
        at: i64,
        /// For how long.
        seconds: i64,
    },
    /// A host loses power for a moment.
    Reboots {
        /// Which.
        host: usize,
        /// At which second of the life.
        at: i64,
    },
}

/// Names of the classes, in the order in which they are counted and printed.
pub const CLASSES: [&str; 15] = [
    "operator dies at a write",
    "operator's write is answered by an error",
    "leader hangs and goes on under another",
    "operator's watch lags",
    "operator's watch misses events (410 Gone)",
    "agent dies at a deed",
    "agent dies at a deed and its disk with it",
    "agent's watch lags",
    "agent's watch misses plans",
    "engine lies or times out",
    "engine is away",
    "engine restarts",
    "host is cut off or loses power",
    "API server is away",
    "agent's report is answered by an error",
];

impl Perturbation {
    /// Its class: an index into [`CLASSES`].
    pub fn class(&self) -> usize {
        match self {
            Self::OperatorDies(_) => 0,
            Self::OperatorUnanswered(_) => 1,
            Self::LeaderPauses { .. } => 2,
            Self::OperatorLags { .. } => 3,
            Self::OperatorMisses { .. } => 4,
            Self::AgentDies { disk: false, .. } => 5,
            Self::AgentDies { disk: true, .. } => 6,
            Self::AgentLags { .. } => 7,
            Self::AgentMisses { .. } => 8,
            Self::EngineLies { .. } => 9,
            Self::EngineAway { .. } => 10,
            Self::EngineRestarts { .. } => 11,
            Self::CutOff { .. } | Self::Reboots { .. } => 12,
            Self::ApiAway { .. } => 13,
            Self::AgentUnanswered(_) => 14,
        }
    }

    /// Containers may fail, or count as failed, for it: it is not only up to us what is healthy and how many tasks it
    /// takes.
    pub fn harms(&self) -> bool {
        match self {
            Self::EngineLies { .. }
            | Self::EngineAway { .. }
            | Self::EngineRestarts { .. }
            | Self::CutOff { .. }
            | Self::Reboots { .. } => true,
            Self::OperatorDies(_)
            | Self::OperatorUnanswered(_)
            | Self::LeaderPauses { .. }
            | Self::OperatorLags { .. }
            | Self::OperatorMisses { .. }
            | Self::AgentDies { .. }
            | Self::AgentUnanswered(_)
            | Self::AgentLags { .. }
            | Self::AgentMisses { .. }
            | Self::ApiAway { .. } => false,
        }
    }
}

/// A perturbation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    what: Perturbation,
    born: Timestamp,
    ends: Option<Timestamp>,
    /// It came to pass.
    pub came: bool,
}

impl Sim {
    /// Lets this go wrong. Before the first step.
    pub fn perturb(&mut self, what: Perturbation) {
        match what {
            Perturbation::OperatorDies(point) => self.operator_crash = Some(point),
            Perturbation::OperatorUnanswered(point) => self.operator_unanswered = Some(point),
            Perturbation::OperatorLags {
                kind,
                from,
                seconds,
            } => self.operator_gap = Some(Gap::lag(kind, from, seconds)),
            Perturbation::OperatorMisses { kind, from, events } => {
                self.operator_gap = Some(Gap::miss(kind, from, events));
            }
            Perturbation::AgentDies { point, disk } => {
                self.agents[0].crash = Some(point);
                self.agents[0].loses_disk = disk;
            }
            Perturbation::AgentUnanswered(point) => self.agents[0].unanswered = Some(point),
            Perturbation::AgentLags { from, seconds } => {
                self.agents[0].gap = Some(Gap::lag(Kind::HostPlan, from, seconds));
            }
            Perturbation::AgentMisses { from, events } => {
                self.agents[0].gap = Some(Gap::miss(Kind::HostPlan, from, events));
            }
            Perturbation::EngineLies { call, lie } => {
                let mishap = match lie {
                    Lie::TimeoutBefore => Mishap::TimeoutBefore,
                    Lie::TimeoutAfter => Mishap::TimeoutAfter,
                    Lie::Interrupted => Mishap::InterruptedAfter,
                };
                self.agents[0].engine.at_call(call, mishap);
            }
            Perturbation::LeaderPauses { at, .. } => self.operator_pause = Some(at),
            Perturbation::EngineAway { .. }
            | Perturbation::EngineRestarts { .. }
            | Perturbation::CutOff { .. }
            | Perturbation::ApiAway { .. }
            | Perturbation::Reboots { .. } => {}
        }
        self.shared.monitor.faults |= what.harms();
        self.shared.monitor.unfenced = matches!(
            what,
            Perturbation::EngineAway { .. } | Perturbation::AgentDies { disk: true, .. }
        );
        self.fate = Some(Fate {
            what,
            born: self.shared.now,
            ends: None,
            came: false,
        });
    }

    /// Whether what was to go wrong did.
    pub fn came_to_pass(&self) -> bool {
        let Some(fate) = self.fate else { return false };
        match fate.what {
            Perturbation::OperatorDies(_)
            | Perturbation::OperatorUnanswered(_)
            | Perturbation::OperatorLags { .. }
            | Perturbation::OperatorMisses { .. } => self.shared.came_to_pass,
            Perturbation::AgentDies { point, .. } => self.agents[0].deeds >= point.at,
            Perturbation::AgentUnanswered(point) => self.agents[0].reports >= point.at,
            Perturbation::AgentLags { .. } | Perturbation::AgentMisses { .. } => {
                self.agents[0].gap.is_none_or(|gap| gap.began())
            }
            Perturbation::EngineLies { call, .. } => self.agents[0].engine.call_count() >= call,
            Perturbation::LeaderPauses { .. }
            | Perturbation::EngineAway { .. }
            | Perturbation::EngineRestarts { .. }
            | Perturbation::CutOff { .. }
            | Perturbation::ApiAway { .. }
            | Perturbation::Reboots { .. } => fate.came,
        }
    }

    /// What is due of it.
    pub(crate) fn meet_fate(&mut self) {
        let Some(mut fate) = self.fate else { return };
        let now = self.shared.now;
        let second = now.duration_since(fate.born).as_secs();
        let begins = !fate.came
            && match fate.what {
                Perturbation::LeaderPauses { .. } => {
                    self.operators.last().is_some_and(|o| o.paused)
                }
                _ if self.calm => false,
                Perturbation::EngineAway { call, .. }
                | Perturbation::EngineRestarts { call, .. } => {
                    self.agents[0].engine.call_count() >= call
                }
                Perturbation::CutOff { at, .. }
                | Perturbation::ApiAway { at, .. }
                | Perturbation::Reboots { at, .. } => second >= at,
                _ => false,
            };
        if begins {
            fate.came = true;
            let ends = |seconds| Some(now + SignedDuration::from_secs(seconds));
            match fate.what {
                Perturbation::LeaderPauses { seconds, .. } => {
                    self.depose();
                    fate.ends = ends(seconds);
                }
                Perturbation::EngineAway { seconds, .. } => {
                    self.shared.note("fate", "the engine of host-a is away");
                    self.agents[0].engine.set_unreachable(true);
                    fate.ends = ends(seconds);
                }
                Perturbation::EngineRestarts { live_restore, .. } => {
                    self.shared.note("fate", "the engine of host-a restarts");
                    self.agents[0].engine.restart_engine(live_restore);
                }
                Perturbation::CutOff { host, seconds, .. } => {
                    let name = self.agents[host].name.clone();
                    self.shared.note("fate", &format!("{name} is cut off"));
                    self.agents[host].link_down = true;
                    fate.ends = ends(seconds);
                }
                Perturbation::ApiAway { seconds, .. } => {
                    self.shared.note("fate", "the API server is away");
                    self.shared.server.down = true;
                    fate.ends = ends(seconds);
                }
                Perturbation::Reboots { host, .. } => {
                    self.agents[host].power_off(&mut self.shared);
                    fate.ends = ends(20);
                }
                _ => {}
            }
        }
        if fate.ends.is_some_and(|at| at <= now) {
            fate.ends = None;
            match fate.what {
                Perturbation::LeaderPauses { .. } => self.resume(),
                Perturbation::EngineAway { .. } => self.agents[0].engine.mend(),
                Perturbation::CutOff { host, .. } => {
                    self.shared.note("fate", "it is connected again");
                    self.agents[host].link_down = false;
                }
                Perturbation::ApiAway { .. } => {
                    self.shared.note("fate", "the API server is back");
                    self.shared.server.down = false;
                }
                Perturbation::Reboots { host, .. } => {
                    self.agents[host].power_on(&mut self.shared);
                }
                _ => {}
            }
        }
        self.fate = Some(fate);
    }

    /// When something begins or ends next, as far as it is a matter of time.
    pub(crate) fn fate_due(&self) -> Option<Timestamp> {
        let fate = self.fate?;
        if fate.came || self.calm {
            return fate.ends;
        }
        match fate.what {
            Perturbation::CutOff { at, .. }
            | Perturbation::ApiAway { at, .. }
            | Perturbation::Reboots { at, .. } => Some(fate.born + SignedDuration::from_secs(at)),
            _ => None,
        }
    }

    /// A user whose API server is away tries again.
    pub(crate) fn reach(&mut self) {
        if self.fate.is_some() && self.shared.server.down {
            self.until("the API server is back", 600, |s| !s.shared.server.down);
        }
    }

    /// It is over, whatever it is.
    pub(crate) fn end_fate(&mut self) {
        let Some(fate) = &mut self.fate else { return };
        if fate.ends.is_some() {
            fate.ends = Some(self.shared.now);
            self.meet_fate();
        }
    }
}
