//! Objects of every kind as somebody may write them who errs, or means harm: near to what is right, and wrong in one to three
//! places. Kinds and fields come from the definitions, so what is added to these is covered that day.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use tallyman_crds::labels;
use tallyman_crds::schema::{Crd, crds};

use crate::dice::Dice;
use crate::schema;

/// The definitions.
pub static CRDS: LazyLock<Vec<Crd>> = LazyLock::new(crds);

/// The schema of objects of a definition.
pub fn schema_of(crd: &Crd) -> &Value {
    &crd.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Whether objects of a definition have a status.
pub fn has_status(crd: &Crd) -> bool {
    schema_of(crd)["properties"].get("status").is_some()
}

/// What objects are made for.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Names begin with it.
    pub prefix: String,
    /// A Service that is not among them: some names and labels claim to be of it.
    pub victim: String,
    /// A host that is not among them.
    pub host: String,
}

/// A cluster without hosts: most of what is generated names it, so that little of it runs.
pub const NOWHERE: &str = "bad";

/// Object number `number`, of a kind that follows from it.
pub fn object(setting: &Setting, number: usize, dice: &mut Dice<'_>) -> (&'static Crd, Value) {
    let crd = &CRDS[number % CRDS.len()];
    let spec_schema = &schema_of(crd)["properties"]["spec"];
    let mut spec = match base(&crd.kind) {
        Some(spec) if dice.chance(75) => spec,
        _ => schema::value(spec_schema, 0, dice),
    };
    // Of the cluster of the hosts only a few, and those want more than there is.
    if spec_schema["properties"].get("cluster").is_some() && dice.chance(90) {
        spec["cluster"] = NOWHERE.into();
    }
    if spec_schema["properties"].get("runTask").is_some() && dice.chance(90) {
        spec["runTask"]["cluster"] = NOWHERE.into();
    }
    let mut object = json!({
        "apiVersion": "tallyman.dev/v1alpha1",
        "kind": crd.kind,
        "metadata": { "name": format!("{}-{number}", setting.prefix) },
        "spec": spec,
    });
    for _ in 0..dice.below(4) {
        if dice.chance(75) {
            spoil(&mut object["spec"], spec_schema, dice);
        } else {
            spoil_frame(&mut object, setting, number, dice);
        }
    }
    (crd, object)
}

/// What a person would write; of a kind that is not here the schema makes something up.
fn base(kind: &str) -> Option<Value> {
    // More than any host has: what is valid is judged, and started nowhere.
    let container = json!({
        "name": "app", "image": "localhost/tallyman/hello:1", "memory": 4_000_000, "cpu": 64,
        "environment": [{ "name": "A", "value": "b" }],
        "portMappings": [{ "containerPort": 80 }],
        "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }],
        "healthCheck": { "command": ["CMD-SHELL", "true"], "interval": 5 },
        "dependsOn": [{ "containerName": "side", "condition": "START" }],
        "logConfiguration": { "logDriver": "json-file", "options": { "max-size": "1m" } },
        "linuxParameters": { "initProcessEnabled": true },
        "secrets": [{ "name": "B", "valueFrom": "nothing" }],
    });
    let side = json!({ "name": "side", "image": "side:1", "memory": 4, "essential": false });
    let definition = json!({
        "containerDefinitions": [container, side],
        "volumes": [{ "name": "data" }],
        "networkMode": "bridge",
        "placementConstraints": [{ "type": "memberOf", "expression": "attribute:rack == r1" }],
    });
    let run = json!({
        "taskDefinition": "nothing", "count": 2, "startedBy": "somebody",
        "overrides": { "containerOverrides": [{ "name": "app", "command": ["x"] }] },
        "placementStrategy": [{ "type": "spread", "field": "attribute:ecs.availability-zone" }],
    });
    Some(match kind {
        "Cluster" => json!({ "settings": [{ "name": "containerInsights", "value": "enabled" }] }),
        "ContainerInstance" => json!({ "attributes": [{ "name": "rack", "value": "r1" }] }),
        "HostJoin" => json!({}),
        "HostPlan" => json!({
            "generation": 4, "leaderEpoch": 2, "cluster": "default", "containerInstanceUid": "u",
        }),
        "RunTask" => run,
        "ScheduledTask" => json!({
            "scheduleExpression": "cron(0 10 * * ? *)", "scheduleExpressionTimezone": "Europe/Stockholm",
            "startDate": "2026-01-01T00:00:00Z", "runTask": run,
        }),
        "Service" => json!({
            "taskDefinition": "nothing", "desiredCount": 3,
            "deploymentConfiguration": {
                "minimumHealthyPercent": 50, "maximumPercent": 200,
                "deploymentCircuitBreaker": { "enable": true, "rollback": true },
            },
            "placementConstraints": [{ "type": "distinctInstance" }],
            "placementStrategy": [{ "type": "binpack", "field": "memory" }],
            "tags": [{ "key": "a", "value": "b" }],
        }),
        "Task" => json!({ "taskDefinition": "nothing" }),
        "TaskDefinition" => definition,
        "TaskDefinitionRevision" => {
            json!({ "family": "nothing", "revision": 3, "definition": definition })
        }
        "TaskSet" => json!({
            "service": "nothing", "taskDefinition": "nothing",
            "scale": { "value": 50.0, "unit": "PERCENT" },
        }),
        _ => return None,
    })
}

/// Makes one place of `value` wrong, or at least other.
fn spoil(value: &mut Value, schema: &Value, dice: &mut Dice<'_>) {
    let deeper = match value {
        Value::Object(fields) if !dice.chance(15) => {
            let known = schema["properties"].as_object();
            let known: Vec<&String> = known.into_iter().flat_map(Map::keys).collect();
            // What is there, and now and then what is not.
            let there: Vec<&String> = known
                .iter()
                .copied()
                .filter(|name| fields.contains_key(*name))
                .collect();
            let name = match there.is_empty() || dice.chance(35) {
                true => dice.one(&known).copied(),
                false => dice.one(&there).copied(),
            };
            name.map(|name| {
                let of = &schema["properties"][name];
                let made = schema::value(of, 3, dice);
                (fields.entry(name.clone()).or_insert(made), of)
            })
        }
        Value::Array(items) if !items.is_empty() && !dice.chance(20) => {
            let index = dice.below(items.len());
            items.get_mut(index).map(|item| (item, &schema["items"]))
        }
        _ => None,
    };
    match deeper {
        Some((below, of)) => spoil(below, of, dice),
        None => *value = wrong(value.take(), schema, dice),
    }
}

/// Something else in place of `value`.
fn wrong(value: Value, schema: &Value, dice: &mut Dice<'_>) -> Value {
    match value {
        Value::Object(mut fields) => match dice.below(6) {
            0 => {
                let names: Vec<String> = fields.keys().cloned().collect();
                if let Some(name) = dice.one(&names) {
                    fields.remove(name);
                }
                fields.into()
            }
            1 => {
                fields.insert("notAField".into(), 1.into());
                fields.into()
            }
            2 => {
                fields.insert(odd_text(dice), odd_text(dice).into());
                fields.into()
            }
            3 => nested(if dice.chance(10) { 300 } else { 60 }),
            4 => schema::value(schema, 1, dice),
            _ => other_type(dice),
        },
        Value::Array(mut items) => match dice.below(5) {
            0 => Vec::<Value>::new().into(),
            1 => {
                let first = items.first().cloned();
                items.extend(first);
                items.into()
            }
            2 => {
                let one = schema::value(&schema["items"], 3, dice);
                vec![one; 1 + dice.below(400)].into()
            }
            3 => {
                items.push(Value::Null);
                items.into()
            }
            _ => other_type(dice),
        },
        Value::Number(_) => match dice.below(4) {
            0 => other_type(dice),
            1 => schema::value(schema, 3, dice),
            _ => number(schema, dice),
        },
        Value::String(_) => match dice.below(5) {
            0 => other_type(dice),
            1 => schema::value(schema, 3, dice),
            _ => odd_text(dice).into(),
        },
        Value::Bool(_) | Value::Null => other_type(dice),
    }
}

fn number(schema: &Value, dice: &mut Dice<'_>) -> Value {
    let least = schema["minimum"].as_i64().unwrap_or(0);
    let most = schema["maximum"].as_i64().unwrap_or(i64::from(i32::MAX));
    let whole = [
        least.saturating_sub(1),
        most.saturating_add(1),
        most,
        -1,
        0,
        i64::from(i32::MAX),
        i64::from(i32::MAX) + 1,
        99_999_999_999,
        i64::MAX,
        i64::MIN,
    ];
    match dice.below(4) {
        0 => u64::MAX.into(),
        1 => json!(*dice.one(&[1.5, 1e9, 1e20, 1e300, -0.0]).unwrap_or(&1.5)),
        _ => dice.one(&whole).copied().unwrap_or(0).into(),
    }
}

fn other_type(dice: &mut Dice<'_>) -> Value {
    let all = [
        Value::Null,
        true.into(),
        json!(-1),
        json!(3.5),
        "text".into(),
        json!([]),
        json!({}),
        json!([[["a"]]]),
        json!({ "a": { "b": null } }),
    ];
    dice.one(&all).cloned().unwrap_or_default()
}

/// A text that few expect.
pub fn odd_text(dice: &mut Dice<'_>) -> String {
    let all = [
        "",
        " ",
        "\n",
        "a\0b",
        "\u{1}\u{7f}\u{9b}31m",
        "zażółć gęślą jaźń",
        "🦀🦀🦀",
        "\u{202e}gnp.exe",
        "\u{feff}a",
        "ﬁ ǅ ẞ",
        "../../../../etc/shadow",
        "/",
        "--help",
        "$(reboot)",
        "'; DROP TABLE tasks; --",
        "{{ .Values.x }}",
        "%s%n%d",
        "NaN",
        "-1",
        "0",
        "1e999",
        "18446744073709551616",
        "rate(0 minutes)",
        "rate(9223372036854775807 days)",
        "rate(99999999 days)",
        "cron(* * * * * *)",
        "cron(0 0 31 2 ? *)",
        "cron(0/0 * * * ? *)",
        "cron(59-0 23-1 L W ? 2199)",
        "at(9999-12-31T23:59:59)",
        "at(0000-00-00T00:00:00)",
        "* * * * * * *",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-12-31T23:59:60Z",
        "attribute:a == ",
        "((((((((((((((((((((a",
        "attribute:x in [",
        "not not not not attribute:a exists",
        "task:group == service:*",
        "nothing:0",
        "nothing:999999999",
        "nothing:99999999999999999999",
        "localhost:99999/UPPER//@sha256:xyz",
        "docker.io/library/a@sha256:",
        ":",
        "a:b:c:d:e",
        "arn:",
        "arn:aws:ecs:::cluster/",
        "arn:aws:secretsmanager:x:0:secret:a:b:c:d",
        "00080",
        "65536",
        "80-79",
        "1.5 vCPU",
        "99999999999999999999 vCPU",
        ".0000000001 GB",
        "true",
        "null",
    ];
    match dice.below(16) {
        0 => "a".repeat(64),
        1 => "a".repeat(256),
        2 => "é".repeat(5000),
        3 => "x".repeat(70_000),
        4 => "(".repeat(2000),
        _ => dice.one(&all).copied().unwrap_or_default().to_owned(),
    }
}

/// `{"a": {"a": ...}}`, so deep.
fn nested(depth: usize) -> Value {
    let mut value = json!(1);
    for _ in 0..depth {
        value = json!({ "a": value });
    }
    value
}

/// Makes what is around the spec odd.
fn spoil_frame(object: &mut Value, setting: &Setting, number: usize, dice: &mut Dice<'_>) {
    let Setting {
        prefix,
        victim,
        host,
    } = setting;
    let metadata = &mut object["metadata"];
    match dice.below(12) {
        0 | 1 => metadata["name"] = odd_name(setting, number, dice),
        2 | 3 => {
            let keys = [
                labels::SERVICE,
                labels::TASK_SET,
                labels::RUN_TASK,
                labels::SCHEDULED_TASK,
                labels::CLUSTER,
                labels::REVISION,
                labels::DEPLOYMENT,
                labels::CONTAINER_INSTANCE,
                labels::TASK_DEFINITION,
                labels::MANAGED_BY,
            ];
            let values = ["", "a", victim, host, prefix, labels::MANAGER, "default"];
            let mut wanted = Map::new();
            for _ in 0..=dice.below(3) {
                let key = dice.one(&keys).copied().unwrap_or_default().to_owned();
                let value = match dice.chance(10) {
                    true => odd_text(dice),
                    false => dice.one(&values).copied().unwrap_or_default().to_owned(),
                };
                wanted.insert(key, value.into());
            }
            metadata["labels"] = wanted.into();
        }
        4 | 5 => {
            let keys = [
                labels::RESTARTED_AT,
                labels::SCHEDULED_TIME,
                labels::FORCE_DEREGISTRATION,
                labels::STOP_FORGOTTEN,
                labels::JOINED_BY,
                labels::SUPPLIED,
                labels::HOST_KEY,
            ];
            let key = dice.one(&keys).copied().unwrap_or_default();
            metadata["annotations"] = json!({ key: odd_text(dice) });
        }
        6 => {
            let kinds = ["ScheduledTask", "TaskSet", "Service", "TaskDefinition"];
            let kind = dice.one(&kinds).copied().unwrap_or_default();
            metadata["ownerReferences"] = json!([{
                "apiVersion": "tallyman.dev/v1alpha1", "kind": kind, "name": victim,
                "uid": "00000000-0000-0000-0000-000000000000", "controller": true,
            }]);
            metadata["annotations"] = json!({ labels::SCHEDULED_TIME: odd_text(dice) });
        }
        7 => {
            let fields = ["labels", "annotations", "name", "finalizers", "generation"];
            let field = dice.one(&fields).copied().unwrap_or_default();
            metadata[field] = match dice.below(3) {
                0 => json!(5),
                1 => json!({ "a": [1] }),
                _ => json!(["-"]),
            };
        }
        8 => {
            let fields = ["resourceVersion", "uid", "namespace", "generateName"];
            let field = dice.one(&fields).copied().unwrap_or_default();
            metadata[field] = "5".into();
        }
        9 => object["spec"] = other_type(dice),
        10 => {
            object["status"] = json!({ "observedGeneration": 99, "conditions": "good" });
            object["extra"] = json!({});
        }
        _ => {
            let field = dice.one(&["apiVersion", "kind", "metadata", "spec"]);
            if let (Some(field), Some(fields)) = (field, object.as_object_mut()) {
                fields.remove(*field);
            }
        }
    }
}

/// A name that is taken by no rule, or by one of ours only.
fn odd_name(setting: &Setting, number: usize, dice: &mut Dice<'_>) -> Value {
    let Setting { prefix, victim, .. } = setting;
    let n = number;
    let names = [
        // As tasks, runs and revisions of others would be called.
        format!("{victim}-{:06}", 900 + dice.below(50)),
        format!("{victim}-{}", i64::MAX),
        format!("{victim}-9999999999"),
        format!("{victim}-{}", u32::MAX),
        format!("{victim}-{}", 2 + dice.below(20)),
        format!("{prefix}-0"),
        format!("{prefix}-{n}-"),
        format!("-{prefix}"),
        format!("{prefix}.{n}.a"),
        format!("{prefix}..{n}"),
        format!("{prefix}/{n}"),
        format!("{prefix}%2f{n}"),
        format!("{prefix}_{n}"),
        format!("BAD-{n}"),
        format!("{prefix}-ż"),
        format!("{prefix}-{n}-{}", "a".repeat(20)),
        format!("{prefix}-{n}-{}", "a".repeat(40)),
        format!("{prefix}-{n}-{}", "a".repeat(230)),
        format!("{prefix}-{}", "a".repeat(300)),
        format!("{n}"),
        String::new(),
    ];
    names[dice.below(names.len())].clone().into()
}
