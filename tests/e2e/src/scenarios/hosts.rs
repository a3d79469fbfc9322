//! Draining, losing and confining hosts.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tallyman_crds::Task;
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a draining host gives its tasks to others",
        run: drain,
    },
    Scenario {
        name: "a host's token reads and writes nothing of another host",
        run: confined,
    },
    Scenario {
        name: "the tasks of a lost host are replaced, and stopped when it comes back",
        run: lost,
    },
];

/// What agent and operator settle between them, whatever the engine.
pub const ACCOUNTS: &[Scenario] = &[Scenario {
    name: "a task waits on its host until another that the operator believes gone is over",
    run: waits_its_turn,
}];

fn drain(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("moved", "x"), service("moved", 3)])?;
    user.wait_steady("moved", 3)?;
    let host = user.lab.host(2).name();
    let status = |s: &str| -> Result<String> {
        let patch = json!({ "spec": { "status": s } }).to_string();
        user.k(&[
            "patch",
            "containerinstances.tallyman.dev",
            host,
            "--type=merge",
            "-p",
            &patch,
        ])
    };
    wait_until("a page from every task", PATIENCE, || {
        let answer = user.sampled("moved", || Ok(()))?;
        Ok(answer.last().is_some_and(|(pages, _)| *pages == 3))
    })?;
    // minimumHealthyPercent is 100: at no time do fewer than three answer.
    let samples = user.sampled("moved", || {
        status("DRAINING")?;
        wait_until("the host to be empty", PATIENCE, || {
            let i = user.get("containerinstances", host)?;
            ensure!(i["status"]["status"] == "DRAINING", "{}", i["status"]);
            ensure!(
                i["status"]["runningTasksCount"] == 0,
                "{} tasks are left",
                i["status"]["runningTasksCount"]
            );
            Ok(true)
        })
    })?;
    ensure!(
        samples.len() >= 3 && samples.iter().all(|(pages, _)| *pages >= 3),
        "(answering, alive) while the host drained: {samples:?}"
    );
    let tasks = user.wait_steady("moved", 3)?;
    ensure!(
        tasks.iter().all(|t| t["spec"]["containerInstance"] != host),
        "a task is on the draining host"
    );
    status("ACTIVE")?;
    wait_until("the host to be ACTIVE", PATIENCE, || {
        Ok(user.get("containerinstances", host)?["status"]["status"] == "ACTIVE")
    })?;
    user.delete(&["moved"])
}

fn confined(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("mine", "x"), service("mine", 3)])?;
    let tasks = user.wait_steady("mine", 3)?;
    let (own, other) = (user.lab.host(0), user.lab.host(1));
    let as_host = user.kubectl().as_user(own.agent_kubeconfig());
    let ns = user.namespace();
    let try_it = |args: &[&str]| -> Result<String> {
        let out = as_host.run(args.iter().copied().chain(["-n", ns]))?;
        Ok(format!("{out:?}"))
    };
    let refused = |text: &str| text.contains("orbidden") || text.contains("denied");
    for args in [
        &["get", "hostplans.tallyman.dev", other.name()][..],
        &["get", "hostplans.tallyman.dev"],
        &["get", "secrets"],
        &["delete", "hostplans.tallyman.dev", own.name()],
        &["get", "tasks.tallyman.dev"],
    ] {
        let text = try_it(args)?;
        ensure!(refused(&text), "kubectl {args:?} as {}: {text}", own.name());
    }
    let text = try_it(&["get", "hostplans.tallyman.dev", own.name(), "-o", "name"])?;
    ensure!(!refused(&text), "its own plan: {text}");
    // The Role lets a host patch the status of any Task: whose it may patch is the admission policy's to say.
    for t in &tasks {
        let name = t["metadata"]["name"].as_str().unwrap_or_default();
        let answer = patch_status(own.agent_kubeconfig(), ns, name)?;
        if t["spec"]["containerInstance"] == own.name() {
            ensure!(answer.is_ok(), "the status of its own {name}: {answer:?}");
        } else {
            let words = answer.err().unwrap_or_default();
            ensure!(
                words.contains("ValidatingAdmissionPolicy 'tallyman-host-writes'")
                    && words.contains("is not placed on host"),
                "the status of {name} on another host: {words}"
            );
        }
    }
    user.delete(&["mine"])
}

/// Patches the status of a Task in a harmless way, as whoever the kubeconfig is. `kubectl patch` would read it first, and that
/// a host may not. The answer is the API server's.
fn patch_status(kubeconfig: &Path, namespace: &str, name: &str) -> Result<Result<(), String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let api: Api<Task> = Api::namespaced(Client::try_from(config)?, namespace);
        let patch = Patch::Merge(json!({ "status": { "healthStatus": "UNKNOWN" } }));
        let answer = api
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        match answer {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(status)) => Ok(Err(status.message)),
            Err(error) => Err(error.into()),
        }
    })
}

fn lost(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("fate", "x"), service("fate", 3)])?;
    user.wait_steady("fate", 3)?;
    let host = user.lab.host(1);
    host.agent().kill9()?;
    wait_until("agentConnected to be false", PATIENCE, || {
        let i = user.get("containerinstances", host.name())?;
        ensure!(
            i["status"]["agentConnected"] == false,
            "{}",
            i["status"]["conditions"]
        );
        Ok(true)
    })?;
    let (_, reason, _) = condition(&user.get("containerinstances", host.name())?, "Ready");
    ensure!(reason == "AgentDisconnected", "{reason}");
    let tasks = wait_until("the lost task to be replaced", PATIENCE, || {
        let alive = user.alive("fate")?;
        let elsewhere = alive
            .iter()
            .all(|t| t["spec"]["containerInstance"] != host.name());
        Ok((alive.len() == 3 && elsewhere).then_some(alive))
    })?;
    ensure!(tasks.len() == 3, "{} tasks", tasks.len());
    host.agent().start()?;
    wait_until(
        "the returned host to stop what was replaced",
        PATIENCE,
        || {
            let left: Vec<_> = user
                .containers()?
                .into_iter()
                .filter(|c| c.host == host.name() && c.state == "running")
                .collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(true)
        },
    )?;
    user.wait_steady("fate", 3)?;
    user.delete(&["fate"])
}

/// Two tasks of which the host can hold one. The operator gives up the first with its host; when the agent is back the first
/// takes its time to stop, and the second has been placed already.
fn waits_its_turn(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(1);
    let instance = user.get("containerinstances", host.name())?;
    let memory = instance["status"]["host"]["registeredResources"]["memory"].as_i64();
    let memory = memory.context("the host registers no memory")? * 6 / 10;
    let definition = |name: &str, script: &str| {
        let mut large = hello(name, "x");
        large["spec"]["containerDefinitions"][0] = json!({
            "name": "large", "image": "localhost/tallyman/busybox:1", "memory": memory, "stopTimeout": 20,
            "entryPoint": ["sh", "-c"], "command": [script],
        });
        large
    };
    let task = |name: &str| {
        json!({ "kind": "Task", "metadata": { "name": name },
                "spec": { "taskDefinition": name, "containerInstance": host.name() } })
    };
    user.apply(&[
        definition("slow", "trap '' TERM; while :; do sleep 1; done"),
        definition("next", "trap 'exit 0' TERM; while :; do sleep 1; done"),
        task("slow"),
    ])?;
    let last = |name: &str| -> Result<Value> { Ok(user.get("tasks", name)?["status"].clone()) };
    wait_until("the first task to run", PATIENCE, || {
        Ok(last("slow")?["lastStatus"] == "RUNNING")
    })?;
    host.agent().kill9()?;
    wait_until("the first task to be given up", PATIENCE, || {
        let status = last("slow")?;
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        Ok(true)
    })?;
    host.agent().start()?;
    wait_until("the host to be connected again", PATIENCE, || {
        let i = user.get("containerinstances", host.name())?;
        Ok(i["status"]["agentConnected"] == true)
    })?;
    user.apply(&[task("next")])?;
    let runs = |name: &str| -> Result<bool> {
        let all = user.containers()?;
        Ok(all
            .iter()
            .any(|c| c.task == name && c.host == host.name() && c.state == "running"))
    };
    wait_until("the second task to say what it waits for", PATIENCE, || {
        let status = last("next")?;
        let conditions = status["conditions"].to_string();
        ensure!(
            conditions.contains("The task waits for memory (needs ")
                && status["lastStatus"] == "PENDING",
            "{status}"
        );
        ensure!(runs("slow")?, "the first is over already");
        Ok(true)
    })?;
    wait_until("the second task to run", PATIENCE, || {
        // In this order: what is over does not run again.
        let first = runs("slow")?;
        ensure!(!(first && runs("next")?), "both run");
        let status = last("next")?;
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;
    ensure!(!runs("slow")?, "both run");
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "slow",
        "next",
        "--timeout=60s",
    ])?;
    user.delete(&["slow", "next"])
}
