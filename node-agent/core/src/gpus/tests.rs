use proptest::prelude::*;
use tallyman_agent_engine::{PhaseKind, Retry};

use super::*;

fn holder(task: &str, container: &str) -> GpuHolder {
    GpuHolder {
        task: TaskUid::new(task.to_owned()),
        container: container.to_owned(),
    }
}

fn host(count: usize) -> Gpus {
    Gpus::new((0..count).map(|n| format!("GPU-{n}")).collect())
}

fn choose(gpus: &Gpus, task: &str, count: u32) -> Result<Vec<String>, EngineError> {
    let mut spec = ContainerSpec::new("a", "b");
    let holder = holder(task, "app");
    gpus.choose(&GpuWish { holder, count }, &mut spec)?;
    assert_eq!(spec.gpus, ids_in(&spec.labels));
    Ok(spec.gpus)
}

fn claim(gpus: &Gpus, task: &str, ids: &[&str]) -> Result<(), EngineError> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let holder = holder(task, "app");
    gpus.claim(&GpuClaim { holder, ids })
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
        .choose(&GpuWish { holder, count: 2 }, &mut spec)
        .unwrap();
    let visible = (VISIBLE_DEVICES.to_owned(), "GPU-0,GPU-1".to_owned());
    assert_eq!(spec.environment, [visible]);
    assert!(spec.gpus.is_empty());
}

#[derive(Clone, Debug)]
enum Deed {
    Create(u8, u32),
    /// The agent starts anew and sees the containers that there are.
    Restart,
    Start(u8),
    Stop(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..6_u8, 1..3_u32).prop_map(|(task, count)| Deed::Create(task, count)),
        4 => (0..6_u8).prop_map(Deed::Start),
        2 => (0..6_u8).prop_map(Deed::Stop),
        1 => Just(Deed::Restart),
    ]
}

proptest! {
    /// Whatever is created, started, stopped and forgotten: no two containers that run have one GPU.
    #[test]
    fn no_gpu_is_in_two_running_containers(deeds in proptest::collection::vec(deed(), 1..60)) {
        let mut gpus = host(4);
        let mut containers: BTreeMap<u8, (Vec<String>, bool)> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Create(task, count) if !containers.contains_key(&task) => {
                    if let Ok(ids) = choose(&gpus, &task.to_string(), count) {
                        containers.insert(task, (ids, false));
                    }
                }
                Deed::Create(..) => {}
                Deed::Start(task) => if let Some((ids, runs)) = containers.get_mut(&task) {
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    *runs |= claim(&gpus, &task.to_string(), &ids).is_ok();
                }
                Deed::Stop(task) => {
                    containers.remove(&task);
                    gpus.ended(&TaskUid::new(task.to_string()));
                }
                Deed::Restart => {
                    gpus = host(4);
                    // One that was only created may be missing in the list: the create came later.
                    let listed: Vec<_> = containers
                        .iter()
                        .filter(|(task, (_, runs))| *runs || *task % 2 == 0)
                        .map(|(task, (ids, _))| summary(&task.to_string(), &ids.join(","), PhaseKind::Running))
                        .collect();
                    gpus.saw(&listed, &BTreeSet::new());
                }
            }
            let mut running: Vec<&String> =
                containers.values().filter(|(_, runs)| *runs).flat_map(|(ids, _)| ids).collect();
            let count = running.len();
            running.sort();
            running.dedup();
            prop_assert_eq!(running.len(), count, "{:?}", containers);
        }
    }
}
