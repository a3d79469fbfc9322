//! Ports of the host that the agent chooses, and what becomes of a choice that somebody else was quicker to take.

use std::time::Duration;

use crate::rig::{Ports, Rig, written};
use serde_json::json;
use tallyman_agent_engine::fake::Crash;
use tallyman_agent_engine::{Protocol, Verb};
use tallyman_crds::{LastStatus, StopCode};

/// One container with a dynamic TCP port and a range of three UDP ports.
fn wishing() -> Rig {
    let ports = json!([
        { "containerPort": 80 },
        { "containerPortRange": "8000-8002", "protocol": "udp" },
    ]);
    let containers = json!([{ "name": "app", "memory": 64, "portMappings": ports }]);
    let mut rig = Rig::of(written(&containers, &json!([])));
    rig.ports = Ports::of(&rig.engine, 40_000, 40_009);
    rig
}

fn outer(rig: &Rig) -> Vec<u16> {
    let state = rig.engine.peek(&rig.name("app")).unwrap();
    state.ports.iter().map(|port| port.host_port).collect()
}

#[test]
fn the_agent_chooses_within_its_range_and_a_range_is_one_binding() {
    let mut rig = wishing();
    rig.engine.occupy_port(40_000, Protocol::Tcp);
    rig.engine.occupy_port(40_003, Protocol::Udp);
    rig.settle_down();
    assert_eq!(outer(&rig), [40_001, 40_004, 40_005, 40_006]);
    let told = &rig.status().containers[0].network_bindings;
    assert_eq!(told.len(), 2);
    assert_eq!(
        (told[0].container_port, told[0].host_port),
        (Some(80), Some(40_001))
    );
    assert_eq!(told[1].container_port, None);
    assert_eq!(told[1].container_port_range.as_deref(), Some("8000-8002"));
    assert_eq!(told[1].host_port_range.as_deref(), Some("40004-40006"));
    assert_eq!(
        rig.status().ports.as_deref(),
        Some("10.0.0.5:40001->80,10.0.0.5:40004-40006->8000-8002/udp")
    );
}

#[test]
fn the_next_task_gets_the_next_ports() {
    let mut first = wishing();
    first.settle_down();
    let mut second = wishing();
    second.ports = first.ports.clone();
    second.settle_down();
    let both = [outer(&first), outer(&second)].concat();
    assert_eq!(both, (40_000..40_008).collect::<Vec<_>>());
}

#[test]
fn a_port_that_was_taken_before_the_start_leads_to_another_choice() {
    let mut rig = wishing();
    rig.ports.blind = true;
    for port in 40_000..40_003 {
        rig.engine.occupy_port(port, Protocol::Tcp);
    }
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.containers().len(), 1);
    let creates = rig.engine.calls_of(Verb::Create);
    assert!(creates > 1, "{creates} creates");
    assert_eq!(rig.engine.calls_of(Verb::Remove), creates - 1);
}

#[test]
fn a_host_without_free_ports_says_so_and_the_task_ends() {
    let mut rig = wishing();
    for port in 40_000..40_010 {
        rig.engine.occupy_port(port, Protocol::Tcp);
    }
    rig.run(Duration::from_secs(120));
    let status = rig.status();
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "CannotCreateContainerError: the host has no free tcp port in 40000-40009 (ECS_DYNAMIC_HOST_PORT_RANGE)"
        )
    );
}

#[test]
fn a_host_where_every_choice_fails_ends_the_task_some_time() {
    let mut rig = wishing();
    rig.ports.blind = true;
    for port in 40_000..40_010 {
        rig.engine.occupy_port(port, Protocol::Tcp);
    }
    rig.run(Duration::from_secs(120));
    let status = rig.status();
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert!(rig.engine.call_count() < 150, "{}", rig.engine.call_count());
}

#[test]
fn a_restart_keeps_the_ports_and_a_taken_one_is_its_end() {
    let containers = json!([{
        "name": "app", "memory": 64, "portMappings": [{ "containerPort": 80 }],
        "restartPolicy": { "enabled": true, "restartAttemptPeriod": 60 },
    }]);
    for taken in [false, true] {
        let mut rig = Rig::of(written(&containers, &json!([])));
        rig.run(Duration::from_secs(61));
        let before = outer(&rig);
        rig.engine.exit(&rig.name("app"), 1);
        if taken {
            rig.engine.occupy_port(before[0], Protocol::Tcp);
        }
        rig.run(Duration::from_secs(120));
        if taken {
            assert_eq!(rig.status().last_status, LastStatus::Stopped);
            assert_eq!(
                rig.engine.calls_of(Verb::Create),
                1,
                "in place or not at all"
            );
        } else {
            assert_eq!(outer(&rig), before);
        }
    }
}

/// With a record as it was written before the call (a discard waits for the disk), or none.
#[test]
fn killed_at_every_call_while_it_chooses_anew() {
    for lost in [false, true] {
        for carried_out in [false, true] {
            for at_call in 1..=14 {
                let what = format!("lost {lost}, carried out {carried_out}, call {at_call}");
                let mut rig = wishing();
                rig.ports.blind = true;
                for port in 40_000..40_003 {
                    rig.engine.occupy_port(port, Protocol::Tcp);
                }
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let mut saved = rig.machine.record().clone();
                for _ in 0..60 {
                    let step = rig.turn();
                    if rig.engine.crashed() {
                        if step
                            .actions
                            .iter()
                            .any(|action| action.must_be_remembered())
                        {
                            saved = step.record;
                        }
                        break;
                    }
                    saved = step.record;
                }
                rig.restart((!lost).then_some(saved));
                rig.run(Duration::from_secs(60));
                assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                assert_eq!(rig.engine.containers().len(), 1, "{what}");
            }
        }
    }
}
