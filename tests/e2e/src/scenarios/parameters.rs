//! What a task definition says of kernel, host names, terminal and logs is what its container has.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kernel, host and log parameters are what the container has",
        run: seen_inside,
    },
    Scenario {
        name: "a container has few rights by default, and mounts no path that leads where it may not",
        run: few_rights,
    },
    Scenario {
        name: "a service that requires what no host offers says which capability",
        run: no_host_offers,
    },
];

/// For current Docker, which gives a privileged container all that it has itself: 20.10 asks for every capability of the kernel,
/// and starts none where it lacks one.
pub const PRIVILEGED: &[Scenario] = &[Scenario {
    name: "a privileged container runs where its cluster and its host allow it, and nowhere else",
    run: privileged,
}];

fn definition(container: Value) -> Value {
    let mut t = hello("tuned", "x");
    let mut base = json!({
        "name": "app", "image": "localhost/tallyman/busybox:1", "cpu": 16, "memory": 32, "stopTimeout": 2,
        "command": ["sh", "-c", "echo said; trap 'exit 0' TERM; while :; do sleep 1; done"],
    });
    if let (Some(fields), Value::Object(more)) = (base.as_object_mut(), container) {
        fields.extend(more);
    }
    t["spec"]["containerDefinitions"] = json!([base]);
    t
}

fn seen_inside(user: &User<'_>) -> Result<()> {
    let mut t = definition(json!({
        "linuxParameters": {
            "capabilities": { "add": ["SYS_PTRACE"], "drop": ["CHOWN"] },
            "devices": [{ "hostPath": "/dev/kmsg", "containerPath": "/dev/log-of-host", "permissions": ["read"] }],
            "initProcessEnabled": true,
            "sharedMemorySize": 16,
            "tmpfs": [{ "containerPath": "/scratch", "size": 8, "mountOptions": ["noexec"] }],
            "maxSwap": 0,
        },
        "ulimits": [{ "name": "nofile", "softLimit": 512, "hardLimit": 1024 }],
        "hostname": "cart",
        "interactive": true,
        "pseudoTerminal": true,
        "readonlyRootFilesystem": true,
        "dockerSecurityOptions": ["no-new-privileges:false"],
        "systemControls": [{ "namespace": "net.core.somaxconn", "value": "77" }],
        "extraHosts": [{ "hostname": "db", "ipAddress": "10.9.8.7" }],
        "dnsServers": ["10.0.0.53"],
        "dnsSearchDomains": ["shop.internal"],
        "logConfiguration": { "logDriver": "json-file", "options": { "max-size": "1m" } },
    }));
    let processor = match std::env::consts::ARCH {
        "aarch64" => "ARM64",
        _ => "X86_64",
    };
    t["spec"]["runtimePlatform"] =
        json!({ "operatingSystemFamily": "LINUX", "cpuArchitecture": processor });
    user.apply(&[t, service("tuned", 1)])?;
    user.wait_steady("tuned", 1)?;
    let container = user
        .containers()?
        .into_iter()
        .find(|c| c.state == "running")
        .context("no container runs")?;
    let host = user.lab.host_named(&container.host)?;
    let inside = |line: &str| host.docker_ok(["exec", &container.id, "sh", "-c", line]);
    for (line, wanted) in [
        ("hostname", "cart"),
        ("cat /etc/hosts", "10.9.8.7\tdb"),
        ("cat /etc/resolv.conf", "search shop.internal"),
        ("cat /etc/resolv.conf", "nameserver 10.0.0.53"),
        ("cat /proc/sys/net/core/somaxconn", "77"),
        (
            "grep 'open files' /proc/1/limits | tr -s ' '",
            "Max open files 512 1024",
        ),
        ("tr '\\0' ' ' </proc/1/cmdline", "docker-init"),
        ("grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t0"),
        ("grep ' /scratch ' /proc/mounts", "size=8192k"),
        ("grep ' /scratch ' /proc/mounts", "noexec"),
        ("grep ' /dev/shm ' /proc/mounts", "size=16384k"),
        ("touch /x 2>&1 || true", "Read-only file system"),
        ("test -c /dev/log-of-host && echo there", "there"),
        ("readlink /proc/1/fd/0", "/dev/pts/0"),
        // The engine's own are a80425fb; SYS_PTRACE is bit 19, CHOWN bit 0, NET_RAW bit 13.
        ("grep CapEff /proc/1/status", "00000000a80c05fa"),
    ] {
        let text = inside(line)?;
        ensure!(text.contains(wanted), "{line}: {text}");
    }
    let format = "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}} swap {{.HostConfig.MemorySwap}}";
    let held = host.docker_ok(["inspect", "--format", format, &container.id])?;
    for part in [
        "json-file",
        "\"max-size\":\"1m\"",
        "\"mode\":\"non-blocking\"",
        "swap 33554432",
    ] {
        ensure!(held.contains(part), "it lacks {part}: {held}");
    }
    let said = host.docker_ok(["logs", &container.id])?;
    ensure!(said.contains("said"), "its log: {said}");
    user.delete(&["tuned"])
}

fn few_rights(user: &User<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [own, kernel] = ["own", "kernel"].map(|name| folder.path().join(name));
    std::fs::create_dir(&own)?;
    std::os::unix::fs::symlink("/proc", &kernel)?;
    let mut t = definition(json!({
        "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }],
    }));
    let task = |name: &str| {
        json!({ "kind": "Task", "metadata": { "name": name },
                "spec": { "taskDefinition": name, "containerInstance": user.lab.host(0).name() } })
    };
    t["metadata"]["name"] = json!("tuned-own");
    t["spec"]["volumes"] = json!([{ "name": "data", "host": { "sourcePath": own } }]);
    user.apply(&[t.clone(), task("tuned-own")])?;
    wait_until("the task to run", PATIENCE, || {
        let status = user.get("tasks", "tuned-own")?["status"].clone();
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;
    let host = user.lab.host(0);
    let id = host.docker_ok(["ps", "-q", "--filter", "label=tallyman.dev/task=tuned-own"])?;
    let inside = host.docker_ok(["exec", id.trim(), "cat", "/proc/1/status"])?;
    for wanted in ["NoNewPrivs:\t1", "CapBnd:\t00000000a80405fb"] {
        ensure!(inside.contains(wanted), "{wanted} is not in {inside}");
    }
    // A folder like the other, as far as words go.
    t["metadata"]["name"] = json!("tuned-kernel");
    t["spec"]["volumes"][0]["host"]["sourcePath"] = json!(kernel);
    user.apply(&[t, task("tuned-kernel")])?;
    wait_until("the other task to say why not", PATIENCE, || {
        let status = user.get("tasks", "tuned-kernel")?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        let reason = status["containers"][0]["reason"]
            .as_str()
            .unwrap_or_default();
        let led = format!(
            "the mounted path `{}` leads, by links on the host, to one",
            kernel.display()
        );
        ensure!(
            reason.contains(&led)
                && reason.contains("must not be `/proc` without `readOnly: true`"),
            "{reason}"
        );
        Ok(true)
    })?;
    let tasks = ["tuned-own", "tuned-kernel"];
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        tasks[0],
        tasks[1],
        "--timeout=60s",
    ])?;
    user.delete(&tasks)
}

fn no_host_offers(user: &User<'_>) -> Result<()> {
    // What would be the host's own is refused by the API server.
    let mut t = definition(json!({
        "systemControls": [{ "namespace": "net.core.somaxconn", "value": "77" }],
    }));
    t["spec"]["networkMode"] = json!("host");
    let refused = user
        .apply(&[t])
        .map_or_else(|e| format!("{e:#}"), |text| format!("accepted: {text}"));
    ensure!(
        refused.contains("systemControls") && refused.contains("networkMode: host"),
        "kubectl said: {refused}"
    );
    let labelled = json!({ "dockerSecurityOptions": ["apparmor:docker-default"] });
    user.apply(&[definition(labelled), service("tuned", 1)])?;
    let capability = "com.amazonaws.ecs.capability.apparmor";
    wait_until("the service to name the capability", PATIENCE, || {
        let s = user.get("services", "tuned")?;
        let (_, reason, message) = condition(&s, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        for part in [
            "Of 3 hosts, 3 lack an attribute",
            capability,
            "is missing an attribute required by your task",
        ] {
            ensure!(message.contains(part), "it lacks '{part}': {message}");
        }
        Ok(true)
    })?;
    ensure!(user.tasks("tuned")?.is_empty(), "a task was started");
    let once = json!({ "kind": "Task", "metadata": { "name": "tuned-once" }, "spec": { "taskDefinition": "tuned" } });
    let mut filed = definition(json!({}));
    filed["metadata"]["name"] = json!("filed");
    filed["spec"]["volumes"] =
        json!([{ "name": "data", "efsVolumeConfiguration": { "fileSystemId": "fs-1" } }]);
    let filed_once = json!({ "kind": "Task", "metadata": { "name": "filed-once" }, "spec": { "taskDefinition": "filed" } });
    user.apply(&[once, filed, filed_once])?;
    for (task, capability) in [
        ("tuned-once", capability),
        ("filed-once", "ecs.capability.efs.fs-1"),
    ] {
        wait_until("a user's task to say so, too", PATIENCE, || {
            let status = user.get("tasks", task)?["status"].clone();
            let reason = status["stoppedReason"].as_str().unwrap_or_default();
            ensure!(reason.contains(capability), "{status}");
            Ok(true)
        })?;
    }
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "tuned-once",
        "filed-once",
        "--timeout=60s",
    ])?;
    user.apply(&[definition(json!({}))])?;
    user.wait_steady("tuned", 1)?;
    user.delete(&["tuned", "filed"])
}

/// What the cluster lets tasks ask of its hosts; null: what it does by default.
fn set_policy(user: &User<'_>, policy: &Value) -> Result<()> {
    let patch = json!({ "spec": { "taskPolicy": policy } }).to_string();
    let cluster = [
        "patch",
        "clusters.tallyman.dev",
        "default",
        "--type=merge",
        "-p",
    ];
    user.k(&[&cluster[..], &[&patch]].concat())?;
    Ok(())
}

fn privileged(user: &User<'_>) -> Result<()> {
    let [offers, refuses] = [user.lab.host(0), user.lab.host(2)];
    let mut t = definition(json!({ "privileged": true }));
    t["metadata"]["name"] = json!("mighty");
    let task = |name: &str, host: &str| {
        json!({ "kind": "Task", "metadata": { "name": name },
                "spec": { "taskDefinition": "mighty", "containerInstance": host } })
    };
    let ends = |name: &str, last: &str, because: &str| {
        wait_until(format!("{name} to be {last}"), PATIENCE, || {
            let status = user.get("tasks", name)?["status"].clone();
            let reason = status["stoppedReason"].as_str().unwrap_or_default();
            let so = status["lastStatus"] == last && reason.contains(because);
            ensure!(so, "{status}");
            Ok(true)
        })
    };
    user.apply(&[t, task("mighty-0", offers.name())])?;
    let policy = "`spec.taskPolicy.privileged` of the Cluster does not allow it";
    ends("mighty-0", "STOPPED", policy)?;
    set_policy(user, &json!({ "privileged": true }))?;
    let there = task("mighty-1", offers.name());
    let shown = user
        .apply(&[there, task("mighty-2", refuses.name())])
        .and_then(|_| ends("mighty-1", "RUNNING", ""))
        .and_then(|()| ends("mighty-2", "STOPPED", "capability.privileged-container"));
    set_policy(user, &Value::Null)?;
    shown?;
    let id = offers.docker_ok(["ps", "-q", "--filter", "label=tallyman.dev/task=mighty-1"])?;
    let inside = offers.docker_ok(["exec", id.trim(), "cat", "/proc/1/status"])?;
    let of_machine = std::fs::read_to_string("/proc/1/status")?;
    let bound = |status: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
        line.map(str::to_owned)
    };
    ensure!(
        bound(&inside).is_some() && bound(&inside) == bound(&of_machine),
        "not every capability: {inside}"
    );
    let tasks = ["delete", "tasks.tallyman.dev", "--timeout=60s"];
    user.k(&[&tasks[..], &["mighty-0", "mighty-1", "mighty-2"]].concat())?;
    user.delete(&["mighty"])
}
