//! What is told of a service, once: the newest events in its status, and Kubernetes Events beside them (ECS service event
//! messages). An event goes out with the status that holds it, so that a write that fails says nothing and one that is
//! repeated says nothing twice.

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::ServiceEvent;

use crate::plan::{Note, Target};
use crate::services::time;

/// Events in the status of a service. ECS keeps 100; every write of a status carries them all.
pub const KEPT: usize = 20;
/// The same is said again after this time.
const SILENCE: SignedDuration = SignedDuration::from_hours(6);
/// How the message ends that says that all causes are gone.
const STEADY: &str = "has reached a steady state.";
/// Longest message: the API refuses notes of 1 KiB and more.
const LONGEST: usize = 1000;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Warning rather than Normal.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

/// The events of a service after `said` in this order, the newest first, what of it is to be told, and when something is
/// to be told again. What was said less than six hours ago is not said again, unless the service was steady since.
pub fn tell(
    previous: &[ServiceEvent],
    said: Vec<Said>,
    target: &Target,
    now: Timestamp,
) -> (Vec<ServiceEvent>, Vec<Note>, Option<Timestamp>) {
    let mut events = previous.to_vec();
    let mut notes = Vec::new();
    let mut again = None;
    for Said {
        warning,
        reason,
        message,
    } in said
    {
        let message = cut(message);
        if let Some(last) = repeated(&events, &message, now) {
            let next = last.checked_add(SILENCE).ok();
            let next = next.filter(|_| !message.ends_with(STEADY));
            again = [again, next].into_iter().flatten().min();
            continue;
        }
        events.insert(
            0,
            ServiceEvent {
                created_at: time(now),
                message: message.clone(),
            },
        );
        notes.push(Note {
            target: target.clone(),
            warning,
            reason,
            message,
        });
    }
    events.truncate(KEPT);
    (events, notes, again)
}

/// When it was said, if it is not to be said again.
fn repeated(events: &[ServiceEvent], message: &str, now: Timestamp) -> Option<Timestamp> {
    let said = |e: &&ServiceEvent| e.message == message;
    let last = if message.ends_with(STEADY) {
        events.first().filter(said)
    } else {
        let since = events.iter().take_while(|e| !e.message.ends_with(STEADY));
        since
            .filter(said)
            .find(|e| now.duration_since(e.created_at.0) < SILENCE)
    };
    last.map(|e| e.created_at.0)
}

/// The beginning of a message that is too long for an event.
pub fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|i| message.is_char_boundary(*i))
            .unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use crate::world::Identity;

    fn say(events: &[ServiceEvent], message: &str, at: i64) -> (Vec<ServiceEvent>, usize) {
        let said = Said {
            warning: false,
            reason: "Test",
            message: message.to_owned(),
        };
        let target = Target::new(Kind::Service, "web", &Identity::default());
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(at);
        let (events, notes, _) = tell(events, vec![said], &target, now);
        (events, notes.len())
    }

    /// Step 6.3 of `docs/ecs-rules.md`.
    #[test]
    fn the_same_is_said_again_after_six_hours_or_once_the_service_was_steady() {
        let hours = |h: i64| h * 3600;
        let (events, told) = say(&[], "no room", 0);
        assert_eq!(told, 1);
        let (events, told) = say(&events, "no room", hours(6) - 1);
        assert_eq!((told, events.len()), (0, 1));
        let (later, told) = say(&events, "no room", hours(6));
        assert_eq!((told, later.len()), (1, 2));
        let (events, _) = say(&events, "(service web) has reached a steady state.", 60);
        let (events, told) = say(&events, "no room", 61);
        assert_eq!((told, events[0].message.as_str()), (1, "no room"));
    }

    #[test]
    fn steady_is_said_once_in_a_row() {
        let steady = "(service web) has reached a steady state.";
        let (events, _) = say(&[], steady, 0);
        assert_eq!(say(&events, steady, 1).1, 0);
        let (events, _) = say(&events, "(service web) has started 1 tasks: (task a).", 2);
        assert_eq!(say(&events, steady, 3).1, 1);
    }

    #[test]
    fn the_newest_are_kept() {
        let mut events = Vec::new();
        for n in 0..(KEPT + 5) {
            events = say(&events, &format!("event {n}"), 0).0;
        }
        assert_eq!(events.len(), KEPT);
        assert_eq!(events[0].message, format!("event {}", KEPT + 4));
    }
}
