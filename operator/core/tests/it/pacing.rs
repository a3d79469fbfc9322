//! The pace of passes: what wakes them, what spaces them, what they hold back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tallyman_crds::StopCode;
use tallyman_operator_core::pacing::{
    CATCH_UP, HOLD, Key, Outcome, PERIOD, Pace, RETRY, SPACING, Turn,
};
use tallyman_operator_core::{Action, Kind, Plan, Publication, Target};

const WALL: Timestamp = Timestamp::UNIX_EPOCH;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn target(kind: Kind, name: &str) -> Target {
    Target {
        kind,
        name: name.to_owned(),
        uid: "u".to_owned(),
        resource_version: "1".to_owned(),
    }
}

fn stop(name: &str) -> Action {
    Action::StopTask {
        task: target(Kind::Task, name),
        code: StopCode::UserInitiated,
        reason: "because".to_owned(),
        made_by_us: true,
    }
}

fn fence(name: &str) -> Action {
    Action::AddFinalizer {
        target: target(Kind::Service, name),
        finalizer: "f",
        label: None,
    }
}

fn counts(name: &str, urgent: bool) -> Publication {
    Publication {
        target: target(Kind::Service, name),
        patch: json!({}),
        urgent,
        deeds: false,
        notes: Vec::new(),
    }
}

fn acting(actions: Vec<Action>) -> Vec<Plan> {
    vec![Plan {
        actions,
        ..Plan::default()
    }]
}

fn saying(publications: Vec<Publication>) -> Vec<Plan> {
    vec![Plan {
        publications,
        ..Plan::default()
    }]
}

fn key(name: &str) -> Key {
    (Kind::Task, name.to_owned())
}

fn written(name: &str, version: u64, created: bool) -> Outcome {
    Outcome::Written {
        key: key(name),
        version,
        created,
    }
}

#[test]
fn a_pass_that_only_looked_spaces_the_next_one() {
    let mut pace = Pace::new(s(10));
    assert_eq!(pace.due(), s(10));
    pace.admit(vec![Plan::default()], s(10));
    pace.finish([], s(10), WALL);
    assert_eq!(pace.due(), s(10) + PERIOD);
    pace.wake(s(10));
    assert_eq!(pace.due(), s(10) + SPACING);
    let later = s(10) + SPACING * 2;
    pace.finish([], s(10), WALL);
    pace.wake(later);
    assert_eq!(
        pace.due(),
        later,
        "after the spacing a wake is heard at once"
    );
}

#[test]
fn a_pass_that_acted_may_be_followed_at_once() {
    let mut pace = Pace::new(s(0));
    assert_eq!(pace.admit(acting(vec![stop("a")]), s(0)).actions.len(), 1);
    pace.finish([Outcome::Settled], s(1), WALL);
    pace.wake(s(1));
    assert_eq!(pace.due(), s(1));
}

#[test]
fn it_waits_until_the_caches_hold_what_was_written() {
    let mut pace = Pace::new(s(0));
    pace.finish([written("a", 7, false)], s(0), WALL);
    assert_eq!(pace.turn(s(1), |_| Some(6)), Turn::Later);
    assert_eq!(pace.due(), s(1) + CATCH_UP / 10);
    assert_eq!(pace.turn(s(1), |_| Some(7)), Turn::Go);
}

#[test]
fn what_is_gone_from_the_caches_was_deleted_unless_it_never_came() {
    let mut pace = Pace::new(s(0));
    pace.finish([written("patched", 7, false)], s(0), WALL);
    assert_eq!(pace.turn(s(1), |_| None), Turn::Go);
    pace.finish([written("created", 8, true)], s(1), WALL);
    assert_eq!(pace.turn(s(2), |_| None), Turn::Later);
}

#[test]
fn writes_that_do_not_come_are_looked_at_and_hold_back_what_cannot_be_taken_back() {
    let mut pace = Pace::new(s(0));
    pace.finish([written("a", 7, true)], s(0), WALL);
    let late = CATCH_UP;
    assert_eq!(pace.turn(late, |_| None), Turn::Look(vec![key("a")]));
    let plan = pace.admit(acting(vec![stop("b"), fence("c")]), late);
    assert!(matches!(plan.actions[..], [Action::AddFinalizer { .. }]));
    pace.finish([Outcome::Settled], late, WALL);
    assert_eq!(
        pace.due(),
        late + RETRY,
        "what was held back is decided anew"
    );

    assert_eq!(pace.turn(late, |_| None), Turn::Look(vec![key("a")]));
    pace.forget(&key("a"));
    assert_eq!(pace.admit(acting(vec![stop("b")]), late).actions.len(), 1);
}

#[test]
fn a_failed_write_is_tried_again_soon() {
    let mut pace = Pace::new(s(0));
    pace.finish([Outcome::Settled, Outcome::Failed], s(0), WALL);
    assert_eq!(pace.due(), RETRY);
}

#[test]
fn counts_are_held_back_and_a_change_of_standing_is_not() {
    let mut pace = Pace::new(s(0));
    let said = |pace: &mut Pace, urgent, at| {
        let plan = pace.admit(saying(vec![counts("web", urgent)]), at);
        pace.finish([], at, WALL);
        plan.publications.len()
    };
    assert_eq!(said(&mut pace, false, s(0)), 1);
    assert_eq!(said(&mut pace, false, s(1)), 0);
    assert_eq!(pace.due(), HOLD, "it goes out when its time has come");
    assert_eq!(said(&mut pace, true, s(1)), 1);
    assert_eq!(said(&mut pace, false, s(1) + HOLD), 1);
}

#[test]
fn another_object_is_not_held_back_for_the_first() {
    let mut pace = Pace::new(s(0));
    pace.admit(saying(vec![counts("web", false)]), s(0));
    let plan = pace.admit(
        saying(vec![counts("web", false), counts("db", false)]),
        s(0),
    );
    assert_eq!(plan.publications, [counts("db", false)]);
}

#[test]
fn the_core_is_asked_again_when_it_wanted_to_be() {
    let asked = |offset: SignedDuration| {
        let mut pace = Pace::new(s(100));
        let plan = Plan {
            wake_at: Some(WALL + offset),
            ..Plan::default()
        };
        pace.admit(vec![Plan::default(), plan], s(100));
        pace.finish([], s(100), WALL);
        pace.due()
    };
    assert_eq!(asked(SignedDuration::from_secs(5)), s(105));
    assert_eq!(asked(SignedDuration::from_secs(500)), s(100) + PERIOD);
    assert_eq!(
        asked(SignedDuration::from_secs(-5)),
        s(100) + SPACING,
        "never in a spin"
    );
}

#[test]
fn everything_is_looked_at_first_every_period_and_when_changes_may_have_been_missed() {
    let mut pace = Pace::new(Duration::ZERO);
    assert!(!pace.part_will_do(Duration::ZERO));
    pace.looked(Duration::ZERO);
    assert!(pace.part_will_do(PERIOD - Duration::from_nanos(1)));
    assert!(!pace.part_will_do(PERIOD));
    pace.looked(PERIOD);
    assert!(pace.part_will_do(PERIOD));
    pace.missed();
    assert!(!pace.part_will_do(PERIOD));
}
