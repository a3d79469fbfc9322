//! What everything is about: services and tasks that run while things break, two operators, and the means to break and to mend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::{CommandSpec, Host, Lab, LabHost, Process, Signal, http, wait_until};

use crate::chaos::Versions;
use crate::chaos::witness::{Eyes, Witness};
use crate::inside::BUSYBOX;
use crate::user::{PATIENCE, User, hello, service};

/// Service whose tasks nothing may touch.
const STANDING: &str = "standing";
/// Service that rolls while things break.
const ROLLING: &str = "rolling";
/// Service whose containers restart in place.
pub const STURDY: &str = "sturdy";
/// Definition of tasks that end by themselves, each with a code of its own.
const EXITS: &str = "exits";
/// Our chain in a host's firewall.
const CHAIN: &str = "TALLYMAN-CHAOS";

/// How many tasks run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Tasks that nothing may touch.
    pub standing: usize,
    /// Tasks that roll.
    pub rolling: usize,
    /// Tasks that restart in place.
    pub sturdy: usize,
}

/// Times of the operator on this lab.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// `--agent-grace`.
    pub grace: Duration,
    /// `--replace-after`.
    pub replace_after: Duration,
    /// `--lease-duration`.
    pub lease: Duration,
}

/// A lab with all that runs on it.
pub struct Stage<'a> {
    /// Who looks.
    pub witness: Witness,
    /// kubectl and docker.
    pub user: User<'a>,
    /// Times of the operator.
    pub times: Times,
    /// Another version of the agent, if there is one.
    pub versions: Option<Versions>,
    /// Reads objects quickly.
    pub eyes: Eyes,
    load: Load,
    second: (Process, SocketAddr),
    /// Names of processes that are not started again when they end.
    held: Mutex<BTreeSet<String>>,
    rng: Mutex<fastrand::Rng>,
    revision: AtomicU32,
    serial: AtomicU32,
    happened: Mutex<Option<u32>>,
}

/// A container as it must stay: id, process, start.
pub type Proof = BTreeMap<String, String>;

/// Tasks that end by themselves, with the code that each must be reported with.
pub struct Exits(Vec<(String, u32)>);

impl<'a> Stage<'a> {
    /// A stage on `lab`, with a second operator.
    ///
    /// # Errors
    /// It does not start.
    pub fn set(
        lab: &'a Lab,
        load: Load,
        times: Times,
        versions: Option<Versions>,
        seed: u64,
    ) -> Result<Stage<'a>> {
        let stage = Stage {
            witness: Witness::default(),
            user: User::new(lab),
            times,
            versions,
            eyes: Eyes::open(lab)?,
            load,
            second: lab.start_operator("operator-2")?,
            held: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            revision: AtomicU32::new(0),
            serial: AtomicU32::new(0),
            happened: Mutex::default(),
        };
        for host in lab.hosts() {
            let iptables = |args: &[&str]| host.inside("iptables").arg("--wait").args(args).run();
            iptables(&["-N", CHAIN])?;
            for side in ["INPUT", "OUTPUT"] {
                ensure!(
                    iptables(&["-I", side, "-j", CHAIN])?.success,
                    "iptables refuses"
                );
            }
        }
        Ok(stage)
    }

    /// The lab.
    pub fn lab(&self) -> &'a Lab {
        self.user.lab
    }

    /// Puts the lab back as it was without a stage.
    ///
    /// # Errors
    /// Something does not end.
    pub fn leave(&self) -> Result<()> {
        for host in self.lab().hosts() {
            for args in [
                &["-D", "INPUT", "-j", CHAIN][..],
                &["-D", "OUTPUT", "-j", CHAIN],
                &["-F", CHAIN],
                &["-X", CHAIN],
            ] {
                host.inside("iptables").arg("--wait").args(args).run()?;
            }
        }
        self.second.0.stop(Duration::from_secs(10))?;
        Ok(())
    }

    /// Starts all that runs, and waits until it does.
    ///
    /// # Errors
    /// It does not.
    pub fn load(&self) -> Result<()> {
        let Load {
            standing,
            rolling,
            sturdy,
        } = self.load;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let mut again = hello(STURDY, "x");
        again["spec"]["containerDefinitions"][0]["restartPolicy"] =
            json!({ "enabled": true, "restartAttemptPeriod": 60 });
        let mut exits = hello(EXITS, "x");
        exits["spec"]["containerDefinitions"][0] = json!({
            "name": "exit", "image": BUSYBOX, "memory": 16, "stopTimeout": 2,
            "entryPoint": ["sh", "-c"], "command": ["exit 1"],
        });
        self.user.apply(&[
            hello(STANDING, "x"),
            service(STANDING, count(standing)),
            again,
            service(STURDY, count(sturdy)),
            exits,
            service(ROLLING, count(rolling)),
        ])?;
        self.roll()?;
        self.all_steady()
    }

    /// Takes all of it away.
    ///
    /// # Errors
    /// It does not go.
    pub fn unload(&self) -> Result<()> {
        self.user.delete(&[STANDING, ROLLING, STURDY, EXITS])
    }

    /// Waits until every service is as wanted.
    ///
    /// # Errors
    /// It is not in time.
    pub fn all_steady(&self) -> Result<()> {
        self.user.wait_steady(STANDING, self.load.standing)?;
        self.user.wait_steady(STURDY, self.load.sturdy)?;
        self.steady_rolling()
    }

    /// Waits until all runs again, containers that went with their host or engine among it.
    ///
    /// # Errors
    /// It does not.
    pub fn whole(&self) -> Result<()> {
        wait_until("every container to run", PATIENCE, || {
            self.proof()?;
            Ok(true)
        })?;
        self.all_steady()
    }

    /// A row says how often its fault came about, where that is not as often as it was asked to.
    pub fn happened(&self, times: usize) {
        *locked(&self.happened) = u32::try_from(times).ok();
    }

    /// What the last row said of it, once.
    pub fn times_happened(&self) -> Option<u32> {
        locked(&self.happened).take()
    }

    // --- what must stay ---

    /// What the containers that nothing may touch are.
    ///
    /// # Errors
    /// An engine does not answer.
    pub fn proof(&self) -> Result<Proof> {
        let mut proof = Proof::new();
        for host in self.lab().hosts() {
            let ids = host.docker_ok(["ps", "-q", "--filter", "label=tallyman.dev/task"])?;
            if ids.is_empty() {
                continue;
            }
            let format = "{{index .Config.Labels \"tallyman.dev/task\"}} {{.Id}} {{.State.Pid}} {{.State.StartedAt}}";
            let args = ["inspect", "--format", format].into_iter();
            for line in host.docker_ok(args.chain(ids.lines()))?.lines() {
                if let Some((task, rest)) = line.split_once(' ')
                    && task.starts_with(STANDING)
                {
                    proof.insert(task.to_owned(), format!("{rest} on {}", host.name()));
                }
            }
        }
        ensure!(
            proof.len() == self.load.standing,
            "{} containers of {STANDING} run, and not {}",
            proof.len(),
            self.load.standing
        );
        Ok(proof)
    }

    /// Accuses whoever touched a container that nothing may touch; `but` those of a host.
    ///
    /// # Errors
    /// An engine does not answer.
    pub fn same(&self, before: &Proof, but: Option<&Host>) -> Result<()> {
        let after = self.proof()?;
        let of = but.map(|host| format!(" on {}", host.name()));
        for (task, was) in before {
            let excepted = of.as_ref().is_some_and(|of| was.ends_with(of.as_str()));
            if after.get(task) != Some(was) && !excepted {
                let now = after.get(task).map_or("gone", String::as_str);
                self.witness
                    .accuse(format!("{task} was {was} and is {now}"));
            }
        }
        Ok(())
    }

    // --- what goes on meanwhile ---

    /// Begins a rollout, also while another is under way.
    ///
    /// # Errors
    /// The API server does not take it.
    pub fn roll(&self) -> Result<()> {
        let revision = self.revision.load(Ordering::Relaxed) + 1;
        wait_until("a new revision to be taken", PATIENCE, || {
            self.user
                .apply(&[hello(ROLLING, &format!("text {revision}"))])?;
            Ok(true)
        })?;
        self.revision.store(revision, Ordering::Relaxed);
        Ok(())
    }

    /// `kubectl scale`, as often as it takes: the API server may only just have come back.
    ///
    /// # Errors
    /// The API server does not take it.
    pub fn scale(&self, service: &str, n: usize) -> Result<()> {
        let object = format!("services.tallyman.dev/{service}");
        let replicas = format!("--replicas={n}");
        wait_until("kubectl scale to be taken", PATIENCE, || {
            self.user.k(&["scale", &object, &replicas])?;
            Ok(true)
        })
    }

    /// Waits until the service that rolls is done with it.
    ///
    /// # Errors
    /// It is not in time.
    pub fn steady_rolling(&self) -> Result<()> {
        self.user.wait_steady(ROLLING, self.load.rolling)?;
        Ok(())
    }

    /// Waits until the newest revision runs alone, and accuses whoever made more tasks of it than are wanted.
    ///
    /// # Errors
    /// It does not come true.
    pub fn rolled(&self) -> Result<()> {
        let newest = self.newest();
        let wanted = self.load.rolling;
        let of_newest = |t: &&Value| t["spec"]["taskDefinition"] == newest.as_str();
        wait_until(format!("{newest} to run alone"), PATIENCE * 2, || {
            self.newest_alone()?;
            Ok(true)
        })?;
        self.steady_rolling()?;
        let made = self.user.tasks(ROLLING)?;
        let made = made.iter().filter(of_newest).count();
        if made != wanted {
            let what = format!("{made} tasks of {newest} were made for {wanted}");
            self.witness.accuse(what);
        }
        Ok(())
    }

    /// As many tasks of the newest revision run as are wanted, and no others.
    ///
    /// # Errors
    /// Says what runs instead.
    pub fn newest_alone(&self) -> Result<()> {
        let (newest, wanted) = (self.newest(), self.load.rolling);
        let alive = self.user.alive(ROLLING)?;
        let right = |t: &&Value| {
            t["spec"]["taskDefinition"] == newest.as_str() && t["status"]["lastStatus"] == "RUNNING"
        };
        let n = alive.iter().filter(right).count();
        ensure!(
            n == wanted && alive.len() == wanted,
            "{n} of {}",
            alive.len()
        );
        Ok(())
    }

    fn newest(&self) -> String {
        format!("{ROLLING}:{}", self.revision.load(Ordering::Relaxed))
    }

    /// Starts `n` tasks, on `host` or anywhere, that end within `seconds`, each with a code of its own.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn exits(&self, n: u32, host: Option<&Host>, seconds: u32) -> Result<Exits> {
        let mut objects = Vec::new();
        let mut all = Vec::new();
        for i in 0..n {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let (name, code) = (format!("exit-{serial:06}"), 10 + serial % 90);
            let after = 1 + i * seconds / n.max(1);
            let command = [format!("sleep {after}; exit {code}")];
            let mut task = json!({
                "kind": "Task", "metadata": { "name": name },
                "spec": { "taskDefinition": EXITS, "overrides": {
                    "containerOverrides": [{ "name": "exit", "command": command }] } },
            });
            if let Some(host) = host {
                task["spec"]["containerInstance"] = json!(host.name());
            }
            objects.push(task);
            all.push((name, code));
        }
        self.user.apply(&objects)?;
        Ok(Exits(all))
    }

    /// [`Stage::exits`], once every one runs or has run.
    ///
    /// # Errors
    /// The API server refuses, or they do not start.
    pub fn running_exits(&self, n: u32, host: Option<&Host>, seconds: u32) -> Result<Exits> {
        let exits = self.exits(n, host, seconds)?;
        self.reach(&exits, &["RUNNING", "STOPPED"])?;
        Ok(exits)
    }

    /// Waits until each of them is at least in this status.
    ///
    /// # Errors
    /// They are not in time.
    pub fn reach(&self, exits: &Exits, wanted: &[&str]) -> Result<()> {
        wait_until(format!("tasks to be {wanted:?}"), PATIENCE, || {
            self.are(exits, wanted)?;
            Ok(true)
        })
    }

    /// Each of them is in one of these statuses.
    ///
    /// # Errors
    /// Names one that is not.
    pub fn are(&self, exits: &Exits, wanted: &[&str]) -> Result<()> {
        let tasks = self.eyes.list("tasks")?;
        for (name, _) in &exits.0 {
            let task = tasks
                .iter()
                .find(|t| t["metadata"]["name"] == name.as_str());
            let status = task.context("a task is gone")?["status"]["lastStatus"].clone();
            let status = status.as_str().unwrap_or_default();
            ensure!(wanted.contains(&status), "{name} is {status}");
        }
        Ok(())
    }

    /// Waits until all of them are STOPPED, accuses whoever lost or changed a code, and lets them go.
    ///
    /// # Errors
    /// They do not end.
    pub fn accounted(&self, exits: Exits) -> Result<()> {
        self.reach(&exits, &["STOPPED"])?;
        let tasks = self.eyes.list("tasks")?;
        let mut names = Vec::new();
        for (name, code) in exits.0 {
            let task = tasks
                .iter()
                .find(|t| t["metadata"]["name"] == name.as_str());
            let status = task.map(|t| t["status"].clone()).unwrap_or_default();
            if status["containers"][0]["exitCode"] != code {
                let what = format!("{name} ended with {code} and is reported as {status}");
                self.witness.accuse(what);
            }
            names.push(name);
        }
        self.delete_tasks(names.iter().map(String::as_str))
    }

    /// Deletes Tasks, and waits until they are gone.
    ///
    /// # Errors
    /// They do not go.
    pub fn delete_tasks<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
        let mut args = vec!["delete", "tasks.tallyman.dev", "--timeout=60s"];
        args.extend(names);
        self.user.k(&args)?;
        Ok(())
    }

    // --- chance ---

    /// Any host.
    pub fn any_host(&self) -> &'a LabHost {
        let hosts = self.lab().hosts();
        &hosts[self.below(hosts.len())]
    }

    /// A number below `n`.
    pub fn below(&self, n: usize) -> usize {
        locked(&self.rng).usize(..n.max(1))
    }

    /// Lets a random time below `most` pass: a fault at a random moment has no condition to wait for.
    pub fn any_moment(&self, most: Duration) {
        let share = locked(&self.rng).f64();
        self.pass(most.mul_f64(share));
    }

    /// Lets time pass in which nothing may happen, or for which a fault lasts.
    pub fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    // --- processes ---

    /// Both operators, with where they serve health.
    pub fn operators(&self) -> [(&Process, SocketAddr); 2] {
        let lab = self.lab();
        [
            (lab.operator(), lab.operator_http()),
            (&self.second.0, self.second.1),
        ]
    }

    /// Starts what ended, as a service manager does. Called all the time.
    pub fn keep(&self) {
        let agents = self.lab().hosts().iter().map(LabHost::agent);
        let operators = self.operators().map(|(process, _)| process);
        for process in agents.chain(operators) {
            let held = locked(&self.held);
            if !held.contains(process.name()) && !process.is_running() {
                let _ = process.start();
            }
        }
    }

    /// From now on this process stays ended when it ended, until it is released or the row is over.
    pub fn hold(&self, process: &Process) {
        locked(&self.held).insert(process.name().to_owned());
    }

    /// Has a process that was killed run by another command, if `live` starts it. Afterwards it is dead, and has its own command again.
    ///
    /// # Errors
    /// What `live` says, or it survives.
    pub fn by_another<T>(
        &self,
        process: &Process,
        command: CommandSpec,
        live: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let own = process.command();
        self.hold(process);
        process.kill9()?;
        process.set_command(command);
        let lived = live();
        let killed = process.kill9();
        process.set_command(own);
        self.release(process);
        killed?;
        lived
    }

    /// SIGKILL. That it is kept must wait, or the next one is taken for the killed.
    ///
    /// # Errors
    /// It survives.
    pub fn kill(&self, process: &Process) -> Result<()> {
        self.hold(process);
        process.kill9()?;
        self.release(process);
        Ok(())
    }

    /// It is kept again.
    pub fn release(&self, process: &Process) {
        locked(&self.held).remove(process.name());
    }

    /// Waits until a host's agent is ready; how long it took since `since`.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent_ready(&self, host: &LabHost, since: Instant) -> Result<Duration> {
        answers(host.agent_http(), host.agent())?;
        Ok(since.elapsed())
    }

    /// Waits until an operator is ready or has ended; whether it is ready.
    ///
    /// # Errors
    /// Neither comes true.
    pub fn ready_or_dead(&self, operator: &Process) -> Result<bool> {
        let all = self.operators();
        let of = |(process, _): &&(&Process, SocketAddr)| process.name() == operator.name();
        let address = all.iter().find(of).context("it is no operator")?.1;
        wait_until(format!("{} to be ready", operator.name()), PATIENCE, || {
            if !operator.is_running() {
                return Ok(Some(false));
            }
            let reply = http::get(address, "/readyz", Duration::from_secs(2))?;
            ensure!(reply.status == 200, "{}", reply.body);
            Ok(Some(true))
        })
    }

    /// Waits until both operators have filled their caches and one of them leads; the one that does, and the other.
    ///
    /// # Errors
    /// They do not.
    pub fn leader(&self) -> Result<(&Process, &Process)> {
        for (process, address) in self.operators() {
            answers(address, process)?;
        }
        wait_until("an operator to lead", PATIENCE, || {
            let holder = self.eyes.leader()?;
            let [(first, _), (second, _)] = self.operators();
            Ok(match holder {
                h if leads(&h, first) => Some((first, second)),
                h if leads(&h, second) => Some((second, first)),
                _ => None,
            })
        })
    }

    // --- links ---

    /// Drops whatever a host and the API server send each other, and tells no one.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn cut(&self, host: &Host) -> Result<()> {
        self.drop_packets(host, &[])
    }

    /// Drops what belongs to the connections that a host has to the API server now; new ones work.
    ///
    /// # Errors
    /// iptables refuses, or there are no connections.
    pub fn cut_connections(&self, host: &Host) -> Result<()> {
        let port = self.api_port()?;
        let listed = host
            .inside("ss")
            .args([
                "-Htn",
                "state",
                "established",
                "dport",
                "=",
                &format!(":{port}"),
            ])
            .check()?;
        let own: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2)?.rsplit_once(':'))
            .map(|(_, port)| port)
            .collect();
        ensure!(!own.is_empty(), "no connection to the API server: {listed}");
        self.drop_packets(host, &own)
    }

    fn drop_packets(&self, host: &Host, own: &[&str]) -> Result<()> {
        let port = self.api_port()?;
        let rule = |there: &str, here: &str, own: Option<&str>| {
            let mut tool = host.inside("iptables").args(["--wait", "-A", CHAIN]);
            tool = tool.args(["-p", "tcp", there, &port]);
            if let Some(own) = own {
                tool = tool.args([here, own]);
            }
            tool.args(["-j", "DROP"]).check()
        };
        let of: Vec<Option<&str>> = match own {
            [] => vec![None],
            own => own.iter().copied().map(Some).collect(),
        };
        for own in of {
            rule("--dport", "--sport", own)?;
            rule("--sport", "--dport", own)?;
        }
        Ok(())
    }

    fn api_port(&self) -> Result<String> {
        let server = self.lab().control_plane().server_for_hosts();
        let port = server.rsplit_once(':').context("a server without port")?.1;
        Ok(port.to_owned())
    }

    /// Lets everything through again.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn heal(&self, host: &Host) -> Result<()> {
        let args = ["--wait", "-F", CHAIN];
        host.inside("iptables").args(args).check()?;
        Ok(())
    }

    /// The operator's view of a host.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn connected(&self, host: &Host) -> Result<bool> {
        let all = self.eyes.list("containerinstances")?;
        let own = all.iter().find(|i| i["metadata"]["name"] == host.name());
        let own = own.context("the host is gone")?;
        match own["status"]["agentConnected"].as_bool() {
            Some(connected) => Ok(connected),
            None => bail!("{} says nothing of its agent", host.name()),
        }
    }

    /// Waits until a host is connected, or is not.
    ///
    /// # Errors
    /// It does not come true within `patience`.
    pub fn wait_connected(&self, host: &Host, wanted: bool, patience: Duration) -> Result<()> {
        let name = host.name();
        wait_until(
            format!("agentConnected of {name} to be {wanted}"),
            patience,
            || Ok(self.connected(host)? == wanted),
        )
    }

    /// Whatever a row did: everything runs again, nothing is asleep, and everything gets through. Waits until all is steady.
    ///
    /// # Errors
    /// It does not get steady.
    pub fn mend(&self) -> Result<()> {
        let lab = self.lab();
        locked(&self.held).clear();
        let plane = lab.control_plane();
        plane.etcd()?.signal(Signal::CONT);
        plane.api()?.signal(Signal::CONT);
        plane.run()?;
        for (operator, _) in self.operators() {
            operator.signal(Signal::CONT);
        }
        for host in lab.hosts() {
            self.heal(host)?;
            host.engine().dockerd().signal(Signal::CONT);
            host.start_engine()?;
            host.agent().signal(Signal::CONT);
        }
        self.keep();
        for host in lab.hosts() {
            answers(host.agent_http(), host.agent())?;
            self.wait_connected(host, true, PATIENCE)?;
        }
        self.leader()?;
        self.all_steady()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process holds the Lease: `<host>_<pid>_<time>`.
pub fn leads(holder: &str, process: &Process) -> bool {
    let pid = holder.rsplit('_').nth(1).and_then(|pid| pid.parse().ok());
    pid.is_some() && process.pid() == pid
}

/// Waits until `/readyz` says yes.
fn answers(address: SocketAddr, process: &Process) -> Result<()> {
    wait_until(format!("{} to be ready", process.name()), PATIENCE, || {
        let reply = http::get(address, "/readyz", Duration::from_secs(2))?;
        ensure!(reply.status == 200, "{}", reply.body);
        Ok(true)
    })
}
