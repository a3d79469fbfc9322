//! Stories in which something breaks.

use std::collections::BTreeSet;

use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, story};

/// Ids of the containers that run.
fn alive(sim: &Sim) -> BTreeSet<String> {
    let all = sim.agents.iter().flat_map(|a| a.engine.containers());
    all.filter(|c| c.phase.is_alive()).map(|c| c.id).collect()
}

fn running_on(sim: &Sim, host: &str) -> usize {
    let tasks = sim.tasks(|t| {
        t.spec.container_instance.as_deref() == Some(host)
            && t.status
                .as_ref()
                .is_some_and(|s| s.last_status == LastStatus::Running)
    });
    tasks.len()
}

#[test]
fn containers_die() {
    story("containers_die", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        for _ in 0..6 {
            sim.kill_container();
            let seconds = i64::try_from(sim.shared.rng.below(20)).unwrap_or(0);
            sim.run(seconds);
        }
        sim.come_to_rest();
        assert!(
            !sim.tasks(|t| t
                .status
                .as_ref()
                .is_some_and(|s| s.stop_code == Some(StopCode::EssentialContainerExited)))
                .is_empty()
        );
    });
}

#[test]
fn an_image_is_missing_and_comes() {
    story("an_image_is_missing_and_comes", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.unpublish("web:1");
        sim.deploy("web", 2, 100, 200);
        sim.run(400);
        let tried = sim.tasks(|_| true).len();
        assert!(
            (2..20).contains(&tried),
            "{tried} tasks were tried in 400 s"
        );
        sim.publish("web:1");
        sim.come_to_rest();
    });
}

#[test]
fn a_bad_image_does_not_take_a_service_down() {
    story("a_bad_image_does_not_take_a_service_down", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        let before = alive(sim);
        sim.unpublish("web:2");
        sim.roll("web", "web:2");
        sim.run(300);
        assert_eq!(alive(sim), before);
        sim.roll("web", "web:1");
        sim.come_to_rest();
    });
}

#[test]
fn a_host_loses_power_and_comes_back() {
    story("a_host_loses_power_and_comes_back", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.shared.monitor.faults = true;
        sim.agents[0].power_off(&mut sim.shared);
        sim.until("it is given up", 600, |s| running_on(s, "host-a") == 0);
        sim.until("the service is ready", 600, Sim::all_ready);
        sim.agents[0].power_on(&mut sim.shared);
        sim.scale("web", 6);
        sim.come_to_rest();
    });
}

#[test]
fn a_host_loses_power_for_a_moment() {
    story("a_host_loses_power_for_a_moment", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.shared.monitor.faults = true;
        sim.agents[0].power_off(&mut sim.shared);
        let seconds = i64::try_from(sim.shared.rng.below(120)).unwrap_or(0);
        sim.run(seconds);
        sim.agents[0].power_on(&mut sim.shared);
        sim.come_to_rest();
    });
}

#[test]
fn a_host_is_cut_off_and_comes_back() {
    story("a_host_is_cut_off_and_comes_back", 8, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.shared.monitor.faults = true;
        sim.agents[0].cut_off = true;
        sim.until("it is given up", 600, |s| running_on(s, "host-a") == 0);
        sim.run(30);
        if sim.shared.rng.chance(50) {
            sim.kill_agent("host-a");
            sim.run(20);
        }
        sim.agents[0].cut_off = false;
        sim.scale("web", 9);
        sim.come_to_rest();
    });
}

#[test]
fn a_host_with_a_fixed_port_is_cut_off_and_comes_back() {
    story(
        "a_host_with_a_fixed_port_is_cut_off_and_comes_back",
        8,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.define("web", &tallyman_sim::user::on_port("web:1", 8080));
            sim.serve("web", 2, 0, 100);
            sim.until("the service is ready", 300, Sim::all_ready);
            sim.shared.monitor.faults = true;
            sim.agents[0].cut_off = true;
            sim.until("it is given up", 600, |s| running_on(s, "host-a") == 0);
            sim.agents[0].cut_off = false;
            sim.come_to_rest();
        },
    );
}

#[test]
fn a_host_is_cut_off_for_a_moment_and_nothing_is_replaced() {
    story(
        "a_host_is_cut_off_for_a_moment_and_nothing_is_replaced",
        6,
        3,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 4, 100, 200);
            let before = alive(sim);
            sim.agents[0].cut_off = true;
            sim.run(200);
            sim.agents[0].cut_off = false;
            sim.come_to_rest();
            assert_eq!(alive(sim), before);
        },
    );
}

#[test]
fn the_api_is_away_and_nothing_is_replaced() {
    story("the_api_is_away_and_nothing_is_replaced", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        let before = alive(sim);
        sim.shared.server.down = true;
        sim.run(900);
        if sim.shared.rng.chance(50) {
            sim.kill_agent("host-b");
        }
        sim.run(20);
        sim.shared.server.down = false;
        sim.come_to_rest();
        assert_eq!(alive(sim), before);
    });
}

#[test]
fn the_api_comes_and_goes_during_a_roll() {
    story("the_api_comes_and_goes_during_a_roll", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 50, 150);
        sim.roll("web", "web:2");
        for _ in 0..12 {
            sim.shared.server.down = !sim.shared.server.down;
            let seconds = i64::try_from(sim.shared.rng.below(15)).unwrap_or(0);
            sim.run(seconds);
        }
        sim.come_to_rest();
    });
}

#[test]
fn agents_are_killed_and_no_container_notices() {
    story("agents_are_killed_and_no_container_notices", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 5, 100, 200);
        let before = alive(sim);
        for n in 0..10 {
            sim.agents[0].loses_disk = n % 3 == 0;
            sim.kill_agent("host-a");
            sim.kill_agent("host-b");
            let seconds = i64::try_from(sim.shared.rng.below(12)).unwrap_or(0);
            sim.run(seconds);
        }
        sim.come_to_rest();
        assert_eq!(alive(sim), before);
    });
}

#[test]
fn agents_are_killed_while_much_goes_on() {
    story("agents_are_killed_while_much_goes_on", 8, 2, |sim| {
        sim.shared.lag = 40;
        sim.deploy("web", 6, 50, 150);
        for n in 0..12 {
            sim.agents[0].loses_disk = sim.shared.rng.chance(30);
            sim.kill_agent(if n % 2 == 0 { "host-a" } else { "host-b" });
            let seconds = i64::try_from(sim.shared.rng.below(12)).unwrap_or(0);
            sim.run(seconds);
            match n {
                4 => sim.roll("web", "web:2"),
                7 => sim.scale("web", 3),
                9 => sim.scale("web", 7),
                _ => {}
            }
        }
        sim.come_to_rest();
    });
}

#[test]
fn a_watch_of_the_operator_dies_silently() {
    for kind in [
        Kind::Task,
        Kind::Service,
        Kind::ContainerInstance,
        Kind::HostPlan,
        Kind::TaskDefinitionRevision,
        Kind::TaskDefinition,
    ] {
        story("a_watch_of_the_operator_dies_silently", 2, 3, |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 3, 50, 150);
            sim.operators[0].cache.stall(kind);
            sim.scale("web", 5);
            sim.run(40);
            sim.roll("web", "web:2");
            sim.run(60);
            sim.scale("web", 2);
            sim.run(140);
            sim.come_to_rest();
        });
    }
}

#[test]
fn a_watch_dies_before_the_first_deployment() {
    for kind in [
        Kind::Task,
        Kind::Service,
        Kind::HostPlan,
        Kind::ContainerInstance,
    ] {
        story("a_watch_dies_before_the_first_deployment", 2, 3, |sim| {
            sim.run(5);
            sim.operators[0].cache.stall(kind);
            sim.deploy("web", 3, 100, 200);
            sim.run(240);
            sim.come_to_rest();
            assert_eq!(
                sim.tasks(|t| t
                    .status
                    .as_ref()
                    .is_some_and(|s| s.last_status == LastStatus::Running))
                    .len(),
                3
            );
        });
    }
}

#[test]
fn a_leader_hangs_in_mid_pass_and_goes_on_after_another_took_over() {
    story(
        "a_leader_hangs_in_mid_pass_and_goes_on_after_another_took_over",
        24,
        3,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 3, 50, 150);
            let more = u64::try_from(sim.shared.rng.below(12)).unwrap_or(0);
            let writes = sim.operators[0].writes;
            sim.operators[0].pause_at = Some(writes + more);
            sim.scale("web", 6);
            sim.roll("web", "web:2");
            sim.run(4);
            sim.depose();
            let seconds = i64::try_from(sim.shared.rng.below(60)).unwrap_or(0);
            sim.run(seconds);
            sim.resume();
            sim.come_to_rest();
        },
    );
}

#[test]
fn a_leader_hangs_in_the_first_deployment() {
    story("a_leader_hangs_in_the_first_deployment", 24, 2, |sim| {
        sim.shared.lag = 40;
        sim.run(3);
        let more = u64::try_from(sim.shared.rng.below(20)).unwrap_or(0);
        let writes = sim.operators[0].writes;
        sim.operators[0].pause_at = Some(writes + more);
        sim.deploy("web", 4, 100, 200);
        sim.run(2);
        sim.depose();
        sim.run(5);
        sim.resume();
        sim.come_to_rest();
        assert_eq!(
            sim.tasks(|t| t
                .status
                .as_ref()
                .is_some_and(|s| s.last_status == LastStatus::Running))
                .len(),
            4
        );
    });
}

#[test]
fn a_host_is_registered_anew_under_its_name() {
    story("a_host_is_registered_anew_under_its_name", 8, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 2, 100, 200);
        sim.delete(Kind::ContainerInstance, "host-a");
        sim.until("it is gone", 600, |s| {
            s.shared
                .server
                .get(Kind::ContainerInstance, "host-a")
                .is_none()
        });
        let seconds = i64::try_from(sim.shared.rng.below(5)).unwrap_or(0);
        sim.run(seconds);
        sim.join("host-a");
        sim.run(60);
        sim.scale("web", 6);
        sim.come_to_rest();
        assert!(running_on(sim, "host-a") > 0, "the new host takes tasks");
    });
}

#[test]
fn an_engine_restarts_with_and_without_its_containers() {
    for live_restore in [true, false] {
        story(
            "an_engine_restarts_with_and_without_its_containers",
            4,
            2,
            |sim| {
                sim.shared.lag = 40;
                sim.deployed("web", 4, 100, 200);
                sim.shared.monitor.faults = true;
                let before = alive(sim);
                sim.agents[0].engine.set_unreachable(true);
                sim.run(25);
                sim.agents[0].engine.restart_engine(live_restore);
                sim.agents[0].engine.mend();
                sim.come_to_rest();
                assert_eq!(alive(sim) == before, live_restore);
            },
        );
    }
}

#[test]
fn all_sorts_of_things_happen() {
    story("all_sorts_of_things_happen", 30, 3, |sim| {
        sim.shared.lag = 50;
        sim.shared.monitor.faults = true;
        sim.deploy("web", 3, 50, 200);
        sim.deploy("api", 3, 100, 200);
        for n in 0..25 {
            let seconds = i64::try_from(sim.shared.rng.below(25)).unwrap_or(0);
            sim.run(seconds);
            let host = sim.shared.rng.below(3);
            let name = sim.agents[host].name.clone();
            let count = i64::try_from(sim.shared.rng.below(6)).unwrap_or(0);
            let service = if sim.shared.rng.chance(50) {
                "web"
            } else {
                "api"
            };
            let awake = !sim.shared.server.down;
            match sim.shared.rng.below(17) {
                0 | 1 if awake => sim.scale(service, count),
                2 if awake => sim.roll(service, &format!("{service}:{n}")),
                3 => {
                    sim.kill_container();
                }
                4 => sim.kill_agent(&name),
                5 => {
                    sim.agents[host].loses_disk = true;
                    sim.kill_agent(&name);
                }
                6 => sim.agents[host].cut_off = !sim.agents[host].cut_off,
                7 if awake => sim.drain(&name, count % 2 == 0),
                8 => sim.shared.server.down = !sim.shared.server.down,
                9 => {
                    if let Some(operator) = sim.operators.last_mut() {
                        operator.dead = true;
                    }
                }
                10 => {
                    if let Some(operator) = sim.operators.last_mut() {
                        operator
                            .cache
                            .stall([Kind::Task, Kind::Service, Kind::HostPlan][host]);
                    }
                }
                11 if sim.agents[host].off => sim.agents[host].power_on(&mut sim.shared),
                11 => sim.agents[host].power_off(&mut sim.shared),
                13 | 14 if awake => {
                    if let Some(task) = sim.any_task() {
                        if count % 2 == 0 {
                            sim.delete(Kind::Task, &task);
                        } else {
                            sim.stop_task(&task);
                        }
                    }
                }
                15 if awake => sim.task(
                    &format!("own-{n}"),
                    service,
                    (count % 2 == 0).then_some(name.as_str()),
                ),
                12 => sim.agents[host].engine.restart_engine(count % 2 == 0),
                _ => {}
            }
        }
        sim.shared.server.down = false;
        for n in 0..3 {
            sim.agents[n].cut_off = false;
            if sim.agents[n].off {
                sim.agents[n].power_on(&mut sim.shared);
            }
            let name = sim.agents[n].name.clone();
            sim.drain(&name, false);
        }
        sim.come_to_rest();
        sim.delete(Kind::Service, "web");
        sim.delete(Kind::Service, "api");
        for task in sim.tasks(|t| {
            t.metadata.owner_references.is_none() && t.metadata.deletion_timestamp.is_none()
        }) {
            sim.delete(Kind::Task, &task);
        }
        // Dead containers of tasks that were deleted with their host away go with the ordinary cleanup.
        sim.until("nothing is left", 2700, Sim::nothing_left);
    });
}

#[test]
fn a_task_is_deleted_while_its_host_is_away() {
    story("a_task_is_deleted_while_its_host_is_away", 4, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        sim.shared.monitor.faults = true;
        sim.agents[0].cut_off = true;
        sim.until("it is given up", 600, |s| running_on(s, "host-a") == 0);
        for task in sim.tasks(|t| t.spec.container_instance.as_deref() == Some("host-a")) {
            sim.delete(Kind::Task, &task);
        }
        sim.run(60);
        sim.agents[0].cut_off = false;
        sim.come_to_rest();
    });
}

#[test]
fn a_service_is_deleted_while_a_host_is_away() {
    story("a_service_is_deleted_while_a_host_is_away", 4, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        sim.shared.monitor.faults = true;
        sim.agents[0].cut_off = true;
        sim.delete(Kind::Service, "web");
        sim.until("the service is gone", 900, |s| {
            s.shared.server.get(Kind::Service, "web").is_none()
        });
        sim.run(60);
        sim.agents[0].cut_off = false;
        sim.until("nothing is left", 2700, Sim::nothing_left);
        sim.come_to_rest();
    });
}
