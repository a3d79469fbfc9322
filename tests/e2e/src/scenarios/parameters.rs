//! What a task definition says of kernel, host names, terminal and logs is what its container has.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::suite::Scenario;
use crate::user::{User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "kernel, host and log parameters are what the container has",
    run: seen_inside,
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
    let t = definition(json!({
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
        "dockerSecurityOptions": ["no-new-privileges"],
        "systemControls": [{ "namespace": "net.core.somaxconn", "value": "77" }],
        "extraHosts": [{ "hostname": "db", "ipAddress": "10.9.8.7" }],
        "dnsServers": ["10.0.0.53"],
        "dnsSearchDomains": ["shop.internal"],
        "logConfiguration": { "logDriver": "json-file", "options": { "max-size": "1m" } },
    }));
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
        ("grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t1"),
        ("grep ' /scratch ' /proc/mounts", "size=8192k"),
        ("grep ' /scratch ' /proc/mounts", "noexec"),
        ("grep ' /dev/shm ' /proc/mounts", "size=16384k"),
        ("touch /x 2>&1 || true", "Read-only file system"),
        ("test -c /dev/log-of-host && echo there", "there"),
        ("readlink /proc/1/fd/0", "/dev/pts/0"),
        // SYS_PTRACE is bit 19, CHOWN bit 0.
        ("grep CapEff /proc/1/status", "00a80c"),
        ("grep -c 'CapEff.*a$' /proc/1/status", "1"),
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
