//! Limits of tasks and containers, read back from the second generation of control groups.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tallyman_lab::wait_until;

use crate::guest::{Kind, PATIENCE};
use crate::world::{World, container};

/// As the kernel has them: a quarter of a processor in periods of 100 ms.
const QUARTER: &str = "25000 100000";

pub fn are_enforced(world: &World, kind: &Kind) -> Result<()> {
    what_a_task_may_take(world, kind)?;
    what_takes_too_much(world)
}

fn what_a_task_may_take(world: &World, kind: &Kind) -> Result<()> {
    let spins = container("spins", "while :; do :; done");
    let mut rests = container("rests", crate::STAY);
    rests
        .as_object_mut()
        .context("a container is an object")?
        .remove("memory");
    world.apply(&json!({
        "kind": "TaskDefinition", "metadata": { "name": "limited" },
        "spec": { "cpu": "256", "memory": "64", "containerDefinitions": [spins, rests] },
    }))?;
    world.apply(&json!({
        "kind": "Task", "metadata": { "name": "limited" }, "spec": { "taskDefinition": "limited" },
    }))?;
    world.wait_task("limited", "RUNNING")?;
    let read = |container: &str, up: &str, file: &str| {
        world.machine.sh(&format!(
            "id=$(docker ps -q --filter label=com.amazonaws.ecs.container-name={container})\n\
             group=$(sed 's/^0:://' /proc/$(docker inspect --format '{{{{.State.Pid}}}}' $id)/cgroup)\n\
             cat /sys/fs/cgroup$group{up}/{file}"
        ))
    };
    let mib = |mib: u64| (mib << 20).to_string();
    let own = read("spins", "", "memory.max")?;
    ensure!(own == mib(32), "memory of the container: {own}");
    let weight = read("spins", "", "cpu.weight")?;
    ensure!(
        weight != "100",
        "cpu of the container is not told: {weight}"
    );
    // Where the engine makes the groups there is one of the task; where the service manager does, each container has the task's limits.
    let (of_task, memory_of_other) = match kind.groups {
        "cgroupfs" => ("/..", "max".to_owned()),
        _ => ("", mib(64)),
    };
    let quota = read("spins", of_task, "cpu.max")?;
    ensure!(quota == QUARTER, "cpu of the task: {quota}");
    if kind.groups == "cgroupfs" {
        let memory = read("spins", "/..", "memory.max")?;
        ensure!(memory == mib(64), "memory of the task: {memory}");
    }
    let other = read("rests", "", "memory.max")?;
    ensure!(
        other == memory_of_other,
        "memory of a container that names none: {other}"
    );
    wait_until("the task to be held back", PATIENCE, || {
        let stat = read("spins", of_task, "cpu.stat")?;
        Ok(stat
            .lines()
            .filter_map(|line| line.strip_prefix("nr_throttled "))
            .any(|times| times != "0"))
    })?;
    world.delete_task("limited")?;
    if kind.groups == "cgroupfs" {
        world.machine.until(
            "the group of the task that is gone to go",
            "test -z \"$(find /sys/fs/cgroup/ecs -mindepth 2 -name '*-*-*-*-*' -type d -exec grep -l 67108864 {}/memory.max ';')\"",
        )?;
    }
    Ok(())
}

/// By its own limit, and by that of its task.
fn what_takes_too_much(world: &World) -> Result<()> {
    let swells = "sleep 1; x=a; while :; do x=$x$x; done";
    let mut alone = container("swells", swells);
    alone["memory"] = 16.into();
    let mut together = container("swells", swells);
    together
        .as_object_mut()
        .context("a container is an object")?
        .remove("memory");
    for (name, spec) in [
        ("alone", json!({ "containerDefinitions": [alone] })),
        (
            "together",
            json!({ "memory": "32", "containerDefinitions": [together] }),
        ),
    ] {
        world.apply(
            &json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": spec }),
        )?;
        world.apply(&json!({
            "kind": "Task", "metadata": { "name": name }, "spec": { "taskDefinition": name },
        }))?;
        let status = world.wait_task(name, "STOPPED")?;
        ensure!(
            status["containers"][0]["reason"]
                == "OutOfMemoryError: Container killed due to memory usage",
            "{name}: {status}"
        );
        world.delete_task(name)?;
    }
    Ok(())
}
