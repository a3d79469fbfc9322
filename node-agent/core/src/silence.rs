//! For how long the host has been out of touch with the API server, for tasks that must not run beside their replacement
//! (`disconnect.stopAfter`).
//!
//! What counts is when the last renewal of the Lease that the API server confirmed was *sent*: the operator saw it change then or
//! later, so the agent's time runs out first. Time is the host's since it booted, suspended or not, so neither a wall clock
//! that is set nor a machine that sleeps makes it longer. What is remembered is on disk with the id of the boot;
//! after another boot, or without it, nothing is known, and such tasks stop first.
//!
//! A silence that is over still counts for who was there in it and could not look: a process that was killed or frozen finds
//! the API server again before it finds its tasks. So those that were long enough to matter have numbers, each task remembers up to
//! which it has looked ([`TaskRecord::heard`](crate::TaskRecord::heard)), and what it has missed counts as though it lasted still.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tallyman_agent_engine::ContainerSummary;
use tallyman_crds::labels;

use crate::ids::TaskUid;
use crate::orphans::Condemned;

/// The least `stopAfter` (schema of Service): no shorter silence matters to anybody.
const SHORTEST: Duration = Duration::from_secs(30);
/// What the operator reckons for a container that says nothing of its own (`disconnect` of its core).
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// So many silences are told apart; among more the oldest count as one.
const MOST: usize = 16;

/// The last renewal that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// In which boot of the host.
    pub boot_id: String,
    /// When it was sent, since that boot.
    pub sent: Duration,
}

/// What was confirmed, over restarts of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Contact>,
    /// How many silences that were long enough to matter are over.
    #[serde(default)]
    over: u64,
    /// The longest of them since each, oldest first: a longer one stands for those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    silences: Vec<Over>,
}

/// A silence that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Over {
    number: u64,
    silence: Silence,
}

impl Contacts {
    /// A renewal was confirmed at `now` that was sent at `sent`, both since the boot `boot_id`.
    pub fn confirmed(&mut self, boot_id: &str, sent: Duration, now: Duration) {
        let silence = Silence::since(self.last.as_ref(), Some(boot_id), Some(now));
        if silence.exceeds(SHORTEST) {
            self.over += 1;
            self.silences.retain(|before| before.silence > silence);
            self.silences.push(Over {
                number: self.over,
                silence,
            });
            if self.silences.len() > MOST {
                let oldest = self.silences.remove(0);
                if let Some(next) = self.silences.first_mut() {
                    next.silence = oldest.silence;
                }
            }
        }
        self.last = Some(Contact {
            boot_id: boot_id.to_owned(),
            sent,
        });
    }

    /// Number of the last silence that is over.
    pub fn over(&self) -> u64 {
        self.over
    }
}

/// What is known of it at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silences {
    contacts: Arc<Contacts>,
    lasts: Silence,
}

impl Silences {
    /// At `now` since the boot `boot_id`.
    pub fn at(contacts: Arc<Contacts>, boot_id: Option<&str>, now: Option<Duration>) -> Self {
        let lasts = Silence::since(contacts.last.as_ref(), boot_id, now);
        Self { contacts, lasts }
    }

    /// The one that lasts.
    pub fn lasts(&self) -> Silence {
        self.lasts
    }

    /// Number of the last one that is over.
    pub fn over(&self) -> u64 {
        self.contacts.over
    }

    /// The longest for who has looked up to this number: the one that lasts, or one that is over since.
    pub fn missed_since(&self, heard: u64) -> Silence {
        let missed = self.contacts.silences.iter().filter(|s| s.number > heard);
        missed.map(|s| s.silence).fold(self.lasts, Silence::max)
    }
}

/// For how long nothing was confirmed; the longer, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Silence {
    /// For so long.
    For(Duration),
    /// Nobody knows: nothing was confirmed in this boot, or the host has no clock to tell it by.
    Unknown,
}

impl Silence {
    /// At `now` since the boot `boot_id`, after `contact`.
    pub fn since(contact: Option<&Contact>, boot_id: Option<&str>, now: Option<Duration>) -> Self {
        match (contact, boot_id, now) {
            (Some(contact), Some(boot_id), Some(now)) if contact.boot_id == boot_id => {
                // One that lies in the future is none that can be reckoned with.
                now.checked_sub(contact.sent)
                    .map_or(Self::Unknown, Self::For)
            }
            _ => Self::Unknown,
        }
    }

    /// It is as long as `limit`, or may be.
    pub fn exceeds(self, limit: Duration) -> bool {
        match self {
            Self::For(silence) => silence >= limit,
            Self::Unknown => true,
        }
    }

    /// When it will be as long as `limit`, if it is not yet and nothing is confirmed.
    pub fn reaches(self, limit: Duration, now: Timestamp) -> Option<Timestamp> {
        let Self::For(silence) = self else {
            return None;
        };
        let left = limit.checked_sub(silence).filter(|left| !left.is_zero())?;
        now.checked_add(SignedDuration::try_from(left).ok()?).ok()
    }

    /// Why a task ends for it.
    pub(crate) fn sentence(self, limit: Duration) -> String {
        let limit = limit.as_secs();
        match self {
            Self::For(silence) => format!(
                "The host was out of touch with the API server for {} s, and `disconnect.stopAfter` of the service is \
                 {limit} s",
                silence.as_secs()
            ),
            Self::Unknown => format!(
                "The agent does not know for how long the host was out of touch with the API server, and \
                 `disconnect.stopAfter` of the service is {limit} s"
            ),
        }
    }
}

/// How long a container of a task with `stopAfter` gets to stop, if its definition does not say: what the host is set to
/// (ECS_CONTAINER_STOP_TIMEOUT), but no longer than the operator waits for.
pub fn stop_timeout(of_host: Duration) -> Duration {
    of_host.min(STOP_TIMEOUT)
}

/// Containers that are to stop because of the silence and that no task of this agent answers for: their labels say so, where
/// plan and records were lost.
pub fn overdue(
    listed: &[ContainerSummary],
    answered_for: impl Fn(&TaskUid) -> bool,
    silence: Silence,
) -> Vec<Condemned> {
    let alive = listed.iter().filter(|c| c.phase.is_alive());
    alive
        .filter_map(|c| {
            let seconds = c.labels.get(labels::CONTAINER_STOP_AFTER)?.parse().ok()?;
            let task = TaskUid::new(c.labels.get(labels::CONTAINER_TASK_UID)?.clone());
            let goes = silence.exceeds(Duration::from_secs(seconds)) && !answered_for(&task);
            goes.then(|| Condemned {
                name: c.name.clone(),
                task,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tallyman_agent_engine::PhaseKind;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn confirmed(contacts: &mut Contacts, boot: &str, at: u64) {
        contacts.confirmed(boot, seconds(at), seconds(at));
    }

    fn at(contacts: &Contacts, boot: &str, now: u64) -> Silences {
        Silences::at(Arc::new(contacts.clone()), Some(boot), Some(seconds(now)))
    }

    #[test]
    fn it_is_counted_from_what_was_confirmed_in_this_boot() {
        let known = Contact {
            boot_id: "a".to_owned(),
            sent: seconds(100),
        };
        for (contact, boot, now, silence) in [
            (
                Some(&known),
                Some("a"),
                Some(130),
                Silence::For(seconds(30)),
            ),
            // From the future.
            (Some(&known), Some("a"), Some(99), Silence::Unknown),
            (Some(&known), Some("b"), Some(130), Silence::Unknown),
            (Some(&known), None, Some(130), Silence::Unknown),
            (Some(&known), Some("a"), None, Silence::Unknown),
            (None, Some("a"), Some(130), Silence::Unknown),
        ] {
            let found = Silence::since(contact, boot, now.map(seconds));
            assert_eq!(found, silence, "{boot:?} {now:?}");
        }
        assert!(!Silence::For(seconds(59)).exceeds(MINUTE));
        assert!(Silence::For(MINUTE).exceeds(MINUTE));
        assert!(Silence::Unknown.exceeds(MINUTE));
    }

    #[test]
    fn it_is_known_when_it_will_be_too_long() {
        let now = Timestamp::from_second(1000).unwrap();
        let silence = Silence::For(seconds(45));
        assert_eq!(
            silence.reaches(MINUTE, now),
            Timestamp::from_second(1015).ok()
        );
        assert_eq!(Silence::For(MINUTE).reaches(MINUTE, now), None);
        assert_eq!(Silence::Unknown.reaches(MINUTE, now), None);
    }

    #[test]
    fn what_is_over_counts_for_who_has_not_looked() {
        let mut contacts = Contacts::default();
        confirmed(&mut contacts, "a", 10);
        let first = contacts.over();
        confirmed(&mut contacts, "a", 20);
        assert_eq!(contacts.over(), first, "10 s matter to nobody");
        confirmed(&mut contacts, "a", 60);
        confirmed(&mut contacts, "a", 70);
        let second = contacts.over();
        let now = at(&contacts, "a", 75);
        assert_eq!(now.missed_since(0), Silence::Unknown, "before the first");
        assert_eq!(now.missed_since(first), Silence::For(seconds(40)));
        assert_eq!(now.missed_since(second), Silence::For(seconds(5)));
        // Another boot: who was there before it knows nothing.
        confirmed(&mut contacts, "b", 3);
        let now = at(&contacts, "b", 4);
        assert_eq!(now.missed_since(second), Silence::Unknown);
        assert_eq!(now.missed_since(contacts.over()), Silence::For(seconds(1)));
    }

    #[test]
    fn what_nobody_answers_for_stops_by_its_label() {
        let container = |name: &str, stop_after: Option<&str>| ContainerSummary {
            labels: [
                Some((labels::CONTAINER_TASK_UID, name)),
                stop_after.map(|s| (labels::CONTAINER_STOP_AFTER, s)),
            ]
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<BTreeMap<_, _>>(),
            id: name.to_owned(),
            name: name.to_owned(),
            image_id: "sha256:1".to_owned(),
            phase: PhaseKind::Running,
            health: None,
            ports: Vec::new(),
        };
        let listed = [
            container("plain", None),
            container("soon", Some("60")),
            container("later", Some("61")),
            container("known", Some("60")),
        ];
        let known = |uid: &TaskUid| uid.as_str() == "known";
        let stops = overdue(&listed, known, Silence::For(MINUTE));
        let names: Vec<_> = stops.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["soon"]);
    }

    proptest! {
        /// Whoever has looked up to some moment is told of the longest silence after it, or of a longer one.
        #[test]
        fn nothing_that_was_missed_is_told_shorter_than_it_was(
            gaps in prop::collection::vec(1_u64..200, 1..60),
            looked in 0_usize..60,
        ) {
            let mut contacts = Contacts::default();
            let mut now = 0;
            let mut heard = 0;
            let mut longest = 0;
            confirmed(&mut contacts, "a", now);
            for (n, gap) in gaps.iter().enumerate() {
                if n <= looked {
                    heard = contacts.over();
                    longest = 0;
                }
                now += gap;
                longest = longest.max(*gap);
                confirmed(&mut contacts, "a", now);
            }
            let told = at(&contacts, "a", now).missed_since(heard);
            if longest >= SHORTEST.as_secs() {
                prop_assert!(told >= Silence::For(seconds(longest)));
            }
            if contacts.over() <= 16 {
                let exact = if longest >= SHORTEST.as_secs() { longest } else { 0 };
                prop_assert_eq!(told, Silence::For(seconds(exact)));
            }
        }
    }
}
