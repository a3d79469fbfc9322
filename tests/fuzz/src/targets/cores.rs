//! Both cores: a whole system in one thread among rubbish, and a host whose plan is rubbish.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::metadata::Injection;
use tallyman_agent_core::settings::gpus::GpuSettings;
use tallyman_agent_core::settings::network::Networking;
use tallyman_agent_core::settings::volumes::VolumeSettings;
use tallyman_agent_core::{
    DynamicPorts, Enforcement, FirelensSettings, Holdings, Host, HostContext, HostFiles, Plan,
    PortRange, PortSource, PortSpan, Premises, RouterFiles, RouterFolder, Silences, TaskMachine,
    perform,
};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{Archive, EngineError, LocalImage, Moment, PortSpec, PullBehavior};
use tallyman_crds::LastStatus;
use tallyman_operator_core::Kind;
use tallyman_sim::Sim;
use tallyman_sim::api::{Object, Preconditions};

use crate::dice::Dice;
use crate::objects::{self, CRDS, Setting};
use crate::schema;

/// Objects in one history.
const MOST: usize = 12;
/// A service that is as it should be.
const CANARY: &str = "canary";

/// The operator's core and two agents', with a service that is well: objects come that are wrong somewhere, as far as the types
/// read them, and go again. No invariant breaks, the service keeps running and can be scaled, nothing is left, and at the end
/// nothing is to be done: the plan is a fixpoint.
pub fn both(bytes: &[u8]) {
    let dice = &mut Dice::of(bytes);
    let mut sim = Sim::new("bad input", 1, 2);
    sim.deployed(CANARY, 2, 100, 200);
    sim.come_to_rest();
    let setting = Setting {
        prefix: "bad".to_owned(),
        victim: CANARY.to_owned(),
        host: "host-a".to_owned(),
    };
    let mut made: Vec<(Kind, String)> = Vec::new();
    for number in 0..MOST {
        // The kind follows from the number.
        let number = number * CRDS.len() + dice.below(CRDS.len());
        let (crd, object) = objects::object(&setting, number, dice);
        let Some(kind) = stored_kind(&crd.kind) else {
            continue;
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let now = sim.shared.now;
        if is_stored(kind, &object) && sim.shared.server.create(kind, object.clone(), now).is_ok() {
            made.push((kind, name.to_owned()));
        }
    }
    sim.run(30);
    sim.scale(CANARY, 3);
    sim.until("the service that is well is scaled", 600, |sim| {
        let runs = |t: &tallyman_crds::Task| {
            let name = t.metadata.name.as_deref().unwrap_or_default();
            let last = t.status.as_ref().map(|s| s.last_status);
            name.starts_with(CANARY) && last == Some(LastStatus::Running)
        };
        sim.tasks(runs).len() == 3
    });
    for (kind, name) in &made {
        let now = sim.shared.now;
        let server = &mut sim.shared.server;
        let _ = server.delete(*kind, name, &Preconditions::default(), now);
    }
    sim.until("what was made is gone", 3600, |sim| {
        let there = |(kind, name): &&(Kind, String)| sim.shared.server.get(*kind, name).is_some();
        !made.iter().any(|one| there(&one))
    });
    sim.come_to_rest();
}

/// The kind in the simulator, which has none of joins; plans and revisions are the operator's own there.
fn stored_kind(kind: &str) -> Option<Kind> {
    Some(match kind {
        "Cluster" => Kind::Cluster,
        "ContainerInstance" => Kind::ContainerInstance,
        "RunTask" => Kind::RunTask,
        "ScheduledTask" => Kind::ScheduledTask,
        "Service" => Kind::Service,
        "Task" => Kind::Task,
        "TaskDefinition" => Kind::TaskDefinition,
        "TaskSet" => Kind::TaskSet,
        _ => return None,
    })
}

/// Whether an API server would store it, as far as names, labels and types say.
fn is_stored(kind: Kind, object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let named =
        schema::takes("^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", name) && !name.contains("..");
    let labels = object["metadata"]["labels"].as_object();
    let labelled = labels.into_iter().flatten().all(|(_, value)| {
        let text = value.as_str().unwrap_or("?");
        schema::takes("^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$", text)
    });
    named && labelled && object["status"].is_null() && Object::parse(kind, object).is_ok()
}

/// A plan from disk or from the API server: JSON, or made of the bytes by the schema. Each of its tasks is started and stopped on
/// an engine that does what it is told; the status never goes back, and nothing runs after STOPPED.
pub fn agent(bytes: &[u8]) {
    let spec = match serde_json::from_slice::<Value>(bytes) {
        Ok(spec) => spec,
        Err(_) => plan(&mut Dice::of(bytes)),
    };
    let Ok(plan) = Plan::from_json(&spec) else {
        return;
    };
    let mut host = Host::new(door());
    let _ = host.offer(plan.clone(), true);
    let _ = host.offer(plan, true);
    let Some(assignment) = host.assignment() else {
        return;
    };
    for (n, task) in assignment.tasks.values().take(8).enumerate() {
        let engine = FakeEngine::new("host-a");
        engine.set_now(Moment(1_800_000_000_000));
        let mut machine = TaskMachine::begin(task.clone(), None, &[]);
        let shop = Shop::default();
        let mut last = LastStatus::default();
        for turn in 0..12 {
            if turn == 6 {
                machine.condemn();
            }
            last = shop.turn(&engine, &mut machine, last);
            let later = engine.now().millis() + 1000 * i64::try_from(n + 1).unwrap_or(1);
            engine.set_now(Moment(later));
        }
    }
}

/// A plan whose definition is that of some TaskDefinition.
fn plan(dice: &mut Dice<'_>) -> Value {
    let index = |kind: &str| CRDS.iter().position(|crd| crd.kind == kind);
    let setting = Setting {
        prefix: "bad".to_owned(),
        victim: "web".to_owned(),
        host: "host-a".to_owned(),
    };
    let (_, made) = objects::object(&setting, index("TaskDefinition").unwrap_or(0), dice);
    let (_, run) = objects::object(&setting, index("RunTask").unwrap_or(0), dice);
    json!({
        "generation": 1, "leaderEpoch": 1, "cluster": "default", "containerInstanceUid": "u",
        "definitions": { "web-1": { "family": "web", "revision": 1, "definition": made["spec"] } },
        "tasks": [
            { "name": "web-000001", "uid": "550e8400-e29b-41d4-a716-446655440000", "definition": "web-1" },
            { "name": "web-000002", "uid": objects::odd_text(dice), "definition": "web-1",
              "overrides": run["spec"]["overrides"] },
            { "name": objects::odd_text(dice), "uid": "c", "definition": "nothing" },
        ],
    })
}

fn door() -> Door {
    Door {
        namespace: "shop".to_owned(),
        stop_timeout: Duration::from_secs(30),
        volumes: VolumeSettings::default(),
        networking: Networking::default(),
        gpus: GpuSettings::default(),
        pause_image: LocalImage {
            reference: "localhost/pause:1".to_owned(),
            archive: Archive(b""),
            entrypoint: vec!["/pause".to_owned()],
            labels: Default::default(),
        },
        pids_limit: None,
        disable_privileged: false,
        injection: Injection::default(),
        firelens: FirelensSettings {
            folder: "/var/lib/tallyman/firelens".to_owned(),
            asynchronous: true,
        },
    }
}

/// What a host has beside its engine.
struct Shop {
    holdings: Holdings,
    ports: Mutex<DynamicPorts>,
    host: HostContext,
}

impl Default for Shop {
    fn default() -> Self {
        Shop {
            holdings: Holdings::default(),
            ports: Mutex::new(DynamicPorts::new(PortRange::FALLBACK)),
            host: HostContext {
                container_instance: "host-a".to_owned(),
                address: Some("10.0.0.5".to_owned()),
                pull_behavior: PullBehavior::Default,
                cleanup_wait: Duration::from_secs(2),
                cleanup_jitter: Duration::ZERO,
                pull_upfront: false,
                enforcement: Enforcement::Group {
                    period: Duration::from_millis(100),
                    propagate: false,
                },
                plan_is_live: true,
                silences: Silences::at(
                    Arc::default(),
                    Some("boot"),
                    Some(Duration::from_secs(100)),
                ),
                supply: None,
                registries: Default::default(),
            },
        }
    }
}

impl PortSource for Shop {
    fn choose(&self, wishes: &[PortSpan]) -> Result<Vec<PortSpec>, EngineError> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.choose(wishes, |_, _| true)
    }
}

impl RouterFolder for Shop {
    fn provide(&self, _: &RouterFiles) -> Result<(), EngineError> {
        Ok(())
    }
}

impl HostFiles for Shop {
    fn leads_to(&self, path: &str) -> String {
        path.to_owned()
    }

    fn closed(&self) -> Vec<String> {
        Vec::new()
    }

    fn listens(&self, path: &str) -> bool {
        path.len().is_multiple_of(2)
    }

    fn read(&self, _: &str) -> Result<String, EngineError> {
        Ok("A=b\n#\n=\n\u{0}=\n".to_owned())
    }
}

impl Shop {
    /// One step of a task, its actions carried out: its last status then.
    fn turn(
        &self,
        engine: &FakeEngine,
        machine: &mut TaskMachine,
        before: LastStatus,
    ) -> LastStatus {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(engine.now().millis());
        let (step, _) = self.holdings.step(machine, &self.host, now);
        let last = step.report.last_status;
        assert!(before.may_become(last), "{before:?} became {last:?}");
        for action in &step.actions {
            machine.started(action);
        }
        for action in &step.actions {
            let premises = Premises {
                ports: self,
                gpus: &self.holdings.gpus,
                routers: self,
                files: self,
            };
            if let Some(outcome) = perform(engine, premises, action).now_or_never() {
                machine.settle(action.container(), outcome, now);
            }
        }
        if last == LastStatus::Stopped {
            let alive = engine.containers().iter().any(|c| c.phase.is_alive());
            assert!(!alive, "STOPPED while a container runs");
        }
        last
    }
}
