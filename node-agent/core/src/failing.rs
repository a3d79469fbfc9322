//! Whether the host itself keeps tasks from starting: told of the ContainerInstance, since the tasks that fail of it may be
//! anybody's, and their ends do not say that all others would fare alike.
//!
//! One failure is the task's affair. Several in a row of one verb, of which nobody who wrote a task definition is to
//! blame, with no success between them, are the host's.
//!
//! While they keep tasks from starting, the host is given no tasks. Since then nobody asks any more, and so nobody learns that it
//! is mended, it is offered again after a while, which doubles with each failure that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{EngineError, PullFault, Verb};

use crate::backoff::{Backoff, later};
use crate::perform::Outcome;
use crate::task::{error_name, trim};

/// So many failures in a row are the host's.
const IN_A_ROW: u32 = 3;
/// Of so many families an engine that does not say whose fault it is.
const FAMILIES: usize = 2;
/// What has not happened again for so long is not told any more: perhaps nobody asked since.
const FRESH: Duration = Duration::from_secs(600);
/// How long the host is given no tasks after a failure. The longest is below [`FRESH`]: what is forgotten bars nobody.
const BARS: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(480),
};

/// What the engine fails to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// For people.
    pub words: String,
    /// Tasks that come would not start either.
    pub bars: bool,
}

/// What the engine failed to do lately, over all tasks.
#[derive(Debug, Default)]
pub struct Failing(Mutex<BTreeMap<Verb, Row>>);

/// Failures of one verb without a success between them.
#[derive(Debug)]
struct Row {
    count: u32,
    /// The first one's words stay, so that what is told changes only when something did.
    words: String,
    last_at: Timestamp,
    blame: Blame,
    /// Families of the tasks that failed; more than enough are not counted.
    families: BTreeSet<String>,
    /// How often the host was barred for it.
    bars: u32,
    barred_until: Timestamp,
}

/// How sure it is that other tasks would fare alike, the surest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blame {
    /// It lies outside of the host, in a registry say: tasks whose images are here do start.
    Elsewhere,
    /// The engine does not say whose fault it is. One task definition may be what it cannot take.
    Likely,
    /// The host.
    Certain,
}

impl Row {
    /// Tasks that come would not start either.
    fn keeps_tasks_from_starting(&self, verb: Verb) -> bool {
        let families_enough = match self.blame {
            Blame::Elsewhere => return false,
            Blame::Likely => FAMILIES,
            Blame::Certain => 1,
        };
        self.count >= IN_A_ROW && self.families.len() >= families_enough && brings_up(verb)
    }
}

impl Failing {
    /// Takes in what a verb came to for a task of `family`.
    pub fn note(&self, outcome: &Outcome, family: &str, now: Timestamp) {
        let verb = outcome.verb();
        let mut rows = self.rows();
        let Some(error) = outcome.error() else {
            rows.remove(&verb);
            return;
        };
        let Some(blame) = blame(error) else {
            return;
        };
        let row = rows.entry(verb).or_insert_with(|| Row {
            count: 0,
            words: trim(error.to_string()),
            last_at: now,
            blame,
            families: BTreeSet::new(),
            bars: 0,
            barred_until: now,
        });
        row.count = row.count.saturating_add(1);
        row.last_at = now;
        row.blame = row.blame.max(blame);
        if row.families.len() < FAMILIES {
            row.families.insert(family.to_owned());
        }
        // What fails while the host is barred had been given to it before.
        if row.barred_until <= now && row.keeps_tasks_from_starting(verb) {
            row.bars = row.bars.saturating_add(1);
            row.barred_until = BARS.next(row.bars, 0, now);
        }
    }

    /// What is wrong.
    pub fn complaint(&self, now: Timestamp) -> Option<Complaint> {
        let mut rows = self.rows();
        rows.retain(|_, row| now < later(row.last_at, FRESH));
        let told: Vec<String> = rows
            .iter()
            .filter(|(_, row)| row.count >= IN_A_ROW)
            .map(|(verb, row)| {
                format!(
                    "The container engine fails to {} ({}), whichever task asks. It said: {}.",
                    deed(*verb),
                    error_name(*verb),
                    row.words.trim_end_matches('.')
                )
            })
            .collect();
        (!told.is_empty()).then(|| Complaint {
            words: told.join(" "),
            bars: rows.values().any(|row| now < row.barred_until),
        })
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Verb, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task needs before it runs.
fn brings_up(verb: Verb) -> bool {
    match verb {
        Verb::Prepare
        | Verb::EnsureImage
        | Verb::Create
        | Verb::Start
        | Verb::CreateVolume
        | Verb::EnsureNetwork
        | Verb::Attach => true,
        Verb::Inspect
        | Verb::Stop
        | Verb::Remove
        | Verb::InspectVolume
        | Verb::RemoveVolume
        | Verb::Describe
        | Verb::List
        | Verb::Watch
        | Verb::ListVolumes
        | Verb::ProvideGroup
        | Verb::RemoveGroup
        | Verb::ListGroups
        | Verb::ListAll
        | Verb::ListImages
        | Verb::RemoveImage
        | Verb::Stats => false,
    }
}

/// Whether other tasks would fare alike; `None` is what a task definition is to blame for. An engine that is away or hangs is told
/// of by its lists.
fn blame(error: &EngineError) -> Option<Blame> {
    match error {
        EngineError::NoSpace { .. }
        | EngineError::CannotLimit { .. }
        | EngineError::CannotWrite { .. } => Some(Blame::Certain),
        EngineError::NetworkNotFound { .. } => Some(Blame::Likely),
        EngineError::Engine { status, .. } => {
            (!(400..=499).contains(status)).then_some(Blame::Likely)
        }
        EngineError::CannotResolve { .. } => Some(Blame::Likely),
        EngineError::CannotAuthenticate { .. } => Some(Blame::Elsewhere),
        EngineError::PullFailed { why, .. } => match why {
            PullFault::RegistryUnreachable | PullFault::Stalled => Some(Blame::Elsewhere),
            PullFault::Denied | PullFault::Platform | PullFault::RateLimited | PullFault::Other => {
                None
            }
        },
        EngineError::ImageNotFound { .. }
        | EngineError::CannotRead { .. }
        | EngineError::LeadsAstray { .. }
        | EngineError::NameTaken { .. }
        | EngineError::VolumeTaken { .. }
        | EngineError::VolumeInUse { .. }
        | EngineError::ImageInUse { .. }
        | EngineError::PortTaken { .. }
        | EngineError::GpusTaken { .. }
        | EngineError::NoDeviceDriver { .. }
        | EngineError::NotFound { .. }
        | EngineError::Running { .. }
        | EngineError::InvalidSpec { .. }
        | EngineError::CannotStart { .. }
        | EngineError::TooOld { .. }
        | EngineError::Timeout { .. }
        | EngineError::Unreachable { .. }
        | EngineError::Interrupted { .. } => None,
    }
}

fn deed(verb: Verb) -> &'static str {
    match verb {
        Verb::Prepare | Verb::EnsureImage => "bring images",
        Verb::Create => "create containers",
        Verb::Start => "start containers",
        Verb::Inspect => "look at containers",
        Verb::Stop => "stop containers",
        Verb::Remove => "remove containers",
        Verb::CreateVolume | Verb::InspectVolume => "provide volumes",
        Verb::RemoveVolume => "remove volumes",
        Verb::EnsureNetwork => "make the network of tasks",
        Verb::Attach => "put tasks on the network to the agent",
        Verb::Describe
        | Verb::List
        | Verb::Watch
        | Verb::ListVolumes
        | Verb::ProvideGroup
        | Verb::RemoveGroup
        | Verb::ListGroups
        | Verb::ListAll
        | Verb::ListImages
        | Verb::RemoveImage
        | Verb::Stats => "answer",
    }
}

#[cfg(test)]
mod tests {
    use tallyman_agent_engine::Created;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn broken(words: &str) -> Outcome {
        Outcome::Created(Err(EngineError::Engine {
            verb: Verb::Create,
            status: 500,
            message: words.to_owned(),
        }))
    }

    fn created() -> Outcome {
        Outcome::Created(Ok(Created {
            container_id: "x".to_owned(),
            adopted: false,
        }))
    }

    fn told(failing: &Failing, second: i64) -> Option<String> {
        failing.complaint(at(second)).map(|told| told.words)
    }

    fn bars(failing: &Failing, second: i64) -> bool {
        failing.complaint(at(second)).is_some_and(|told| told.bars)
    }

    #[test]
    fn three_failures_in_a_row_are_the_hosts_and_one_success_ends_them() {
        let failing = Failing::default();
        failing.note(&broken("no layer"), "web", at(0));
        failing.note(&broken("no layer"), "web", at(1));
        assert_eq!(failing.complaint(at(1)), None);
        // Another verb is another matter.
        failing.note(&Outcome::Stopped(Ok(())), "web", at(1));
        failing.note(&broken("no other layer"), "api", at(2));
        let said = told(&failing, 2).unwrap();
        assert!(
            said.contains("fails to create containers (CannotCreateContainerError)")
                && said.ends_with("It said: no layer."),
            "{said}"
        );
        assert!(bars(&failing, 2));
        failing.note(&created(), "web", at(3));
        assert_eq!(failing.complaint(at(3)), None);
    }

    #[test]
    fn what_somebody_wrote_is_not_the_hosts() {
        let failing = Failing::default();
        for second in 0..9 {
            let message = "no such driver".to_owned();
            let refused = Outcome::Created(Err(EngineError::InvalidSpec { message }));
            failing.note(&refused, "web", at(second));
        }
        assert_eq!(failing.complaint(at(9)), None);
    }

    #[test]
    fn what_does_not_happen_again_is_forgotten() {
        let failing = Failing::default();
        for second in 0..3 {
            failing.note(&broken("no layer"), "web", at(second));
        }
        assert!(told(&failing, 601).is_some());
        assert_eq!(told(&failing, 602), None);
    }

    #[test]
    fn the_host_is_barred_when_other_tasks_would_fare_alike() {
        let no_space = || EngineError::NoSpace {
            message: "no space left on device".to_owned(),
        };
        let unreachable = || EngineError::PullFailed {
            image: "x".to_owned(),
            why: PullFault::RegistryUnreachable,
            message: "no such host".to_owned(),
        };
        let odd = || EngineError::Engine {
            verb: Verb::Create,
            status: 500,
            message: "odd".to_owned(),
        };
        type Case<'a> = (
            &'a str,
            fn(EngineError) -> Outcome,
            EngineError,
            [&'a str; 3],
            bool,
        );
        let create: fn(EngineError) -> Outcome = |error| Outcome::Created(Err(error));
        let remove: fn(EngineError) -> Outcome = |error| Outcome::Removed(Err(error));
        let pull: fn(EngineError) -> Outcome = |error| Outcome::Prepared(Err(error));
        let cases: [Case<'_>; 5] = [
            (
                "a full disk is nobody else's",
                create,
                no_space(),
                ["a", "a", "a"],
                true,
            ),
            (
                "one family may be what the engine cannot take",
                create,
                odd(),
                ["a", "a", "a"],
                false,
            ),
            ("two are not", create, odd(), ["a", "a", "b"], true),
            (
                "a registry is not the host",
                pull,
                unreachable(),
                ["a", "b", "c"],
                false,
            ),
            (
                "what cannot be removed keeps nothing from starting",
                remove,
                odd(),
                ["a", "b", "c"],
                false,
            ),
        ];
        for (why, outcome, error, families, barred) in cases {
            let failing = Failing::default();
            for family in families {
                failing.note(&outcome(error.clone()), family, at(0));
            }
            assert!(told(&failing, 0).is_some(), "{why}");
            assert_eq!(bars(&failing, 0), barred, "{why}");
        }
    }

    #[test]
    fn a_barred_host_is_offered_again_and_each_further_failure_doubles_the_wait() {
        let failing = Failing::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for family in ["a", "b"] {
            failing.note(&broken("no layer"), family, at(now));
        }
        for _ in 0..6 {
            failing.note(&broken("no layer"), "a", at(now));
            let begun = now;
            // What was given to it before changes nothing.
            failing.note(&broken("no layer"), "a", at(now + 1));
            while bars(&failing, now) {
                now += 1;
            }
            waits.push(now - begun);
        }
        let near = |wait: i64, middle: i64| (wait - middle).abs() <= middle / 8 + 1;
        for (wait, middle) in waits.iter().zip([60, 120, 240, 480, 480, 480]) {
            assert!(near(*wait, middle), "{waits:?}");
        }
        assert!(
            told(&failing, now).is_some(),
            "forgotten before it was tried again"
        );
        failing.note(&created(), "a", at(now));
        assert_eq!(failing.complaint(at(now)), None);
    }
}
