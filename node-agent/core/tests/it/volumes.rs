//! Volumes through the life of a task: there before its containers, gone after them.

use crate::rig;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::rig::{Rig, UID, container, plan, written};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::settings::volumes::VolumeSettings;
use tallyman_agent_core::{Assignment, Plan};
use tallyman_agent_engine::fake::{Crash, Mishap, Program};
use tallyman_agent_engine::{MountSource, Verb, VolumeSpec};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// Two containers over one volume of the task, and one that takes over the mounts of the first.
fn sharing(volume: &Value) -> HostPlanSpec {
    let mut volume = volume.clone();
    volume["name"] = json!("data");
    let mounts = json!([{ "sourceVolume": "data", "containerPath": "/data" }]);
    let containers = json!([
        { "name": "taker", "volumesFrom": [{ "sourceContainer": "app", "readOnly": true }] },
        { "name": "app", "mountPoints": mounts },
        { "name": "log", "essential": false, "mountPoints": mounts },
    ]);
    written(&containers, &json!([volume]))
}

const OWN: &str = "ecs-web-7-data-550e8400e2";

fn shared(autoprovision: bool) -> Value {
    json!({ "dockerVolumeConfiguration": { "scope": "shared", "autoprovision": autoprovision,
            "labels": { "team": "blue" } } })
}

fn names(rig: &Rig) -> Vec<String> {
    rig.engine.volumes().into_iter().map(|v| v.name).collect()
}

/// Names of the targets of a verb's successful calls, in order.
fn done(rig: &Rig, verb: Verb) -> Vec<String> {
    let log = rig.engine.call_log().into_iter();
    log.filter(|call| call.verb == verb)
        .map(|call| call.target)
        .collect()
}

#[test]
fn the_volume_is_there_before_its_containers_and_goes_after_them() {
    let mut rig = Rig::of(sharing(&json!({})));
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(done(&rig, Verb::CreateVolume), [OWN]);
    // The one that takes over mounts comes after their owner.
    let created = done(&rig, Verb::Create);
    assert!(created.last().unwrap().contains("taker"), "{created:?}");
    let log = rig.engine.call_log();
    let first = |verb| log.iter().position(|call| call.verb == verb).unwrap();
    assert!(first(Verb::CreateVolume) < first(Verb::Create));
    // Nobody marks it as gone while the task is there.
    assert!(
        rig.engine.volumes()[0]
            .labels
            .contains_key("tallyman.dev/task-uid")
    );

    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(names(&rig), [OWN], "kept with the containers");
    rig.want_removal();
    rig.run(Duration::from_secs(60));
    assert!(rig.engine.containers().is_empty() && names(&rig).is_empty());
    assert!(rig.status().removed_at.is_some());
    let log = rig.engine.call_log();
    let removed = log.iter().position(|call| call.verb == Verb::RemoveVolume);
    let last = log.iter().rposition(|call| call.verb == Verb::Remove);
    assert!(last < removed);
}

#[test]
fn a_volume_goes_with_the_cleanup_of_a_task_that_the_plan_forgot() {
    let mut rig = Rig::of(sharing(&json!({})));
    rig.settle_down();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(60));
    // Remembered by the record alone.
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.machine.unplanned();
    rig.run(Duration::from_secs(60));
    assert_eq!(names(&rig), [OWN], "the cleanup wait is not over");
    rig.run(Duration::from_secs(3 * 3600));
    assert!(rig.engine.containers().is_empty() && names(&rig).is_empty());
    let now = rig.now();
    let host = rig.host.clone();
    assert!(rig.machine.step(&host, now).finished);
}

#[test]
fn a_shared_volume_is_made_once_and_stays() {
    let mut rig = Rig::of(sharing(&shared(true)));
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.volumes()[0].labels, map(&[("team", "blue")]));
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(60));
    assert!(rig.engine.containers().is_empty());
    assert!(rig.status().removed_at.is_some());
    assert_eq!(names(&rig), ["data"]);
    assert_eq!(rig.engine.calls_of(Verb::RemoveVolume), 0);
}

#[test]
fn a_shared_volume_that_must_exist_fails_the_task_when_it_does_not() {
    let mut rig = Rig::of(sharing(&shared(false)));
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "CannotInspectVolumeError: volume detection failed, volume 'data' does not exist and autoprovision is \
             set to false"
        )
    );
    assert!(rig.engine.containers().is_empty() && names(&rig).is_empty());

    let mut rig = Rig::of(sharing(&shared(false)));
    rig.engine
        .create_volume_outside(&VolumeSpec::new("data"))
        .unwrap();
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.calls_of(Verb::CreateVolume), 0);
}

#[test]
fn an_existing_shared_volume_must_match_only_where_the_host_says_so() {
    for (match_full_config, labels, autoprovision, runs) in [
        (false, &[][..], true, true),
        (true, &[("team", "blue")][..], true, true),
        (true, &[("team", "red")][..], true, false),
        (true, &[("team", "red")][..], false, true),
    ] {
        let spec = sharing(&shared(autoprovision));
        let mut rig = Rig::of(spec.clone());
        let mut existing = VolumeSpec::new("data");
        existing.labels = map(labels);
        rig.engine.create_volume_outside(&existing).unwrap();
        let door = Door {
            volumes: VolumeSettings {
                match_full_config,
                ..VolumeSettings::default()
            },
            ..rig::door()
        };
        let tasks = Assignment::parse(Plan::from(spec), &door).tasks;
        rig.machine.assign(tasks.into_values().next().unwrap());
        rig.settle_down();
        let wanted = if runs {
            LastStatus::Running
        } else {
            LastStatus::Stopped
        };
        assert_eq!(rig.status().last_status, wanted, "{labels:?}");
        if !runs {
            let reason = rig.status().stopped_reason.clone().unwrap();
            assert!(
                reason.contains("labels") && reason.contains("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG"),
                "{reason}"
            );
        }
    }
}

#[test]
fn a_shared_volume_that_another_task_makes_at_the_same_time_is_taken() {
    let mut rig = Rig::of(sharing(&shared(true)));
    // Looked at, and absent.
    rig.turn();
    rig.engine
        .create_volume_outside(&VolumeSpec::new("data"))
        .unwrap();
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn a_volume_that_the_engine_refuses_fails_the_task_with_its_words() {
    let volume = json!({ "dockerVolumeConfiguration": { "driver": "rexray" } });
    let mut rig = Rig::of(sharing(&volume));
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let reason = status.stopped_reason.as_deref().unwrap();
    assert!(
        reason.starts_with("CannotCreateVolumeError: ")
            && reason.contains("rexray")
            && reason.contains("`data`"),
        "{reason}"
    );
    assert!(rig.engine.containers().is_empty());
}

#[test]
fn an_engine_that_is_away_is_waited_for() {
    let mut rig = Rig::of(sharing(&json!({})));
    let away = tallyman_agent_engine::EngineError::Timeout {
        verb: Verb::CreateVolume,
        after: Duration::from_secs(60),
    };
    rig.engine.fail(Verb::CreateVolume, 3, &away);
    rig.engine
        .next(Verb::CreateVolume, Mishap::InterruptedAfter);
    rig.settle_down();
    let told = rig
        .status()
        .conditions
        .iter()
        .any(|c| c.message.contains("Volume `data`"));
    assert!(told, "{:?}", rig.status().conditions);
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(names(&rig), [OWN]);
}

#[test]
fn a_volume_that_cannot_be_removed_is_told_of_a_task_that_is_being_deleted() {
    let broken = tallyman_agent_engine::EngineError::Engine {
        verb: Verb::RemoveVolume,
        status: 500,
        message: "device or resource busy".to_owned(),
    };
    let mut rig = Rig::of(sharing(&json!({})));
    rig.settle_down();
    rig.engine.fail(Verb::RemoveVolume, 5, &broken);
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "deleted");
    rig.run(Duration::from_secs(40));
    let told = rig.told.last().unwrap();
    assert_eq!(
        told.conditions[0].message,
        "The task has stopped: deleted. Volume `data` cannot be removed: CannotRemoveVolumeError: device or resource busy."
    );
    rig.run(Duration::from_secs(300));
    assert!(rig.told.last().unwrap().removed_at.is_some());
    assert!(names(&rig).is_empty());
}

#[test]
fn a_volume_that_somebody_else_uses_does_not_hold_the_task() {
    let mut rig = Rig::of(sharing(&json!({})));
    rig.settle_down();
    let mut guest = tallyman_agent_engine::ContainerSpec::new("guest", "guest:1");
    guest.mounts = vec![tallyman_agent_engine::Mount {
        source: MountSource::Volume(OWN.to_owned()),
        path: "/data".to_owned(),
        read_only: false,
    }];
    rig.engine.run_outside(&guest).unwrap();
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(10));
    assert!(rig.status().removed_at.is_none());
    rig.run(Duration::from_secs(120));
    assert!(rig.status().removed_at.is_some());
    assert_eq!(names(&rig), [OWN]);
}

#[test]
fn a_source_that_failed_fails_those_that_take_its_mounts() {
    let spec = written(
        &json!([
            { "name": "app", "volumesFrom": [{ "sourceContainer": "data" }] },
            { "name": "data", "essential": false },
        ]),
        &json!([]),
    );
    let mut rig = Rig::of(spec);
    rig.engine.set_missing("data:1");
    rig.run(Duration::from_secs(60));
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    let reason = status.stopped_reason.as_deref().unwrap();
    assert!(
        reason.contains("dependency [data] for target [app] because dependency will never start"),
        "{reason}"
    );
}

#[test]
fn killed_at_every_call_the_volume_is_made_once_and_goes() {
    for keep in [true, false] {
        for carried_out in [false, true] {
            for at_call in 1..=24 {
                let what = format!("kept {keep}, carried out {carried_out}, call {at_call}");
                let mut rig = Rig::of(sharing(&json!({})));
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                // Up to the crash: the task runs, or is being removed again.
                for stage in 0..2 {
                    if stage == 1 {
                        rig.want_removal();
                        rig.want_stop(StopCode::UserInitiated, "enough");
                    }
                    for _ in 0..30 {
                        let list = rig.list();
                        rig.machine.listed(&list);
                        if rig.turn().actions.is_empty() {
                            rig.engine.advance(Duration::from_millis(700));
                        }
                        if rig.engine.crashed() {
                            break;
                        }
                    }
                    if rig.engine.crashed() {
                        break;
                    }
                }
                let record = rig.machine.record().clone();
                rig.restart(keep.then_some(record));
                if !rig.machine.task().remove {
                    rig.run(Duration::from_secs(30));
                    assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                    assert_eq!(names(&rig), [OWN], "{what}");
                    assert_eq!(rig.engine.containers().len(), 3, "{what}");
                    rig.want_removal();
                    rig.want_stop(StopCode::UserInitiated, "enough");
                }
                rig.run(Duration::from_secs(60));
                assert!(rig.status().removed_at.is_some(), "{what}");
                assert!(rig.engine.containers().is_empty(), "{what}");
                assert!(names(&rig).is_empty(), "{what}: {:?}", names(&rig));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever befalls the calls and the agent: the volume of the task is never removed while a container
    /// has it or the task is to run, the shared one never at all, and in the end nothing of ours is left.
    #[test]
    fn whatever_happens_the_own_volume_goes_last_and_the_shared_one_stays(
        blows in proptest::collection::vec((0..6u8, 0..8u8, any::<bool>()), 1..30),
        ends in proptest::option::of(1..20u64),
    ) {
        let volumes = json!([
            { "name": "own" },
            { "name": "common", "dockerVolumeConfiguration": { "scope": "shared", "autoprovision": true } },
        ]);
        let containers = json!([
            { "name": "app", "mountPoints": [
                { "sourceVolume": "own", "containerPath": "/own" },
                { "sourceVolume": "common", "containerPath": "/common" }] },
            { "name": "log", "essential": false, "volumesFrom": [{ "sourceContainer": "app" }] },
        ]);
        let own = "ecs-web-7-own-550e8400e2";
        let mut rig = Rig::of(written(&containers, &volumes));
        if let Some(seconds) = ends {
            rig.engine.set_program("app:1", Program::exits(1, Duration::from_secs(seconds)));
        }
        let mut removing = false;
        const VERBS: [Verb; 8] = [
            Verb::Prepare, Verb::Create, Verb::Start, Verb::Inspect, Verb::Remove,
            Verb::CreateVolume, Verb::InspectVolume, Verb::RemoveVolume,
        ];
        for (blow, verb, flag) in blows {
            let verb = VERBS[usize::from(verb)];
            match blow {
                0 | 1 => { for _ in 0..3 { rig.turn(); } }
                2 => rig.engine.advance(Duration::from_secs(3)),
                3 => rig.engine.next(verb, if flag { Mishap::TimeoutAfter } else { Mishap::TimeoutBefore }),
                4 => {
                    let record = rig.machine.record().clone();
                    rig.restart(flag.then_some(record));
                }
                _ => if flag {
                    removing = true;
                    rig.want_removal();
                    rig.want_stop(StopCode::UserInitiated, "enough");
                },
            }
            let has = |name: &str| rig.engine.volumes().iter().any(|v| v.name == name);
            let there = rig.engine.containers().iter().any(|c| c.name.contains("-app-"));
            prop_assert!(!there || has(own));
            prop_assert!(removing || rig.engine.calls_of(Verb::RemoveVolume) == 0);
        }
        rig.engine.mend();
        rig.want_removal();
        rig.want_stop(StopCode::UserInitiated, "enough");
        let made = names(&rig).contains(&"common".to_owned());
        rig.run(Duration::from_secs(300));
        prop_assert!(rig.status().removed_at.is_some());
        prop_assert!(rig.engine.containers().is_empty());
        prop_assert!(!names(&rig).contains(&own.to_owned()));
        prop_assert_eq!(names(&rig).contains(&"common".to_owned()), made);
    }
}

#[test]
fn a_pull_that_goes_on_does_not_hold_the_volume_of_a_deleted_task() {
    let mut rig = Rig::of(sharing(&json!({})));
    let now = rig.now();
    let host = rig.host.clone();
    let step = rig.machine.step(&host, now);
    for action in &step.actions {
        rig.machine.started(action);
        if action.verb() == Verb::CreateVolume {
            let outcome = rig::block(tallyman_agent_core::perform(
                &rig.engine,
                rig.premises(),
                action,
            ));
            rig.machine.settle(action.container(), outcome, now);
        }
    }
    assert_eq!(names(&rig), [OWN]);
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(10));
    assert!(rig.status().removed_at.is_some() && names(&rig).is_empty());
}

#[test]
fn volumes_without_a_task_are_condemned_after_two_plans_and_a_while() {
    let mut host = tallyman_agent_core::Host::new(rig::door());
    let volume = |name: &str, task: &str, instance: &str| tallyman_agent_engine::VolumeState {
        name: name.to_owned(),
        driver: "local".to_owned(),
        options: BTreeMap::new(),
        labels: map(&[
            ("tallyman.dev/task-uid", task),
            ("tallyman.dev/container-instance-uid", instance),
        ]),
    };
    let mut common = volume("common", "gone", rig::INSTANCE);
    common.labels.remove("tallyman.dev/task-uid");
    let listed = [
        volume("planned", UID, rig::INSTANCE),
        volume("remembered", "known", rig::INSTANCE),
        volume("elsewhere", "gone", "other"),
        volume("orphan", "gone", rig::INSTANCE),
        common,
    ];
    let known = [tallyman_agent_core::TaskUid::new("known")].into();
    let at = |seconds: i64| jiff::Timestamp::from_second(1_800_000_000 + seconds).unwrap();
    let mut look = |generation, seconds| {
        let mut spec = plan(vec![container("app", true)]);
        spec.generation = generation;
        host.offer(Plan::from(spec), true).unwrap();
        let condemned = host.stray_volumes(&listed, &known, at(seconds));
        condemned.into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    assert!(look(1, 0).is_empty());
    assert!(look(1, 600).is_empty());
    assert_eq!(look(2, 900), ["orphan"]);
}

/// A plain task asks nothing about volumes.
#[test]
fn a_task_without_volumes_costs_no_call() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(30));
    assert!(rig.status().removed_at.is_some());
    for verb in [Verb::CreateVolume, Verb::InspectVolume, Verb::RemoveVolume] {
        assert_eq!(rig.engine.calls_of(verb), 0);
    }
}

#[test]
fn a_path_that_leads_where_the_policy_does_not_allow_is_not_mounted() {
    let path = json!({ "host": { "sourcePath": "/srv/link" } });
    let options = json!({ "type": "none", "o": "bind", "device": "/srv/link/x" });
    let bound = json!({ "dockerVolumeConfiguration": { "driverOpts": options } });
    let listed = |paths: &[&str]| Some(json!({ "hostPaths": paths }));
    // Where this host's engine keeps its data.
    let elsewhere = json!({ "host": { "sourcePath": "/srv/docker/volumes" } });
    for (volume, policy, why) in [
        (
            &path,
            None,
            Some("must not be `/run/docker.sock`, which is in `/run`: "),
        ),
        (
            &bound,
            None,
            Some("must not be `/run/docker.sock/x`, which is in `/run`: "),
        ),
        (
            &path,
            listed(&["/srv"]),
            Some("must not be `/run/docker.sock`: `spec.taskPolicy.hostPaths`"),
        ),
        (&path, listed(&["/srv", "/run"]), None),
        (&bound, listed(&["/srv", "/run"]), None),
        (
            &elsewhere,
            None,
            Some("must not be `/srv/docker/volumes`, which is in `/srv/docker`: "),
        ),
        (&elsewhere, listed(&["/srv/docker"]), None),
        // What is listed is a link itself.
        (&path, listed(&["/srv/link"]), None),
    ] {
        let mut spec = sharing(volume);
        spec.task_policy = policy.map(|policy| serde_json::from_value(policy).unwrap());
        let mut rig = Rig::of(spec);
        rig.run(Duration::from_secs(60));
        let Some(why) = why else {
            assert_eq!(rig.status().last_status, LastStatus::Running, "{volume}");
            continue;
        };
        assert_eq!(rig.status().last_status, LastStatus::Stopped, "{volume}");
        let status = rig.status();
        let reason = status
            .containers
            .iter()
            .find_map(|c| c.reason.clone())
            .unwrap();
        let beginning = "ResourceInitializationError: the mounted path `/srv/";
        assert!(
            reason.starts_with(beginning) && reason.contains(why),
            "{reason}"
        );
        assert_eq!(done(&rig, Verb::Start), [""; 0]);
    }
}

/// What a link hides the words of the definition do not show.
#[test]
fn a_link_to_the_hosts_processes_is_not_mounted_for_who_may_trace_them() {
    for (added, wanted) in [
        (json!(["SYS_PTRACE"]), LastStatus::Stopped),
        (json!(["NET_RAW"]), LastStatus::Running),
    ] {
        let containers = json!([{
            "name": "app",
            "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data", "readOnly": true }],
            "linuxParameters": { "capabilities": { "add": added } },
        }]);
        let volumes = json!([{ "name": "data", "host": { "sourcePath": "/srv/processes" } }]);
        let mut spec = written(&containers, &volumes);
        spec.task_policy = None;
        let mut rig = Rig::of(spec);
        rig.run(Duration::from_secs(60));
        let status = rig.status();
        assert_eq!(status.last_status, wanted, "{added}");
        let mut reasons = status.containers.iter().filter_map(|c| c.reason.clone());
        let told = reasons.any(|reason| reason.contains("beside the capability SYS_PTRACE"));
        assert_eq!(told, wanted == LastStatus::Stopped, "{added}");
    }
}
