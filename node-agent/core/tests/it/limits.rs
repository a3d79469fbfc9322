//! `cpu` and `memory` of a task as a whole: what the engine is asked for, by host and definition.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::rig::{INSTANCE, Rig, UID, assigned, container, door, plan};
use proptest::prelude::*;
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::limits::{Enforcement, Leftovers, parent};
use tallyman_agent_core::settings::tasks::Tasks;
use tallyman_agent_core::{Assignment, Plan, TaskBody, TaskMachine, TaskUid};
use tallyman_agent_engine::fake::Mishap;
use tallyman_agent_engine::{EngineDescription, EngineError, Verb};
use tallyman_crds::ecs::TaskOverride;
use tallyman_crds::{HostPlanSpec, LastStatus};

const PERIOD: Duration = Duration::from_millis(100);
const MIB: i64 = 1024 * 1024;

/// Two containers, the second without a limit of its own, in a task of half a core and 128 MiB.
fn sized() -> HostPlanSpec {
    let mut open = container("open", false);
    open.memory = None;
    let mut weighed = container("weighed", true);
    weighed.cpu = Some(100);
    let mut spec = plan(vec![weighed, open]);
    let definition = &mut spec.definitions.get_mut("web-7").unwrap().definition;
    definition.cpu = Some(".5 vCPU".to_owned());
    definition.memory = Some("128".to_owned());
    spec
}

fn rig(how: Enforcement) -> Rig {
    let mut rig = Rig::of(sized());
    rig.host.enforcement = how;
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig
}

fn group() -> String {
    format!("{}/{UID}", parent(INSTANCE))
}

#[test]
fn containers_live_in_the_group_of_their_task() {
    let rig = rig(Enforcement::Group {
        period: PERIOD,
        propagate: false,
    });
    let made = rig.engine.group(&group()).unwrap();
    assert_eq!(made.memory_bytes, Some(128 * MIB));
    assert_eq!(made.cpu_shares, 512);
    let quota = made.cpu_quota.unwrap();
    assert_eq!((quota.quota, quota.period), (PERIOD / 2, PERIOD));
    for (name, memory) in [("weighed", Some(64 * MIB)), ("open", None)] {
        let spec = rig.engine.spec(&rig.name(name)).unwrap();
        assert_eq!(spec.group, Some(group()));
        assert_eq!(spec.memory_bytes, memory);
        assert_eq!(spec.cpu_quota, None);
    }
}

#[test]
fn the_limit_of_the_task_may_be_shown_to_each_container() {
    let rig = rig(Enforcement::Group {
        period: PERIOD,
        propagate: true,
    });
    let spec = rig.engine.spec(&rig.name("open")).unwrap();
    assert_eq!(spec.memory_bytes, Some(128 * MIB));
    let spec = rig.engine.spec(&rig.name("weighed")).unwrap();
    assert_eq!(spec.memory_bytes, Some(64 * MIB));
}

#[test]
fn where_nobody_makes_groups_no_container_takes_more_than_its_task() {
    let rig = rig(Enforcement::Each { period: PERIOD });
    assert_eq!(rig.engine.group(&group()), None);
    for (name, memory) in [("weighed", 64), ("open", 128)] {
        let spec = rig.engine.spec(&rig.name(name)).unwrap();
        assert_eq!(spec.group, None);
        assert_eq!(spec.memory_bytes, Some(memory * MIB));
        assert_eq!(spec.cpu_quota.unwrap().quota, PERIOD / 2);
    }
}

#[test]
fn processes_are_limited_together_or_one_by_one_where_nobody_makes_groups() {
    let group_of_task = Enforcement::Group {
        period: PERIOD,
        propagate: false,
    };
    let each = Enforcement::Each { period: PERIOD };
    for (how, set, together, alone) in [
        (group_of_task, Some(100), Some(Some(100)), None),
        (each, Some(100), None, Some(100)),
        (Enforcement::Off, Some(100), None, Some(100)),
        // Nobody limits the task.
        (group_of_task, None, None, Some(4096)),
        (each, None, None, Some(4096)),
        (Enforcement::Off, None, None, Some(4096)),
    ] {
        // Nothing else is limited.
        let spec = plan(vec![container("app", true), container("other", true)]);
        let mut rig = Rig::of(spec.clone());
        let door = Door {
            pids_limit: set,
            ..door()
        };
        let tasks = Assignment::parse(Plan::from(spec), &door).tasks;
        let task = tasks.into_values().next().unwrap();
        rig.machine = TaskMachine::begin(task, None, &[]);
        rig.host.enforcement = how;
        rig.settle_down();
        assert_eq!(rig.status().last_status, LastStatus::Running);
        let made = rig.engine.group(&group());
        assert_eq!(made.map(|group| group.pids), together, "{how:?} {set:?}");
        for name in ["app", "other"] {
            let spec = rig.engine.spec(&rig.name(name)).unwrap();
            assert_eq!(spec.parameters.pids_limit, alone, "{how:?} {set:?}");
            assert_eq!(spec.group.is_some(), together.is_some(), "{how:?}");
        }
    }
}

#[test]
fn a_host_that_shall_not_limit_tasks_does_not() {
    let rig = rig(Enforcement::Off);
    assert_eq!(rig.engine.group(&group()), None);
    let spec = rig.engine.spec(&rig.name("open")).unwrap();
    assert_eq!((spec.group, spec.memory_bytes), (None, None));
    assert_eq!(spec.cpu_quota, None);
}

#[test]
fn a_task_without_a_size_has_no_group() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    assert_eq!(rig.engine.group(&group()), None);
    assert_eq!(rig.engine.spec(&rig.name("app")).unwrap().group, None);
}

#[test]
fn overrides_change_the_size() {
    let mut spec = sized();
    spec.tasks[0].overrides = Some(TaskOverride {
        cpu: Some("2048".to_owned()),
        memory: Some("1 GB".to_owned()),
        ..TaskOverride::default()
    });
    let mut rig = Rig::of(spec);
    rig.settle_down();
    let made = rig.engine.group(&group()).unwrap();
    assert_eq!(made.memory_bytes, Some(1024 * MIB));
    assert_eq!(made.cpu_quota.unwrap().quota, PERIOD * 2);
}

#[test]
fn a_container_above_its_task_is_refused_with_both_numbers() {
    let mut spec = sized();
    spec.tasks[0].overrides = Some(TaskOverride {
        memory: Some("32".to_owned()),
        ..TaskOverride::default()
    });
    let TaskBody::Refused(sentence) = assigned(spec).body else {
        panic!("it would run");
    };
    assert_eq!(
        sentence,
        "Container `weighed`: `memory` is 64 MiB, above the 32 MiB that `memory` of the task allows."
    );
}

#[test]
fn limits_that_cannot_be_set_stop_the_task_by_the_name_that_ecs_has() {
    let mut rig = Rig::of(sized());
    for _ in 0..20 {
        let error = EngineError::CannotLimit {
            message: "/sys/fs/cgroup/memory/ecs: Read-only file system".to_owned(),
        };
        rig.engine.next(Verb::ProvideGroup, Mishap::Refused(error));
    }
    rig.run(Duration::from_secs(300));
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    let reason = status.containers[0].reason.clone().unwrap_or_default();
    assert_eq!(
        reason,
        "ResourceInitializationError: the limits of the task could not be set: /sys/fs/cgroup/memory/ecs: \
         Read-only file system"
    );
}

#[test]
fn what_a_host_can_do_follows_from_its_engine() {
    let mut settings = Tasks::default();
    let mut engine = EngineDescription {
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: "2".to_owned(),
        ..EngineDescription::default()
    };
    let of = |settings: &Tasks, engine: &EngineDescription, groups| {
        Enforcement::of(settings, Some(engine), groups)
    };
    let each = Enforcement::Each { period: PERIOD };
    let group = |propagate| Enforcement::Group {
        period: PERIOD,
        propagate,
    };
    assert_eq!(of(&settings, &engine, true), group(false));
    assert_eq!(of(&settings, &engine, false), each);
    settings.propagate_memory = true;
    assert_eq!(of(&settings, &engine, true), group(true));
    engine.cgroup_version = "1".to_owned();
    assert_eq!(of(&settings, &engine, true), group(false));
    engine.cgroup_driver = "systemd".to_owned();
    assert_eq!(of(&settings, &engine, true), each);
    settings.cpu_mem_limit = false;
    assert_eq!(of(&settings, &engine, true), Enforcement::Off);
}

proptest! {
    /// Whatever comes and goes: a group is condemned only when two looks in a row found it without its task.
    #[test]
    fn a_group_is_left_over_only_when_two_looks_agree(
        looks in prop::collection::vec((prop::collection::btree_set(0..6u8, 0..6), prop::collection::btree_set(0..6u8, 0..6)), 1..12)
    ) {
        let mut leftovers = Leftovers::default();
        let mut before = BTreeSet::new();
        for (groups, known) in looks {
            let names: Vec<String> = groups.iter().map(|n| format!("ecs/host/{n}")).collect();
            let tasks = known.iter().map(|n| TaskUid::new(n.to_string())).collect();
            let condemned: BTreeSet<String> = leftovers.check(&names, &tasks).into_iter().collect();
            let without: BTreeSet<String> = groups.difference(&known).map(|n| format!("ecs/host/{n}")).collect();
            prop_assert_eq!(&condemned, &without.intersection(&before).cloned().collect());
            before = without;
        }
    }
}
