//! Stories without mishaps, told with lagging watches and any order of events.

use std::time::Duration;

use tallyman_agent_engine::{Health, fake::Program};
use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::Kind;
use tallyman_sim::user::{checked, ordered, with_sidecar};
use tallyman_sim::{Sim, story};

#[test]
fn deploy() {
    story("deploy", 6, 3, |sim: &mut Sim| {
        sim.shared.lag = 40;
        sim.deploy("web", 5, 100, 200);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.come_to_rest();
        assert_eq!(sim.containers(), 5);
    });
}

#[test]
fn scale_up_and_down() {
    story("scale_up_and_down", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 2, 100, 200);
        for count in [6, 1, 4, 0, 3] {
            sim.scale("web", count);
            let seconds = i64::try_from(sim.shared.rng.below(30)).unwrap_or(0);
            sim.run(seconds);
        }
        sim.come_to_rest();
    });
}

#[test]
fn roll() {
    for (minimum, maximum) in [(100, 200), (50, 100), (0, 100), (100, 150), (50, 150)] {
        story("roll", 2, 3, |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 4, minimum, maximum);
            sim.roll("web", "web:2");
            sim.run(20);
            sim.roll("web", "web:3");
            sim.come_to_rest();
            assert_eq!(
                sim.tasks(|t| t.spec.task_definition == "web:3"
                    && t.status.as_ref().is_some_and(|s| s.stopped_at.is_none()))
                    .len(),
                4
            );
        });
    }
}

#[test]
fn roll_on_a_full_cluster_with_fixed_ports() {
    story("roll_on_a_full_cluster_with_fixed_ports", 4, 3, |sim| {
        sim.shared.lag = 40;
        sim.define("web", &tallyman_sim::user::on_port("web:1", 8080));
        sim.serve("web", 3, 50, 100);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.run(45);
        sim.define("web", &tallyman_sim::user::on_port("web:2", 8080));
        sim.come_to_rest();
    });
}

#[test]
fn two_services_share_the_hosts() {
    story("two_services_share_the_hosts", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.deploy("web", 3, 100, 200);
        sim.deploy("api", 4, 50, 150);
        sim.run(60);
        sim.scale("web", 6);
        sim.roll("api", "api:2");
        sim.run(10);
        sim.scale("api", 2);
        sim.come_to_rest();
    });
}

#[test]
fn delete_a_service() {
    story("delete_a_service", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.delete(Kind::Service, "web");
        sim.until("nothing is left", 300, Sim::nothing_left);
        sim.come_to_rest();
    });
}

#[test]
fn a_host_that_leaves_by_force_is_left_clean() {
    let name = "a_host_that_leaves_by_force_is_left_clean";
    story(name, 6, 2, |sim: &mut Sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        // One that ended a while ago, too.
        sim.kill_container();
        sim.run(20);
        sim.evict("host-a");
        sim.until("host-a is gone", 300, |s| {
            let host = s.shared.server.get(Kind::ContainerInstance, "host-a");
            host.is_none()
        });
        assert_eq!(sim.agents[0].engine.containers(), []);
        sim.come_to_rest();
        assert!(sim.agents[0].engine.containers().is_empty());
    });
}

#[test]
fn delete_everything_at_once() {
    story("delete_everything_at_once", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        sim.delete(Kind::TaskDefinition, "web");
        sim.delete(Kind::Service, "web");
        sim.until("nothing is left", 300, |s| {
            s.nothing_left()
                && s.shared
                    .server
                    .all(Kind::TaskDefinitionRevision)
                    .next()
                    .is_none()
        });
        sim.come_to_rest();
    });
}

#[test]
fn delete_in_the_middle_of_a_roll_and_make_it_anew() {
    story(
        "delete_in_the_middle_of_a_roll_and_make_it_anew",
        6,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 3, 100, 200);
            sim.roll("web", "web:2");
            let seconds = i64::try_from(sim.shared.rng.below(60)).unwrap_or(0);
            sim.run(seconds);
            sim.delete(Kind::Service, "web");
            sim.until("the service is gone", 300, |s| {
                s.shared.server.get(Kind::Service, "web").is_none()
            });
            sim.serve("web", 3, 100, 200);
            sim.come_to_rest();
        },
    );
}

#[test]
fn drain_a_host_and_take_it_back() {
    story("drain_a_host_and_take_it_back", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.drain("host-a", true);
        sim.until("it is empty", 600, |s| {
            s.agents[0]
                .engine
                .containers()
                .iter()
                .all(|c| !c.phase.is_alive())
        });
        sim.drain("host-a", false);
        sim.scale("web", 6);
        sim.come_to_rest();
    });
}

#[test]
fn containers_of_stopped_tasks_are_kept_for_a_while_and_their_tasks_for_an_hour() {
    story(
        "containers_of_stopped_tasks_are_kept_for_a_while_and_their_tasks_for_an_hour",
        3,
        2,
        |sim| {
            sim.deployed("web", 4, 100, 200);
            sim.scale("web", 1);
            sim.run(20 * 60);
            assert_eq!(sim.containers(), 4);
            sim.run(15 * 60);
            assert_eq!((sim.containers(), sim.tasks(|_| true).len()), (1, 4));
            sim.run(30 * 60);
            assert_eq!(sim.tasks(|_| true).len(), 1);
            sim.come_to_rest();
        },
    );
}

#[test]
fn people_run_start_stop_and_delete_tasks_of_their_own() {
    story(
        "people_run_start_stop_and_delete_tasks_of_their_own",
        8,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.define("job", &tallyman_sim::user::definition("job:1"));
            sim.task("one", "job", None);
            sim.task("two", "job:1", Some("host-b"));
            sim.task("three", "job", Some("nowhere"));
            sim.run(5);
            sim.define("job", &tallyman_sim::user::definition("job:2"));
            sim.task("four", "job", None);
            sim.run(60);
            let status = |sim: &Sim, last: LastStatus| {
                sim.tasks(|t| t.status.as_ref().is_some_and(|s| s.last_status == last))
            };
            assert_eq!(status(sim, LastStatus::Running), ["four", "one", "two"]);
            assert_eq!(status(sim, LastStatus::Stopped), ["three"]);
            sim.stop_task("one");
            sim.delete(Kind::Task, "two");
            sim.run(60);
            assert_eq!(status(sim, LastStatus::Running), ["four"]);
            assert_eq!(status(sim, LastStatus::Stopped), ["one", "three"]);
            for name in ["one", "three", "four"] {
                sim.delete(Kind::Task, name);
            }
            sim.until("nothing is left", 300, Sim::nothing_left);
        },
    );
}

#[test]
fn unhealthy_tasks_are_replaced() {
    for (minimum, maximum) in [(100, 200), (0, 100), (50, 150)] {
        story("unhealthy_tasks_are_replaced", 3, 2, |sim| {
            sim.shared.lag = 40;
            let fine = Program::runs().health_after(Duration::from_secs(3), Health::Healthy);
            sim.program("web:1", &fine);
            sim.define("web", &checked("web:1"));
            sim.serve("web", 4, minimum, maximum);
            sim.until("the service is ready", 300, Sim::all_ready);
            sim.shared.monitor.faults = true;
            sim.turn_health(Health::Unhealthy);
            sim.run(20);
            sim.turn_health(Health::Unhealthy);
            sim.come_to_rest();
        });
    }
}

#[test]
fn a_revision_whose_health_checks_fail_does_not_take_the_service_down() {
    story(
        "a_revision_whose_health_checks_fail_does_not_take_the_service_down",
        4,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.program(
                "web:1",
                &Program::runs().health_after(Duration::from_secs(3), Health::Healthy),
            );
            sim.program(
                "web:2",
                &Program::runs().health_after(Duration::from_secs(3), Health::Unhealthy),
            );
            sim.define("web", &checked("web:1"));
            sim.serve("web", 3, 100, 200);
            sim.until("the service is ready", 300, Sim::all_ready);
            sim.define("web", &checked("web:2"));
            sim.run(200);
            let old = sim.tasks(|t| {
                t.spec.task_definition == "web:1"
                    && t.status
                        .as_ref()
                        .is_some_and(|s| s.last_status == LastStatus::Running)
            });
            assert_eq!(old.len(), 3);
            sim.define("web", &checked("web:1"));
            sim.come_to_rest();
        },
    );
}

#[test]
fn a_sidecar_may_end_and_an_essential_container_may_not() {
    story(
        "a_sidecar_may_end_and_an_essential_container_may_not",
        4,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.program("log-of-web:1", &Program::exits(3, Duration::from_secs(7)));
            sim.define("web", &with_sidecar("web:1"));
            sim.serve("web", 2, 100, 200);
            sim.run(120);
            assert_eq!(sim.tasks(|_| true).len(), 2, "nothing was replaced");
            sim.program("web:2", &Program::exits(1, Duration::from_secs(30)));
            sim.shared.monitor.faults = true;
            sim.define("web", &with_sidecar("web:2"));
            sim.run(300);
            let ended = |code| {
                move |t: &tallyman_crds::Task| {
                    t.status.as_ref().is_some_and(|s| s.stop_code == Some(code))
                }
            };
            assert!(sim.tasks(ended(StopCode::EssentialContainerExited)).len() > 4);
            sim.define("web", &with_sidecar("web:1"));
            sim.come_to_rest();
        },
    );
}

#[test]
fn containers_of_a_task_start_in_order_and_stop_in_reverse() {
    story(
        "containers_of_a_task_start_in_order_and_stop_in_reverse",
        8,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.program("init:1", &Program::exits(0, Duration::from_secs(2)));
            sim.program(
                "db:1",
                &Program::runs().health_after(Duration::from_secs(4), Health::Healthy),
            );
            sim.define("web", &ordered("web:1"));
            sim.serve("web", 3, 100, 200);
            sim.until("the service is ready", 300, Sim::all_ready);
            sim.define("web", &ordered("web:2"));
            // An agent that dies in the middle goes on where the engine is, with or without its disk.
            for host in ["host-a", "host-b", "host-a"] {
                let seconds = i64::try_from(sim.shared.rng.below(12)).unwrap_or(0);
                sim.run(seconds);
                let n = sim.host(host);
                sim.agents[n].loses_disk = sim.shared.rng.chance(50);
                sim.kill_agent(host);
            }
            sim.come_to_rest();
            sim.scale("web", 1);
            sim.come_to_rest();
            sim.delete(Kind::Service, "web");
            sim.until("nothing is left", 300, Sim::nothing_left);
        },
    );
}

#[test]
fn a_job_that_fails_keeps_the_new_revision_from_starting() {
    story(
        "a_job_that_fails_keeps_the_new_revision_from_starting",
        4,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.program("init:1", &Program::exits(7, Duration::from_secs(2)));
            sim.deployed("web", 2, 100, 200);
            sim.define("web", &ordered("web:2"));
            sim.run(120);
            let failed = sim.tasks(|t| {
                t.status.as_ref().is_some_and(|s| {
                    s.stop_code == Some(StopCode::TaskFailedToStart)
                        && s.stopped_reason.as_deref().is_some_and(|why| {
                            why.contains("did not exit successfully (exit code 7)")
                        })
                })
            });
            assert!(!failed.is_empty());
            sim.roll("web", "web:1");
            sim.come_to_rest();
        },
    );
}

#[test]
fn protected_tasks_stay() {
    story("protected_tasks_stay", 12, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.run(60);
        let chosen = sim.tasks(|_| true);
        for task in chosen.iter().take(2) {
            assert_eq!(sim.protect(task, 10), Ok(()));
        }
        sim.run(5);
        sim.roll("web", "web:2");
        let seconds = i64::try_from(sim.shared.rng.below(120)).unwrap_or(0);
        sim.run(seconds);
        sim.scale("web", 1);
        sim.run(120);
        let left = sim.tasks(|t| t.status.as_ref().is_some_and(|s| s.stopped_at.is_none()));
        for task in chosen.iter().take(2) {
            assert!(left.contains(task), "{task} is not among {left:?}");
        }
        // Their protection ends, and they go.
        sim.come_to_rest();
        let left = sim.tasks(|t| t.status.as_ref().is_some_and(|s| s.stopped_at.is_none()));
        assert_eq!(left.len(), 1, "{left:?}");
    });
}

#[test]
fn protected_tasks_block_a_deployment_until_they_are_done() {
    let name = "protected_tasks_block_a_deployment_until_they_are_done";
    story(name, 8, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 2, 0, 100);
        let old = sim.tasks(|_| true).remove(0);
        assert_eq!(sim.protect(&old, 20), Ok(()));
        sim.run(5);
        sim.roll("web", "web:2");
        let new = |sim: &Sim| {
            sim.tasks(|t| {
                let runs = |s: &tallyman_crds::TaskStatus| s.last_status == LastStatus::Running;
                t.spec.task_definition == "web:2" && t.status.as_ref().is_some_and(runs)
            })
        };
        sim.until("the deployment is held up, and agents know", 300, |s| {
            s.is_blocked("web") && new(s).len() == 1 && s.misled().is_empty()
        });
        let new = new(sim).remove(0);
        assert_eq!(sim.protect(&new, 10), Err("DEPLOYMENT_BLOCKED"));
        // Neither a new leader nor agents that lost their disks forget it.
        if let Some(leader) = sim.operators.last_mut() {
            leader.dead = true;
        }
        for n in 0..sim.agents.len() {
            let host = sim.agents[n].name.clone();
            sim.agents[n].loses_disk = sim.agents[n].name != host_of(sim, &old);
            sim.kill_agent(&host);
        }
        sim.run(60);
        assert!(sim.is_blocked("web"));
        assert_eq!(sim.protect(&new, 10), Err("DEPLOYMENT_BLOCKED"));
        assert_eq!(sim.protect(&old, 2), Ok(()), "it is protected already");
        sim.until("its protection is over, and agents know", 600, |s| {
            !s.is_blocked("web") && s.misled().is_empty()
        });
        assert_eq!(sim.protect(&new, 1), Ok(()));
        sim.come_to_rest();
    });
}

fn host_of(sim: &Sim, task: &str) -> String {
    let task = sim.shared.server.get(Kind::Task, task);
    let host = task.and_then(|t| t["spec"]["containerInstance"].as_str());
    host.unwrap_or_default().to_owned()
}
