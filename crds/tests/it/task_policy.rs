//! What a task definition may ask of a host: a row for each thing that the default policy refuses, what it takes, and how each
//! is allowed.
use serde_json::{Value, json};
use tallyman_crds::task_policy::{self, breaches};
use tallyman_crds::{TaskDefinitionSpec, TaskPolicy};

fn definition(of_task: &Value, of_container: &Value) -> TaskDefinitionSpec {
    let mut container = json!({ "name": "app", "image": "a", "memory": 64 });
    merge(&mut container, of_container);
    let mut spec = json!({ "containerDefinitions": [container] });
    merge(&mut spec, of_task);
    serde_json::from_value(spec).unwrap()
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

/// Of the task, of the container, the field that is refused, the field of the policy, and a policy that allows it.
fn refused() -> Vec<(Value, Value, &'static str, &'static str, Value)> {
    let none = json!({});
    let container =
        |field: &str| format!("containerDefinitions[app].{field}").leak() as &'static str;
    let mount =
        |path: &str| json!({ "volumes": [{ "name": "v", "host": { "sourcePath": path } }] });
    let mounted = json!({ "mountPoints": [{ "sourceVolume": "v", "containerPath": "/v" }] });
    let docker = |options: Value| json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": { "driverOpts": options } }] });
    let add = |name: &str| json!({ "linuxParameters": { "capabilities": { "add": [name] } } });
    let device = |path: &str| json!({ "linuxParameters": { "devices": [{ "hostPath": path }] } });
    let option = |text: &str| json!({ "dockerSecurityOptions": [text] });
    let mut rows = vec![
        (
            none.clone(),
            json!({ "privileged": true }),
            container("privileged"),
            "privileged",
            json!({ "privileged": true }),
        ),
        (
            json!({ "pidMode": "host" }),
            none.clone(),
            "pidMode",
            "hostNamespaces",
            json!({ "hostNamespaces": ["pid"] }),
        ),
        (
            json!({ "ipcMode": "host" }),
            none.clone(),
            "ipcMode",
            "hostNamespaces",
            json!({ "hostNamespaces": ["ipc"] }),
        ),
    ];
    for name in [
        "ALL",
        "SYS_ADMIN",
        "CAP_SYS_ADMIN",
        "sys_module",
        "DAC_READ_SEARCH",
        "BPF",
    ] {
        let allowed = json!({ "capabilities": [name.to_uppercase()] });
        rows.push((
            none.clone(),
            add(name),
            container("linuxParameters.capabilities.add"),
            "capabilities",
            allowed,
        ));
    }
    for path in [
        "/dev/mem",
        "/dev/sda",
        "/dev/nvme0n1",
        "/dev/./mem",
        "//dev/mem",
        "/dev",
    ] {
        let allowed = json!({ "devices": ["/dev"] });
        rows.push((
            none.clone(),
            device(path),
            container("linuxParameters.devices.hostPath"),
            "devices",
            allowed,
        ));
    }
    for text in [
        "seccomp=unconfined",
        "seccomp:unconfined",
        "apparmor:unconfined",
        "label:disable",
        "systempaths=unconfined",
    ] {
        let allowed = json!({ "unconfined": true });
        rows.push((
            none.clone(),
            option(text),
            container("dockerSecurityOptions"),
            "unconfined",
            allowed,
        ));
    }
    for path in [
        "/",
        "//",
        "/.",
        "/var",
        "/var/run",
        "/var/run/docker.sock",
        "/run",
        "/run/./docker.sock",
        "/run//docker.sock/",
        "/var/lib/docker",
        "/var/lib/docker/volumes/x",
        "/etc",
        "/etc/tallyman/token",
        "/etc/systemd/system",
        "/etc/cron.d",
        "/etc/ssh",
        "/etc/shadow",
        "/etc/ecs",
        "/root",
        "/root/.ssh",
        "/home/admin",
        "/usr/local/bin",
        "/boot",
        "/lib/systemd/system",
        "/run/dbus/system_bus_socket",
        "/var/spool/cron/crontabs",
        "/var/lib/tallyman",
        "/dev",
        "/proc",
        "/sys/fs",
    ] {
        rows.push((
            mount(path),
            mounted.clone(),
            "volumes[v].host.sourcePath",
            "hostPaths",
            json!({ "hostPaths": [path] }),
        ));
    }
    // Read-only helps with neither: a socket is used, a key is read, and who traces processes has their files.
    let read = json!({ "sourceVolume": "v", "containerPath": "/v", "readOnly": true });
    for path in ["/run/docker.sock", "/run", "/root/.ssh", "/etc/shadow"] {
        rows.push((
            mount(path),
            json!({ "mountPoints": [read] }),
            "volumes[v].host.sourcePath",
            "hostPaths",
            json!({ "hostPaths": [path] }),
        ));
    }
    for path in ["/proc", "/proc/1"] {
        rows.push((
            mount(path),
            json!({ "mountPoints": [read], "linuxParameters": { "capabilities": { "add": ["CAP_SYS_PTRACE"] } } }),
            "volumes[v].host.sourcePath",
            "hostPaths",
            json!({ "hostPaths": [path] }),
        ));
    }
    rows.push((
        json!({ "networkMode": "host" }),
        add("NET_ADMIN"),
        container("linuxParameters.capabilities.add"),
        "capabilities",
        json!({ "capabilities": ["NET_ADMIN"] }),
    ));
    for options in [
        json!({ "type": "none", "o": "bind", "device": "/var/run" }),
        json!({ "o": "bind", "device": "/" }),
        json!({ "type": "ext4", "device": "/dev/sda1" }),
        json!({ "type": "overlay", "o": "lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w", "device": "overlay" }),
    ] {
        let allowed = json!({ "hostPaths": ["/"] });
        rows.push((
            docker(options),
            none.clone(),
            "volumes[v].dockerVolumeConfiguration.driverOpts",
            "hostPaths",
            allowed,
        ));
    }
    rows
}

#[test]
fn by_default_no_container_takes_its_host() {
    for (of_task, of_container, field, rule, allowed) in refused() {
        let spec = definition(&of_task, &of_container);
        let found = breaches(None, &spec);
        let case = format!("{of_task} {of_container}");
        assert_eq!(found.len(), 1, "{case}: {found:?}");
        assert_eq!(found[0].field, field, "{case}");
        assert!(
            found[0]
                .why
                .contains(&format!("`spec.taskPolicy.{rule}` of the Cluster")),
            "{}",
            found[0]
        );
        let policy: TaskPolicy = serde_json::from_value(allowed).unwrap();
        assert_eq!(
            breaches(Some(&policy), &spec),
            [],
            "{case} under {policy:?}"
        );
        // An absent field is its default, whatever else is set.
        let other = TaskPolicy {
            system_controls: Some(Vec::new()),
            ..TaskPolicy::default()
        };
        assert_eq!(breaches(Some(&other), &spec).len(), 1, "{case}");
    }
}

#[test]
fn what_the_ecs_guide_shows_is_taken() {
    for (of_task, of_container) in [
        (json!({ "networkMode": "host" }), json!({})),
        (json!({ "pidMode": "task", "ipcMode": "none" }), json!({})),
        (
            json!({ "volumes": [{ "name": "v", "host": { "sourcePath": "/ecs/webdata" } }, { "name": "w", "host": {} }] }),
            json!({}),
        ),
        (
            json!({ "volumes": [{ "name": "v", "host": { "sourcePath": "/var/log" } }] }),
            json!({}),
        ),
        // As monitoring does.
        (
            json!({ "volumes": [{ "name": "v", "host": { "sourcePath": "/proc" } }] }),
            json!({ "mountPoints": [{ "sourceVolume": "v", "containerPath": "/host/proc", "readOnly": true }] }),
        ),
        (
            json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": { "scope": "shared", "driver": "rexray/ebs" } }] }),
            json!({}),
        ),
        (
            json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": {
                "driver": "local", "driverOpts": { "type": "nfs", "o": "addr=10.0.0.5,rw", "device": ":/data" } } }] }),
            json!({}),
        ),
        (
            json!({ "volumes": [{ "name": "v", "host": { "sourcePath": "/etc/ssl/certs" } }] }),
            json!({ "mountPoints": [{ "sourceVolume": "v", "containerPath": "/etc/ssl/certs", "readOnly": true }] }),
        ),
        (
            json!({}),
            json!({ "linuxParameters": { "capabilities": { "add": ["SYS_PTRACE", "NET_ADMIN", "NET_RAW"], "drop": ["ALL"] } } }),
        ),
        (
            json!({}),
            json!({ "linuxParameters": { "devices": [{ "hostPath": "/dev/fuse" }, { "hostPath": "/dev/snd" }] } }),
        ),
        (
            json!({}),
            json!({ "systemControls": [{ "namespace": "net.core.somaxconn", "value": "1024" }] }),
        ),
        (
            json!({}),
            json!({ "dockerSecurityOptions": ["no-new-privileges", "apparmor:docker-default", "label:type:svirt_t"] }),
        ),
        (json!({}), json!({ "privileged": false })),
    ] {
        let found = breaches(None, &definition(&of_task, &of_container));
        assert_eq!(found, [], "{of_task} {of_container}");
    }
}

#[test]
fn an_empty_list_allows_none() {
    let policy: TaskPolicy = serde_json::from_value(json!({
        "hostNamespaces": [], "capabilities": [], "hostPaths": [], "devices": [], "systemControls": [], "volumeDrivers": [],
    }))
    .unwrap();
    let spec = definition(
        &json!({
            "networkMode": "host",
            "volumes": [
                { "name": "v", "host": { "sourcePath": "/data" } },
                { "name": "w", "dockerVolumeConfiguration": { "driver": "rexray" } },
            ],
        }),
        &json!({
            "linuxParameters": { "capabilities": { "add": ["SYS_PTRACE"] }, "devices": [{ "hostPath": "/dev/fuse" }] },
            "systemControls": [{ "namespace": "net.core.somaxconn", "value": "1" }],
        }),
    );
    let fields: Vec<_> = breaches(Some(&policy), &spec)
        .into_iter()
        .map(|b| b.field)
        .collect();
    assert_eq!(
        fields,
        [
            "networkMode",
            "containerDefinitions[app].linuxParameters.capabilities.add",
            "containerDefinitions[app].linuxParameters.devices.hostPath",
            "containerDefinitions[app].systemControls",
            "volumes[v].host.sourcePath",
            "volumes[w].dockerVolumeConfiguration.driver",
        ]
    );
}

#[test]
fn paths_are_compared_by_whole_parts() {
    let policy = TaskPolicy {
        host_paths: Some(vec!["/data".to_owned()]),
        ..TaskPolicy::default()
    };
    for (path, fine) in [
        ("/data", true),
        ("/data/", true),
        ("/data/x", true),
        ("//data/./x", true),
        ("/data-b", false),
        ("/dat", false),
        ("/data/../etc", false),
        ("data", false),
        ("/", false),
    ] {
        let found = task_policy::host_path(Some(&policy), &[], false, path, false);
        assert_eq!(found.is_none(), fine, "{path}: {found:?}");
    }
    let names: TaskPolicy =
        serde_json::from_value(json!({ "systemControls": ["net.ipv4.*", "kernel.msgmax"] }))
            .unwrap();
    let with = |name: &str| {
        let control = json!({ "systemControls": [{ "namespace": name, "value": "1" }] });
        breaches(Some(&names), &definition(&json!({}), &control)).is_empty()
    };
    assert!(with("net.ipv4.tcp_syncookies") && with("kernel.msgmax"));
    assert!(!with("net.core.somaxconn") && !with("kernel.msgmaxx"));
}
