//! Tasks with GPUs: placed only where there are enough (I1), and no GPU in two containers at once (S15), whatever dies.

use std::time::Duration;

use tallyman_agent_engine::{EngineError, Verb};
use tallyman_crds::{LastStatus, Task, labels};
use tallyman_operator_core::Kind;
use tallyman_sim::user::{on_a_part, on_gpus};
use tallyman_sim::{Sim, deaths, story};

/// Tasks of a service that run.
fn running(sim: &Sim, service: &str) -> usize {
    let of = |t: &Task| t.metadata.labels.as_ref()?.get(labels::SERVICE).cloned();
    let runs = |t: &Task| {
        let status = t.status.as_ref();
        status.is_some_and(|s| s.last_status == LastStatus::Running)
    };
    sim.tasks(|t| of(t).as_deref() == Some(service) && runs(t))
        .len()
}

#[test]
fn tasks_that_take_every_gpu_come_roll_and_go() {
    story("tasks_that_take_every_gpu_come_roll_and_go", 8, 2, |sim| {
        sim.shared.lag = 40;
        sim.with_gpus(2);
        sim.define("train", &on_gpus("train:1", 1));
        sim.serve("train", 4, 0, 100);
        sim.until("the service is ready", 600, Sim::all_ready);
        sim.run(45);
        sim.define("train", &on_gpus("train:2", 1));
        sim.run(10);
        sim.kill_container();
        sim.kill_agent("host-b");
        sim.come_to_rest();
        sim.delete(Kind::Service, "train");
        sim.until("nothing is left", 900, Sim::nothing_left);
    });
}

#[test]
fn a_host_that_comes_back_keeps_its_gpus_apart() {
    story("a_host_that_comes_back_keeps_its_gpus_apart", 8, 3, |sim| {
        sim.shared.lag = 20;
        sim.with_gpus(2);
        sim.define("train", &on_gpus("train:1", 2));
        sim.serve("train", 2, 0, 100);
        sim.until("the service is ready", 600, Sim::all_ready);
        sim.shared.monitor.faults = true;
        // Its containers run on; their tasks are given up meanwhile, and their GPUs promised to others.
        sim.agents[0].cut_off = true;
        sim.run(400);
        sim.scale("train", 3);
        sim.run(30);
        // The next agent learns from the containers what they have, and its engine is slow to stop them.
        let slow = EngineError::Timeout {
            verb: Verb::Stop,
            after: Duration::from_secs(32),
        };
        sim.agents[0].engine.fail(Verb::Stop, 4, &slow);
        sim.kill_agent("host-a");
        sim.agents[0].cut_off = false;
        sim.come_to_rest();
        assert_eq!(running(sim, "train"), 3);
    });
}

#[test]
fn what_does_not_fit_waits_until_a_gpu_is_free() {
    story("what_does_not_fit_waits_until_a_gpu_is_free", 6, 1, |sim| {
        sim.shared.lag = 40;
        sim.with_gpus(2);
        sim.define("train", &on_gpus("train:1", 1));
        sim.define("serve", &on_gpus("serve:1", 2));
        sim.serve("train", 1, 100, 200);
        sim.until("the first is ready", 600, Sim::all_ready);
        sim.serve("serve", 1, 0, 100);
        sim.run(120);
        assert_eq!((running(sim, "train"), running(sim, "serve")), (1, 0));
        sim.scale("train", 0);
        sim.come_to_rest();
        assert_eq!((running(sim, "train"), running(sim, "serve")), (0, 1));
    });
}

/// Tasks of two sizes share GPUs, beside one that wants a whole GPU, and roll.
#[test]
fn tasks_share_gpus_come_roll_and_go() {
    story("tasks_share_gpus_come_roll_and_go", 8, 2, |sim| {
        sim.shared.lag = 40;
        sim.with_gpus(3);
        // Of 1000 MiB: 600, and 400 beside it.
        sim.define("large", &on_a_part("large:1", 300));
        sim.define("small", &on_a_part("small:1", 200));
        sim.define("train", &on_gpus("train:1", 1));
        sim.serve("train", 1, 0, 100);
        sim.serve("large", 2, 0, 100);
        sim.serve("small", 2, 0, 100);
        sim.until("the services are ready", 600, Sim::all_ready);
        sim.run(45);
        sim.define("large", &on_a_part("large:2", 400));
        sim.run(10);
        sim.kill_container();
        sim.kill_agent("host-b");
        sim.come_to_rest();
        for service in ["train", "large", "small"] {
            sim.delete(Kind::Service, service);
        }
        sim.until("nothing is left", 900, Sim::nothing_left);
    });
}

#[test]
fn a_part_that_does_not_fit_waits_until_there_is_room() {
    story(
        "a_part_that_does_not_fit_waits_until_there_is_room",
        6,
        1,
        |sim| {
            sim.shared.lag = 40;
            sim.with_gpus(1);
            sim.define("large", &on_a_part("large:1", 300));
            sim.define("small", &on_a_part("small:1", 150));
            sim.serve("small", 3, 100, 200);
            sim.until("the first is ready", 600, Sim::all_ready);
            sim.serve("large", 1, 0, 100);
            sim.run(120);
            assert_eq!((running(sim, "small"), running(sim, "large")), (3, 0));
            sim.scale("small", 1);
            sim.come_to_rest();
            assert_eq!((running(sim, "small"), running(sim, "large")), (1, 1));
        },
    );
}

fn shared_life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.with_gpus(1);
    sim.define("serve", &on_a_part("serve:1", 200));
    sim.serve("serve", 2, 0, 100);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.delete(Kind::Service, "serve");
    sim.until("nothing is left", 900, Sim::nothing_left);
}

#[test]
fn an_agent_that_shares_gpus_dies_at_every_deed_and_its_disk_with_it() {
    let name = "an_agent_that_shares_gpus_dies_at_every_deed_and_its_disk_with_it";
    deaths::of_agent(name, 1, |_| true, shared_life);
}

fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.with_gpus(2);
    sim.define("train", &on_gpus("train:1", 1));
    sim.serve("train", 2, 0, 100);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.delete(Kind::Service, "train");
    sim.until("nothing is left", 900, Sim::nothing_left);
}

#[test]
fn an_agent_that_gave_gpus_dies_at_every_deed() {
    let name = "an_agent_that_gave_gpus_dies_at_every_deed";
    deaths::of_agent(name, 1, |_| false, life);
}

#[test]
fn an_agent_that_gave_gpus_dies_at_every_deed_and_its_disk_with_it() {
    let name = "an_agent_that_gave_gpus_dies_at_every_deed_and_its_disk_with_it";
    deaths::of_agent(name, 1, |_| true, life);
}
