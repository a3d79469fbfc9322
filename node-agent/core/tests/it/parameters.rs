//! From kernel, host, terminal and log parameters of a task definition to what the engine is told, field by field.

use crate::rig;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_agent_core::{Assignment, Plan, TaskBody};
use tallyman_agent_engine::{
    ContainerSpec, Device, Ipc, Network, Parameters, Processes, Swap, Tmpfs, Ulimit,
};
use tallyman_crds::TaskDefinitionSpec;

const MIB: i64 = 1024 * 1024;

/// A task of one container; `task` are fields of the task definition beside it.
fn body(task: Value, container: Value) -> TaskBody {
    body_at(rig::door(), task, container)
}

fn body_at(
    door: tallyman_agent_core::assignment::Door,
    mut task: Value,
    mut container: Value,
) -> TaskBody {
    let fields = container.as_object_mut().unwrap();
    fields.entry("name").or_insert(json!("app"));
    fields.entry("image").or_insert(json!("app:1"));
    task["containerDefinitions"] = json!([container]);
    let definition: TaskDefinitionSpec = serde_json::from_value(task).unwrap();
    let mut spec = rig::plan(Vec::new());
    spec.definitions.get_mut("web-7").unwrap().definition = definition;
    let tasks = Assignment::parse(Plan::from(spec), &door).tasks;
    tasks.into_values().next().unwrap().body
}

fn spec_of(body: TaskBody) -> ContainerSpec {
    match body {
        TaskBody::Runnable(containers) => containers[0].spec(1),
        TaskBody::Refused(why) => panic!("refused: {why}"),
    }
}

fn told(container: Value) -> Parameters {
    spec_of(body(json!({}), container)).parameters
}

fn refusal(task: Value, container: Value) -> String {
    match body(task, container) {
        TaskBody::Refused(why) => why,
        TaskBody::Runnable(_) => panic!("not refused"),
    }
}

#[test]
fn what_the_cluster_does_not_allow_is_refused_whatever_the_plan_says() {
    let privileged = json!({ "name": "app", "image": "app:1", "privileged": true });
    let definition = json!({ "containerDefinitions": [privileged] });
    let body = |policy: Value| {
        let mut spec = rig::plan(Vec::new());
        spec.definitions.get_mut("web-7").unwrap().definition =
            serde_json::from_value(definition.clone()).unwrap();
        let mut spec = serde_json::to_value(spec).unwrap();
        spec["taskPolicy"] = policy;
        let plan = Plan::from_json(&spec).unwrap();
        let tasks = Assignment::parse(plan, &rig::door()).tasks;
        tasks.into_values().next().unwrap().body
    };
    // None, an empty one, and one that cannot be read are the default one.
    for policy in [Value::Null, json!({}), json!({ "privileged": "yes" })] {
        let TaskBody::Refused(why) = body(policy.clone()) else {
            panic!("{policy} allows it");
        };
        assert_eq!(
            why,
            "`containerDefinitions[app].privileged` must not be true: `spec.taskPolicy.privileged` of the Cluster does not \
             allow it."
        );
    }
    assert!(matches!(
        body(json!({ "privileged": true })),
        TaskBody::Runnable(_)
    ));
}

#[test]
fn nothing_given_is_the_engines_own_and_what_a_container_need_not_is_taken() {
    let nothing = Parameters {
        dropped_capabilities: vec!["NET_RAW".to_owned()],
        security_options: vec!["no-new-privileges".to_owned()],
        ..Parameters::default()
    };
    assert_eq!(told(json!({})), nothing);
    let empty = json!({
        "linuxParameters": { "capabilities": { "add": [] }, "sharedMemorySize": 0, "swappiness": 10 },
        "hostname": "", "privileged": false, "interactive": false, "pseudoTerminal": false,
        "readonlyRootFilesystem": false, "ulimits": [], "dnsServers": [], "disableNetworking": false,
    });
    assert_eq!(told(empty), nothing, "swappiness alone means nothing");
}

#[test]
fn what_is_taken_by_default_a_definition_takes_back() {
    let capabilities = |add: &[&str], drop: &[&str]| json!({ "linuxParameters": { "capabilities": { "add": add, "drop": drop } } });
    let safe = "no-new-privileges";
    let back = "no-new-privileges:false";
    for (container, dropped, options) in [
        (capabilities(&["NET_RAW"], &[]), vec![], vec![safe]),
        (
            capabilities(&["cap_net_raw"], &["CHOWN"]),
            vec!["CHOWN"],
            vec![safe],
        ),
        (
            capabilities(&["NET_ADMIN"], &["CHOWN"]),
            vec!["CHOWN", "NET_RAW"],
            vec![safe],
        ),
        (
            capabilities(&[], &["CAP_NET_RAW"]),
            vec!["CAP_NET_RAW"],
            vec![safe],
        ),
        (capabilities(&["CHOWN"], &["ALL"]), vec!["ALL"], vec![safe]),
        (
            json!({ "dockerSecurityOptions": [back] }),
            vec!["NET_RAW"],
            vec![back],
        ),
        (
            json!({ "dockerSecurityOptions": ["label:type:x"] }),
            vec!["NET_RAW"],
            vec!["label:type:x", safe],
        ),
        // Has everything, and the policy allowed it.
        (json!({ "privileged": true }), vec![], vec![]),
    ] {
        let told = told(container.clone());
        assert_eq!(told.dropped_capabilities, dropped, "{container}");
        assert_eq!(told.security_options, options, "{container}");
    }
}

#[test]
fn every_parameter_is_told_as_written() {
    let container = json!({
        "memory": 64,
        "linuxParameters": {
            "capabilities": { "add": ["SYS_PTRACE"], "drop": ["ALL"] },
            "devices": [
                { "hostPath": "/dev/fuse" },
                { "hostPath": "/dev/sda", "containerPath": "/dev/disk", "permissions": ["read"] },
            ],
            "initProcessEnabled": true,
            "sharedMemorySize": 128,
            "tmpfs": [{ "containerPath": "/run", "size": 16, "mountOptions": ["noexec", "mode=755"] }],
            "maxSwap": 32,
            "swappiness": 7,
        },
        "hostname": "cart",
        "interactive": true,
        "pseudoTerminal": true,
        "privileged": true,
        "readonlyRootFilesystem": true,
        "dockerSecurityOptions": ["no-new-privileges", "label:type:svirt_t"],
        "systemControls": [{ "namespace": "net.core.somaxconn", "value": "77" }],
        "ulimits": [{ "name": "nofile", "softLimit": 10, "hardLimit": 20 }, { "name": "core", "softLimit": -1, "hardLimit": -1 }],
        "dnsServers": ["10.0.0.53", "fd00::53"],
        "dnsSearchDomains": ["shop.internal"],
        "extraHosts": [{ "hostname": "db", "ipAddress": "10.9.8.7" }],
    });
    let limit = |name, soft, hard| Ulimit { name, soft, hard };
    let device = |host: &str, inside: &str, write| Device {
        host_path: host.to_owned(),
        container_path: inside.to_owned(),
        read: true,
        write,
        mknod: write,
    };
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let expected = Parameters {
        hostname: Some("cart".to_owned()),
        interactive: true,
        terminal: true,
        init: true,
        privileged: true,
        read_only_root: true,
        added_capabilities: texts(&["SYS_PTRACE"]),
        dropped_capabilities: texts(&["ALL"]),
        security_options: texts(&["no-new-privileges", "label:type:svirt_t"]),
        sysctls: [("net.core.somaxconn".to_owned(), "77".to_owned())].into(),
        ulimits: vec![limit("nofile", 10, 20), limit("core", -1, -1)],
        pids_limit: None,
        shared_memory_bytes: Some(128 * MIB),
        tmpfs: vec![Tmpfs {
            path: "/run".to_owned(),
            bytes: 16 * MIB,
            options: texts(&["noexec", "mode=755"]),
        }],
        devices: vec![
            device("/dev/fuse", "/dev/fuse", true),
            device("/dev/sda", "/dev/disk", false),
        ],
        swap: Some(Swap {
            bytes: 32 * MIB,
            swappiness: Some(7),
        }),
        processes: Processes::Own,
        ipc: Ipc::Engine,
        dns_servers: vec!["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()],
        dns_search_domains: texts(&["shop.internal"]),
        extra_hosts: vec![("db".to_owned(), "10.9.8.7".parse().unwrap())],
        log: None,
    };
    assert_eq!(told(container), expected);
}

#[test]
fn swap_follows_max_swap_alone() {
    for (linux, wanted) in [
        (json!({}), None),
        (json!({ "swappiness": 0 }), None),
        (json!({ "maxSwap": 0 }), Some((0, 60))),
        (
            json!({ "maxSwap": 512, "swappiness": 0 }),
            Some((512 * MIB, 0)),
        ),
        (json!({ "maxSwap": 1, "swappiness": 100 }), Some((MIB, 100))),
    ] {
        let swap = told(json!({ "memory": 64, "linuxParameters": linux })).swap;
        let swap = swap.map(|swap| (swap.bytes, swap.swappiness.unwrap()));
        assert_eq!(swap, wanted, "{linux}");
    }
    let why = refusal(
        json!({}),
        json!({ "memoryReservation": 64, "linuxParameters": { "maxSwap": 1 } }),
    );
    assert_eq!(
        why,
        "Container `app`: `linuxParameters.maxSwap` needs the container's `memory`: swap is limited on top of it."
    );
}

#[test]
fn modes_of_the_task_are_those_of_each_container() {
    for (mode, wanted) in [("host", Ipc::Host), ("none", Ipc::None)] {
        let spec = spec_of(body(
            json!({ "ipcMode": mode, "pidMode": "host" }),
            json!({}),
        ));
        assert_eq!(spec.parameters.ipc, wanted);
        assert_eq!(spec.parameters.processes, Processes::Host);
    }
    let ports = json!({ "disableNetworking": true, "portMappings": [{ "containerPort": 80, "hostPort": 80 }] });
    for mode in ["bridge", "host", "none"] {
        let spec = spec_of(body(json!({ "networkMode": mode }), ports.clone()));
        assert_eq!(spec.network, Network::None, "{mode}");
        assert!(spec.ports.is_empty(), "{mode}");
    }
}

#[test]
fn a_host_may_refuse_what_is_privileged() {
    let mut door = rig::door();
    door.disable_privileged = true;
    assert!(matches!(
        body_at(door.clone(), json!({}), json!({})),
        TaskBody::Runnable(_)
    ));
    let TaskBody::Refused(why) = body_at(door, json!({}), json!({ "privileged": true })) else {
        panic!("not refused")
    };
    assert_eq!(
        why,
        "Container `app`: `privileged` is not allowed on this host: ECS_DISABLE_PRIVILEGED is set."
    );
}

#[test]
fn logs_have_ecs_defaults_of_delivery() {
    let log = |configuration: Value| {
        let log = told(json!({ "logConfiguration": configuration }))
            .log
            .unwrap();
        (log.driver, log.options)
    };
    let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    };
    let default = [("mode", "non-blocking"), ("max-buffer-size", "10m")];
    for driver in [
        "json-file",
        "local",
        "syslog",
        "journald",
        "gelf",
        "fluentd",
        "awslogs",
        "splunk",
    ] {
        let told = log(json!({ "logDriver": driver }));
        assert_eq!(told, (driver.to_owned(), options(&default)));
    }
    let told = log(json!({ "logDriver": "none" }));
    assert_eq!(told, ("none".to_owned(), BTreeMap::new()));
    for (given, wanted) in [
        (
            json!({ "max-size": "1m" }),
            options(&[("max-size", "1m"), default[0], default[1]]),
        ),
        (
            json!({ "mode": "blocking" }),
            options(&[("mode", "blocking")]),
        ),
        (
            json!({ "max-buffer-size": "25m" }),
            options(&[default[0], ("max-buffer-size", "25m")]),
        ),
    ] {
        let told = log(json!({ "logDriver": "json-file", "options": given })).1;
        assert_eq!(told, wanted, "{given}");
    }
}

#[test]
fn log_streams_are_named_after_prefix_container_and_task() {
    let stream = |options: Value| {
        let log = json!({ "logDriver": "awslogs", "options": options });
        let log = told(json!({ "logConfiguration": log })).log.unwrap();
        assert!(!log.options.contains_key("awslogs-stream-prefix"));
        log.options.get("awslogs-stream").cloned()
    };
    assert_eq!(
        stream(json!({ "awslogs-group": "g", "awslogs-stream-prefix": "shop" })).as_deref(),
        Some("shop/app/web-000001")
    );
    assert_eq!(stream(json!({ "awslogs-group": "g" })), None);
    let both = json!({ "awslogs-stream": "mine", "awslogs-stream-prefix": "shop" });
    assert_eq!(stream(both).as_deref(), Some("mine"));
}

#[test]
fn what_no_engine_can_be_told_is_refused_with_the_field() {
    let none = json!({});
    let tmpfs = |path: &str, size: i64| json!({ "linuxParameters": { "tmpfs": [{ "containerPath": path, "size": size }] } });
    let limits = |limits: Value| json!({ "ulimits": limits });
    let control = |name: &str| json!({ "systemControls": [{ "namespace": name, "value": "1" }] });
    let rows = [
        (
            none.clone(),
            json!({ "hostname": "a".repeat(65) }),
            "`hostname`",
        ),
        (
            none.clone(),
            json!({ "dnsServers": ["dns"] }),
            "`dnsServers` has `dns`",
        ),
        (
            none.clone(),
            json!({ "extraHosts": [{ "hostname": "db", "ipAddress": "db2" }] }),
            "`extraHosts.ipAddress` has `db2`",
        ),
        (
            none.clone(),
            json!({ "dockerSecurityOptions": ["credentialspec:file://x"] }),
            "`dockerSecurityOptions`",
        ),
        (
            none.clone(),
            tmpfs("run", 1),
            "`linuxParameters.tmpfs.containerPath` is `run`",
        ),
        (
            none.clone(),
            tmpfs("/run", 0),
            "`linuxParameters.tmpfs.size` is 0",
        ),
        (
            none.clone(),
            limits(json!([{ "name": "nofile", "softLimit": 2, "hardLimit": 1 }])),
            "`ulimits` has `nofile` with `softLimit` 2 above `hardLimit` 1",
        ),
        (
            none.clone(),
            limits(json!([{ "name": "nofile", "softLimit": -1, "hardLimit": 1 }])),
            "`ulimits` has `nofile`",
        ),
        (
            none.clone(),
            limits(json!([
                { "name": "core", "softLimit": 1, "hardLimit": 1 }, { "name": "core", "softLimit": 2, "hardLimit": 2 }
            ])),
            "`ulimits` has `core` twice",
        ),
        (
            none.clone(),
            json!({ "systemControls": [{ "value": "1" }] }),
            "`systemControls`",
        ),
        (
            json!({ "networkMode": "host" }),
            control("net.core.somaxconn"),
            "`systemControls` must not have `net.core.somaxconn` with `networkMode: host`",
        ),
        (
            json!({ "ipcMode": "host" }),
            control("fs.mqueue.msg_max"),
            "`systemControls` must not have `fs.mqueue.msg_max` with `ipcMode: host`",
        ),
        (
            none,
            json!({ "logConfiguration": { "logDriver": "awsfirelens" } }),
            "`logConfiguration.logDriver` is `awsfirelens`, so a container of the task must have",
        ),
    ];
    for (task, container, words) in rows {
        let why = refusal(task, container);
        assert!(
            why.starts_with("Container `app`: ") && why.contains(words),
            "{why}"
        );
    }
    let twice =
        json!([{ "containerPath": "/run", "size": 1 }, { "containerPath": "/run", "size": 2 }]);
    let why = refusal(json!({}), json!({ "linuxParameters": { "tmpfs": twice } }));
    assert!(why.contains("`/run` twice"), "{why}");
    for (mode, name) in [("bridge", "net.core.somaxconn"), ("host", "kernel.shmmax")] {
        spec_of(body(json!({ "networkMode": mode }), control(name)));
    }
}

/// Texts and numbers as the CRD lets them through: any text, any number of the field's range.
fn container() -> impl Strategy<Value = Value> {
    let text = || {
        prop_oneof![
            Just(String::new()),
            "[ -~]{1,70}",
            Just("10.0.0.1".to_owned())
        ]
    };
    let texts = || proptest::collection::vec(text(), 0..4);
    let number = || prop_oneof![Just(0), Just(1), Just(i32::MAX), 0..i32::MAX];
    let limit = || prop_oneof![Just(-1), -1..i32::MAX];
    let name = prop::sample::select(vec!["core", "nofile", "nproc", "stack", "rtprio"]);
    let driver = prop::sample::select(vec!["json-file", "none", "awslogs", "awsfirelens", "local"]);
    let kernel = (
        texts(),
        texts(),
        proptest::collection::vec((text(), text(), 0..8_usize), 0..3),
        proptest::collection::vec((text(), number(), texts()), 0..3),
        proptest::option::of(number()),
        proptest::option::of(number()),
        proptest::option::of(0..=100),
        any::<bool>(),
    );
    let rest = (
        proptest::collection::vec((name, limit(), limit()), 0..3),
        texts(),
        texts(),
        proptest::collection::vec((text(), text()), 0..3),
        proptest::collection::vec(
            (proptest::option::of(text()), proptest::option::of(text())),
            0..3,
        ),
        proptest::collection::btree_map(text(), text(), 0..3),
        (
            driver,
            proptest::option::of(number()),
            proptest::option::of(text()),
        ),
        any::<[bool; 5]>(),
    );
    (kernel, rest).prop_map(|(kernel, rest)| {
        let (add, drop, devices, tmpfs, shm, max_swap, swappiness, init) = kernel;
        let (limits, servers, options, hosts, controls, log, (driver, memory, hostname), flags) = rest;
        let permissions = |bits: usize| -> Vec<&str> {
            let all = ["read", "write", "mknod"];
            (0..3).filter(|bit| bits & (1 << bit) != 0).map(|bit| all[bit]).collect()
        };
        json!({
            "linuxParameters": {
                "capabilities": { "add": add, "drop": drop },
                "devices": devices.iter().map(|(host, inside, bits)| json!({
                    "hostPath": host, "containerPath": inside, "permissions": permissions(*bits)
                })).collect::<Vec<_>>(),
                "tmpfs": tmpfs.iter().map(|(path, size, options)| json!({
                    "containerPath": format!("/{path}"), "size": size, "mountOptions": options
                })).collect::<Vec<_>>(),
                "sharedMemorySize": shm, "maxSwap": max_swap, "swappiness": swappiness, "initProcessEnabled": init,
            },
            "memory": memory,
            "ulimits": limits.iter().map(|(name, soft, hard)| json!({
                "name": name, "softLimit": soft, "hardLimit": hard
            })).collect::<Vec<_>>(),
            "dnsServers": servers, "dnsSearchDomains": options, "dockerSecurityOptions": options,
            "extraHosts": hosts.iter().map(|(name, at)| json!({ "hostname": name, "ipAddress": at })).collect::<Vec<_>>(),
            "systemControls": controls.iter().map(|(name, value)| json!({ "namespace": name, "value": value })).collect::<Vec<_>>(),
            "logConfiguration": { "logDriver": driver, "options": log },
            "hostname": hostname,
            "privileged": flags[0], "interactive": flags[1], "pseudoTerminal": flags[2],
            "readonlyRootFilesystem": flags[3], "disableNetworking": flags[4],
        })
    })
}

fn task() -> impl Strategy<Value = Value> {
    let mode = |values: &[&'static str]| {
        let values: Vec<_> = values.iter().map(|v| Some(*v)).chain([None]).collect();
        prop::sample::select(values)
    };
    (
        mode(&["bridge", "host", "none", "awsvpc"]),
        mode(&["host", "task"]),
        mode(&["host", "task", "none"]),
    )
        .prop_map(
            |(network, pid, ipc)| json!({ "networkMode": network, "pidMode": pid, "ipcMode": ipc }),
        )
}

proptest! {
    #[test]
    fn whatever_the_crd_takes_is_told_within_bounds_or_refused_in_words(task in task(), container in container()) {
        match body(task, container) {
            TaskBody::Refused(why) => prop_assert!(why.contains('`') && why.ends_with('.'), "{why}"),
            TaskBody::Runnable(containers) => {
                // A pause container goes before.
                let spec = containers[containers.len() - 1].spec(1);
                let p = &spec.parameters;
                for limit in &p.ulimits {
                    prop_assert!(limit.hard == -1 || (0..=limit.hard).contains(&limit.soft), "{limit:?}");
                }
                prop_assert!(p.tmpfs.iter().all(|t| t.bytes >= MIB && t.path.starts_with('/')));
                prop_assert!(p.shared_memory_bytes.is_none_or(|bytes| bytes >= MIB));
                prop_assert!(p.devices.iter().all(|d| d.read || d.write || d.mknod));
                if let Some(swap) = p.swap {
                    prop_assert!(swap.bytes >= 0 && spec.memory_bytes.is_some());
                    prop_assert!(swap.swappiness.is_none_or(|s| (0..=100).contains(&s)));
                }
                if let Some(log) = &p.log {
                    let waits = log.options.get("mode").is_some_and(|mode| mode == "blocking");
                    prop_assert!(log.driver == "none" || waits || log.options.contains_key("mode"));
                }
            }
        }
    }
}
