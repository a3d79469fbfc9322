//! A task, its machine and a fake engine, driven in one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::limits::Enforcement;
use tallyman_agent_core::metadata::{Injection, Roles};
use tallyman_agent_core::settings::gpus::GpuSettings;
use tallyman_agent_core::settings::network::Networking;
use tallyman_agent_core::settings::volumes::VolumeSettings;
use tallyman_agent_core::{
    AssignedTask, Assignment, Contacts, Delivery, Due, DynamicPorts, FirelensSettings, Holdings,
    HostContext, HostFiles, Outcome, Parcel, Plan, PortRange, PortSource, PortSpan, Premises,
    RouterFiles, RouterFolder, Silences, Step, TaskMachine, TaskRecord, TaskUid, perform,
};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{
    Archive, ContainerSummary, Engine, EngineError, LocalImage, Moment, PortSpec, PullBehavior,
    Verb,
};
use tallyman_crds::ecs::{ContainerDefinition, PortMapping};
use tallyman_crds::{
    DesiredStatus, HostPlanSpec, LastStatus, PlannedDefinition, PlannedTask, StopCode,
    TaskDefinitionSpec, TaskPolicy, TaskStatus, labels,
};

pub const UID: &str = "550e8400-e29b-41d4-a716-446655440000";
pub const INSTANCE: &str = "instance-uid";
/// Time zero of every test.
pub const EPOCH_MS: i64 = 1_800_000_000_000;

pub fn door() -> Door {
    Door {
        namespace: "shop".to_owned(),
        stop_timeout: Duration::from_secs(30),
        volumes: VolumeSettings::default(),
        networking: Networking::default(),
        gpus: GpuSettings::default(),
        pause_image: pause_image(),
        pids_limit: None,
        disable_privileged: false,
        injection: Injection {
            roles: Some(Roles {
                network_host: true,
                port_80: true,
            }),
            ..Injection::default()
        },
        firelens: FirelensSettings {
            folder: "/var/lib/tallyman/firelens".to_owned(),
            asynchronous: true,
        },
    }
}

/// An image that is there without a registry.
pub fn pause_image() -> LocalImage {
    LocalImage {
        reference: "localhost/pause:1".to_owned(),
        archive: Archive(b""),
        entrypoint: vec!["/pause".to_owned()],
        labels: [(labels::PAUSE_IMAGE.to_owned(), "true".to_owned())].into(),
    }
}

pub fn in_touch() -> Silences {
    silent_for("a", 100, 0)
}

/// The API server confirmed something 100 s after the boot `boot`, and then nothing for so many seconds.
pub fn silent_for(boot: &str, confirmed: u64, seconds: u64) -> Silences {
    let mut contacts = Contacts::default();
    let at = Duration::from_secs(confirmed);
    contacts.confirmed(boot, at, at);
    let now = at + Duration::from_secs(seconds);
    Silences::at(Arc::new(contacts), Some(boot), Some(now))
}

pub fn host() -> HostContext {
    HostContext {
        container_instance: "host-a".to_owned(),
        address: Some("10.0.0.5".to_owned()),
        pull_behavior: PullBehavior::Default,
        cleanup_wait: Duration::from_secs(3 * 3600),
        cleanup_jitter: Duration::ZERO,
        pull_upfront: false,
        enforcement: Enforcement::Group {
            period: Duration::from_millis(100),
            propagate: false,
        },
        plan_is_live: true,
        silences: in_touch(),
        supply: None,
        registries: Default::default(),
    }
}

pub fn container(name: &str, essential: bool) -> ContainerDefinition {
    ContainerDefinition {
        name: name.to_owned(),
        image: format!("{name}:1"),
        essential: Some(essential),
        memory: Some(64),
        ..ContainerDefinition::default()
    }
}

pub fn web(name: &str) -> ContainerDefinition {
    ContainerDefinition {
        port_mappings: vec![PortMapping {
            container_port: Some(80),
            ..PortMapping::default()
        }],
        ..container(name, true)
    }
}

pub fn everything() -> TaskPolicy {
    use tallyman_crds::HostNamespace::{Ipc, Network, Pid};
    let any = || Some(vec!["/".to_owned()]);
    TaskPolicy {
        privileged: Some(true),
        host_namespaces: Some(vec![Network, Pid, Ipc]),
        capabilities: Some(vec!["ALL".to_owned()]),
        host_paths: any(),
        devices: any(),
        unconfined: Some(true),
        system_controls: None,
        volume_drivers: None,
    }
}

/// The plan of one task of these containers.
pub fn plan(containers: Vec<ContainerDefinition>) -> HostPlanSpec {
    let definition = PlannedDefinition {
        family: "web".to_owned(),
        revision: 7,
        definition: TaskDefinitionSpec {
            container_definitions: containers,
            ..TaskDefinitionSpec::default()
        },
    };
    HostPlanSpec {
        generation: 1,
        leader_epoch: 1,
        cluster: "default".to_owned(),
        container_instance_uid: INSTANCE.to_owned(),
        container_instance_tags: BTreeMap::new(),
        // Tests of what engines are told are not about what clusters allow.
        task_policy: Some(everything()),
        stop_forgotten: false,
        definitions: [("web-7".to_owned(), definition)].into(),
        tasks: vec![PlannedTask {
            name: "web-000001".to_owned(),
            uid: UID.to_owned(),
            definition: "web-7".to_owned(),
            generation: 3,
            ..PlannedTask::default()
        }],
    }
}

/// A plan of containers and volumes as ECS JSON writes them.
pub fn written(containers: &serde_json::Value, volumes: &serde_json::Value) -> HostPlanSpec {
    let mut list = Vec::new();
    for definition in containers.as_array().unwrap() {
        let mut definition = definition.clone();
        let name = definition["name"].as_str().unwrap().to_owned();
        definition["image"] = format!("{name}:1").into();
        list.push(serde_json::from_value(definition).unwrap());
    }
    let mut spec = plan(list);
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.volumes = serde_json::from_value(volumes.clone()).unwrap();
    spec
}

pub fn assigned(spec: HostPlanSpec) -> AssignedTask {
    Assignment::parse(Plan::from(spec), &door())
        .tasks
        .into_values()
        .next()
        .unwrap()
}

/// Ports of a fake host.
#[derive(Clone)]
pub struct Ports {
    pub engine: FakeEngine,
    pub dynamic: Arc<Mutex<DynamicPorts>>,
    /// The probe sees every port free: somebody is quicker than the container's start.
    pub blind: bool,
}

impl Ports {
    pub fn of(engine: &FakeEngine, first: u16, last: u16) -> Self {
        let dynamic = DynamicPorts::new(PortRange { first, last });
        Self {
            engine: engine.clone(),
            dynamic: Arc::new(Mutex::new(dynamic)),
            blind: false,
        }
    }
}

impl PortSource for Ports {
    fn choose(&self, wishes: &[PortSpan]) -> Result<Vec<PortSpec>, EngineError> {
        let free = |port, protocol| self.blind || self.engine.is_port_free(port, protocol);
        self.dynamic.lock().unwrap().choose(wishes, free)
    }
}

/// The disk of a fake host: files of log routers as they were written.
#[derive(Clone, Default)]
pub struct Disk {
    pub written: Arc<Mutex<Vec<RouterFiles>>>,
    /// So many writes fail first.
    pub full: Arc<Mutex<u32>>,
}

impl RouterFolder for Disk {
    fn provide(&self, files: &RouterFiles) -> Result<(), EngineError> {
        let mut full = self.full.lock().unwrap();
        if *full > 0 {
            *full -= 1;
            return Err(EngineError::CannotWrite {
                path: "/var/lib/tallyman/firelens".to_owned(),
                message: "No space left on device".to_owned(),
            });
        }
        self.written.lock().unwrap().push(files.clone());
        Ok(())
    }
}

/// It has one file.
impl HostFiles for Disk {
    /// It has two links.
    fn leads_to(&self, path: &str) -> String {
        if path == "/srv/processes" {
            return "/proc".to_owned();
        }
        let below = path.strip_prefix("/srv/link");
        below.map_or(path.to_owned(), |rest| format!("/run/docker.sock{rest}"))
    }

    fn closed(&self) -> Vec<String> {
        vec!["/srv/docker".to_owned()]
    }

    /// MPS listens.
    fn listens(&self, path: &str) -> bool {
        path == "/run/mps-ecs/control"
    }

    fn read(&self, path: &str) -> Result<String, EngineError> {
        match path {
            "/etc/app/web.env" => Ok("FIRST=host\nONLY=host\n".to_owned()),
            _ => Err(EngineError::CannotRead {
                path: path.to_owned(),
                message: "cannot be read: No such file or directory".to_owned(),
            }),
        }
    }
}

pub struct Rig {
    pub engine: FakeEngine,
    pub disk: Disk,
    pub ports: Ports,
    pub holdings: Arc<Holdings>,
    pub host: HostContext,
    pub machine: TaskMachine,
    pub spec: HostPlanSpec,
    /// Every status that was delivered, in order.
    pub told: Vec<TaskStatus>,
    pub parcels: Vec<Parcel>,
    /// Whether the API server takes reports.
    pub api: bool,
    /// Somebody started containers behind the agent's back: STOPPED may come before it noticed.
    pub meddled: bool,
}

impl Rig {
    pub fn new(containers: Vec<ContainerDefinition>) -> Self {
        Self::of(plan(containers))
    }

    pub fn of(spec: HostPlanSpec) -> Self {
        let engine = FakeEngine::new("host-a");
        engine.set_now(Moment(EPOCH_MS));
        let machine = TaskMachine::begin(assigned(spec.clone()), None, &[]);
        Self {
            ports: Ports::of(&engine, 32_768, 60_999),
            holdings: Arc::default(),
            engine,
            disk: Disk::default(),
            host: host(),
            machine,
            spec,
            told: Vec::new(),
            parcels: Vec::new(),
            api: true,
            meddled: false,
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.engine.now().millis()).unwrap()
    }

    pub fn list(&self) -> Vec<ContainerSummary> {
        self.engine
            .containers()
            .into_iter()
            .filter(|s| {
                s.labels
                    .get(labels::CONTAINER_INSTANCE_UID)
                    .map(String::as_str)
                    == Some(INSTANCE)
            })
            .collect()
    }

    /// Name of a container on the engine.
    pub fn name(&self, container: &str) -> String {
        let task = self.machine.task();
        task.containers()
            .iter()
            .find(|c| c.name == container)
            .unwrap()
            .engine_name(1)
    }

    /// One step, its actions carried out, its report delivered when it is due.
    pub fn turn(&mut self) -> Step {
        let now = self.now();
        let before = self.machine.record().last_status;
        let (step, _) = self.holdings.step(&mut self.machine, &self.host, now);
        assert!(
            before.may_become(step.report.last_status),
            "{before:?} {:?}",
            step.report
        );
        assert_eq!(step, {
            let mut again = self.machine.clone();
            again.step(&self.host, now)
        });
        if before != LastStatus::Stopped
            && step.report.last_status == LastStatus::Stopped
            && !self.meddled
        {
            let alive = self
                .list()
                .into_iter()
                .find(|container| container.phase.is_alive());
            assert!(alive.is_none(), "STOPPED while a container runs: {alive:?}");
        }
        for action in &step.actions {
            if step.report.last_status == LastStatus::Stopped {
                assert!(
                    !matches!(
                        action.verb(),
                        Verb::Prepare | Verb::Create | Verb::Start | Verb::CreateVolume
                    ),
                    "{action:?} after STOPPED"
                );
            }
            self.machine.started(action);
        }
        for action in &step.actions {
            let outcome = perform(&self.engine, self.premises(), action).now_or_never();
            if let Some(outcome) = outcome {
                self.settle(action.container(), outcome);
            }
        }
        self.deliver();
        step
    }

    pub fn premises(&self) -> Premises<'_> {
        Premises {
            ports: &self.ports,
            gpus: &self.holdings.gpus,
            routers: &self.disk,
            files: &self.disk,
        }
    }

    fn settle(&mut self, container: &str, outcome: Outcome) {
        let now = self.now();
        self.machine.settle(container, outcome, now);
    }

    fn deliver(&mut self) {
        let now = self.now();
        if let Due::Now(parcel) = self.machine.due(now) {
            let delivery = if self.api {
                let status = serde_json::from_value(parcel.body["status"].clone());
                self.told
                    .push(status.unwrap_or_else(|_| self.machine.report().clone()));
                self.parcels.push((*parcel).clone());
                Delivery::Accepted
            } else {
                Delivery::Failed("connection refused".to_owned())
            };
            self.machine.delivered(&parcel, &delivery, now);
        }
    }

    /// Turns until nothing is left to do at this moment. Panics when that never happens.
    pub fn settle_down(&mut self) {
        for _ in 0..200 {
            if self.turn().actions.is_empty() {
                return;
            }
        }
        panic!(
            "the machine does not come to rest: {:#?}",
            self.machine.record()
        );
    }

    /// Settles down, then lets time pass in leaps to whatever falls due, with a list every 10 s.
    pub fn run(&mut self, span: Duration) {
        let end = self.engine.now() + span;
        loop {
            let list = self.list();
            self.machine.listed(&list);
            self.holdings.gpus.saw(&list, &self.ended());
            self.settle_down();
            if self.engine.now() >= end {
                return;
            }
            let now = self.now();
            let step = self.machine.step(&self.host, now);
            let mut next = self.engine.now() + Duration::from_secs(10);
            let mut consider = |at: Timestamp| {
                let at = Moment(at.as_millisecond() + 1);
                if at > self.engine.now() && at < next {
                    next = at;
                }
            };
            if let Some(at) = step.wake_at {
                consider(at);
            }
            if let Due::At(at) = self.machine.clone().due(now) {
                consider(at);
            }
            self.engine.set_now(next.min(end));
        }
    }

    /// The task, if it is STOPPED.
    fn ended(&self) -> BTreeSet<TaskUid> {
        let record = Some(self.machine.record()).filter(|record| record.is_stopped());
        record
            .map(|record| record.uid.clone())
            .into_iter()
            .collect()
    }

    /// The agent dies and a new one begins, with the record or without.
    pub fn restart(&mut self, record: Option<TaskRecord>) {
        self.engine.mend();
        let list = self.list();
        self.holdings.gpus.saw(&list, &BTreeSet::new());
        self.machine = TaskMachine::begin(assigned(self.spec.clone()), record, &list);
    }

    pub fn want_stop(&mut self, code: StopCode, reason: &str) {
        let task = &mut self.spec.tasks[0];
        task.desired_status = DesiredStatus::Stopped;
        task.stop_code = Some(code);
        task.stopped_reason = Some(reason.to_owned());
        self.machine.assign(assigned(self.spec.clone()));
    }

    pub fn want_removal(&mut self) {
        self.spec.tasks[0].remove = true;
        self.machine.assign(assigned(self.spec.clone()));
    }

    pub fn status(&self) -> &TaskStatus {
        self.machine.report()
    }

    pub fn starts(&self) -> u64 {
        self.engine.calls_of(Verb::Start)
    }
}

pub fn block<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

pub fn list_all(engine: &FakeEngine) -> Vec<ContainerSummary> {
    block(engine.list((labels::CONTAINER_INSTANCE_UID, INSTANCE))).unwrap()
}
