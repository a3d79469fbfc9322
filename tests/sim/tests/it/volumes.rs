//! Tasks with volumes: made before their containers, gone after them (S12).

use tallyman_operator_core::Kind;
use tallyman_sim::user::with_volumes;
use tallyman_sim::{Sim, deaths, story};

/// Hosts that have the shared volume.
fn shared(sim: &Sim) -> usize {
    let agents = sim.agents.iter();
    agents
        .filter(|agent| agent.engine.volumes().iter().any(|v| v.name == "common"))
        .count()
}

#[test]
fn volumes_of_tasks_go_with_them_and_shared_ones_stay() {
    story(
        "volumes_of_tasks_go_with_them_and_shared_ones_stay",
        6,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.define("web", &with_volumes("web:1"));
            sim.serve("web", 3, 100, 200);
            sim.until("the service is ready", 600, Sim::all_ready);
            assert_eq!((sim.own_volumes(), shared(sim)), (3, 2));
            sim.run(45);
            sim.define("web", &with_volumes("web:2"));
            sim.run(10);
            sim.kill_container();
            sim.scale("web", 1);
            sim.come_to_rest();
            // Kept with the containers of the stopped tasks, and as long as those.
            assert!(sim.own_volumes() > 1);
            sim.run(40 * 60);
            assert_eq!((sim.containers(), sim.own_volumes()), (2, 1));
            sim.delete(Kind::Service, "web");
            sim.until("nothing is left", 900, Sim::nothing_left);
            assert_eq!(shared(sim), 2);
        },
    );
}

fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.define("web", &with_volumes("web:1"));
    sim.serve("web", 1, 100, 200);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 900, Sim::nothing_left);
}

#[test]
fn an_agent_with_volumes_dies_at_every_deed() {
    let name = "an_agent_with_volumes_dies_at_every_deed";
    deaths::of_agent(name, 1, |_| false, life);
}

#[test]
fn an_agent_with_volumes_dies_at_every_deed_and_its_disk_with_it() {
    let name = "an_agent_with_volumes_dies_at_every_deed_and_its_disk_with_it";
    deaths::of_agent(name, 1, |_| true, life);
}

/// A volume whose task is gone with every record of it: the sweep finds it.
#[test]
fn a_volume_that_nobody_remembers_is_swept() {
    story("a_volume_that_nobody_remembers_is_swept", 3, 1, |sim| {
        sim.define("web", &with_volumes("web:1"));
        sim.serve("web", 1, 100, 200);
        sim.until("the service is ready", 600, Sim::all_ready);
        let mut orphan = tallyman_agent_engine::VolumeSpec::new("ecs-old-1-own-0123456789");
        let ours = sim.agents[0].engine.volumes();
        let ours = ours.iter().find(|v| v.name.starts_with("ecs-web"));
        orphan.labels = ours.map(|v| v.labels.clone()).unwrap_or_default();
        let uid = tallyman_crds::labels::CONTAINER_TASK_UID;
        orphan.labels.insert(uid.to_owned(), "gone".to_owned());
        let made = sim.agents[0].engine.create_volume_outside(&orphan);
        assert!(made.is_ok(), "{made:?}");
        sim.run(20 * 60);
        assert_eq!(sim.own_volumes(), 2, "one plan is not enough");
        sim.scale("web", 2);
        sim.run(20 * 60);
        assert_eq!(
            sim.own_volumes(),
            2,
            "that of the new task, and not the orphan"
        );
        assert!(
            sim.agents[0]
                .engine
                .volumes()
                .iter()
                .all(|v| v.name != orphan.name)
        );
    });
}
