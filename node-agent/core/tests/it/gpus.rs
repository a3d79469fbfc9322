//! GPUs of the host in the life of a task: given when a container is created, told, kept, and never anybody else's.

use std::sync::Arc;
use std::time::Duration;

use crate::rig::{Rig, door, written};
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::gpu_info::Mps;
use tallyman_agent_core::settings::gpus::GpuSettings;
use tallyman_agent_core::{
    Assignment, GpuHolder, GpuInfo, GpuShare, GpuWish, Gpus, Holdings, Plan, TaskBody, TaskMachine,
    TaskUid,
};
use tallyman_agent_engine::fake::Crash;
use tallyman_agent_engine::{ContainerSpec, MountSource, Verb};
use tallyman_crds::ecs::TaskOverride;
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode, labels};

const IDS: [&str; 3] = ["GPU-0", "GPU-1", "GPU-2"];

fn mps_in(directory: &str) -> Mps {
    Mps {
        directory: directory.to_owned(),
        listens: true,
    }
}

fn holdings() -> Arc<Holdings> {
    Arc::new(Holdings::new(&GpuInfo {
        ids: IDS.map(str::to_owned).into(),
        memory: IDS.map(|id| (id.to_owned(), 8192)).into(),
        mps: Some(mps_in("/run/mps-ecs")),
        ..GpuInfo::default()
    }))
}

fn gpu_door(runtime: Option<&str>) -> Door {
    Door {
        gpus: GpuSettings {
            enabled: true,
            runtime: runtime.map(str::to_owned),
            ..GpuSettings::default()
        },
        ..door()
    }
}

fn containers(count: &str) -> Value {
    let requirements = json!([{ "type": "GPU", "value": count }]);
    json!([{ "name": "app", "memory": 64, "resourceRequirements": requirements }])
}

fn of(spec: HostPlanSpec, door: &Door) -> Rig {
    let mut rig = Rig::of(spec.clone());
    let tasks = Assignment::parse(Plan::from(spec), door).tasks;
    let task = tasks.into_values().next().unwrap();
    rig.machine = TaskMachine::begin(task, None, &[]);
    rig.holdings = holdings();
    rig.engine.set_gpu_driver(true);
    rig
}

fn asking(count: &str) -> Rig {
    of(written(&containers(count), &json!([])), &gpu_door(None))
}

fn spec(rig: &Rig, container: &str) -> ContainerSpec {
    rig.engine.spec(&rig.name(container)).unwrap()
}

fn visible(spec: &ContainerSpec) -> Vec<&str> {
    let named = |(name, _): &&(String, String)| name == "NVIDIA_VISIBLE_DEVICES";
    let found = spec.environment.iter().filter(named);
    found.map(|(_, value)| value.as_str()).collect()
}

/// Another task of the host takes some.
fn take(gpus: &Gpus, task: &str, count: u32) {
    let holder = GpuHolder {
        task: TaskUid::new(task),
        container: "other".to_owned(),
    };
    let mut spec = ContainerSpec::new("other", "other:1");
    let share = GpuShare::Whole(count);
    gpus.choose(&GpuWish { holder, share }, &mut spec).unwrap();
}

#[test]
fn a_container_gets_gpus_by_id_and_its_status_tells_them() {
    let mut rig = asking("2");
    take(&rig.holdings.gpus, "earlier", 1);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let spec = spec(&rig, "app");
    assert_eq!(spec.gpus, ["GPU-1", "GPU-2"]);
    assert_eq!(spec.runtime, None);
    assert_eq!(visible(&spec), ["GPU-1,GPU-2"]);
    assert_eq!(spec.labels[labels::CONTAINER_GPUS], "GPU-1,GPU-2");
    assert_eq!(rig.status().containers[0].gpu_ids, ["GPU-1", "GPU-2"]);
}

#[test]
fn a_runtime_that_is_set_takes_the_place_of_the_device_request() {
    let door = gpu_door(Some("runc"));
    let mut rig = of(written(&containers("1"), &json!([])), &door);
    rig.settle_down();
    let spec = spec(&rig, "app");
    assert_eq!(spec.runtime.as_deref(), Some("runc"));
    assert_eq!(visible(&spec), ["GPU-0"]);
    assert!(spec.gpus.is_empty());
    assert_eq!(rig.status().containers[0].gpu_ids, ["GPU-0"]);
}

#[test]
fn an_override_says_how_many() {
    let mut plan = written(&containers("1"), &json!([]));
    let changes = json!({ "containerOverrides": [{
        "name": "app", "resourceRequirements": [{ "type": "GPU", "value": "3" }],
    }] });
    let overrides: TaskOverride = serde_json::from_value(changes).unwrap();
    plan.tasks[0].overrides = Some(overrides);
    let mut rig = of(plan, &gpu_door(None));
    rig.settle_down();
    assert_eq!(spec(&rig, "app").gpus, IDS);
}

#[test]
fn who_asks_for_none_sees_none_unless_the_definition_says_so() {
    let variable = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }]);
    let plain = json!([
        { "name": "app", "memory": 64 },
        { "name": "watch", "memory": 64, "environment": variable },
    ]);
    let plan = written(&plain, &json!([]));
    let mut rig = of(plan.clone(), &gpu_door(None));
    rig.settle_down();
    assert_eq!(visible(&spec(&rig, "app")), ["void"]);
    assert_eq!(
        spec(&rig, "app").labels[labels::CONTAINER_GPUS],
        "",
        "an image's own label does not count"
    );
    assert_eq!(visible(&spec(&rig, "watch")), ["all"]);
    let mut rig = of(plan, &door());
    rig.settle_down();
    assert!(visible(&spec(&rig, "app")).is_empty(), "a host without");
}

#[test]
fn a_task_waits_for_as_long_as_another_one_has_them() {
    let mut rig = asking("2");
    take(&rig.holdings.gpus, "stopping", 2);
    rig.run(Duration::from_secs(600));
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    let message = &rig.status().conditions[0].message;
    assert!(
        message.contains("asks for 2 GPUs, and the host has 1 of 3 free"),
        "{message}"
    );
    rig.holdings.gpus.ended(&TaskUid::new("stopping"));
    rig.run(Duration::from_secs(20));
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn a_host_that_has_fewer_than_asked_for_ends_the_task() {
    let mut rig = asking("4");
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.status().stop_code, Some(StopCode::TaskFailedToStart));
    assert_eq!(
        rig.status().stopped_reason.as_deref(),
        Some(
            "CannotCreateContainerError: container `app` asks for 4 GPUs, and the host has 3 for tasks"
        )
    );
}

#[test]
fn an_engine_without_the_driver_is_named_with_the_remedy() {
    let mut rig = asking("1");
    rig.engine.set_gpu_driver(false);
    rig.run(Duration::from_secs(60));
    assert_eq!(
        rig.status().stopped_reason.as_deref(),
        Some(
            "CannotStartContainerError: could not select device driver \"nvidia\" with capabilities: [[gpu]]; install \
             the NVIDIA Container Toolkit on the host and restart its engine"
        )
    );
}

#[test]
fn what_is_no_count_is_refused_with_its_field() {
    for count in ["0", "half", ""] {
        let plan = Plan::from(written(&containers(count), &json!([])));
        let tasks = Assignment::parse(plan, &gpu_door(None)).tasks;
        let TaskBody::Refused(why) = &tasks.values().next().unwrap().body else {
            panic!("'{count}' was taken");
        };
        assert!(
            why.contains("Container `app`: `resourceRequirements` must have a whole number"),
            "{why}"
        );
    }
}

#[test]
fn a_stopped_task_gives_its_gpus_back_though_its_container_is_kept() {
    let mut rig = asking("3");
    rig.settle_down();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(30));
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.engine.containers().len(), 1);
    assert_eq!(rig.status().containers[0].gpu_ids, IDS);
    take(&rig.holdings.gpus, "next", 3);
}

#[test]
fn a_restart_in_place_keeps_them() {
    let mut definition = containers("2");
    definition[0]["restartPolicy"] = json!({ "enabled": true, "restartAttemptPeriod": 60 });
    let plan = written(&definition, &json!([]));
    let mut rig = of(plan, &gpu_door(None));
    rig.run(Duration::from_secs(61));
    rig.engine.exit(&rig.name("app"), 1);
    rig.run(Duration::from_secs(1));
    assert_eq!(rig.starts(), 2);
    assert_eq!(rig.engine.calls_of(Verb::Create), 1);
    assert_eq!(spec(&rig, "app").gpus, ["GPU-0", "GPU-1"]);
}

/// The create of an earlier agent comes through after this one listed, with a GPU that this one gave away since. It is
/// found by the next list, or by a create that the name is taken for.
#[test]
fn a_container_with_a_gpu_of_another_is_made_anew() {
    for (given_away, listed) in [(1, true), (2, true), (1, false), (2, false)] {
        let mut rig = asking("1");
        for _ in 0..20 {
            if !rig.engine.containers().is_empty() {
                break;
            }
            rig.turn();
        }
        let name = rig.name("app");
        assert_eq!(spec(&rig, "app").gpus, ["GPU-0"]);
        assert!(rig.engine.peek(&name).unwrap().started_at.is_none());
        // The next agent sees none of it, and gives its GPU to another task before it creates this one.
        rig.machine = TaskMachine::begin(rig.machine.task().clone(), None, &[]);
        rig.holdings = holdings();
        take(&rig.holdings.gpus, "quick", given_away);
        if !listed {
            rig.settle_down();
            // The name is taken; its own is looked at, removed, and made anew.
            assert_eq!(rig.engine.calls_of(Verb::Create), 3);
        }
        rig.run(Duration::from_secs(60));
        assert_eq!(rig.status().last_status, LastStatus::Running);
        let own = IDS[usize::try_from(given_away).unwrap()];
        assert_eq!(spec(&rig, "app").gpus, [own]);
        assert_eq!(rig.status().containers[0].gpu_ids, [own]);
        assert_eq!(rig.engine.containers().len(), 1);
    }
}

/// The agent dies at every call; the next one finds what there is, with the record or without.
#[test]
fn killed_at_every_call_a_task_keeps_its_gpus() {
    for lost in [false, true] {
        for carried_out in [false, true] {
            for at_call in 1..=6 {
                let what = format!("lost {lost}, carried out {carried_out}, call {at_call}");
                let mut rig = asking("1");
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let mut saved = rig.machine.record().clone();
                for _ in 0..30 {
                    let step = rig.turn();
                    if rig.engine.crashed() {
                        break;
                    }
                    saved = step.record;
                }
                rig.engine.mend();
                let task = rig.machine.task().clone();
                rig.machine = TaskMachine::begin(task, (!lost).then_some(saved), &rig.list());
                rig.holdings = holdings();
                rig.run(Duration::from_secs(60));
                assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                assert_eq!(rig.engine.containers().len(), 1, "{what}");
                take(&rig.holdings.gpus, "second", 2);
                assert!(!gives(&rig.holdings.gpus), "{what}");
            }
        }
    }
}

/// Whether one more GPU is free.
fn gives(gpus: &Gpus) -> bool {
    let holder = GpuHolder {
        task: TaskUid::new("third"),
        container: "other".to_owned(),
    };
    let mut spec = ContainerSpec::new("other", "other:1");
    let share = GpuShare::Whole(1);
    gpus.choose(&GpuWish { holder, share }, &mut spec).is_ok()
}

/// Two containers of a task, with 2 and 1 GiB of one GPU.
fn shared() -> Value {
    let part = |memory: u32, more: Value| {
        let mut mps = json!({ "memory": memory });
        if !more.is_null() {
            mps["maxComputePercent"] = more;
        }
        json!([{ "type": "GPU", "sharingStrategy": { "nvidiaMps": mps } }])
    };
    let own = json!([{ "name": "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "value": "0=80G" }]);
    json!([
        { "name": "app", "memory": 64, "resourceRequirements": part(2048, json!(25)), "environment": own },
        { "name": "log", "memory": 64, "resourceRequirements": part(1024, Value::Null) },
    ])
}

fn mps(spec: &ContainerSpec) -> Vec<String> {
    let ours = spec
        .environment
        .iter()
        .filter(|(name, _)| name.starts_with("CUDA_MPS_"));
    ours.map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[test]
fn a_part_of_a_gpu_is_told_to_mps_and_shared_by_the_task() {
    let mut rig = of(written(&shared(), &json!([])), &gpu_door(None));
    take(&rig.holdings.gpus, "earlier", 1);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let pipe = "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs";
    let limit = |mib| format!("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0={mib}M");
    let (app, log) = (spec(&rig, "app"), spec(&rig, "log"));
    let threads = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25";
    assert_eq!(mps(&app), [pipe, &limit(2048), threads]);
    assert_eq!(mps(&log), [pipe, &limit(1024)]);
    for one in [&app, &log] {
        assert_eq!(one.gpus, ["GPU-1"]);
        assert_eq!(visible(one), ["GPU-1"]);
        assert_eq!(one.labels[labels::CONTAINER_GPUS], "GPU-1=3072");
        let pipes = one.mounts.iter().filter(|mount| {
            mount.path == "/run/mps-ecs"
                && !mount.read_only
                && mount.source == MountSource::HostPath("/run/mps-ecs".to_owned())
        });
        assert_eq!(pipes.count(), 1, "{:?}", one.mounts);
    }
    for container in &rig.status().containers {
        assert_eq!(container.gpu_ids, ["GPU-1"]);
    }
}

#[test]
fn a_part_waits_for_room_and_comes_when_there_is_some() {
    let mut rig = of(written(&shared(), &json!([])), &gpu_door(None));
    take(&rig.holdings.gpus, "stopping", 3);
    rig.run(Duration::from_secs(600));
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    let message = &rig.status().conditions[0].message;
    assert!(
        message.contains("its task has 3072 MiB, and the host has 0 of 8192 free"),
        "{message}"
    );
    rig.holdings.gpus.ended(&TaskUid::new("stopping"));
    rig.run(Duration::from_secs(20));
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

/// Without its control daemon MPS limits nothing, and CUDA goes on without.
#[test]
fn no_part_starts_while_mps_does_not_listen() {
    for (directory, words) in [
        (
            Some("/run/other"),
            "does not listen at `/run/other/control`",
        ),
        (None, "asks for a part of a GPU"),
    ] {
        let mut rig = of(written(&shared(), &json!([])), &gpu_door(None));
        rig.holdings = Arc::new(Holdings::new(&GpuInfo {
            ids: IDS.map(str::to_owned).into(),
            memory: IDS.map(|id| (id.to_owned(), 8192)).into(),
            mps: directory.map(mps_in),
            ..GpuInfo::default()
        }));
        rig.run(Duration::from_secs(60));
        assert_eq!(rig.status().stop_code, Some(StopCode::TaskFailedToStart));
        let reason = rig.status().stopped_reason.clone().unwrap_or_default();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(rig.starts(), 0);
    }
}

#[test]
fn whole_gpus_and_parts_are_not_of_one_task() {
    let mut both = shared();
    both[1]["resourceRequirements"] = json!([{ "type": "GPU", "value": "1" }]);
    let plan = Plan::from(written(&both, &json!([])));
    let tasks = Assignment::parse(plan, &gpu_door(None)).tasks;
    let TaskBody::Refused(why) = &tasks.values().next().unwrap().body else {
        panic!("it was taken");
    };
    assert!(
        why.contains("or parts of one (`sharingStrategy`) in all of them"),
        "{why}"
    );
}
