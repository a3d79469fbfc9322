//! Objects that change in etcd itself, past the API server and its rules.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::chaos::{Row, Stage};
use crate::inside::BUSYBOX;
use crate::user::{PATIENCE, hello, service};

/// Rows of this file.
pub const ROWS: &[Row] = &[Row {
    number: "42",
    name: "a field of a stored object changes by itself",
    fault: "in etcd, one field after the other of objects of every kind is dropped, emptied, or has one bit turned; then it is put back",
    measured: "the change until a service that has nothing to do with the object is scaled, or an Event on the object names the field",
    bound: Duration::from_secs(30),
    count: 40,
    run: fields_change,
}];

/// Service whose own objects are changed.
const VICTIM: &str = "victim";
/// Service that is scaled meanwhile.
const CANARY: &str = "canary";
/// Service with a task set.
const SHIFTED: &str = "shifted";
/// Of this name are the other objects that are changed.
const OTHER: &str = "other";

/// Kinds whose objects are changed.
const KINDS: [&str; 11] = [
    "clusters",
    "containerinstances",
    "hostjoins",
    "hostplans",
    "runtasks",
    "scheduledtasks",
    "services",
    "taskdefinitionrevisions",
    "taskdefinitions",
    "tasks",
    "tasksets",
];

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Dropped,
    Emptied,
    BitTurned,
}

/// A field of an object that may be changed.
#[derive(Clone, Debug)]
struct Field {
    plural: &'static str,
    /// JSON Pointer.
    pointer: String,
    change: Change,
}

fn fields_change(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    set_up(stage)?;
    let before = stage.proof()?;
    let mut fields = Vec::new();
    for plural in KINDS {
        let (_, object) = find(stage, plural)?.with_context(|| format!("none of {plural}"))?;
        fields.extend(all_fields(plural, &object, |n| stage.below(n)));
    }
    println!("  {} changes are possible", fields.len());
    let (mut times, mut told) = (Vec::new(), 0);
    while times.len() < count as usize && !fields.is_empty() {
        let field = fields.swap_remove(stage.below(fields.len()));
        stage.user.k(&["delete", "events", "--all"])?;
        let (pids, started) = (processes(stage), Instant::now());
        let Some(undo) = change(stage, &field)? else {
            continue;
        };
        let n = 1 + (times.len() + 1) % 2;
        stage.scale(CANARY, n)?;
        wait_until(format!("it to go on after {field:?}"), PATIENCE, || {
            if is_told(stage, &undo)? {
                told += 1;
                return Ok(true);
            }
            is_scaled(stage, n)
        })?;
        times.push(started.elapsed());
        undo.put_back(stage)?;
        let well = || -> Result<()> {
            for host in stage.lab().hosts() {
                stage.wait_connected(host, true, PATIENCE)?;
            }
            stage.user.wait_steady(VICTIM, 2)?;
            stage.user.wait_steady(CANARY, n)?;
            stage.all_steady()
        };
        well().with_context(|| format!("after {field:?}"))?;
        stage.same(&before, None)?;
        if processes(stage) != pids {
            stage
                .witness
                .accuse(format!("a program ended of {field:?}"));
        }
    }
    println!(
        "  {told} of {} were told on the object, and waited for",
        times.len()
    );
    clear_up(stage)?;
    Ok(times)
}

fn set_up(stage: &Stage<'_>) -> Result<()> {
    let mut waits = hello(OTHER, "x");
    waits["spec"]["containerDefinitions"][0] = json!({
        "name": "waits", "image": BUSYBOX, "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": ["sleep 86400"],
    });
    let mut shifted = service(SHIFTED, 1);
    shifted["spec"] = json!({ "desiredCount": 1, "deploymentController": { "type": "EXTERNAL" } });
    let set = json!({
        "kind": "TaskSet", "metadata": { "name": SHIFTED },
        "spec": { "service": SHIFTED, "taskDefinition": OTHER, "scale": { "value": 100, "unit": "PERCENT" } },
    });
    let run = json!({ "kind": "RunTask", "metadata": { "name": OTHER }, "spec": { "taskDefinition": OTHER } });
    let schedule = json!({
        "kind": "ScheduledTask", "metadata": { "name": OTHER },
        "spec": { "scheduleExpression": "cron(0 0 1 1 ? *)", "runTask": { "taskDefinition": OTHER } },
    });
    stage.user.apply(&[
        hello(VICTIM, "x"),
        service(VICTIM, 2),
        hello(CANARY, "x"),
        service(CANARY, 1),
        waits,
        shifted,
        set,
        run,
        schedule,
    ])?;
    stage.user.wait_steady(VICTIM, 2)?;
    stage.user.wait_steady(CANARY, 1)?;
    Ok(())
}

fn clear_up(stage: &Stage<'_>) -> Result<()> {
    for kind in ["scheduledtasks", "runtasks", "tasksets"] {
        stage.user.k(&[
            "delete",
            &format!("{kind}.tallyman.dev"),
            "--all",
            "--timeout=60s",
        ])?;
    }
    stage.user.delete(&[VICTIM, CANARY, SHIFTED, OTHER])
}

/// An object of the kind that has nothing to do with what nothing may touch; of hosts, whose objects have to do with everything,
/// any one.
fn find(stage: &Stage<'_>, plural: &'static str) -> Result<Option<(String, Value)>> {
    let all = stage.eyes.list(plural)?;
    let host = stage.lab().host(0).name().to_owned();
    let ours = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match plural {
            "clusters" => true,
            "containerinstances" | "hostplans" | "hostjoins" => name == host,
            _ => [VICTIM, SHIFTED, OTHER]
                .iter()
                .any(|of| name.starts_with(of)),
        }
    };
    let Some(found) = all.iter().find(ours) else {
        return Ok(None);
    };
    let name = found["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let of = [plural, stage.user.namespace(), &name];
    let stored = stage.lab().control_plane().stored(of)?;
    Ok(stored.map(|stored| (name, stored)))
}

/// Every field but those by which the API server itself knows the object; of the entries of a list those of one.
fn all_fields(plural: &'static str, object: &Value, below: impl Fn(usize) -> usize) -> Vec<Field> {
    const NOT: [&str; 5] = [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/managedFields",
    ];
    let mut all = Vec::new();
    let mut left = vec![(String::new(), object)];
    while let Some((pointer, value)) = left.pop() {
        if NOT.contains(&pointer.as_str()) {
            continue;
        }
        let mut add = |change: Change| {
            let pointer = pointer.clone();
            all.push(Field {
                plural,
                pointer,
                change,
            });
        };
        if !pointer.is_empty() {
            add(Change::Dropped);
        }
        match value {
            Value::Object(map) => left.extend(map.iter().map(|(key, value)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                (format!("{pointer}/{key}"), value)
            })),
            Value::Array(list) => {
                let i = below(list.len());
                left.extend(list.get(i).map(|value| (format!("{pointer}/{i}"), value)));
            }
            Value::Null => {}
            _ => {
                add(Change::Emptied);
                add(Change::BitTurned);
            }
        }
    }
    all
}

/// What was in the changed place.
struct Undo {
    of: [String; 3],
    pointer: String,
    was: Value,
    is: Option<Value>,
}

/// Changes the field; `None` when there is no such any more.
fn change(stage: &Stage<'_>, field: &Field) -> Result<Option<Undo>> {
    let Some((name, mut object)) = find(stage, field.plural)? else {
        return Ok(None);
    };
    let Some(was) = object.pointer(&field.pointer).cloned() else {
        return Ok(None);
    };
    let is = changed(&was, field.change, |n| stage.below(n));
    if is.as_ref() == Some(&was) {
        return Ok(None);
    }
    put(&mut object, &field.pointer, is.clone())?;
    let of = [field.plural, stage.user.namespace(), &name].map(str::to_owned);
    let told = is.as_ref().map_or("nothing".to_owned(), Value::to_string);
    println!(
        "  {} {name}{}: {was} -> {told}",
        field.plural, field.pointer
    );
    store(stage, &of, &object)?;
    Ok(Some(Undo {
        of,
        pointer: field.pointer.clone(),
        was,
        is,
    }))
}

fn store(stage: &Stage<'_>, of: &[String; 3], object: &Value) -> Result<()> {
    let [plural, namespace, name] = of;
    let plane = stage.lab().control_plane();
    plane.store([plural.as_str(), namespace.as_str(), name.as_str()], object)
}

impl Undo {
    /// Puts the field back, unless somebody did already.
    fn put_back(self, stage: &Stage<'_>) -> Result<()> {
        let [plural, namespace, name] = &self.of;
        let plane = stage.lab().control_plane();
        let Some(mut object) =
            plane.stored([plural.as_str(), namespace.as_str(), name.as_str()])?
        else {
            println!("    gone");
            return Ok(());
        };
        if object.pointer(&self.pointer) != self.is.as_ref() {
            println!("    healed");
            return Ok(());
        }
        println!("    stays");
        put(&mut object, &self.pointer, Some(self.was))?;
        store(stage, &self.of, &object)
    }
}

fn changed(was: &Value, change: Change, below: impl Fn(usize) -> usize) -> Option<Value> {
    match (change, was) {
        (Change::Dropped, _) => None,
        (Change::Emptied, Value::String(_)) => Some(json!("")),
        (Change::Emptied, Value::Number(_)) => Some(json!(0)),
        (_, Value::Bool(was)) => Some(json!(!was)),
        (Change::BitTurned, Value::String(was)) => {
            let mut bytes = was.clone().into_bytes();
            let i = below(bytes.len());
            // The lowest bit: another printable character.
            *bytes.get_mut(i)? ^= 1;
            String::from_utf8(bytes).ok().map(Value::from)
        }
        (Change::BitTurned, Value::Number(was)) => was.as_i64().map(|n| json!(n ^ (1 << below(8)))),
        _ => Some(was.clone()),
    }
}

/// Puts a value into that place, or takes the place away.
fn put(object: &mut Value, pointer: &str, value: Option<Value>) -> Result<()> {
    let (parent, key) = pointer.rsplit_once('/').context("the root is no field")?;
    let key = key.replace("~1", "/").replace("~0", "~");
    match (object.pointer_mut(parent), value) {
        (Some(Value::Object(map)), Some(value)) => {
            map.insert(key, value);
        }
        (Some(Value::Object(map)), None) => {
            map.remove(&key);
        }
        (Some(Value::Array(list)), value) => {
            let i: usize = key.parse()?;
            ensure!(i <= list.len(), "{pointer} is beyond the end");
            match value {
                Some(value) if i < list.len() => list[i] = value,
                Some(value) => list.push(value),
                None => {
                    list.remove(i);
                }
            }
        }
        (Some(_) | None, _) => bail!("there is no {parent}"),
    }
    Ok(())
}

fn is_scaled(stage: &Stage<'_>, n: usize) -> Result<bool> {
    let alive = stage.user.alive(CANARY)?;
    let run = alive
        .iter()
        .filter(|t| t["status"]["lastStatus"] == "RUNNING");
    ensure!(
        alive.len() == n && run.count() == n,
        "{} are alive, and not {n}",
        alive.len()
    );
    Ok(true)
}

/// An Event on the object says that it cannot be read.
fn is_told(stage: &Stage<'_>, undo: &Undo) -> Result<bool> {
    let events = stage
        .user
        .kubectl()
        .list("events", stage.user.namespace())?;
    let [_, _, name] = &undo.of;
    Ok(events.iter().any(|event| {
        event["reason"] == "Unreadable" && event["involvedObject"]["name"] == name.as_str()
    }))
}

/// Processes of operators and agents.
fn processes(stage: &Stage<'_>) -> Vec<Option<u32>> {
    let agents = stage.lab().hosts().iter().map(|host| host.agent().pid());
    let operators = stage.operators().map(|(process, _)| process.pid());
    agents.chain(operators).collect()
}
