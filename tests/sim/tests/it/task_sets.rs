//! Task sets: a shift from blue to green by hand, with lagging watches and processes that die.

use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, deaths, story};

/// Tasks of a task set that run and are to run.
fn running(sim: &Sim, set: &str) -> usize {
    let label = tallyman_crds::labels::TASK_SET;
    let of_set = |t: &tallyman_crds::Task| {
        t.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(label).cloned())
    };
    let up = |s: &tallyman_crds::TaskStatus| s.started_at.is_some() && s.stopped_at.is_none();
    sim.tasks(|t| of_set(t).as_deref() == Some(set) && t.status.as_ref().is_some_and(up))
        .len()
}

/// Service `web` of so many tasks, all of the primary task set `blue`; `web:2` is registered.
fn blue(sim: &mut Sim, tasks: i64) {
    sim.define("web", &tallyman_sim::user::definition("web:1"));
    sim.run(5);
    sim.roll("web", "web:2");
    sim.serve_external("web", tasks);
    sim.task_set("blue", "web:1", 100);
    sim.make_primary("web", "blue");
    sim.until("blue is steady", 600, Sim::all_ready);
    sim.run(45);
    assert_eq!(i64::try_from(running(sim, "blue")), Ok(tasks));
}

/// From blue to green in two steps, blue deleted at the end.
fn shift(sim: &mut Sim, tasks: i64) {
    sim.shared.lag = 20;
    blue(sim, tasks);
    for (old, new) in [(50, 50), (0, 100)] {
        sim.task_set("green", "web:2", new);
        sim.until("green is steady", 900, Sim::all_ready);
        sim.task_set("blue", "web:1", old);
        sim.until("blue is steady", 900, Sim::all_ready);
        sim.run(45);
    }
    sim.make_primary("web", "green");
    sim.delete(Kind::TaskSet, "blue");
    sim.come_to_rest();
    assert_eq!(running(sim, "blue"), 0);
    assert_eq!(i64::try_from(running(sim, "green")), Ok(tasks));
    assert!(sim.shared.server.get(Kind::TaskSet, "blue").is_none());
}

#[test]
fn blue_becomes_green() {
    story("blue_becomes_green", 6, 3, |sim| shift(sim, 4));
}

#[test]
fn the_operator_dies_at_every_write_of_a_shift() {
    let name = "the_operator_dies_at_every_write_of_a_shift";
    deaths::of_operator(name, 2, |sim| shift(sim, 2));
}

#[test]
fn task_sets_through_a_bad_day() {
    story("task_sets_through_a_bad_day", 6, 3, |sim| {
        sim.shared.lag = 60;
        blue(sim, 4);
        sim.task_set("green", "web:2", 75);
        let seconds = i64::try_from(sim.shared.rng.below(20)).unwrap_or(0);
        sim.run(seconds);
        sim.kill_container();
        let host = sim.agents[0].name.clone();
        sim.drain(&host, true);
        sim.scale("web", 6);
        sim.task_set("blue", "web:1", 30);
        sim.run(90);
        sim.drain(&host, false);
        sim.kill_container();
        sim.scale("web", 3);
        sim.make_primary("web", "green");
        sim.come_to_rest();
        assert_eq!((running(sim, "blue"), running(sim, "green")), (1, 3));
        sim.delete(Kind::Service, "web");
        sim.until("service and task sets are gone", 900, |sim| {
            let server = &sim.shared.server;
            server.all(Kind::Service).next().is_none() && server.all(Kind::TaskSet).next().is_none()
        });
        sim.come_to_rest();
    });
}
