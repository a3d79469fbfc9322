use proptest::prelude::*;
use tallyman_agent_engine::{PhaseKind, Retry};

use super::*;
use crate::gpu_info::Mps;

fn holder(task: &str, container: &str) -> GpuHolder {
    GpuHolder {
        task: TaskUid::new(task.to_owned()),
        container: container.to_owned(),
    }
}

/// GPUs of 100 MiB each.
fn host(count: usize) -> Gpus {
    let ids = (0..count).map(|n| format!("GPU-{n}"));
    Gpus::new(&GpuInfo {
        memory: ids.clone().map(|id| (id, 100)).collect(),
        ids: ids.collect(),
        mps: Some(Mps {
            directory: "/run/mps-ecs".to_owned(),
            listens: true,
        }),
        ..GpuInfo::default()
    })
}

fn ask(
    gpus: &Gpus,
    holder: GpuHolder,
    share: GpuShare,
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut spec = ContainerSpec::new("a", "b");
    gpus.choose(&GpuWish { holder, share }, &mut spec)?;
    assert_eq!(spec.gpus, ids_in(&spec.labels));
    Ok(spec.labels)
}

fn choose(gpus: &Gpus, task: &str, count: u32) -> Result<Vec<String>, EngineError> {
    let labels = ask(gpus, holder(task, "app"), GpuShare::Whole(count))?;
    Ok(ids_in(&labels))
}

/// The label of a container of a task that shares so many MiB of a GPU.
fn part(gpus: &Gpus, task: &str, container: &str, mib: i64) -> Result<String, EngineError> {
    let labels = ask(gpus, holder(task, container), GpuShare::Part(mib))?;
    Ok(labels[labels::CONTAINER_GPUS].clone())
}

fn claims(gpus: &Gpus, task: &str, share: GpuShare, ids: &[&str]) -> Result<(), EngineError> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let holder = holder(task, "app");
    gpus.claim(&GpuClaim { holder, share, ids })
}

fn claim(gpus: &Gpus, task: &str, ids: &[&str]) -> Result<(), EngineError> {
    claims(gpus, task, GpuShare::Whole(1), ids)
}

/// A container in a list.
fn summary(task: &str, ids: &str, phase: PhaseKind) -> ContainerSummary {
    let carried = [
        (labels::CONTAINER_TASK_UID, task),
        (labels::ecs::CONTAINER_NAME, "app"),
        (labels::CONTAINER_GPUS, ids),
    ];
    ContainerSummary {
        id: task.to_owned(),
        name: task.to_owned(),
        image_id: String::new(),
        labels: carried
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        phase,
        health: None,
        ports: Vec::new(),
    }
}

fn tasks<const N: usize>(names: [&str; N]) -> BTreeSet<TaskUid> {
    names.map(|name| TaskUid::new(name.to_owned())).into()
}

#[test]
fn each_gets_its_own_and_a_stopped_task_gives_them_back() {
    let gpus = host(3);
    assert_eq!(choose(&gpus, "a", 2).unwrap(), ["GPU-0", "GPU-1"]);
    assert_eq!(choose(&gpus, "a", 2).unwrap(), ["GPU-0", "GPU-1"], "again");
    assert_eq!(choose(&gpus, "b", 1).unwrap(), ["GPU-2"]);
    let refused = choose(&gpus, "c", 1).unwrap_err();
    assert_eq!(refused.retry(), Retry::Later);
    assert_eq!(
        refused.to_string(),
        "container `app` asks for 1 GPU, and the host has 0 of 3 free until another task stops"
    );
    gpus.ended(&TaskUid::new("a".to_owned()));
    assert_eq!(choose(&gpus, "c", 1).unwrap(), ["GPU-0"]);
}

#[test]
fn more_than_the_host_has_is_never_free() {
    let refused = choose(&host(1), "a", 2).unwrap_err();
    assert_eq!(refused.retry(), Retry::Never);
    assert_eq!(
        refused.to_string(),
        "container `app` asks for 2 GPUs, and the host has 1 for tasks"
    );
}

#[test]
fn what_containers_of_an_earlier_agent_have_is_not_given() {
    let gpus = host(3);
    let list = [
        summary("old", "GPU-0", PhaseKind::Running),
        // It may be started again by its restart policy.
        summary("exited", "GPU-1", PhaseKind::Exited),
        summary("over", "GPU-2", PhaseKind::Exited),
    ];
    gpus.saw(&list, &tasks(["over"]));
    assert_eq!(choose(&gpus, "new", 1).unwrap(), ["GPU-2"]);
    assert_eq!(choose(&gpus, "old", 1).unwrap(), ["GPU-0"], "its own");
    gpus.saw(&list[1..], &tasks(["exited", "over"]));
    assert_eq!(choose(&gpus, "more", 1).unwrap(), ["GPU-1"]);
}

#[test]
fn a_task_that_is_over_holds_while_a_container_of_it_is_alive() {
    let gpus = host(1);
    gpus.saw(
        &[summary("over", "GPU-0", PhaseKind::Running)],
        &tasks(["over"]),
    );
    assert!(choose(&gpus, "new", 1).is_err());
}

#[test]
fn a_start_must_have_its_own() {
    let gpus = host(2);
    choose(&gpus, "a", 1).unwrap();
    claim(&gpus, "a", &[]).unwrap();
    claim(&gpus, "a", &["GPU-0"]).unwrap();
    let taken = claim(&gpus, "late", &["GPU-0"]).unwrap_err();
    assert!(
        taken
            .to_string()
            .contains("GPU-0, which was given to another")
    );
    assert!(claim(&gpus, "unknown", &[]).is_err());
    // Made anew it gets another one, though the list still shows what it had.
    gpus.saw(&[summary("late", "GPU-0", PhaseKind::Created)], &tasks([]));
    assert_eq!(choose(&gpus, "late", 1).unwrap(), ["GPU-1"]);
}

#[test]
fn a_runtime_is_told_by_the_variable_alone() {
    let mut spec = ContainerSpec::new("a", "b");
    spec.runtime = Some("nvidia".to_owned());
    spec.environment = vec![(VISIBLE_DEVICES.to_owned(), "all".to_owned())];
    let holder = holder("a", "app");
    host(2)
        .choose(
            &GpuWish {
                holder,
                share: GpuShare::Whole(2),
            },
            &mut spec,
        )
        .unwrap();
    let visible = (VISIBLE_DEVICES.to_owned(), "GPU-0,GPU-1".to_owned());
    assert_eq!(spec.environment, [visible]);
    assert!(spec.gpus.is_empty());
}

#[test]
fn parts_fill_a_gpu_before_they_open_another_and_never_more_than_it_has() {
    let gpus = host(2);
    assert_eq!(part(&gpus, "a", "app", 60).unwrap(), "GPU-0=60");
    assert_eq!(part(&gpus, "b", "app", 50).unwrap(), "GPU-1=50");
    assert_eq!(
        part(&gpus, "c", "app", 40).unwrap(),
        "GPU-0=40",
        "the least room"
    );
    assert_eq!(part(&gpus, "c", "app", 40).unwrap(), "GPU-0=40", "again");
    let refused = part(&gpus, "d", "app", 51).unwrap_err();
    assert_eq!(refused.retry(), Retry::Later);
    assert_eq!(
        refused.to_string(),
        "container `app` asks for a part of a GPU, of which its task has 51 MiB, and the host has 50 of 100 free until \
         another task stops"
    );
    assert!(choose(&gpus, "whole", 1).is_err(), "none is idle");
    gpus.ended(&TaskUid::new("b".to_owned()));
    assert_eq!(choose(&gpus, "whole", 1).unwrap(), ["GPU-1"]);
    assert!(
        part(&gpus, "d", "app", 1).is_err(),
        "what is whole is not shared"
    );
    let never = part(&gpus, "e", "app", 101).unwrap_err();
    assert_eq!(never.retry(), Retry::Never);
    assert!(
        never
            .to_string()
            .ends_with("and the host has 100 for tasks"),
        "{never}"
    );
}

#[test]
fn the_containers_of_a_task_share_one_gpu_and_count_once() {
    let gpus = host(2);
    // The task has 80 with both its containers.
    assert_eq!(part(&gpus, "a", "app", 80).unwrap(), "GPU-0=80");
    assert_eq!(part(&gpus, "b", "app", 30).unwrap(), "GPU-1=30");
    assert_eq!(part(&gpus, "a", "log", 80).unwrap(), "GPU-0=80");
    assert_eq!(part(&gpus, "c", "app", 20).unwrap(), "GPU-0=20");
    // The next agent sees one of the two.
    let gpus = host(2);
    let list = [summary("a", "GPU-1=80", PhaseKind::Running)];
    gpus.saw(&list, &tasks([]));
    assert_eq!(part(&gpus, "a", "log", 80).unwrap(), "GPU-1=80");
    assert!(part(&gpus, "b", "app", 21).unwrap().starts_with("GPU-0"));
}

#[test]
fn a_part_must_have_room_when_its_container_starts() {
    let gpus = host(1);
    part(&gpus, "a", "app", 60).unwrap();
    let share = GpuShare::Part(60);
    claims(&gpus, "a", share, &["GPU-0"]).unwrap();
    let taken = claims(&gpus, "late", share, &["GPU-0"]).unwrap_err();
    assert!(taken.to_string().contains("given to others"), "{taken}");
    claims(&gpus, "small", GpuShare::Part(40), &["GPU-0"]).unwrap();
    assert!(claim(&gpus, "whole", &["GPU-0"]).is_err());
    let apart = GpuHolder {
        container: "log".to_owned(),
        ..holder("a", "log")
    };
    let elsewhere = GpuClaim {
        holder: apart,
        share,
        ids: vec!["GPU-1".to_owned()],
    };
    assert!(gpus.claim(&elsewhere).is_err(), "apart from its task");
}

#[test]
fn a_host_that_shares_none_gives_no_part() {
    let gpus = Gpus::new(&GpuInfo {
        ids: vec!["GPU-0".to_owned()],
        memory: [("GPU-0".to_owned(), 100)].into(),
        ..GpuInfo::default()
    });
    let refused = part(&gpus, "a", "app", 1).unwrap_err();
    assert_eq!(refused.retry(), Retry::Never);
    assert_eq!(gpus.must_listen(GpuShare::Part(1)).as_deref(), Some(""));
    assert_eq!(gpus.must_listen(GpuShare::Whole(1)), None);
}

/// What runs or may run: id, share, whether it runs.
type Container = (String, GpuShare, bool);

#[derive(Clone, Debug)]
enum Deed {
    Create(u8, GpuShare),
    /// The agent starts anew and sees the containers that there are.
    Restart,
    Start(u8),
    Stop(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let share = prop_oneof![
        1 => (1..3_u32).prop_map(GpuShare::Whole),
        2 => (1..80_i64).prop_map(GpuShare::Part),
    ];
    prop_oneof![
        4 => (0..9_u8, share).prop_map(|(task, share)| Deed::Create(task, share)),
        4 => (0..9_u8).prop_map(Deed::Start),
        2 => (0..9_u8).prop_map(Deed::Stop),
        1 => Just(Deed::Restart),
    ]
}

proptest! {
    /// Whatever is created, started, stopped and forgotten: of containers that run, none has a GPU that another one has whole,
    /// and the parts of a GPU are never more than it has.
    #[test]
    fn no_gpu_is_given_twice_to_running_containers(deeds in proptest::collection::vec(deed(), 1..80)) {
        let mut gpus = host(3);
        let mut containers: BTreeMap<u8, Container> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Create(task, share) if !containers.contains_key(&task) => {
                    if let Ok(carried) = ask(&gpus, holder(&task.to_string(), "app"), share) {
                        containers.insert(task, (carried[labels::CONTAINER_GPUS].clone(), share, false));
                    }
                }
                Deed::Create(..) => {}
                Deed::Start(task) => if let Some((label, share, runs)) = containers.get_mut(&task) {
                    let ids = ids_in(&[(labels::CONTAINER_GPUS.to_owned(), label.clone())].into());
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    *runs |= claims(&gpus, &task.to_string(), *share, &ids).is_ok();
                }
                Deed::Stop(task) => {
                    containers.remove(&task);
                    gpus.ended(&TaskUid::new(task.to_string()));
                }
                Deed::Restart => {
                    gpus = host(3);
                    // One that was only created may be missing in the list: the create came later.
                    let listed: Vec<_> = containers
                        .iter()
                        .filter(|(task, (_, _, runs))| *runs || *task % 2 == 0)
                        .map(|(task, (label, _, _))| summary(&task.to_string(), label, PhaseKind::Running))
                        .collect();
                    gpus.saw(&listed, &BTreeSet::new());
                }
            }
            let mut held: BTreeMap<String, i64> = BTreeMap::new();
            for (label, share, _) in containers.values().filter(|(_, _, runs)| *runs) {
                for id in ids_in(&[(labels::CONTAINER_GPUS.to_owned(), label.clone())].into()) {
                    *held.entry(id).or_default() += match share {
                        GpuShare::Whole(_) => 100,
                        GpuShare::Part(mib) => *mib,
                    };
                }
            }
            prop_assert!(held.values().all(|mib| *mib <= 100), "{held:?}: {containers:?}");
        }
    }
}
