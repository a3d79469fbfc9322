//! Hosts that are cut off, and what the services on them want of that.

use serde_json::json;
use tallyman_crds::LastStatus;
use tallyman_operator_core::Kind;
use tallyman_sim::lives::serve_alone;
use tallyman_sim::user::definition;
use tallyman_sim::{Sim, story};

fn running_on(sim: &Sim, host: &str) -> usize {
    let tasks = sim.tasks(|t| {
        let running = |s: &tallyman_crds::TaskStatus| s.last_status == LastStatus::Running;
        t.spec.container_instance.as_deref() == Some(host) && t.status.as_ref().is_some_and(running)
    });
    tasks.len()
}

fn below(sim: &mut Sim, bound: usize) -> i64 {
    i64::try_from(sim.shared.rng.below(bound)).unwrap_or(0)
}

/// S24 watches every call to an engine. What `stopAfter` cannot do is not done here: no agent is away or frozen for longer
/// than the margin allows, and none loses its disk while it is cut off.
#[test]
fn a_task_that_stops_when_cut_off_never_runs_twice() {
    let name = "a_task_that_stops_when_cut_off_never_runs_twice";
    story(name, 120, 2, |sim| {
        sim.shared.lag = 40;
        for n in 0..2 {
            let slow = u32::try_from(sim.shared.rng.below(21)).unwrap_or(0);
            sim.agents[n].clock_permille = 990 + slow;
        }
        serve_alone(sim, 30);
        sim.shared.monitor.faults = true;
        for _ in 0..12 {
            let seconds = below(sim, 90);
            sim.run(seconds);
            let host = sim.shared.rng.below(2);
            let name = sim.agents[host].name.clone();
            match sim.shared.rng.below(9) {
                0..3 => sim.agents[host].cut_off = !sim.agents[host].cut_off,
                // Nobody kills a process of a machine that sleeps, and one that wakes has its agent.
                3 if !sim.agents[host].rests(sim.shared.now) => sim.kill_agent(&name),
                4 if !sim.agents[host].cut_off
                    && sim.agents[host].frozen_until <= sim.shared.now =>
                {
                    sim.agents[host].loses_disk = true;
                    sim.kill_agent(&name);
                    // Until it has read its plan anew: before that it does not know which containers are its own.
                    sim.run(10);
                }
                5 => {
                    sim.agents[host].power_off(&mut sim.shared);
                    let seconds = below(sim, 200);
                    sim.run(seconds);
                    sim.agents[host].power_on(&mut sim.shared);
                }
                6 => sim.agents[host].freeze(&mut sim.shared, 15, false),
                7 => {
                    let seconds = below(sim, 300);
                    sim.agents[host].freeze(&mut sim.shared, seconds, true);
                }
                _ => {
                    if let Some(operator) = sim.operators.last_mut() {
                        operator.dead = true;
                    }
                }
            }
        }
        for agent in &mut sim.agents {
            agent.cut_off = false;
        }
        // Until the last one that is frozen goes on.
        sim.run(300);
        sim.come_to_rest();
    });
}

/// Without the policy it does: S24 sees what it is to see.
#[test]
fn a_task_without_the_policy_runs_twice() {
    story("a_task_without_the_policy_runs_twice", 1, 2, |sim| {
        serve_alone(sim, 30);
        sim.shared.monitor.singleton = None;
        sim.define("api", &definition("api:1"));
        let bounds = json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
        sim.serve_by("api", 1, &json!({ "deploymentConfiguration": bounds }));
        sim.until("the services are ready", 300, Sim::all_ready);
        sim.shared.monitor.faults = true;
        let runs = |sim: &Sim, n: usize| {
            let all = sim.agents[n].engine.containers();
            all.iter()
                .any(|c| c.phase.is_alive() && c.name.contains("api"))
        };
        let host = usize::from(runs(sim, 1));
        sim.agents[host].cut_off = true;
        sim.until("it runs on both", 600, |s| runs(s, 0) && runs(s, 1));
        sim.agents[host].cut_off = false;
        sim.come_to_rest();
    });
}

/// A process that was frozen for longer finds the API server before its tasks: what it has missed counts all the same.
#[test]
fn an_agent_that_was_frozen_stops_what_was_replaced_before_it_is_told() {
    let name = "an_agent_that_was_frozen_stops_what_was_replaced_before_it_is_told";
    story(name, 8, 2, |sim| {
        serve_alone(sim, 30);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.shared.monitor.faults = true;
        sim.shared.monitor.singleton = None;
        let host = usize::from(running_on(sim, "host-b") > 0);
        sim.agents[host].freeze(&mut sim.shared, 200, false);
        sim.run(199);
        // It hears of no plan.
        sim.agents[host].cut_off = true;
        sim.run(4);
        let alive = sim.agents[host].engine.containers();
        assert!(alive.iter().all(|c| !c.phase.is_alive()), "{alive:?}");
        sim.agents[host].cut_off = false;
        sim.come_to_rest();
    });
}

#[test]
fn a_service_may_be_replaced_sooner_or_later() {
    for (after, sooner, later) in [(60, 50, 90), (900, 880, 960)] {
        story("a_service_may_be_replaced_sooner_or_later", 4, 3, |sim| {
            sim.define("web", &definition("web:1"));
            sim.serve_by(
                "web",
                3,
                &json!({ "disconnect": { "replaceAfter": after } }),
            );
            sim.until("the service is ready", 300, Sim::all_ready);
            sim.shared.monitor.faults = true;
            sim.agents[0].cut_off = true;
            sim.run(sooner - 10);
            assert_eq!(running_on(sim, "host-a"), 1, "too soon");
            sim.until("it is replaced", later - sooner + 10, |s| {
                running_on(s, "host-a") == 0
            });
            sim.agents[0].cut_off = false;
            sim.come_to_rest();
        });
    }
}

/// A service of which what runs on a host stays when that comes back: its link breaks again and again, agents and operators die, and two
/// lead at once.
#[test]
fn a_task_that_is_to_stay_stays_when_its_host_comes_back() {
    let name = "a_task_that_is_to_stay_stays_when_its_host_comes_back";
    story(name, 40, 3, |sim| {
        sim.shared.lag = [0, 20, 50][sim.shared.rng.below(3)];
        sim.define("web", &definition("web:1"));
        let policy = json!({ "replaceAfter": 60, "keepOnReturn": "Original" });
        sim.serve_by("web", 3, &json!({ "disconnect": policy }));
        sim.until("the service is ready", 300, Sim::all_ready);
        let before = tasks(sim);
        sim.shared.monitor.faults = true;
        for _ in 0..4 {
            sim.agents[0].cut_off = true;
            let seconds = below(sim, 240);
            sim.run(seconds);
            match sim.shared.rng.below(4) {
                0 => sim.kill_agent("host-a"),
                1 => {
                    if let Some(operator) = sim.operators.last_mut() {
                        operator.dead = true;
                    }
                }
                2 => {
                    if let Some(operator) = sim.operators.last_mut() {
                        operator.pause_at = Some(operator.writes + 1);
                    }
                    sim.run(2);
                    sim.depose();
                }
                _ => {}
            }
            let seconds = below(sim, 60);
            sim.run(seconds);
            sim.agents[0].cut_off = false;
            let seconds = below(sim, 100);
            sim.run(seconds);
        }
        sim.come_to_rest();
        assert_eq!(tasks(sim), before);
    });
}

/// The tasks that are to run.
fn tasks(sim: &Sim) -> Vec<String> {
    let alive = |t: &tallyman_crds::Task| {
        let status = t.status.as_ref();
        status.is_some_and(|s| s.last_status == LastStatus::Running)
    };
    sim.tasks(alive)
}

#[test]
fn a_host_that_leaves_while_it_is_cut_off_keeps_its_lonely_task_until_that_has_stopped() {
    let name =
        "a_host_that_leaves_while_it_is_cut_off_keeps_its_lonely_task_until_that_has_stopped";
    story(name, 8, 2, |sim| {
        serve_alone(sim, 60);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.shared.monitor.faults = true;
        let host = usize::from(running_on(sim, "host-b") > 0);
        let name = sim.agents[host].name.clone();
        sim.agents[host].cut_off = true;
        sim.run(30);
        sim.delete(Kind::ContainerInstance, &name);
        sim.until("it runs elsewhere", 600, |s| {
            running_on(s, &s.agents[1 - host].name) > 0
        });
    });
}
