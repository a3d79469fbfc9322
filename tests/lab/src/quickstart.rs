//! `make up` and `make down`: from a source tree to a page served by Tallyman, on the Docker of this machine.
//!
//! What it brings up stays after the command. With a cluster of the user's own it adds to it and later takes away exactly what was
//! not there before.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tallyman_crds::labels;

use crate::cluster_changes::{apply, note};
use crate::components::{self, AgentFacts, Program, ProgramChoice};
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::engine::Engine;
use crate::http::Response;
use crate::kubectl::Kubectl;
use crate::local_engine::LocalEngine;
use crate::network::free_port;
use crate::process::Process;
use crate::progress::say;
use crate::state::{GuestContainers, HostRecord, Ledger, QuickstartRecord, State};
use crate::wait::wait_until;
use crate::{firewall, http, image, join, paths};

const NAMESPACE: &str = "default";
const SERVICE: &str = "hello";
const SERVICES: &str = "services.tallyman.dev";
const READY: Duration = Duration::from_secs(180);

/// How to come up.
#[derive(Clone, Debug)]
pub struct Quickstart {
    /// Where everything is kept.
    pub work: PathBuf,
    /// A cluster to use; an embedded control plane without.
    pub kubeconfig: Option<PathBuf>,
    /// The operator; the one built beside the running program without.
    pub operator: Option<PathBuf>,
    /// The agent, likewise.
    pub agent: Option<PathBuf>,
}

impl Quickstart {
    /// Where it is kept unless said otherwise.
    ///
    /// # Errors
    /// Outside of a source tree.
    pub fn default_work() -> Result<PathBuf> {
        Ok(paths::source_root()?.join(".up"))
    }

    /// Brings it up, or finds it up and mends what is not.
    ///
    /// # Errors
    /// When something does not come up. What a first attempt has made is gone then.
    pub fn up(&self) -> Result<()> {
        let complete = |state: &State| state.quickstart.as_ref().is_some_and(|q| q.complete);
        let (ledger, plane) = match Ledger::open(&self.work)? {
            Some(ledger) if complete(&ledger.state()) => {
                let plane = self.mend(&ledger)?;
                (ledger, plane)
            }
            _ => self.begin()?,
        };
        wait_for_service(plane.kubectl())?;
        let (address, page) = fetch(plane.kubectl())?;
        ledger.update(|state| {
            state.kept = true;
            if let Some(quickstart) = &mut state.quickstart {
                quickstart.complete = true;
            }
        })?;
        show(&ledger.state(), &plane, address, &page)
    }

    fn begin(&self) -> Result<(Arc<Ledger>, ControlPlane)> {
        let root = paths::source_root()?;
        let operator_program =
            ProgramChoice::binary(self.operator.clone()).resolve(components::OPERATOR_PROGRAM)?;
        let agent_program =
            ProgramChoice::binary(self.agent.clone()).resolve(components::AGENT_PROGRAM)?;
        paths::need_root("Starting containers on this machine")?;

        let ledger = Ledger::create(Some(&self.work))?;
        let instance = instance_name();
        ledger.update(|state| {
            state.quickstart = Some(QuickstartRecord {
                instance: instance.clone(),
                ..Default::default()
            });
        })?;

        let engine = LocalEngine::find_or_start(&ledger)?;
        say(engine.describe());

        let plane = match &self.kubeconfig {
            Some(kubeconfig) => {
                say(format!("using the cluster of {}", kubeconfig.display()));
                ControlPlane::existing(&ledger, kubeconfig)?
            }
            None => {
                say("starting a control plane: etcd, API server, controllers");
                ControlPlane::start(&ledger, &ControlPlaneOptions::default())?
            }
        };

        say("installing Tallyman's kinds, roles and policies");
        join::install(&ledger, &plane, &root)?;
        say("starting the operator");
        let (operator, _) = join::operator(&ledger, &plane, &operator_program, "operator")?;
        operator.start()?;

        let agent = join_this_machine(
            &ledger,
            &plane,
            &operator,
            &agent_program,
            &engine,
            &instance,
        )?;
        say(format!("waiting for the agent of {instance}"));
        join::wait_connected(&plane, NAMESPACE, &instance, &agent)?;

        make_image(&ledger, &engine)?;
        say("applying examples/hello: a task definition and a service of 2 tasks");
        apply(&ledger, &plane, &root.join("examples/hello"))?;
        Ok((ledger, plane))
    }

    /// Everything is there already; processes that are not are started again.
    fn mend(&self, ledger: &Arc<Ledger>) -> Result<ControlPlane> {
        let state = ledger.state();
        if let (Some(wanted), Some(record)) = (&self.kubeconfig, &state.control_plane) {
            let wanted = std::path::absolute(wanted)?;
            if record.kubeconfig != wanted {
                bail!(
                    "Tallyman is up with {}; run `make down` before using {}",
                    record.kubeconfig.display(),
                    wanted.display()
                );
            }
        }
        say("Tallyman is up already");
        // Gone after a reboot.
        paths::private_folder(&state.run)?;
        std::fs::write(
            state.run.join("work"),
            state.work.as_os_str().as_encoded_bytes(),
        )?;
        for record in state.engines {
            paths::private_folder(&state.run.join(&record.name))?;
            Engine::attach(ledger, record)?.run()?;
        }
        for recorded in &state.processes {
            let process = Process::attach(ledger, &recorded.name)?;
            if !process.is_running() {
                say(format!(
                    "{} was not running; starting it again",
                    recorded.name
                ));
                process.start()?;
            }
        }
        let plane = ControlPlane::attach(ledger)?;
        plane.run()?;
        if plane.kubectl().get(SERVICES, NAMESPACE, SERVICE)?.is_none() {
            say("applying examples/hello again");
            apply(
                ledger,
                &plane,
                &paths::source_root()?.join("examples/hello"),
            )?;
        }
        Ok(plane)
    }

    /// Takes away everything that [`Quickstart::up`] has made.
    ///
    /// # Errors
    /// Lists what is left.
    pub fn down(&self) -> Result<()> {
        let Some(ledger) = Ledger::open(&self.work)? else {
            say("nothing is up");
            return Ok(());
        };
        say("taking away objects, processes, containers and data");
        ledger.down()?;
        say("everything that `make up` had made is gone");
        Ok(())
    }
}

/// The machine's name as a Kubernetes name.
fn instance_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    kubernetes_name(name.trim()).unwrap_or_else(|| "this-host".to_owned())
}

fn kubernetes_name(text: &str) -> Option<String> {
    let mapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    let name = mapped.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

fn join_this_machine(
    ledger: &Arc<Ledger>,
    plane: &ControlPlane,
    operator: &Process,
    program: &Program,
    engine: &LocalEngine,
    instance: &str,
) -> Result<Process> {
    let kind = "containerinstances.tallyman.dev";
    if plane.kubectl().get(kind, NAMESPACE, instance)?.is_some() {
        bail!(
            "the cluster has a ContainerInstance {NAMESPACE}/{instance} already; is this machine joined to it?"
        );
    }
    say(format!(
        "adding this machine as ContainerInstance {instance}"
    ));
    join::announce(plane, NAMESPACE, instance)?;
    let announced = note(ledger, plane, (kind, NAMESPACE, instance))?;
    let uid = announced
        .context("its ContainerInstance is gone already")?
        .uid;
    if !engine.started() {
        ledger.update(|state| {
            state.guest = Some(GuestContainers {
                docker_host: engine.host().to_owned(),
                label: Some(format!("{}={uid}", labels::CONTAINER_INSTANCE_UID)),
                images: Vec::new(),
            });
        })?;
    }
    ledger.update(|state| {
        state.hosts.push(HostRecord {
            name: instance.to_owned(),
            address: Ipv4Addr::LOCALHOST.to_string(),
            engine: format!("docker {}", engine.version()),
            socket: engine.host().trim_start_matches("unix://").into(),
        });
    })?;
    let kubeconfig = join::identity(plane, NAMESPACE, instance, plane.server(), operator)?;
    let facts = AgentFacts {
        kubeconfig: &kubeconfig,
        name: instance,
        namespace: NAMESPACE,
        docker_host: engine.host(),
        data: &ledger.folder("agent")?,
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
    };
    firewall::expect_agent(ledger)?;
    Process::spawn(ledger, "agent", components::agent(program, &facts))
}

fn make_image(ledger: &Ledger, engine: &LocalEngine) -> Result<()> {
    if engine
        .docker()
        .args(["image", "inspect", image::HELLO])
        .run()?
        .success
    {
        return Ok(());
    }
    say(format!("making the image {}", image::HELLO));
    ledger.update(|state| {
        if let Some(guest) = &mut state.guest {
            guest.images.push(image::HELLO.to_owned());
        }
    })?;
    image::build_hello(engine.host())
}

/// Waits until the service is Ready and says what it is waiting for, one line per change.
fn wait_for_service(kubectl: &Kubectl) -> Result<()> {
    let mut last = String::new();
    kubectl.wait_for(
        "service hello to be Ready",
        (SERVICES, NAMESPACE, SERVICE),
        READY,
        |service| {
            let (ready, line) = readiness(service);
            if line != last {
                say(format!("  {line}"));
                last = line;
            }
            ready.then_some(())
        },
    )
}

fn readiness(service: &Value) -> (bool, String) {
    let status = &service["status"];
    let condition = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    let current =
        |condition: &&Value| condition["observedGeneration"] == service["metadata"]["generation"];
    let ready = condition
        .filter(current)
        .is_some_and(|condition| condition["status"] == "True");
    let message = condition
        .and_then(|condition| condition["message"].as_str())
        .unwrap_or("the operator has not looked at it yet");
    let line = format!(
        "hello: {} of {} tasks running: {message}",
        status["runningCount"].as_i64().unwrap_or(0),
        service["spec"]["desiredCount"].as_i64().unwrap_or(0),
    );
    (ready, line)
}

fn fetch(kubectl: &Kubectl) -> Result<(SocketAddr, Response)> {
    wait_until("the page to be served", Duration::from_secs(30), || {
        let tasks = kubectl.list("tasks.tallyman.dev", NAMESPACE)?;
        let port = tasks
            .iter()
            .filter(|task| task["metadata"]["labels"]["tallyman.dev/service"] == SERVICE)
            .find_map(host_port);
        let Some(port) = port else { return Ok(None) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let page = http::get(address, "/", Duration::from_secs(5))?;
        Ok((page.status == 200).then_some((address, page)))
    })
}

/// The first published port of a running task.
fn host_port(task: &Value) -> Option<u16> {
    if task["status"]["lastStatus"] != "RUNNING" {
        return None;
    }
    task["status"]["containers"]
        .as_array()?
        .iter()
        .filter_map(|container| container["networkBindings"].as_array())
        .flatten()
        .find_map(|binding| u16::try_from(binding["hostPort"].as_u64()?).ok())
}

fn show(state: &State, plane: &ControlPlane, address: SocketAddr, page: &Response) -> Result<()> {
    let kubectl = plane.kubectl();
    say(format!(
        "\n$ curl http://{address}/\n{}",
        page.body.trim_end()
    ));
    for kind in ["tsvc", "task", "cinst"] {
        say(format!(
            "\n$ kubectl get {kind}\n{}",
            kubectl.ok(["get", kind])?.trim_end()
        ));
    }
    let docker_host = match state.hosts.first() {
        // Only where it is not the one that the docker command finds by itself.
        Some(host) if state.guest.is_none() => {
            format!(" DOCKER_HOST=unix://{}", host.socket.display())
        }
        _ => String::new(),
    };
    let tools = kubectl.program().parent().unwrap_or(Path::new("/"));
    say(format!(
        "
Try it (each line can be pasted):

  export KUBECONFIG={kubeconfig} PATH={tools}:$PATH{docker_host}

  # more copies, and fewer
  kubectl scale tsvc hello --replicas=4
  kubectl get task --watch

  # change the text and watch it roll: hello:1 gives way to hello:2, two at a time
  kubectl patch tdef hello --type=json --patch '[{{\"op\": \"replace\", \"path\": \"/spec/containerDefinitions/0/environment/0/value\", \"value\": \"Hello again\"}}]'
  kubectl get tsvc hello --watch

  # kill a container behind its back; another task takes its place
  docker kill $(docker ps --quiet --filter label=com.amazonaws.ecs.task-definition-family=hello | head -n 1)

  # what the kinds and fields mean
  kubectl explain taskdefinition.spec.containerDefinitions

  # delete it; the containers are stopped first
  kubectl delete -f examples/hello

  # take everything away again
  make down",
        kubeconfig = plane.admin_kubeconfig().display(),
        tools = tools.display(),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn machine_names_become_kubernetes_names() {
        assert_eq!(
            kubernetes_name("Box_1.example.org").unwrap(),
            "box-1-example-org"
        );
        assert_eq!(kubernetes_name("--"), None);
        assert_eq!(kubernetes_name(&"x".repeat(99)).unwrap().len(), 40);
    }

    #[test]
    fn a_service_is_ready_only_for_its_present_generation() {
        let service = |observed: i64| {
            json!({
                "metadata": {"generation": 2},
                "spec": {"desiredCount": 2},
                "status": {
                    "runningCount": 2,
                    "conditions": [{
                        "type": "Ready",
                        "status": "True",
                        "observedGeneration": observed,
                        "message": "steady",
                    }],
                },
            })
        };
        assert_eq!(
            readiness(&service(2)),
            (true, "hello: 2 of 2 tasks running: steady".into())
        );
        assert!(!readiness(&service(1)).0);
        assert!(!readiness(&json!({"metadata": {"generation": 1}})).0);
    }

    #[test]
    fn a_port_is_that_of_a_running_task() {
        let task = |status: &str| {
            json!({"status": {
                "lastStatus": status,
                "containers": [{}, {"networkBindings": [{"hostPort": 32768}]}],
            }})
        };
        assert_eq!(host_port(&task("RUNNING")), Some(32768));
        assert_eq!(host_port(&task("STOPPED")), None);
    }
}
