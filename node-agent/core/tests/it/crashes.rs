//! The agent is killed at every engine call, with its record kept or lost. Whatever happens: one container
//! for each task container, none started twice, and the task ends where it would have ended.

use crate::rig;
use std::time::Duration;

use crate::rig::{Rig, container, web};
use proptest::prelude::*;
use tallyman_agent_engine::fake::{Crash, Mishap, Program};
use tallyman_agent_engine::{Hint, Verb};
use tallyman_crds::{LastStatus, StopCode};

/// How the record fares when the agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Kept,
    Lost,
}

/// Starts of each container that the engine carried out.
fn assert_never_doubled(rig: &Rig, what: &str) {
    let containers = rig.engine.containers();
    let tasks = rig.machine.task().containers().len();
    assert!(containers.len() <= tasks, "{what}: {containers:#?}");
    for container in &containers {
        let starts = rig
            .engine
            .call_log()
            .iter()
            .filter(|call| {
                call.verb == Verb::Start
                    && call.target == container.name
                    && !matches!(
                        call.outcome,
                        tallyman_agent_engine::fake::Outcome::Failed(_)
                    )
            })
            .count();
        // A start that is asked again after an unknown outcome finds the container running. What must
        // not happen is a start after an exit: the fake would show it running again.
        assert!(
            starts <= 2,
            "{what}: {} started {starts} times",
            container.name
        );
    }
}

fn run_until_crash(rig: &mut Rig) -> bool {
    for _ in 0..60 {
        let list = rig.list();
        rig.machine.listed(&list);
        if rig.turn().actions.is_empty() {
            rig.engine.advance(Duration::from_millis(700));
        }
        if rig.engine.crashed() {
            return true;
        }
    }
    false
}

#[test]
fn killed_at_every_call_while_starting() {
    for memory in [Memory::Kept, Memory::Lost] {
        for carried_out in [false, true] {
            for at_call in 1..=10 {
                let what = format!("{memory:?}, carried out {carried_out}, call {at_call}");
                let mut rig = Rig::new(vec![web("app"), container("sidecar", false)]);
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let saved = rig.machine.record().clone();
                run_until_crash(&mut rig);
                let record = match memory {
                    // The record of before the crash: what was written last may be older than the call.
                    Memory::Kept => Some(saved),
                    Memory::Lost => None,
                };
                rig.restart(record);
                rig.run(Duration::from_secs(30));
                assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                assert_never_doubled(&rig, &what);
                assert_eq!(rig.engine.containers().len(), 2, "{what}");
            }
        }
    }
}

#[test]
fn killed_at_every_call_while_a_container_ends() {
    for memory in [Memory::Kept, Memory::Lost] {
        for carried_out in [false, true] {
            for call in 1..=6 {
                let what = format!("{memory:?}, carried out {carried_out}, call {call}");
                let mut rig = Rig::new(vec![container("app", true), container("other", true)]);
                rig.settle_down();
                let record = rig.machine.record().clone();
                let name = rig.name("app");
                rig.engine.exit(&name, 5);
                let at_call = rig.engine.call_count() + call;
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                run_until_crash(&mut rig);
                rig.restart((memory == Memory::Kept).then_some(record));
                rig.run(Duration::from_secs(30));
                let status = rig.status();
                assert_eq!(status.last_status, LastStatus::Stopped, "{what}");
                assert_eq!(
                    status.stop_code,
                    Some(StopCode::EssentialContainerExited),
                    "{what}"
                );
                assert_eq!(status.containers[0].exit_code, Some(5), "{what}");
                for container in rig.engine.containers() {
                    assert!(!container.phase.is_alive(), "{what}: {}", container.name);
                }
                assert_eq!(rig.starts(), 2, "{what}");
            }
        }
    }
}

#[test]
fn killed_at_every_call_while_stopping_and_removing() {
    for memory in [Memory::Kept, Memory::Lost] {
        for carried_out in [false, true] {
            for call in 1..=8 {
                let what = format!("{memory:?}, carried out {carried_out}, call {call}");
                let mut rig = Rig::new(vec![container("app", true), container("other", true)]);
                rig.settle_down();
                rig.want_removal();
                rig.want_stop(StopCode::ServiceSchedulerInitiated, "scale-in");
                let record = rig.machine.record().clone();
                let at_call = rig.engine.call_count() + call;
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                run_until_crash(&mut rig);
                rig.restart((memory == Memory::Kept).then_some(record));
                rig.run(Duration::from_secs(30));
                let status = rig.status();
                assert_eq!(status.last_status, LastStatus::Stopped, "{what}");
                assert_eq!(
                    status.stop_code,
                    Some(StopCode::ServiceSchedulerInitiated),
                    "{what}"
                );
                assert!(status.removed_at.is_some(), "{what}");
                assert!(rig.engine.containers().is_empty(), "{what}");
                assert_eq!(rig.starts(), 2, "{what}");
            }
        }
    }
}

#[test]
fn a_container_that_a_list_did_not_have_yet_is_adopted_and_never_started_again() {
    for exited in [false, true] {
        let mut rig = Rig::new(vec![container("app", true)]);
        rig.settle_down();
        if exited {
            rig.engine.exit(&rig.name("app"), 4);
        }
        // The list of the new agent is older than the container.
        rig.machine =
            tallyman_agent_core::TaskMachine::begin(rig::assigned(rig.spec.clone()), None, &[]);
        rig.settle_down();
        let expected = if exited {
            LastStatus::Stopped
        } else {
            LastStatus::Running
        };
        assert_eq!(rig.status().last_status, expected);
        assert_eq!(rig.starts(), 1);
        assert_eq!(rig.engine.containers().len(), 1);
    }
}

#[test]
fn a_stop_after_a_lost_record_is_a_stop_of_what_runs() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.restart(None);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.engine.calls_of(Verb::Stop), 1);
}

/// What may befall a task.
#[derive(Clone, Debug)]
enum Blow {
    Turns(u8),
    Pass(u16),
    Exit { container: u8, code: i64 },
    Destroy(u8),
    StartedByHand(u8),
    Timeout { verb: u8, done: bool },
    Away(bool),
    Api(bool),
    Hint { container: u8, kind: u8 },
    Restart { keep: bool },
    Stop,
    Remove,
    Unplan,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        8 => (1..6u8).prop_map(Blow::Turns),
        4 => (100..20_000u16).prop_map(Blow::Pass),
        2 => (0..2u8, prop_oneof![Just(0i64), Just(1), Just(137)])
            .prop_map(|(container, code)| Blow::Exit { container, code }),
        1 => (0..2u8).prop_map(Blow::Destroy),
        1 => (0..2u8).prop_map(Blow::StartedByHand),
        3 => (0..6u8, any::<bool>()).prop_map(|(verb, done)| Blow::Timeout { verb, done }),
        2 => any::<bool>().prop_map(Blow::Away),
        2 => any::<bool>().prop_map(Blow::Api),
        2 => (0..2u8, 0..4u8).prop_map(|(container, kind)| Blow::Hint { container, kind }),
        3 => any::<bool>().prop_map(|keep| Blow::Restart { keep }),
        1 => Just(Blow::Stop),
        1 => Just(Blow::Remove),
        1 => Just(Blow::Unplan),
    ]
}

const VERBS: [Verb; 6] = [
    Verb::Prepare,
    Verb::Create,
    Verb::Start,
    Verb::Inspect,
    Verb::Stop,
    Verb::Remove,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// `lastStatus` never falls within one agent's memory (checked in every turn), nothing is created or
    /// started after STOPPED, a container that ended is never started by us, and when all troubles are
    /// over the machine comes to rest where it should.
    #[test]
    fn whatever_happens_no_container_is_doubled_or_restarted(
        blows in proptest::collection::vec(blow(), 1..40),
        exits in any::<bool>(),
    ) {
        let mut rig = Rig::new(vec![web("app"), container("sidecar", false)]);
        if exits {
            rig.engine.set_program("app:1", Program::exits(1, Duration::from_secs(7)));
        }
        let names = [rig.name("app"), rig.name("sidecar")];
        let mut ended = [false; 2];
        let mut by_hand = [false; 2];
        let mut planned = true;
        let mut wanted_stop = false;
        for blow in blows {
            match blow {
                Blow::Turns(count) => for _ in 0..count { rig.turn(); },
                Blow::Pass(millis) => rig.engine.advance(Duration::from_millis(u64::from(millis))),
                Blow::Exit { container, code } => {
                    rig.engine.exit(&names[usize::from(container)], code);
                }
                Blow::Destroy(container) => {
                    let index = usize::from(container);
                    rig.engine.destroy(&names[index]);
                    // Made anew when the record is lost too: nobody could know.
                    ended[index] = false;
                }
                Blow::StartedByHand(container) => {
                    let index = usize::from(container);
                    if ended[index] && rig.engine.peek(&names[index]).is_some() {
                        by_hand[index] = true;
                        rig.meddled = true;
                        let spec = rig.engine.spec(&names[index]).unwrap();
                        let _ = rig.engine.run_outside(&spec);
                    }
                }
                Blow::Timeout { verb, done } => {
                    let mishap = if done { Mishap::TimeoutAfter } else { Mishap::TimeoutBefore };
                    rig.engine.next(VERBS[usize::from(verb)], mishap);
                }
                Blow::Away(away) => rig.engine.set_unreachable(away),
                Blow::Api(up) => rig.api = up,
                Blow::Hint { container, kind } => {
                    let name = names[usize::from(container)].clone();
                    let hint = match kind {
                        0 => Hint::Started(name.clone()),
                        1 => Hint::Died(name.clone()),
                        2 => Hint::HealthChanged(name.clone()),
                        _ => Hint::Destroyed(name.clone()),
                    };
                    rig.machine.hinted(&name, &hint);
                }
                Blow::Restart { keep } => {
                    let record = rig.machine.record().clone();
                    rig.restart(keep.then_some(record));
                    if !planned { rig.machine.unplanned(); }
                }
                Blow::Stop => {
                    if planned {
                        wanted_stop = true;
                        rig.want_stop(StopCode::UserInitiated, "enough");
                    }
                }
                Blow::Remove => if planned { rig.want_removal(); },
                Blow::Unplan => { planned = false; rig.machine.unplanned(); }
            }
            for (index, name) in names.iter().enumerate() {
                let alive = rig.engine.peek(name).is_some_and(|s| s.phase.kind().is_alive());
                prop_assert!(!(ended[index] && alive && !by_hand[index]), "{name} runs again");
                if rig.engine.peek(name).is_some_and(|s| matches!(
                    s.phase, tallyman_agent_engine::Phase::Exited { .. }
                )) {
                    ended[index] = true;
                    by_hand[index] = false;
                }
            }
        }
        rig.engine.mend();
        rig.api = true;
        rig.run(Duration::from_secs(300));
        let containers = rig.engine.containers();
        prop_assert!(containers.len() <= 2);
        let status = rig.status();
        if wanted_stop && planned {
            prop_assert_eq!(status.last_status, LastStatus::Stopped);
        }
        if status.last_status == LastStatus::Stopped {
            prop_assert!(containers.iter().all(|c| !c.phase.is_alive()));
        }
        if planned && !rig.machine.task().remove {
            prop_assert!(matches!(status.last_status, LastStatus::Running | LastStatus::Stopped));
        }
        // A fixpoint: nothing more to do.
        let now = rig.now();
        let step = rig.machine.step(&rig.host, now);
        prop_assert!(step.actions.is_empty(), "{:?}", step.actions);
    }
}
