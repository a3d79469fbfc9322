//! Whether the host itself keeps tasks from starting: told of the ContainerInstance, since the tasks that fail of it may be
//! anybody's, and their ends do not say that all others would fare alike.
//!
//! One failure is the task's affair. Several in a row of one verb, of which nobody who wrote a task definition is to
//! blame, with no success between them, are the host's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{EngineError, PullFault, Verb};

use crate::backoff::later;
use crate::perform::Outcome;
use crate::task::trim;

/// So many failures in a row are the host's.
const IN_A_ROW: u32 = 3;
/// What has not happened again for so long is not told any more: perhaps nobody asked since.
const FRESH: Duration = Duration::from_secs(600);

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
}

impl Failing {
    /// Takes in what a verb came to.
    pub fn note(&self, outcome: &Outcome, now: Timestamp) {
        let verb = outcome.verb();
        let mut rows = self.rows();
        let Some(error) = outcome.error() else {
            rows.remove(&verb);
            return;
        };
        if !is_the_hosts(error) {
            return;
        }
        let row = rows.entry(verb).or_insert_with(|| Row {
            count: 0,
            words: trim(error.to_string()),
            last_at: now,
        });
        row.count = row.count.saturating_add(1);
        row.last_at = now;
    }

    /// What is wrong, for people.
    pub fn complaint(&self, now: Timestamp) -> Option<String> {
        let mut rows = self.rows();
        rows.retain(|_, row| now < later(row.last_at, FRESH));
        let told: Vec<String> = rows
            .iter()
            .filter(|(_, row)| row.count >= IN_A_ROW)
            .map(|(verb, row)| {
                format!(
                    "The container engine fails to {}, whichever task asks. It said: {}.",
                    deed(*verb),
                    row.words.trim_end_matches('.')
                )
            })
            .collect();
        (!told.is_empty()).then(|| told.join(" "))
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Verb, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether other tasks would fare alike. An engine that is away or hangs is told of by its lists.
fn is_the_hosts(error: &EngineError) -> bool {
    match error {
        EngineError::NoSpace { .. }
        | EngineError::CannotLimit { .. }
        | EngineError::CannotWrite { .. }
        | EngineError::NetworkNotFound { .. } => true,
        EngineError::Engine { status, .. } => !(400..=499).contains(status),
        EngineError::PullFailed { why, .. } => match why {
            PullFault::RegistryUnreachable | PullFault::Stalled => true,
            PullFault::Denied | PullFault::Platform | PullFault::RateLimited | PullFault::Other => {
                false
            }
        },
        EngineError::ImageNotFound { .. }
        | EngineError::CannotRead { .. }
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
        | EngineError::Interrupted { .. } => false,
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

    #[test]
    fn three_failures_in_a_row_are_the_hosts_and_one_success_ends_them() {
        let failing = Failing::default();
        failing.note(&broken("no layer"), at(0));
        failing.note(&broken("no layer"), at(1));
        assert_eq!(failing.complaint(at(1)), None);
        // Another verb is another matter.
        failing.note(&Outcome::Stopped(Ok(())), at(1));
        failing.note(&broken("no other layer"), at(2));
        let told = failing.complaint(at(2)).unwrap();
        assert!(
            told.contains("fails to create containers") && told.ends_with("It said: no layer."),
            "{told}"
        );
        failing.note(&created(), at(3));
        assert_eq!(failing.complaint(at(3)), None);
    }

    #[test]
    fn what_somebody_wrote_is_not_the_hosts() {
        let failing = Failing::default();
        for second in 0..9 {
            let message = "no such driver".to_owned();
            let refused = Outcome::Created(Err(EngineError::InvalidSpec { message }));
            failing.note(&refused, at(second));
        }
        assert_eq!(failing.complaint(at(9)), None);
    }

    #[test]
    fn what_does_not_happen_again_is_forgotten() {
        let failing = Failing::default();
        for second in 0..3 {
            failing.note(&broken("no layer"), at(second));
        }
        assert!(failing.complaint(at(601)).is_some());
        assert_eq!(failing.complaint(at(602)), None);
    }
}
