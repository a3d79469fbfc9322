//! Links that break: of one host, of most, of all, and again and again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{CommandSpec, LabHost, wait_until};

use crate::chaos::witness::engine_runs;
use crate::chaos::{Row, Stage};
use crate::user::{PATIENCE, hello, service, watched};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "10a",
        name: "a host is cut off from the API server and comes back",
        fault: "every packet between a host and the API server dropped for 10 s more than the operator's grace; containers killed and tasks that end meanwhile",
        measured: "the end of it until the host is connected and every end is reported",
        bound: Duration::from_secs(65),
        count: 2,
        run: cut_off,
    },
    Row {
        number: "10b",
        name: "connections die in silence",
        fault: "every packet of the connections that all hosts have to the API server dropped for good; new connections work",
        measured: "the first dropped packet until the container of a task that was placed after it runs",
        bound: Duration::from_secs(65),
        count: 2,
        run: dead_connections,
    },
    Row {
        number: "19",
        name: "every host is cut off",
        fault: "every packet between all hosts and the API server dropped for longer than it takes to replace tasks",
        measured: "the end of it until every host is connected",
        bound: Duration::from_secs(65),
        count: 1,
        run: all_cut_off,
    },
    Row {
        number: "20",
        name: "most hosts are cut off",
        fault: "the same for all hosts but one",
        measured: "the end of it until every host is connected",
        bound: Duration::from_secs(65),
        count: 1,
        run: most_cut_off,
    },
    Row {
        number: "22",
        name: "a link flaps",
        fault: "every packet between a host and the API server dropped for 5 s, twelve times in two minutes, with tasks that end meanwhile",
        measured: "the end of it until the host is connected and every end is reported",
        bound: Duration::from_secs(65),
        count: 1,
        run: flapping,
    },
    Row {
        number: "23",
        name: "a host is cut off with a task of which never two may run",
        fault: "every packet between the host of a service's only task (stopAfter 30 s, replaceAfter 55 s) and the API server dropped until it \
                runs elsewhere; every other time its agent is killed meanwhile",
        measured: "the first dropped packet until it runs elsewhere",
        bound: Duration::from_secs(90),
        count: 2,
        run: sole,
    },
    Row {
        number: "24",
        name: "a host that is cut off sleeps, with such a task",
        fault: "the same with stopAfter an hour; after a moment the agent is killed and started with a boot clock 100,000 s further (a time namespace), \
                as after a day of sleep",
        measured: "start of the agent until the task has ended",
        bound: Duration::from_secs(10),
        count: 2,
        run: sleeps,
    },
];

/// Beyond what the operator allows.
const MARGIN: Duration = Duration::from_secs(20);

fn cut_off(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = stage.any_host();
        // Ends of before, during, and in this order.
        let exits = stage.running_exits(6, Some(host), 18)?;
        let sturdy = sturdy(stage, host)?;
        let since = Instant::now();
        stage.cut(host)?;
        if let Some(sturdy) = &sturdy {
            host.docker_ok(["kill", &sturdy.id])?;
            restarted_in_place(stage, sturdy)?;
        }
        stage.wait_connected(host, false, stage.times.grace + MARGIN)?;
        let blind = since.elapsed();
        ensure!(
            blind >= stage.times.grace.saturating_sub(Duration::from_secs(12)),
            "given up after {blind:?}"
        );
        // The last renewal of its Lease may be ten seconds older than the cut, and nothing shall be replaced.
        let soonest = stage.times.replace_after.saturating_sub(MARGIN);
        stage.pass(
            (stage.times.grace + MARGIN / 2)
                .min(soonest)
                .saturating_sub(blind),
        );
        stage.heal(host)?;
        let since = Instant::now();
        stage.wait_connected(host, true, PATIENCE)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// A task that restarts in place.
pub struct Sturdy<'a> {
    /// Its host.
    pub host: &'a LabHost,
    /// Its name.
    pub task: String,
    /// The engine's id of its container.
    pub id: String,
}

/// One on a host, once it has run for the minute that ECS asks for.
pub fn sturdy<'a>(stage: &Stage<'a>, host: &'a LabHost) -> Result<Option<Sturdy<'a>>> {
    let here = stage.user.containers()?.into_iter();
    let mut here = here.filter(|c| {
        c.host == host.name() && c.state == "running" && c.task.starts_with(super::stage::STURDY)
    });
    let Some(c) = here.next() else {
        return Ok(None);
    };
    let started = host.docker_ok(["inspect", "--format", "{{.State.StartedAt}}", &c.id])?;
    let started = host.inside("date").args(["+%s", "-d", &started]).check()?;
    let now = host.inside("date").arg("+%s").check()?;
    let age = now
        .trim()
        .parse::<u64>()?
        .saturating_sub(started.trim().parse()?);
    stage.pass(Duration::from_secs(65_u64.saturating_sub(age)));
    let (task, id) = (c.task, c.id);
    Ok(Some(Sturdy { host, task, id }))
}

/// Waits until its container, which was killed, runs again where it ran.
pub fn restarted_in_place(stage: &Stage<'_>, sturdy: &Sturdy<'_>) -> Result<()> {
    let Sturdy { host, task, id } = sturdy;
    wait_until("the killed container to run again", PATIENCE, || {
        let all = stage.user.containers()?;
        let again = all.iter().find(|c| c.task == *task && c.state == "running");
        let again = again.context("none runs")?;
        ensure!(again.host == host.name(), "it runs on {}", again.host);
        let restarts = host.docker_ok(["inspect", "--format", "{{.State.StartedAt}}", id])?;
        let first = host.docker_ok(["inspect", "--format", "{{.Created}}", id])?;
        ensure!(
            again.id != *id || restarts != first,
            "it was not started again"
        );
        Ok(true)
    })
}

fn dead_connections(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for round in 0..count {
        let hosts = stage.lab().hosts();
        let since = Instant::now();
        for host in hosts {
            stage.cut_connections(host)?;
        }
        let name = |host: &LabHost| format!("heard-{round}-{}", host.name());
        let tasks: Vec<_> = hosts
            .iter()
            .map(|host| {
                json!({ "kind": "Task", "metadata": { "name": name(host) }, "spec": {
                    "taskDefinition": "standing", "containerInstance": host.name(),
                } })
            })
            .collect();
        stage.user.apply(&tasks)?;
        let mut waiting: Vec<String> = hosts.iter().map(name).collect();
        wait_until("a container to run on every host", PATIENCE, || {
            let all = stage.user.containers()?;
            waiting.retain(|name| {
                let runs = all.iter().any(|c| c.task == *name && c.state == "running");
                if runs {
                    times.push(since.elapsed());
                }
                !runs
            });
            ensure!(waiting.is_empty(), "{waiting:?} do not run");
            Ok(true)
        })?;
        let names: Vec<String> = hosts.iter().map(name).collect();
        wait_until("them to be reported", PATIENCE, || {
            let all = stage.eyes.list("tasks")?;
            let running = |name: &&String| {
                all.iter().any(|t| {
                    t["metadata"]["name"] == name.as_str() && t["status"]["lastStatus"] == "RUNNING"
                })
            };
            Ok(names.iter().all(|name| running(&name)))
        })?;
        for host in hosts {
            stage.heal(host)?;
        }
        stage.delete_tasks(names.iter().map(String::as_str))?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn all_cut_off(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    cut_off_together(stage, count, 0)
}

fn most_cut_off(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    cut_off_together(stage, count, 1)
}

fn cut_off_together(stage: &Stage<'_>, count: u32, spared: usize) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    let hosts = &stage.lab().hosts()[spared..];
    for _ in 0..count {
        let since = Instant::now();
        for host in hosts {
            stage.cut(host)?;
        }
        for host in hosts {
            stage.wait_connected(host, false, stage.times.grace * 2)?;
        }
        stage.pass((stage.times.replace_after + MARGIN).saturating_sub(since.elapsed()));
        for host in hosts {
            stage.heal(host)?;
        }
        let since = Instant::now();
        for host in hosts {
            stage.wait_connected(host, true, PATIENCE)?;
        }
        times.push(since.elapsed());
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// So long is a flapping link down, and so long up.
const FLAP: Duration = Duration::from_secs(5);
/// So often.
const FLAPS: u32 = 12;

fn flapping(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = stage.any_host();
        let exits = stage.running_exits(6, Some(host), 60)?;
        for _ in 0..FLAPS {
            stage.cut(host)?;
            stage.pass(FLAP);
            stage.heal(host)?;
            stage.pass(FLAP);
        }
        let since = Instant::now();
        stage.wait_connected(host, true, PATIENCE)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.all_steady()?;
        stage.same(&before, None)?;
        // It renews its Lease whenever it gets through, which is far oftener than the grace.
        for host in stage.witness.disconnected() {
            let what = format!("{host} was taken for disconnected");
            stage.witness.accuse(what);
        }
    }
    Ok(times)
}

/// Service of which never two tasks may run.
const SOLE: &str = "sole";

/// Makes that service, with seconds until its task stops on a host that is cut off, and until it is replaced.
fn make_sole(stage: &Stage<'_>, stop_after: u32, replace_after: u32) -> Result<()> {
    let mut service = service(SOLE, 1);
    service["spec"]["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
    service["spec"]["disconnect"] =
        json!({ "stopAfter": stop_after, "replaceAfter": replace_after });
    stage.user.apply(&[hello(SOLE, "x"), service])?;
    Ok(())
}

/// The host of its task, once that runs.
fn host_of_sole<'a>(stage: &Stage<'a>) -> Result<&'a LabHost> {
    let task = stage.user.wait_steady(SOLE, 1)?.remove(0);
    let host = task["spec"]["containerInstance"].as_str();
    stage.lab().host_named(host.unwrap_or_default())
}

/// A boot clock that is further than the host's by longer than any stopAfter.
const SLEPT: [&str; 4] = ["--time", "--boottime", "100000", "--"];

fn sleeps(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    make_sole(stage, 3600, 3700)?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = host_of_sole(stage)?;
        let agent = host.agent();
        let awake = agent.command();
        let program = awake.program.display().to_string();
        let asleep = CommandSpec {
            program: "unshare".into(),
            args: SLEPT
                .map(str::to_owned)
                .into_iter()
                .chain([program])
                .collect(),
            ..awake.clone()
        };
        stage.cut(host)?;
        stage.any_moment(Duration::from_secs(5));
        stage.hold(agent);
        agent.kill9()?;
        agent.set_command(asleep.args(awake.args.clone()));
        let since = Instant::now();
        agent.start()?;
        let ended = wait_until("it to be stopped", PATIENCE, || {
            Ok(running(stage, SOLE)?.is_empty())
        });
        times.push(since.elapsed());
        stage.same(&before, None)?;
        agent.kill9()?;
        agent.set_command(awake);
        ended?;
        stage.release(agent);
        agent.start()?;
        stage.heal(host)?;
        stage.wait_connected(host, true, PATIENCE)?;
        stage.user.wait_steady(SOLE, 1)?;
        stage.same(&before, None)?;
    }
    stage.user.delete(&[SOLE])?;
    Ok(times)
}

fn sole(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let user = &stage.user;
    make_sole(stage, 30, 55)?;
    let mut times = Vec::new();
    for round in 0..count {
        let host = host_of_sole(stage)?;
        let mut moved = None;
        let seen = watched(
            || Ok(running(stage, SOLE)?.len()),
            || {
                let since = Instant::now();
                stage.cut(host)?;
                if round % 2 == 1 {
                    stage.any_moment(stage.times.grace);
                    stage.kill(host.agent())?;
                }
                wait_until("it to run elsewhere", PATIENCE * 2, || {
                    let on = running(stage, SOLE)?;
                    Ok(!on.is_empty() && !on.contains(&host.name()))
                })?;
                moved = Some(since.elapsed());
                stage.heal(host)?;
                stage.wait_connected(host, true, PATIENCE)?;
                user.wait_steady(SOLE, 1)?;
                Ok(())
            },
        )?;
        times.extend(moved);
        if let Some(most) = seen.into_iter().max()
            && most > 1
        {
            stage
                .witness
                .accuse(format!("{most} tasks of {SOLE} ran at a time"));
        }
        stage.same(&before, None)?;
    }
    user.delete(&[SOLE])?;
    Ok(times)
}

/// Hosts on which a container of the service runs, each as often as one does; some hundred times a second.
fn running<'a>(stage: &Stage<'a>, service: &str) -> Result<Vec<&'a str>> {
    let mut hosts = Vec::new();
    for host in stage.lab().hosts() {
        let of_it = |c: &Value| {
            c["Labels"]["tallyman.dev/task"]
                .as_str()
                .is_some_and(|task| task.rsplit_once('-').is_some_and(|(of, _)| of == service))
        };
        let list = engine_runs(host)?;
        let own = list.iter().filter(|c| c["State"] == "running" && of_it(c));
        hosts.extend(own.map(|_| host.name()));
    }
    Ok(hosts)
}
