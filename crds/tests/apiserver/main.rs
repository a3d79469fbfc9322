//! The definitions, rules and policies on a real kube-apiserver: what it takes, what it refuses, and in which words.
//!
//! `KUBECONFIG=... TALLYMAN_KUBECTL=... cargo test -p tallyman-crds --test apiserver`

use serde_json::{Value, json};
use tallyman_crds::rules;

mod policy;
mod server;
#[path = "../support/mod.rs"]
mod support;

use server::{Answer, Namespace, definitions, kubectl};

#[test]
fn definitions_apply_without_a_warning() {
    let said = definitions();
    assert_eq!(said.trim(), "", "the server warned about a definition");
}

#[test]
fn rules_accept_and_refuse_what_they_should() {
    let namespace = Namespace::new("rules");
    let rules = rules::all();
    for case in support::cases() {
        let rule = rules
            .iter()
            .find(|rule| rule.id == case.rule)
            .expect("schema.rs compares both lists");
        let accepted = case.accepted();
        let stored = case.before().unwrap_or_else(|| accepted.clone());
        let (verb, part) = match (case.before(), case.status) {
            (None, _) => ("create", None),
            (Some(_), false) => ("replace", None),
            (Some(_), true) => ("replace", Some("--subresource=status")),
        };
        if verb == "replace" {
            namespace
                .kubectl(&["create", "-f", "-"], Some(&stored))
                .expect_ok(&rule.id);
        }
        if let Some(part) = part {
            namespace
                .kubectl(&["replace", part, "-f", "-"], Some(&stored))
                .expect_ok(&rule.id);
        }
        let attempt = |object: &Value| -> Answer {
            let mut arguments = vec![verb, "--dry-run=server", "-f", "-"];
            arguments.extend(part);
            namespace.kubectl(&arguments, Some(object))
        };
        attempt(&accepted).expect_ok(&format!("{} refuses what it should accept", rule.id));
        let answer = attempt(&case.refused());
        assert!(!answer.ok, "{} accepts what it should refuse", rule.id);
        assert!(
            answer.err.contains(&rule.message)
                && answer.err.contains(rule.field.trim_start_matches('.')),
            "{} is refused in other words: {}",
            rule.id,
            answer.err
        );
        if verb == "replace" {
            namespace
                .kubectl(&["delete", "-f", "-"], Some(&stored))
                .expect_ok(&rule.id);
        }
    }
}

#[test]
fn pasted_ecs_input_is_taken() {
    let namespace = Namespace::new("ecs");
    for file in support::files(&support::here("tests/fixtures/task-definitions"), "json") {
        let spec: Value = serde_json::from_str(&support::read(&file)).expect("a fixture is JSON");
        let name = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("plain names")
            .replace('_', "-");
        namespace.create("TaskDefinition", &name, spec);
    }
    let spec = support::read(&support::here("tests/fixtures/service-every-field.json"));
    namespace.create(
        "Service",
        "every-field",
        serde_json::from_str(&spec).expect("a fixture is JSON"),
    );
}

#[test]
fn a_definition_at_every_bound_is_within_the_budget_of_the_rules() {
    // The server stops a rule that costs too much while it runs; twice what ECS takes must not come to that.
    let namespace = Namespace::new("budget");
    let volumes: Vec<Value> = (0..64)
        .map(|n| json!({ "name": format!("volume-{n}") }))
        .collect();
    let containers: Vec<Value> = (0..10)
        .map(|n| {
            let other = format!("container-{}", if n < 9 { 9 } else { 8 });
            json!({
                "name": format!("container-{n}"), "image": "a", "memory": 64,
                "healthCheck": { "command": ["CMD", "true"] },
                "mountPoints": vec![json!({ "sourceVolume": "volume-63", "containerPath": "/data" }); 100],
                "portMappings": (0..100).map(|p| json!({ "containerPort": 1000 + p })).collect::<Vec<_>>(),
                "links": vec![other.clone() + ":alias"; 20],
                "dependsOn": vec![json!({ "containerName": other, "condition": "HEALTHY" }); 20],
                "volumesFrom": vec![json!({ "sourceContainer": other }); 20],
            })
        })
        .collect();
    namespace.create(
        "TaskDefinition",
        "big",
        json!({ "containerDefinitions": containers, "volumes": volumes }),
    );
}

#[test]
fn bounds_refuse_with_the_name_of_the_field() {
    let namespace = Namespace::new("bounds");
    let definition = |container: Value| json!({ "containerDefinitions": [container] });
    let too_far = [
        ("name", json!({ "name": "a b", "image": "a", "memory": 64 })),
        (
            "image",
            json!({ "name": "a", "image": "a".repeat(256), "memory": 64 }),
        ),
        ("memory", json!({ "name": "a", "image": "a", "memory": 3 })),
        (
            "containerPort",
            json!({ "name": "a", "image": "a", "memory": 64, "portMappings": [{ "containerPort": 65536 }] }),
        ),
        (
            "interval",
            json!({ "name": "a", "image": "a", "memory": 64, "healthCheck": { "command": ["CMD"], "interval": 4 } }),
        ),
        (
            "condition",
            json!({ "name": "a", "image": "a", "memory": 64, "dependsOn": [{ "containerName": "b", "condition": "DONE" }] }),
        ),
    ];
    for (field, container) in too_far {
        let object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "TaskDefinition", "metadata": { "name": "case" },
            "spec": definition(container),
        });
        let answer = namespace.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&object));
        assert!(
            !answer.ok && answer.err.contains(field),
            "{field}: {}{}",
            answer.out,
            answer.err
        );
    }
    for (count, cpu, memory, fits) in [
        (10, "256", "512", true),
        (10, "1 vCPU", "1 GB", true),
        (10, ".5 vCPU", "0.5GB", true),
        (11, "256", "512", false),
        (1, "half", "512", false),
        (1, "256", "512 MB", false),
        (0, "256", "512", false),
    ] {
        let containers: Vec<Value> = (0..count)
            .map(|n| json!({ "name": format!("c{n}"), "image": "a" }))
            .collect();
        let object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "TaskDefinition", "metadata": { "name": "case" },
            "spec": { "containerDefinitions": containers, "cpu": cpu, "memory": memory },
        });
        let answer = namespace.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&object));
        assert_eq!(
            answer.ok, fits,
            "{count} containers, cpu {cpu}, memory {memory}: {}",
            answer.err
        );
    }
    let twice = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "TaskDefinition", "metadata": { "name": "case" },
        "spec": { "containerDefinitions": [
            { "name": "a", "image": "a", "memory": 64 }, { "name": "a", "image": "b", "memory": 64 },
        ] },
    });
    let answer = namespace.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&twice));
    assert!(
        !answer.ok && answer.err.contains("Duplicate value"),
        "{}",
        answer.err
    );
}

#[test]
fn defaults_are_served() {
    let namespace = Namespace::new("defaults");
    namespace.create(
        "TaskDefinition",
        "web",
        json!({ "containerDefinitions": [{
            "name": "app", "image": "app", "memory": 64,
            "portMappings": [{ "containerPort": 80 }], "healthCheck": { "command": ["CMD", "true"] },
        }] }),
    );
    let definition = namespace.get("tdef", "web");
    let container = &definition["spec"]["containerDefinitions"][0];
    assert_eq!(container["essential"], true);
    assert_eq!(container["portMappings"][0]["protocol"], "tcp");
    assert_eq!(
        container["healthCheck"],
        json!({ "command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3 })
    );
    assert_eq!(definition["status"], json!({ "observedGeneration": -1 }));

    namespace.create("Service", "web", json!({ "taskDefinition": "web" }));
    let service = namespace.get("tsvc", "web");
    assert_eq!(
        service["spec"],
        json!({
            "taskDefinition": "web", "cluster": "default", "schedulingStrategy": "REPLICA", "paused": false
        })
    );
    assert_eq!(service["status"], json!({ "observedGeneration": -1 }));

    namespace.create("Task", "one", json!({ "taskDefinition": "web" }));
    let task = namespace.get("task", "one");
    assert_eq!(
        task["spec"],
        json!({ "taskDefinition": "web", "cluster": "default", "desiredStatus": "RUNNING" })
    );
    assert_eq!(
        task["status"],
        json!({ "observedGeneration": -1, "lastStatus": "PENDING" })
    );
}

#[test]
fn people_find_their_way() {
    let namespace = Namespace::new("people");
    for name in [
        "tclu", "tdef", "tdrev", "tsvc", "task", "trun", "tsched", "cinst", "hplan", "hjoin",
        "tallyman",
    ] {
        namespace.kubectl(&["get", name], None).expect_ok(name);
    }
    namespace.create(
        "Task",
        "placed",
        json!({ "taskDefinition": "web:7", "containerInstance": "host-a" }),
    );
    namespace.create(
        "Task",
        "asked",
        json!({ "taskDefinition": "web:7", "group": "mine" }),
    );
    namespace
        .status("task", "asked", json!({ "containerInstance": "host-b" }))
        .expect_ok("a status");
    let table = namespace.kubectl(&["get", "task"], None).expect_ok("tasks");
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[0].join(" "),
        "NAME CLUSTER GROUP TASK DEFINITION LAST STATUS DESIRED HOST HEALTH PORTS AGE"
    );
    assert_eq!(
        words[1][..6],
        ["asked", "default", "mine", "web:7", "PENDING", "RUNNING"]
    );
    assert_eq!(words[1][6], "host-b", "the host that the operator chose");
    assert_eq!(words[2][5], "host-a", "the host that was given: {table}");
    for (resource, columns) in [
        (
            "tsvc",
            "CLUSTER TASK DEFINITION DESIRED RUNNING PENDING READY STATUS AGE",
        ),
        (
            "cinst",
            "CLUSTER STATUS AGENT CPU FREE MEMORY FREE TASKS ENGINE AGENT VERSION AGE",
        ),
    ] {
        match resource {
            "tsvc" => namespace.create("Service", "one", json!({ "taskDefinition": "web" })),
            _ => namespace.create("ContainerInstance", "one", json!({})),
        }
        let table = namespace
            .kubectl(&["get", resource], None)
            .expect_ok(resource);
        let head = table.lines().next().unwrap_or_default();
        assert_eq!(
            head.split_whitespace().collect::<Vec<_>>().join(" "),
            format!("NAME {columns}")
        );
    }
    let text = kubectl(&["explain", "tsvc.spec.desiredCount"], None).expect_ok("explain");
    assert!(text.contains("How many tasks to run"), "{text}");
}

#[test]
fn a_service_scales() {
    let namespace = Namespace::new("scale");
    namespace.create("Service", "web", json!({ "taskDefinition": "web" }));
    namespace
        .status(
            "tsvc",
            "web",
            json!({ "runningCount": 2, "selector": "tallyman.dev/service=web" }),
        )
        .expect_ok("a status");
    namespace
        .kubectl(&["scale", "tsvc/web", "--replicas=4"], None)
        .expect_ok("kubectl scale");
    assert_eq!(namespace.get("tsvc", "web")["spec"]["desiredCount"], 4);
    let path = format!(
        "/apis/tallyman.dev/v1alpha1/namespaces/{}/services/web/scale",
        namespace.name
    );
    let scale: Value =
        serde_json::from_str(&kubectl(&["get", "--raw", &path], None).expect_ok("scale"))
            .expect("JSON");
    assert_eq!(scale["spec"]["replicas"], 4);
    assert_eq!(
        scale["status"],
        json!({ "replicas": 2, "selector": "tallyman.dev/service=web" })
    );
}

/// With a format for times the API server takes more than any reader does, and an object with such a time could not be read.
#[test]
fn a_time_is_a_text_that_every_reader_reads() {
    let namespace = Namespace::new("times");
    let attempt = |field: &str, time: &Value| {
        let mut object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "ScheduledTask", "metadata": { "name": "case" },
            "spec": { "scheduleExpression": "rate(1 hour)", "runTask": { "taskDefinition": "web" } },
        });
        object["spec"][field] = time.clone();
        namespace.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&object))
    };
    for field in ["startDate", "endDate"] {
        let path = format!("spec.{field}");
        attempt(field, &json!("2026-01-01T00:00:00+02:00")).expect_ok(&path);
        for refused in [
            json!([]),
            json!(["2026-01-01T00:00:00Z"]),
            json!({}),
            json!(1_767_225_600),
            json!("2026-01-01"),
            json!("2026-01-01t00:00:00?5z"),
            json!("2026-01-01T00:00:00+99:00"),
        ] {
            let answer = attempt(field, &refused);
            assert!(!answer.ok, "{path} takes {refused}");
            assert!(answer.err.contains(&path), "{refused}: {}", answer.err);
        }
    }
}
