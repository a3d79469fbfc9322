//! Killed agents and broken engines: all of a task runs, or nothing.

use super::*;

/// Killed at every call of a life, with its record kept or lost: at the end there is one of each, or none.
fn killed_at_every_call(modes: &Value) {
    for lost in [false, true] {
        for carried_out in [false, true] {
            for at_call in 1..=16 {
                let what =
                    format!("{modes}, lost {lost}, carried out {carried_out}, call {at_call}");
                let mut rig = Rig::of(plan(modes));
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let mut saved = rig.machine.record().clone();
                for _ in 0..60 {
                    saved = rig.machine.record().clone();
                    let list = rig.list();
                    rig.machine.listed(&list);
                    rig.turn();
                    if rig.engine.crashed() {
                        break;
                    }
                }
                rig.restart((!lost).then_some(saved));
                rig.run(SECOND * 30);
                assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                assert_eq!(rig.engine.containers().len(), 3, "{what}");
                assert!(
                    runs(&rig, NAME) && runs(&rig, "web") && runs(&rig, "log"),
                    "{what}"
                );
                for container in ["web", "log"] {
                    let state = rig.engine.peek(&rig.name(NAME)).unwrap();
                    let member = rig.engine.peek(&rig.name(container)).unwrap();
                    assert!(state.started_at <= member.started_at, "{what}");
                }
                rig.want_removal();
                rig.want_stop(StopCode::UserInitiated, "Task deleted");
                let at_call = rig.engine.call_count() + at_call;
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let saved = rig.machine.record().clone();
                for _ in 0..60 {
                    rig.turn();
                    if rig.engine.crashed() {
                        break;
                    }
                }
                rig.restart((!lost).then_some(saved));
                rig.run(SECOND * 30);
                assert!(rig.status().removed_at.is_some(), "{what}");
                assert!(rig.engine.containers().is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn killed_at_every_call_with_an_address_of_its_own() {
    killed_at_every_call(&awsvpc());
}

#[test]
fn killed_at_every_call_with_shared_processes_and_memory() {
    killed_at_every_call(&json!({ "pidMode": "task", "ipcMode": "task" }));
}

#[test]
fn a_pause_container_that_vanished_while_nobody_remembered_is_not_made_again() {
    for stopped in [false, true] {
        let mut rig = Rig::of(plan(&awsvpc()));
        rig.settle_down();
        rig.engine.destroy(&rig.name(NAME));
        if stopped {
            rig.engine.exit(&rig.name("web"), 1);
            rig.engine.exit(&rig.name("log"), 1);
        }
        rig.restart(None);
        rig.run(SECOND * 30);
        assert_eq!(rig.status().last_status, LastStatus::Stopped);
        assert_eq!(rig.engine.calls_of(Verb::Create), 3);
        assert!(!runs(&rig, "web"));
    }
}

/// What may befall such a task.
#[derive(Clone, Debug)]
enum Blow {
    Turns(u8),
    Pass(u16),
    Exit(u8),
    Destroy(u8),
    Timeout(u8, bool),
    Away(bool),
    Restart(bool),
    Stop,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        8 => (1..6u8).prop_map(Blow::Turns),
        4 => (100..20_000u16).prop_map(Blow::Pass),
        2 => (0..3u8).prop_map(Blow::Exit),
        1 => (0..3u8).prop_map(Blow::Destroy),
        3 => (0..8u8, any::<bool>()).prop_map(|(verb, done)| Blow::Timeout(verb, done)),
        2 => any::<bool>().prop_map(Blow::Away),
        3 => any::<bool>().prop_map(Blow::Restart),
        1 => Just(Blow::Stop),
    ]
}

const VERBS: [Verb; 8] = [
    Verb::Prepare,
    Verb::EnsureImage,
    Verb::EnsureNetwork,
    Verb::Create,
    Verb::Start,
    Verb::Inspect,
    Verb::Stop,
    Verb::Remove,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Nothing that ended runs again; no container runs that joined another pause container than the one that is there;
    /// and at rest the task runs whole, or not at all.
    #[test]
    fn whatever_happens_all_of_it_runs_or_nothing(
        blows in proptest::collection::vec(blow(), 1..40),
    ) {
        let mut rig = Rig::of(plan(&json!({ "networkMode": "awsvpc", "pidMode": "task" })));
        let names = [NAME, "web", "log"].map(|name| rig.name(name));
        let mut ended = [false; 3];
        for blow in blows {
            match blow {
                Blow::Turns(count) => for _ in 0..count { rig.turn(); },
                Blow::Pass(millis) => rig.engine.advance(Duration::from_millis(u64::from(millis))),
                Blow::Exit(container) => { rig.engine.exit(&names[usize::from(container)], 1); }
                Blow::Destroy(container) => {
                    let index = usize::from(container);
                    rig.engine.destroy(&names[index]);
                    ended[index] = false;
                }
                Blow::Timeout(verb, done) => {
                    let mishap = if done { Mishap::TimeoutAfter } else { Mishap::TimeoutBefore };
                    rig.engine.next(VERBS[usize::from(verb)], mishap);
                }
                Blow::Away(away) => rig.engine.set_unreachable(away),
                Blow::Restart(keep) => {
                    let record = rig.machine.record().clone();
                    rig.restart(keep.then_some(record));
                }
                Blow::Stop => rig.want_stop(StopCode::UserInitiated, "enough"),
            }
            for (index, name) in names.iter().enumerate() {
                let Some(state) = rig.engine.peek(name) else { continue };
                let alive = state.phase.kind().is_alive();
                prop_assert!(!(ended[index] && alive), "{name} runs again");
                ended[index] |= matches!(state.phase, Phase::Exited { .. });
            }
        }
        rig.engine.mend();
        rig.run(SECOND * 300);
        let status = rig.status().clone();
        prop_assert!(rig.engine.containers().len() <= 3);
        let alive = names.iter().filter(|name| {
            rig.engine.peek(name).is_some_and(|s| s.phase.kind().is_alive())
        }).count();
        match status.last_status {
            LastStatus::Running => {
                // The log may have ended; what it joined may not.
                prop_assert!(runs(&rig, NAME) && runs(&rig, "web"), "{status:#?}");
                let began = |name: &str| rig.engine.peek(&rig.name(name)).and_then(|s| s.started_at);
                prop_assert!(began(NAME) <= began("web"), "it joined another one");
            }
            LastStatus::Stopped => prop_assert_eq!(alive, 0),
            other => prop_assert!(false, "{:?}", other),
        }
        let now = rig.now();
        let step = rig.machine.step(&rig.host, now);
        prop_assert!(step.actions.is_empty(), "{:?}", step.actions);
    }
}
