//! Processes that die at every single thing they do, before it and after it.

use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, deaths};

/// Deploy, roll, scale up, scale down, delete: each part long enough for the processes to come back.
fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.deploy("web", 2, 50, 150);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.run(41);
    sim.roll("web", "web:2");
    sim.run(6);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.scale("web", 3);
    sim.run(6);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.scale("web", 1);
    sim.come_to_rest();
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 600, Sim::nothing_left);
}

#[test]
fn the_operator_dies_at_every_write() {
    deaths::of_operator("the_operator_dies_at_every_write", 2, life);
}

#[test]
fn an_agent_dies_at_every_engine_call_patch_and_page() {
    let name = "an_agent_dies_at_every_engine_call_patch_and_page";
    deaths::of_agent(name, 2, |_| false, life);
}

#[test]
fn an_agent_dies_at_every_deed_and_its_disk_with_it() {
    let name = "an_agent_dies_at_every_deed_and_its_disk_with_it";
    deaths::of_agent(name, 2, |_| true, life);
}
