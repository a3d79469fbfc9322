//! How often a container may ask (ECS: each endpoint once in five seconds).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault_injection::{Act, Answer, Kind};
use crate::ids::TaskUid;

/// ECS.
const EVERY: Duration = Duration::from_secs(5);

/// When each container asked what last.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    last: BTreeMap<(TaskUid, String, Kind, Act), Duration>,
}

impl Pace {
    /// Why a container may not ask now; `None` when it may, and then it has. `now` is on any clock that does not go back.
    pub fn refuses(
        &mut self,
        task: &TaskUid,
        container: &str,
        (kind, act): (Kind, Act),
        now: Duration,
    ) -> Option<Answer> {
        self.last
            .retain(|_, last| now.saturating_sub(*last) < EVERY);
        let asked = (task.clone(), container.to_owned(), kind, act);
        if self.last.contains_key(&asked) {
            return Some(Answer::Throttled(format!(
                "{}/{} is answered once in 5 seconds",
                kind.as_str(),
                act.as_str()
            )));
        }
        self.last.insert(asked, now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_is_answered_once_in_five_seconds_for_each_container() {
        let mut pace = Pace::default();
        let (task, other) = (TaskUid::new("a"), TaskUid::new("b"));
        let start = (Kind::Latency, Act::Start);
        let at = Duration::from_secs;
        let mut refused = |task: &TaskUid, container: &str, asked, now| {
            pace.refuses(task, container, asked, now).is_some()
        };
        assert!(!refused(&task, "app", start, at(0)));
        assert!(refused(&task, "app", start, at(4)));
        assert!(!refused(&task, "app", (Kind::Latency, Act::Status), at(4)));
        assert!(!refused(
            &task,
            "app",
            (Kind::PacketLoss, Act::Start),
            at(4)
        ));
        assert!(!refused(&task, "side", start, at(4)));
        assert!(!refused(&other, "app", start, at(4)));
        // What was refused does not count.
        assert!(!refused(&task, "app", start, at(5)));
        assert!(refused(&task, "app", start, at(9)));
    }
}
