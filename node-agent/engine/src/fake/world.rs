//! The fake's state and how it changes: containers, their timers, ports of the host.

mod create;
mod looks;
mod mishaps;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;

use crate::fake::calls::Calls;
use crate::fake::images::{Images, hash, named};
use crate::fake::program::{Interpreter, OnStop, Program};
use crate::fake::{refusals, sight};
use crate::{
    Check, ContainerSpec, ContainerState, ContainerSummary, Created, EngineDescription,
    EngineError, Health, Hint, Ipc, Label, Link, Moment, Mount, Network, Phase, PhaseKind,
    Processes, PublishedPort, Stats,
};

use crate::fake::groups::Groups;
use crate::fake::ports::HostPorts;
use crate::fake::volumes::Volumes;

use create::links;

/// The least hard limit that Docker accepts.
const LEAST_MEMORY: i64 = 6 * 1024 * 1024;
/// Exit code of a process killed by SIGKILL.
const KILLED: i64 = 137;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) description: EngineDescription,
    pub(super) images: Images,
    pub(super) calls: Calls,
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) interpreter: Option<Interpreter>,
    pub(super) ports: HostPorts,
    pub(super) volumes: Volumes,
    pub(super) groups: Groups,
    /// Labels of the networks that were made, by name.
    pub(super) networks: BTreeMap<String, BTreeMap<String, String>>,
    /// It can give GPUs to containers.
    pub(super) gpu_driver: bool,
    pub(super) hold_stops: bool,
    pub(super) mute: bool,
    host: u64,
    created: u64,
    containers: BTreeMap<String, Container>,
    watchers: Vec<Watcher>,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Watcher {
    scope: (String, String),
    hints: UnboundedSender<Hint>,
}

#[derive(Debug)]
struct Container {
    id: String,
    image_id: String,
    spec: ContainerSpec,
    /// Its own and those of others that it sees.
    mounts: Vec<Mount>,
    /// Counts from 1 over all containers of the engine.
    number: u64,
    created_at: Moment,
    started_at: Option<Moment>,
    phase: Phase,
    health: Health,
    ports: Vec<PublishedPort>,
    on_stop: OnStop,
    ending: Option<Ending>,
    verdicts: Vec<(Moment, Health)>,
    /// The last run of its health check.
    check: Option<Check>,
    /// Networks that it was put on beside its own.
    attached: BTreeSet<String>,
}

/// How and when the running process will end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    at: Moment,
    exit_code: i64,
    oom_killed: bool,
}

/// Something that time brings.
enum Due {
    Ends(Ending),
    Verdict(Health),
}

impl World {
    pub(super) fn new(host: &str) -> Self {
        Self {
            now: Moment(0),
            description: EngineDescription {
                name: "docker".to_owned(),
                version: "0.0.0-fake".to_owned(),
                api_version: "1.41".to_owned(),
                cpus: 4,
                memory_mib: 8192,
                operating_system: "Memory".to_owned(),
                os_type: "linux".to_owned(),
                architecture: "x86_64".to_owned(),
                kernel: "0.0.0".to_owned(),
                cgroup_version: "2".to_owned(),
                cgroup_driver: "cgroupfs".to_owned(),
                storage_driver: "overlay2".to_owned(),
                data_root: "/var/lib/docker".to_owned(),
                engine_id: format!("FAKE:{host}"),
                logging_drivers: ["fluentd", "json-file", "local", "none"]
                    .map(str::to_owned)
                    .into(),
                volume_drivers: vec!["local".to_owned()],
                live_restore: true,
            },
            images: Images::default(),
            calls: Calls::default(),
            programs: BTreeMap::new(),
            interpreter: None,
            ports: HostPorts::default(),
            volumes: Volumes::default(),
            groups: Groups::default(),
            networks: BTreeMap::new(),
            gpu_driver: false,
            hold_stops: false,
            mute: false,
            host: hash(&[host]),
            created: 0,
            containers: BTreeMap::new(),
            watchers: Vec::new(),
            waiting: Vec::new(),
        }
    }

    // --- time ---

    /// Moves time forward, letting everything that falls due happen in order of time, then name.
    pub(super) fn set_now(&mut self, now: Moment) {
        while let Some((at, name, due)) = self.next_due(now) {
            self.now = self.now.max(at);
            match due {
                Due::Ends(ending) => self.end(&name, ending, None),
                Due::Verdict(health) => self.judge(&name, health),
            }
        }
        self.now = self.now.max(now);
    }

    /// When something will happen by itself next.
    pub(super) fn next_event(&self) -> Option<Moment> {
        self.next_due(Moment(i64::MAX)).map(|(at, _, _)| at)
    }

    fn next_due(&self, until: Moment) -> Option<(Moment, String, Due)> {
        let endings = self.containers.iter().filter_map(|(name, container)| {
            let ending = container.ending?;
            Some((ending.at, name, Due::Ends(ending)))
        });
        let verdicts = self.containers.iter().filter_map(|(name, container)| {
            let (at, health) = *container.verdicts.first()?;
            Some((at, name, Due::Verdict(health)))
        });
        endings
            .chain(verdicts)
            .filter(|(at, _, _)| *at <= until)
            .min_by(|left, right| (left.0, left.1).cmp(&(right.0, right.1)))
            .map(|(at, name, due)| (at, name.clone(), due))
    }

    fn judge(&mut self, name: &str, health: Health) {
        if let Some(container) = self.containers.get_mut(name) {
            container.verdicts.remove(0);
            container.check = sight::check(health, self.now);
            if container.health != health {
                container.health = health;
                self.hint(name, Hint::HealthChanged);
            }
        }
    }

    /// `finished_at` may lie ahead of now: a stop that nobody holds is over at once, but says when it
    /// would have been.
    fn end(&mut self, name: &str, ending: Ending, error: Option<String>) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        container.phase = Phase::Exited {
            exit_code: ending.exit_code,
            finished_at: Some(ending.at),
            oom_killed: ending.oom_killed,
            error,
        };
        container.ending = None;
        container.verdicts.clear();
        container.health = Health::None;
        self.ports.release(&std::mem::take(&mut container.ports));
        self.hint(name, Hint::Died);
        self.wake();
    }

    // --- verbs ---

    pub(super) fn start(&mut self, name: &str) -> Result<(), EngineError> {
        let container = self.container(name)?;
        match container.phase.kind() {
            PhaseKind::Running | PhaseKind::Restarting => return Ok(()),
            PhaseKind::Created | PhaseKind::Exited => {}
            kind @ (PhaseKind::Paused | PhaseKind::Removing | PhaseKind::Dead) => {
                return Err(EngineError::CannotStart {
                    name: name.to_owned(),
                    message: format!("cannot start container {name} while it is {kind:?}"),
                });
            }
        }
        let spec = ContainerSpec {
            mounts: container.mounts.clone(),
            ..container.spec.clone()
        };
        for link in links(&spec) {
            let other = self.containers.get(&link.container);
            if other.is_none_or(|other| other.phase.kind() != PhaseKind::Running) {
                return Err(EngineError::CannotStart {
                    name: name.to_owned(),
                    message: format!(
                        "Cannot link to a non running container: /{} AS /{name}/{}",
                        link.container, link.alias
                    ),
                });
            }
        }
        self.volumes.make_directories(&spec.mounts);
        let program = self.program(&spec);
        self.check_shared(name, &spec)?;
        if !spec.gpus.is_empty() && !self.gpu_driver {
            return Err(EngineError::NoDeviceDriver {
                message: "could not select device driver \"nvidia\" with capabilities: [[gpu]]"
                    .to_owned(),
            });
        }
        let refusal = refusals::at_start(&spec.parameters, &spec.network);
        if let Some(message) = refusal.or(program.refuses_to_start) {
            return Err(EngineError::CannotStart {
                name: name.to_owned(),
                message,
            });
        }
        let ports = match spec.network {
            Network::Bridge => self.ports.publish(&spec.ports)?,
            Network::Host | Network::None | Network::Named(_) | Network::Container(_) => Vec::new(),
        };
        let now = self.now;
        let Some(container) = self.containers.get_mut(name) else {
            return Err(not_found(name));
        };
        let checked = match &spec.health_check {
            Some(check) => check.test.first().is_some_and(|word| word != "NONE"),
            None => false,
        };
        container.started_at = Some(now);
        container.phase = Phase::Running {
            started_at: Some(now),
        };
        container.ports = ports;
        container.on_stop = program.on_stop;
        container.ending = program.ends.map(|(after, exit_code)| Ending {
            at: now + after,
            exit_code,
            oom_killed: program.oom_killed,
        });
        container.health = Health::None;
        container.check = None;
        container.verdicts.clear();
        if checked {
            container.health = Health::Starting;
            container.verdicts = program
                .verdicts
                .iter()
                .map(|(after, health)| (now + *after, *health))
                .collect();
        }
        self.hint(name, Hint::Started);
        Ok(())
    }

    /// Signals the container. When it will end at a known time, says when; `None` when it does not run.
    pub(super) fn begin_stop(&mut self, name: &str, grace: Duration) -> Option<Moment> {
        let now = self.now;
        let container = self.containers.get_mut(name)?;
        if !container.phase.kind().is_alive() {
            return None;
        }
        let killed = Ending {
            at: now + grace,
            exit_code: KILLED,
            oom_killed: false,
        };
        let asked = match container.on_stop {
            OnStop::Ends { after, exit_code } if after < grace || after.is_zero() => Ending {
                at: now + after,
                exit_code,
                oom_killed: false,
            },
            OnStop::Ends { .. } | OnStop::Ignores => killed,
        };
        let ending = match container.ending {
            Some(own) if own.at <= asked.at => own,
            _ => asked,
        };
        container.ending = Some(ending);
        Some(ending.at)
    }

    /// Lets a signalled container end now, whatever the time.
    pub(super) fn finish_stop(&mut self, name: &str) {
        if let Some(ending) = self.containers.get(name).and_then(|one| one.ending) {
            self.end(name, ending, None);
        }
    }

    pub(super) fn attach(&mut self, name: &str, network: &str) -> Result<(), EngineError> {
        let container = self
            .containers
            .get_mut(name)
            .ok_or_else(|| not_found(name))?;
        if !self.networks.contains_key(network) {
            return Err(EngineError::NetworkNotFound {
                message: format!("network {network} not found"),
            });
        }
        container.attached.insert(network.to_owned());
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), EngineError> {
        match self.containers.get(name) {
            None => Ok(()),
            Some(container) if container.phase.kind().is_alive() => Err(EngineError::Running {
                name: name.to_owned(),
            }),
            Some(_) => {
                self.destroy(name);
                Ok(())
            }
        }
    }

    // --- behind the agent's back ---

    pub(super) fn remove_image(&mut self, name: &str) -> Result<(), EngineError> {
        let containers = &self.containers;
        let holder = |id: &str| containers.values().find(|one| one.image_id == id);
        let removed = self.images.remove(name, |id| holder(id).is_some());
        if removed {
            return Ok(());
        }
        let id = self.images.id(name).unwrap_or(name);
        Err(EngineError::ImageInUse {
            image: name.to_owned(),
            message: format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is \
                 using its referenced image",
                holder(id).map(|one| one.id.as_str()).unwrap_or_default()
            ),
        })
    }

    // --- watchers and waiters ---

    // --- helpers ---

    fn container(&self, name: &str) -> Result<&Container, EngineError> {
        self.containers.get(name).ok_or_else(|| not_found(name))
    }

    fn program(&self, spec: &ContainerSpec) -> Program {
        if let Some(program) = self.programs.get(named(&spec.image)) {
            return program.clone();
        }
        let Some(Interpreter(interpret)) = &self.interpreter else {
            return Program::runs();
        };
        let published: Vec<PublishedPort> = self
            .containers
            .values()
            .flat_map(|container| container.ports.iter().cloned())
            .collect();
        interpret(spec, &published)
    }
}

fn carries(container: &Container, key: &str, value: &str) -> bool {
    container
        .spec
        .labels
        .get(key)
        .is_some_and(|has| has == value)
}

fn not_found(name: &str) -> EngineError {
    EngineError::NotFound {
        name: name.to_owned(),
    }
}
