//! Lives of small clusters: what people do with them, each told in a minute or some, to its end. They are told again and again
//! with something that goes wrong in them (`plans`), so each waits for what it needs instead of taking it for granted.

use std::time::Duration;

use serde_json::json;
use tallyman_agent_engine::fake::Program;
use tallyman_crds::LastStatus;
use tallyman_operator_core::Kind;

use crate::sim::Sim;
use crate::user::{definition, on_port, ordered, with_secret, with_volumes};

/// Longest time that anything takes, with something going wrong in it: a host that is given up comes back.
const PATIENCE: i64 = 2700;

/// A life.
#[derive(Debug)]
pub struct Life {
    /// Its name.
    pub name: &'static str,
    /// Hosts of its cluster.
    pub hosts: usize,
    /// Tells it.
    pub tell: fn(&mut Sim),
}

impl Life {
    /// Tasks are made at times of the day: the longer it takes, the more there are.
    pub fn goes_by_the_clock(&self) -> bool {
        self.name == "schedule"
    }

    /// Its task is stopped by an agent that does not know for how long it was silent.
    pub fn is_fenced(&self) -> bool {
        self.name == "alone"
    }
}

/// A service of which no two tasks run at a time, whatever becomes of its host.
pub fn serve_alone(sim: &mut Sim, stop_after: i64) {
    sim.shared.monitor.singleton = Some("web".to_owned());
    sim.define("web", &definition("web:1"));
    let more = json!({
        "deploymentConfiguration": { "minimumHealthyPercent": 0, "maximumPercent": 100 },
        "disconnect": { "stopAfter": stop_after },
    });
    sim.serve_by("web", 1, &more);
}

/// All lives.
pub const LIVES: &[Life] = &[
    Life {
        name: "deploy",
        hosts: 2,
        tell: deploy,
    },
    Life {
        name: "scale",
        hosts: 3,
        tell: scale,
    },
    Life {
        name: "roll",
        hosts: 2,
        tell: roll,
    },
    Life {
        name: "roll-in-place",
        hosts: 2,
        tell: roll_in_place,
    },
    Life {
        name: "roll-back",
        hosts: 2,
        tell: roll_back,
    },
    Life {
        name: "breaker",
        hosts: 2,
        tell: breaker,
    },
    Life {
        name: "protected",
        hosts: 2,
        tell: protected,
    },
    Life {
        name: "drain",
        hosts: 2,
        tell: drain,
    },
    Life {
        name: "restart",
        hosts: 2,
        tell: restart,
    },
    Life {
        name: "daemon",
        hosts: 3,
        tell: daemon,
    },
    Life {
        name: "run",
        hosts: 2,
        tell: run,
    },
    Life {
        name: "schedule",
        hosts: 2,
        tell: schedule,
    },
    Life {
        name: "task-sets",
        hosts: 2,
        tell: task_sets,
    },
    Life {
        name: "own-tasks",
        hosts: 2,
        tell: own_tasks,
    },
    Life {
        name: "order",
        hosts: 2,
        tell: order,
    },
    Life {
        name: "volumes",
        hosts: 2,
        tell: volumes,
    },
    Life {
        name: "secret",
        hosts: 2,
        tell: secret,
    },
    Life {
        name: "host-leaves",
        hosts: 3,
        tell: host_leaves,
    },
    Life {
        name: "alone",
        hosts: 2,
        tell: alone,
    },
    Life {
        name: "host-leaves-by-force",
        hosts: 2,
        tell: host_leaves_by_force,
    },
    Life {
        name: "two-services",
        hosts: 2,
        tell: two_services,
    },
];

fn ready(sim: &mut Sim) {
    sim.until("every service is ready", PATIENCE, Sim::all_ready);
}

/// Deletes service `web` and waits until nothing of it is left.
fn end(sim: &mut Sim) {
    sim.come_to_rest();
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", PATIENCE, Sim::nothing_left);
}

fn deploy(sim: &mut Sim) {
    sim.deploy("web", 3, 100, 200);
    ready(sim);
    end(sim);
}

fn scale(sim: &mut Sim) {
    sim.deploy("web", 1, 100, 200);
    ready(sim);
    sim.scale("web", 4);
    ready(sim);
    sim.run(45);
    sim.scale("web", 2);
    ready(sim);
    end(sim);
}

fn roll(sim: &mut Sim) {
    sim.deploy("web", 2, 50, 150);
    ready(sim);
    sim.run(41);
    sim.roll("web", "web:2");
    sim.run(4);
    ready(sim);
    end(sim);
}

fn roll_in_place(sim: &mut Sim) {
    sim.define("web", &on_port("web:1", 8080));
    sim.serve("web", 2, 0, 100);
    ready(sim);
    sim.define("web", &on_port("web:2", 8080));
    sim.run(4);
    ready(sim);
    end(sim);
}

fn roll_back(sim: &mut Sim) {
    sim.deploy("web", 2, 50, 150);
    ready(sim);
    sim.run(41);
    sim.roll("web", "web:2");
    sim.run(8);
    sim.roll("web", "web:1");
    sim.run(4);
    ready(sim);
    end(sim);
}

fn breaker(sim: &mut Sim) {
    sim.deploy("web", 1, 100, 200);
    sim.guard("web", true);
    ready(sim);
    sim.run(41);
    sim.unpublish("web:2");
    // Tasks fail on purpose, so how many there are is a matter of when.
    sim.shared.monitor.faults = true;
    sim.roll("web", "web:2");
    sim.until("the deployment is given up", PATIENCE, |s| {
        let service = s.shared.server.get(Kind::Service, "web");
        service.is_some_and(|s| !s["status"]["failedDeployment"].is_null())
    });
    sim.roll("web", "web:1");
    sim.run(4);
    ready(sim);
    end(sim);
}

fn protected(sim: &mut Sim) {
    sim.deploy("web", 2, 0, 100);
    ready(sim);
    sim.some_task_protects_itself("web", 2, PATIENCE);
    sim.run(2);
    sim.roll("web", "web:2");
    sim.run(4);
    // Unless its host is lost and takes it along.
    sim.until("it holds the deployment up, or is gone", PATIENCE, |s| {
        s.is_blocked("web") || s.all_ready()
    });
    ready(sim);
    end(sim);
}

fn drain(sim: &mut Sim) {
    sim.deploy("web", 2, 100, 200);
    ready(sim);
    sim.run(41);
    sim.drain("host-a", true);
    sim.until("host-a is empty", PATIENCE, |s| {
        let left = s.agents[0].engine.containers();
        left.iter().all(|c| !c.phase.is_alive())
    });
    ready(sim);
    sim.drain("host-a", false);
    end(sim);
}

fn restart(sim: &mut Sim) {
    sim.deploy("web", 2, 100, 200);
    ready(sim);
    sim.run(41);
    sim.restart("web", "2026-01-01T00:00:00Z");
    sim.run(4);
    ready(sim);
    end(sim);
}

fn daemon(sim: &mut Sim) {
    sim.daemon("log", "log:1");
    sim.deploy("web", 2, 100, 200);
    ready(sim);
    sim.come_to_rest();
    sim.delete(Kind::Service, "log");
    end(sim);
}

fn run(sim: &mut Sim) {
    sim.define_job(5, 0);
    sim.start_run("batch", &json!({ "count": 3 }));
    sim.until("the run is complete", PATIENCE, |s| {
        s.run_is("batch", "Complete") || s.run_is("batch", "Failed")
    });
    sim.delete(Kind::RunTask, "batch");
    sim.until("nothing is left", PATIENCE, Sim::nothing_left);
}

fn schedule(sim: &mut Sim) {
    sim.define_job(8, 0);
    let fields = json!({ "scheduleExpression": "rate(1 minute)", "concurrencyPolicy": "Forbid" });
    sim.schedule("every", &fields);
    sim.run(150);
    sim.delete(Kind::ScheduledTask, "every");
    sim.until("nothing is left", PATIENCE, Sim::nothing_left);
}

fn task_sets(sim: &mut Sim) {
    sim.define("web", &definition("web:1"));
    sim.serve_external("web", 2);
    sim.task_set("blue", "web", 100);
    sim.make_primary("web", "blue");
    ready(sim);
    sim.define("web", &definition("web:2"));
    sim.task_set("green", "web", 100);
    ready(sim);
    sim.make_primary("web", "green");
    sim.delete(Kind::TaskSet, "blue");
    ready(sim);
    end(sim);
}

fn own_tasks(sim: &mut Sim) {
    sim.define("job", &definition("job:1"));
    sim.task("one", "job", None);
    sim.task("two", "job", Some("host-a"));
    sim.until("they run or have failed", PATIENCE, |s| {
        let settled = s.tasks(|t| {
            t.status
                .as_ref()
                .is_some_and(|s| s.last_status >= LastStatus::Running)
        });
        settled.len() == 2
    });
    sim.stop_task("one");
    sim.run(10);
    sim.delete(Kind::Task, "one");
    sim.delete(Kind::Task, "two");
    sim.until("nothing is left", PATIENCE, Sim::nothing_left);
}

fn order(sim: &mut Sim) {
    sim.program("init:1", &Program::exits(0, Duration::from_secs(2)));
    sim.define("db", &definition("db:1"));
    let healthy = tallyman_agent_engine::Health::Healthy;
    let checked = Program::runs().health_after(Duration::from_secs(4), healthy);
    sim.program("db:1", &checked);
    sim.define("web", &ordered("web:1"));
    sim.serve("web", 1, 100, 200);
    ready(sim);
    end(sim);
}

fn volumes(sim: &mut Sim) {
    sim.define("web", &with_volumes("web:1"));
    sim.serve("web", 2, 0, 100);
    ready(sim);
    sim.scale("web", 1);
    ready(sim);
    end(sim);
}

fn secret(sim: &mut Sim) {
    sim.secret("db", "password", "first");
    sim.define("web", &with_secret("web:1"));
    sim.serve("web", 1, 0, 100);
    ready(sim);
    sim.secret("db", "password", "second");
    sim.restart("web", "2026-01-01T00:00:00Z");
    sim.run(4);
    ready(sim);
    end(sim);
}

fn host_leaves(sim: &mut Sim) {
    sim.deploy("web", 3, 100, 200);
    ready(sim);
    sim.run(41);
    sim.delete(Kind::ContainerInstance, "host-a");
    gone(sim, "host-a");
    ready(sim);
    sim.join("host-a");
    end(sim);
}

fn host_leaves_by_force(sim: &mut Sim) {
    // What runs on host-a has no other place, since host-b takes nothing.
    sim.drain("host-b", true);
    sim.deploy("web", 2, 100, 200);
    ready(sim);
    sim.evict("host-a");
    gone(sim, "host-a");
    sim.drain("host-b", false);
    ready(sim);
    sim.join("host-a");
    end(sim);
}

fn gone(sim: &mut Sim, host: &str) {
    sim.until("the host is gone", PATIENCE, |s| {
        s.shared.server.get(Kind::ContainerInstance, host).is_none()
    });
}

fn two_services(sim: &mut Sim) {
    sim.deploy("web", 2, 100, 200);
    sim.deploy("api", 2, 50, 150);
    ready(sim);
    sim.scale("api", 4);
    sim.roll("web", "web:2");
    sim.run(4);
    ready(sim);
    sim.delete(Kind::Service, "api");
    end(sim);
}

fn alone(sim: &mut Sim) {
    serve_alone(sim, 60);
    ready(sim);
    // Its host is cut off, and the task is started elsewhere.
    sim.shared.monitor.faults = true;
    let running = |s: &Sim, n: usize| {
        let all = s.agents[n].engine.containers();
        all.iter().any(|c| c.phase.is_alive())
    };
    let host = usize::from(running(sim, 1));
    sim.agents[host].cut_off = true;
    sim.until("it runs elsewhere", PATIENCE, |s| running(s, 1 - host));
    sim.agents[host].cut_off = false;
    sim.run(20);
    ready(sim);
    end(sim);
}
