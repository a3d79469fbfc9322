//! Room on the host: a task starts when what it takes is free, in turn, and what runs is never argued with.

use std::sync::Arc;
use std::time::Duration;

use crate::rig::{Rig, assigned, container, plan};
use proptest::prelude::*;
use tallyman_agent_core::account::Lack;
use tallyman_agent_core::{Account, Desired, Room, TaskMachine, TaskUid};
use tallyman_crds::ecs::PortMapping;
use tallyman_crds::{HostPlanSpec, HostReport, LastStatus, Resources, StopCode};

fn host(cpu: i64, memory: i64) -> HostReport {
    HostReport {
        engine: "docker 20.10".to_owned(),
        registered_resources: Resources {
            cpu,
            memory,
            ..Resources::default()
        },
        ..HostReport::default()
    }
}

/// A task `uid` of one container.
fn sized(uid: &str, cpu: i32, memory: i32, port: Option<i32>) -> HostPlanSpec {
    let mut one = container("app", true);
    one.cpu = Some(cpu);
    one.memory = Some(memory);
    one.port_mappings = port.into_iter().map(published).collect();
    let mut spec = plan(vec![one]);
    uid.clone_into(&mut spec.tasks[0].uid);
    uid.clone_into(&mut spec.tasks[0].name);
    spec
}

fn published(port: i32) -> PortMapping {
    PortMapping {
        container_port: Some(80),
        host_port: Some(port),
        ..PortMapping::default()
    }
}

fn machine(spec: HostPlanSpec) -> TaskMachine {
    TaskMachine::begin(assigned(spec), None, &[])
}

fn stop(machine: &mut TaskMachine) {
    let mut task = machine.task().clone();
    task.desired = Desired::Stop {
        code: Some(StopCode::UserInitiated),
        reason: None,
    };
    machine.assign(task);
}

fn room(account: &Account, machine: &mut TaskMachine) -> Room {
    account.enter(machine);
    machine.seen().room.clone()
}

fn first(lack: Lack) -> Room {
    Room::Awaited {
        before: 0,
        lacks: Some(lack),
    }
}

#[test]
fn each_thing_that_a_host_has_is_counted() {
    for (held, wanted, lack) in [
        (
            sized("a", 600, 10, None),
            sized("b", 500, 10, None),
            Some(Lack::Cpu {
                needed: 500,
                free: 400,
            }),
        ),
        (
            sized("a", 0, 60, None),
            sized("b", 0, 50, None),
            Some(Lack::Memory {
                needed: 50,
                free: 40,
            }),
        ),
        (
            sized("a", 0, 10, Some(8080)),
            sized("b", 0, 10, Some(8080)),
            Some(Lack::Port(8080)),
        ),
        (
            sized("a", 0, 10, Some(8080)),
            sized("b", 0, 10, Some(8081)),
            None,
        ),
        (sized("a", 500, 50, None), sized("b", 500, 50, None), None),
        // Who takes nothing of it does not wait for it.
        (sized("a", 2000, 10, None), sized("b", 0, 10, None), None),
    ] {
        let account = Account::default();
        let (mut held, mut wanted) = (machine(held), machine(wanted));
        // Held before it is known what there is.
        assert_eq!(room(&account, &mut held), Room::Granted);
        account.registered(&host(1000, 100));
        let expected = lack.map_or(Room::Granted, first);
        assert_eq!(room(&account, &mut wanted), expected);
    }
}

#[test]
fn turns_are_kept_but_not_by_one_that_never_fits() {
    let account = Account::default();
    account.registered(&host(0, 100));
    let mut running = machine(sized("a", 0, 80, None));
    let mut giant = machine(sized("b", 0, 200, None));
    let mut large = machine(sized("c", 0, 90, None));
    let mut small = machine(sized("d", 0, 10, None));
    assert_eq!(room(&account, &mut running), Room::Granted);
    for waits in [&mut giant, &mut large, &mut small] {
        assert_ne!(room(&account, waits), Room::Granted);
    }
    assert_eq!(
        room(&account, &mut small),
        Room::Awaited {
            before: 2,
            lacks: None
        },
        "though it would fit"
    );
    // Nothing of it ever started.
    stop(&mut running);
    assert_eq!(
        account.enter(&mut running),
        ["c", "d"].map(TaskUid::new),
        "in turn"
    );
    assert_eq!(room(&account, &mut large), Room::Granted);
    assert_eq!(
        room(&account, &mut giant),
        first(Lack::Memory {
            needed: 200,
            free: 0
        })
    );
}

#[test]
fn what_the_plan_forgot_before_it_started_holds_nobody_up() {
    let account = Account::default();
    account.registered(&host(0, 100));
    let mut forgotten = machine(sized("a", 0, 80, None));
    let mut next = machine(sized("b", 0, 80, None));
    assert_eq!(room(&account, &mut forgotten), Room::Granted);
    assert_ne!(room(&account, &mut next), Room::Granted);
    forgotten.unplanned();
    assert_eq!(account.enter(&mut forgotten), [TaskUid::new("b")]);
    assert_eq!(room(&account, &mut next), Room::Granted);
}

#[test]
fn a_task_starts_once_another_has_stopped_and_says_what_it_waits_for() {
    let mut rig = Rig::of(sized("b", 0, 80, None));
    let holdings = Arc::clone(&rig.holdings);
    let account = &holdings.account;
    account.registered(&host(0, 100));
    let mut before = machine(sized("a", 0, 80, None));
    account.enter(&mut before);
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.starts(), 0);
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    assert_eq!(
        rig.status().conditions[0].message,
        "The task waits for memory (needs 80 MiB, 20 are free), which tasks of this host that have not stopped yet still have."
    );
    stop(&mut before);
    assert_eq!(account.enter(&mut before), [TaskUid::new("b")]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);

    // An agent that begins anew holds what runs, whatever there is.
    let account = Account::default();
    account.registered(&host(0, 50));
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    assert_eq!(room(&account, &mut rig.machine), Room::Granted);
    let mut next = machine(sized("c", 0, 10, None));
    assert_eq!(
        room(&account, &mut next),
        first(Lack::Memory {
            needed: 10,
            free: 0
        })
    );
}

proptest! {
    #[test]
    fn what_is_granted_never_exceeds_the_host_and_everybody_gets_a_turn(
        sizes in prop::collection::vec((0..600_i32, 1..80_i32), 1..20),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let account = Account::default();
        account.registered(&host(600, 80));
        let mut machines: Vec<TaskMachine> = sizes
            .iter()
            .enumerate()
            .map(|(i, (cpu, memory))| machine(sized(&format!("t{i:02}"), *cpu, *memory, None)))
            .collect();
        for machine in &mut machines {
            account.enter(machine);
        }
        let mut ended = vec![false; machines.len()];
        for next in order {
            let mut running = Vec::new();
            for (i, machine) in machines.iter_mut().enumerate() {
                account.enter(machine);
                if !ended[i] && machine.seen().room == Room::Granted {
                    running.push(i);
                }
            }
            let cpu: i64 = running.iter().map(|i| machines[*i].record().size.cpu).sum();
            let memory: i64 = running.iter().map(|i| machines[*i].record().size.memory).sum();
            prop_assert!(cpu <= 600 && memory <= 80, "{cpu} {memory}");
            let Some(i) = (!running.is_empty()).then(|| running[next.index(running.len())]) else {
                prop_assert!(ended.iter().all(|ended| *ended), "somebody waits for ever");
                break;
            };
            stop(&mut machines[i]);
            ended[i] = true;
        }
    }
}
