//! Tasks with a pause container, and tasks on ports that the agent chooses: first and last in order (S12), one of each
//! (S6), whatever dies.

use serde_json::Value;
use tallyman_agent_core::pause;
use tallyman_crds::labels;
use tallyman_operator_core::Kind;
use tallyman_sim::user::{on_chosen_ports, sharing};
use tallyman_sim::{CrashPoint, Sim, story};

/// Pause containers that run; those of tasks that are over may stay a while.
fn pauses(sim: &Sim) -> usize {
    let all = sim.agents.iter().flat_map(|a| a.engine.containers());
    all.filter(|c| c.phase.is_alive() && c.labels[labels::ecs::CONTAINER_NAME] == pause::NAME)
        .count()
}

#[test]
fn tasks_with_pause_containers_come_roll_and_go() {
    story(
        "tasks_with_pause_containers_come_roll_and_go",
        6,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.define("web", &sharing("web:1"));
            sim.serve("web", 3, 100, 200);
            sim.until("the service is ready", 600, Sim::all_ready);
            assert_eq!(sim.containers(), 9);
            sim.run(45);
            sim.define("web", &sharing("web:2"));
            sim.run(10);
            // Any of them: the end of a pause container ends its task, too.
            sim.kill_container();
            sim.come_to_rest();
            sim.run(40 * 60);
            assert_eq!(pauses(sim), 3);
            sim.delete(Kind::Service, "web");
            sim.until("nothing is left", 900, Sim::nothing_left);
        },
    );
}

#[test]
fn few_ports_are_enough_for_as_many_tasks() {
    story("few_ports_are_enough_for_as_many_tasks", 6, 1, |sim| {
        sim.shared.lag = 40;
        sim.define("web", &on_chosen_ports("web:1"));
        // Sixteen of the twenty ports of the host.
        sim.serve("web", 4, 0, 100);
        sim.until("the service is ready", 600, Sim::all_ready);
        sim.run(45);
        sim.define("web", &on_chosen_ports("web:2"));
        sim.run(10);
        sim.kill_container();
        sim.come_to_rest();
        sim.delete(Kind::Service, "web");
        sim.until("nothing is left", 900, Sim::nothing_left);
    });
}

fn life(sim: &mut Sim, definition: &Value) {
    sim.shared.lag = 20;
    sim.define("web", definition);
    sim.serve("web", 1, 100, 200);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 900, Sim::nothing_left);
}

fn an_agent_dies_at_every_deed(name: &str, definition: &Value, loses_disk: bool) {
    let mut sim = Sim::new(name, 1, 1);
    life(&mut sim, definition);
    let deeds = sim.agents[0].deeds;
    assert!(deeds > 20, "only {deeds} deeds: the story is too short");
    for at in 1..=deeds {
        for carried_out in [false, true] {
            let own = 1_000_000 + at * 2 + u64::from(carried_out);
            let mut sim = Sim::new(name, own, 1);
            sim.agents[0].crash = Some(CrashPoint { at, carried_out });
            sim.agents[0].loses_disk = loses_disk;
            life(&mut sim, definition);
        }
    }
}

#[test]
fn an_agent_with_a_pause_container_dies_at_every_deed() {
    let name = "an_agent_with_a_pause_container_dies_at_every_deed";
    an_agent_dies_at_every_deed(name, &sharing("web:1"), false);
}

#[test]
fn an_agent_with_a_pause_container_dies_at_every_deed_and_its_disk_with_it() {
    let name = "an_agent_with_a_pause_container_dies_at_every_deed_and_its_disk_with_it";
    an_agent_dies_at_every_deed(name, &sharing("web:1"), true);
}

#[test]
fn an_agent_that_chose_ports_dies_at_every_deed() {
    let name = "an_agent_that_chose_ports_dies_at_every_deed";
    an_agent_dies_at_every_deed(name, &on_chosen_ports("web:1"), true);
}
