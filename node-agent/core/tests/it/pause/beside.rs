//! A task on a network on which it does not reach its host, and its way to the metadata endpoint beside that.

use std::net::{IpAddr, Ipv4Addr};

use futures::FutureExt;
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::fault_injection;
use tallyman_agent_core::metadata::documents::{self, Version};
use tallyman_agent_core::metadata::{MetadataKey, Place};
use tallyman_agent_engine::{Engine, NetworkSpec};

use super::*;

/// A host whose operator made the network `lan`, with a metadata endpoint.
fn on_a_lan() -> Door {
    let mut door = rig::door();
    door.networking.awsvpc_network = Some("lan".to_owned());
    door.injection.key = Some(MetadataKey::new([7; 32]));
    door
}

/// The task of `spec` on a host with such a network, which is there.
fn rig_on_a_lan(spec: &HostPlanSpec, door: &Door) -> Rig {
    let mut rig = Rig::of(spec.clone());
    let lan = NetworkSpec {
        name: "lan".to_owned(),
        bridge: "br0".to_owned(),
        labels: [].into(),
        to_host: None,
    };
    rig.engine
        .ensure_network(&lan)
        .now_or_never()
        .unwrap()
        .unwrap();
    let parsed = Assignment::parse(Plan::from(spec.clone()), door);
    let task = parsed.tasks.into_values().next().unwrap();
    rig.machine = tallyman_agent_core::TaskMachine::begin(task, None, &[]);
    rig
}

#[test]
fn on_another_network_a_task_has_a_way_to_its_agent_that_nobody_is_told_of() {
    let mut rig = rig_on_a_lan(&plan(&awsvpc()), &on_a_lan());
    rig.settle_down();
    let log = rig.engine.call_log();
    let first = |verb: Verb, target: &str| {
        let found = log.iter().find(|c| c.verb == verb && c.target == target);
        found
            .unwrap_or_else(|| panic!("no {verb} of {target}"))
            .number
    };
    let pause = rig.name(NAME);
    let attached = first(Verb::Attach, &pause);
    assert!(first(Verb::EnsureNetwork, "tallyman-agent") < first(Verb::Create, &pause));
    assert!(first(Verb::Start, &pause) < attached);
    assert!(attached < first(Verb::Create, &rig.name("web")));
    assert_eq!(
        created(&rig, NAME).network,
        Network::Named("lan".to_owned())
    );
    assert!(rig.engine.network_labels("tallyman").is_none());

    // Two addresses; the task's own is told, and both may ask.
    let state = rig.engine.peek(&pause).unwrap();
    let on = |network: &str| {
        let found = state.attachments.iter().find(|one| one.network == network);
        found.unwrap().ipv4.unwrap().0
    };
    let (own, way) = (on("lan"), on("tallyman-agent"));
    let status = rig.status().clone();
    assert_eq!(status.last_status, LastStatus::Running);
    assert_eq!(status.ports, Some(format!("{own}:80,{own}:53/udp")));
    let told = serde_json::to_string(&status).unwrap();
    assert!(!told.contains(&way.to_string()), "{told}");
    let sight = rig.machine.sight();
    let document = documents::task(&sight, &Place::default(), Version::Four);
    let told = serde_json::to_string(&document).unwrap();
    assert!(
        told.contains(&own.to_string()) && !told.contains(&way.to_string()),
        "{told}"
    );
    for container in ["web", "log"] {
        assert_eq!(sight.attachments(container).len(), 1);
        for (peer, admitted) in [
            (own, true),
            (way, true),
            (Ipv4Addr::new(172, 31, 0, 99), false),
        ] {
            assert_eq!(
                sight.admits(container, IpAddr::V4(peer), false),
                admitted,
                "{peer}"
            );
        }
    }
    assert_eq!(sight.with_address(IpAddr::V4(way)), Some(NAME));
    let faults = fault_injection::Place::of(&sight, "web").unwrap();
    let fault_injection::Place::Own { addresses, .. } = faults else {
        panic!("it is not its own: {faults:?}")
    };
    assert_eq!(addresses, [IpAddr::V4(own)]);
}

#[test]
fn without_an_endpoint_there_is_no_way_to_it() {
    let mut door = on_a_lan();
    door.injection.key = None;
    let mut rig = rig_on_a_lan(&plan(&awsvpc()), &door);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.calls_of(Verb::Attach), 0);
    assert_eq!(
        rig.engine.calls_of(Verb::EnsureNetwork),
        1,
        "the operator's"
    );
}

#[test]
fn a_way_that_cannot_be_made_fails_the_task_and_a_hiccup_does_not() {
    let error = EngineError::Engine {
        verb: Verb::Attach,
        status: 500,
        message: "no available IPv4 addresses".to_owned(),
    };
    for (times, last) in [(2, LastStatus::Running), (5, LastStatus::Stopped)] {
        let mut rig = rig_on_a_lan(&plan(&awsvpc()), &on_a_lan());
        rig.engine.fail(Verb::Attach, times, &error);
        rig.run(SECOND * 120);
        let status = rig.status();
        assert_eq!(status.last_status, last);
        if last == LastStatus::Stopped {
            let reason = status.stopped_reason.as_deref().unwrap();
            assert_eq!(
                reason,
                "ContainerNetworkingError: no available IPv4 addresses"
            );
            assert_eq!(rig.engine.calls_of(Verb::Create), 1, "nobody joined");
        }
    }
    // The network went away meanwhile: it is made again.
    let mut rig = rig_on_a_lan(&plan(&awsvpc()), &on_a_lan());
    while rig.engine.calls_of(Verb::Start) == 0 {
        rig.turn();
    }
    assert!(rig.engine.destroy_network("tallyman-agent"));
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn killed_anywhere_nobody_joins_before_the_way_to_the_agent_is_there() {
    let spec = plan(&awsvpc());
    let door = on_a_lan();
    for carried_out in [false, true] {
        for at_call in 2..=20 {
            let what = format!("carried out {carried_out}, call {at_call}");
            let mut rig = rig_on_a_lan(&spec, &door);
            rig.engine.crash(Crash {
                at_call,
                carried_out,
            });
            for _ in 0..60 {
                rig.turn();
                if rig.engine.crashed() {
                    break;
                }
            }
            rig.engine.mend();
            let list = rig.list();
            let parsed = Assignment::parse(Plan::from(spec.clone()), &door);
            let task = parsed.tasks.into_values().next().unwrap();
            rig.machine = tallyman_agent_core::TaskMachine::begin(task, None, &list);
            rig.run(SECOND * 60);
            assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
            let state = rig.engine.peek(&rig.name(NAME)).unwrap();
            assert_eq!(state.attachments.len(), 2, "{what}");
            let log = rig.engine.call_log();
            let done = |verb: Verb, target: &str| {
                let mut all = log
                    .iter()
                    .filter(|c| !matches!(c.outcome, Outcome::Failed(_)));
                all.find(|c| c.verb == verb && c.target == target)
                    .map(|c| c.number)
            };
            let attached = done(Verb::Attach, &rig.name(NAME));
            assert!(attached < done(Verb::Create, &rig.name("web")), "{what}");
        }
    }
}

#[test]
fn a_task_that_runs_since_before_there_was_a_way_is_left_as_it_is() {
    let spec = plan(&awsvpc());
    let mut before = on_a_lan();
    before.injection.key = None;
    let mut rig = rig_on_a_lan(&spec, &before);
    rig.settle_down();
    let record = rig.machine.record().clone();
    let list = rig.list();
    let parsed = Assignment::parse(Plan::from(spec), &on_a_lan());
    let task = parsed.tasks.into_values().next().unwrap();
    rig.machine = tallyman_agent_core::TaskMachine::begin(task, Some(record), &list);
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.calls_of(Verb::Attach), 0);
    assert_eq!(rig.starts(), 3);
}
