//! The steps of `docs/ecs-rules.md` that say how many tasks start and which stop, as a table: number, service, hosts, tasks, and
//! what one pass does. Each row is made from nothing, so that it tells the whole situation; how it came about, and what
//! follows, is told by the tests of each subject.

use crate::common::build::{checked, definition, service};
use crate::common::moves::moves;
use crate::common::{Bench, CLUSTER};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tallyman_crds::labels;
use tallyman_operator_core::deployments::deployment_id;
use tallyman_operator_core::{Action, Kind, Plan};

/// - Service: `D at minimumHealthyPercent/maximumPercent`, or `daemon at` these.
/// - Hosts: a name of one letter, with `-` draining, with `?` silent, with `~` deleted, with `!` deleted by force, and perhaps its zone.
/// - Tasks, numbered from 1: `n` of the new deployment, `o` of an older one, `x` of nobody; `.` pending, `r` running for a
///   moment, `+` healthy, `!` unhealthy; the host; `*` protected.
/// - Moves: how many start or on which hosts, how many stop or which.
type Row = [&'static str; 5];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ["2.1", "2 at 100/200", "a b", "n.a n+b n+b", "start 0, stop #1"],
    ["2.1", "2 at 100/200", "a b", "n!a n+b n+b", "start 0, stop #1"],
    ["2.2", "3 at 100/200", "a/1 b/1 c/2", "n+a n+b n+b n+c", "start 0, stop #3"],
    ["2.4", "2 at 50/100", "a b-", "n+a n+a n+b n+b", "start 0, stop #3 #4"],
    ["3.1", "1 at 100/200", "a b", "o+a n+b", "start 0, stop #1"],
    ["3.2", "3 at 100/200", "a b", "", "start 3, stop 0"],
    ["3.2", "4 at 50/150", "a b", "o+a o+b o+a o+b", "start 2, stop 2"],
    ["3.2", "4 at 100/150", "a b", "o+a o+b o+a o+b", "start 2, stop 0"],
    ["3.3", "2 at 100/200", "a b", "o.a o.b", "start 2, stop #1 #2"],
    ["3.3", "2 at 100/200", "a b", "o!a o+b", "start 2, stop #1"],
    ["3.3", "4 at 50/150", "a b", "o+a o+b o+a o+b n+a n+b", "start 0, stop #1 #2 #3 #4"],
    ["3.4", "0 at 100/200", "a b", "n+a n+b", "start 0, stop #1 #2"],
    ["3.5", "1 at 100/100", "a b", "o+a", "start 0, stop 0"],
    ["3.7", "6 at 50/150", "a b", "o+a o+b o+a o+b", "start 5, stop 1"],
    ["3.8", "2 at 50/100", "a b", "o+a nrb", "start 0, stop 0"],
    ["3.8", "2 at 50/100", "a b", "o+a n+b", "start 0, stop #1"],
    ["5.2", "2 at 100/200", "a b", "n!a n+b", "start 1, stop 0"],
    ["5.2", "2 at 100/200", "a b", "n!a n+b n+a", "start 0, stop #1"],
    ["5.3", "2 at 0/100", "a b", "n!a n!b", "start 0, stop 1"],
    ["5.4", "1 at 100/200", "a b", "n!a n!b", "start 0, stop #2"],
    ["5.5", "daemon at 0/100", "a b", "n!a n!b", "start 0, stop 1"],
    ["8.1", "daemon at 0/100", "a b? c", "", "start a c, stop 0"],
    ["8.1", "daemon at 0/100", "a b? c", "n+a n+b", "start c, stop 0"],
    ["8.3", "daemon at 0/100", "a- b", "n+a n+b x+a", "start 0, stop 0"],
    ["8.3", "daemon at 0/100", "a- b", "n+a n+b", "start 0, stop #1"],
    ["8.4", "daemon at 50/100", "a b c d", "o+a o+b o+c o+d", "start 0, stop 2"],
    ["9.2", "1 at 100/200", "a b", "n+a* n+b n+b", "start 0, stop #2 #3"],
    ["9.2", "1 at 100/200", "a b", "n+a* n+b*", "start 0, stop 0"],
    ["9.3", "2 at 0/100", "a b", "o+a* o+b", "start 0, stop #2"],
    ["9.3", "2 at 0/100", "a b", "o+a* n+b", "start 0, stop 0"],
    ["9.4", "2 at 100/200", "a- b", "n+a* n+b n+b", "start 0, stop #1"],
    ["9.4", "1 at 100/200", "a b", "n!a* n+b", "start 0, stop #1"],
    ["10.1", "2 at 100/200", "a- b", "", "start b b, stop 0"],
    ["10.2", "2 at 100/100", "a- b", "n.a n+b", "start 0, stop #1"],
    ["10.3", "2 at 100/200", "a- b", "n+a n+b", "start b, stop 0"],
    ["10.3", "2 at 100/200", "a- b", "n+a n+b n+b", "start 0, stop #1"],
    ["10.3", "2 at 50/100", "a- b", "n+a n+b", "start 0, stop #1"],
    ["10.4", "0 at 100/200", "a- b", "x+a", "start 0, stop 0"],
    ["10.7", "2 at 100/200", "a~ b", "n+a n+b x+a", "start b, stop #3"],
    ["10.7", "2 at 100/200", "a! b", "n+a n+b x+a", "start b, stop #1 #3"],
    ["10.7", "2 at 100/100", "a! b", "n+a n+b", "start 0, stop #1"],
    ["10.7", "daemon at 0/100", "a! b", "n+a n+b x+a", "start 0, stop #1 #3"],
];

/// Steps 2.1, 2.2, 2.4, 3.1, 3.2, 3.3, 3.4, 3.5, 3.7, 3.8, 5.2, 5.3, 5.4, 5.5, 8.1, 8.3, 8.4, 9.2, 9.3, 9.4, 10.1, 10.2, 10.3, 10.4 and 10.7 of `docs/ecs-rules.md`.
#[test]
fn what_one_pass_starts_and_stops() {
    let document =
        std::fs::read_to_string(crate::common::named_tests::root().join("docs/ecs-rules.md"))
            .unwrap();
    for row in ROWS {
        let [step, service, hosts, tasks, wanted] = *row;
        let line = document
            .lines()
            .find(|l| l.starts_with(&format!("| {step} |")));
        let line = line.unwrap_or_else(|| panic!("there is no step {step}"));
        assert!(line.contains("`what_one_pass_starts_and_stops`"), "{line}");
        let bench = situation(service, hosts, tasks);
        let plan = bench.plan();
        bench.check(&plan);
        let done = outcomes(&plan);
        assert!(done.contains(&wanted.to_owned()), "{row:?}: {done:?}");
    }
}

fn situation(service_text: &str, hosts: &str, tasks: &str) -> Bench {
    let mut bench = Bench::default();
    for text in hosts.split(' ') {
        let (text, zone) = text.split_once('/').unwrap_or((text, ""));
        let name = host(&text[..1]);
        bench.host(&name, 4096, 8192);
        if !zone.is_empty() {
            bench.edit(Kind::ContainerInstance, &name, &|v| {
                v["spec"]["attributes"] =
                    json!([{ "name": "ecs.availability-zone", "value": zone }]);
            });
        }
    }
    let has_checks = tasks.contains('!');
    for image in ["web:1", "web:2"] {
        let spec = if has_checks {
            checked(image)
        } else {
            definition(image)
        };
        bench.apply_definition("web", spec);
        bench.settle();
    }
    for text in hosts.split(' ') {
        let name = host(&text[..1]);
        match text.get(1..2) {
            Some("-") => bench.edit(Kind::ContainerInstance, &name, &|v| {
                v["spec"]["status"] = json!("DRAINING");
            }),
            Some("?") => bench.silent(&name, 60),
            Some("~") => bench.delete(Kind::ContainerInstance, &name),
            Some("!") => {
                bench.edit(Kind::ContainerInstance, &name, &|v| {
                    v["metadata"]["annotations"] = json!({ labels::FORCE_DEREGISTRATION: "true" });
                });
                bench.delete(Kind::ContainerInstance, &name);
            }
            _ => {}
        }
    }
    bench.apply_service("web", spec(service_text));
    bench.edit(Kind::Service, "web", &|v| {
        v["metadata"]["finalizers"] = json!([labels::SERVICE_FINALIZER]);
    });
    let world = bench.world();
    let number =
        |revision: &str| deployment_id(&world.services["web"], &revision.into()).to_string();
    let deployments = [number("web-1"), number("web-2")];
    for (n, text) in (1..).zip(tasks.split(' ').filter(|text| !text.is_empty())) {
        put(&mut bench, n, text, &deployments);
    }
    bench
}

fn host(letter: &str) -> String {
    format!("host-{letter}")
}

fn spec(text: &str) -> Value {
    let (desired, percent) = text.split_once(" at ").unwrap();
    let (minimum, maximum) = percent.split_once('/').unwrap();
    let mut spec = service("web", 0, minimum.parse().unwrap(), maximum.parse().unwrap());
    match desired.parse::<i64>() {
        Ok(count) => spec["desiredCount"] = json!(count),
        Err(_) => {
            spec["schedulingStrategy"] = json!("DAEMON");
            spec.as_object_mut().unwrap().remove("desiredCount");
        }
    }
    spec
}

/// Task `n`, such as `o+a*`.
fn put(bench: &mut Bench, n: u32, text: &str, deployments: &[String; 2]) {
    let [of, state, on] = [&text[..1], &text[1..2], &text[2..3]];
    let at = |seconds: i64| json!(Time(bench.now - SignedDuration::from_secs(seconds)));
    let (host, new) = (host(on), usize::from(of == "n"));
    let name = if of == "x" {
        format!("alone-{n:06}")
    } else {
        format!("web-{n:06}")
    };
    let age = if state == "r" { 5 } else { 400 };
    let health = match state {
        "+" => "HEALTHY",
        "!" => "UNHEALTHY",
        _ => "UNKNOWN",
    };
    let mut task = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "Task",
        "metadata": { "name": name, "finalizers": [labels::STOP_FINALIZER], "labels": { labels::CLUSTER: CLUSTER } },
        "spec": { "cluster": CLUSTER, "taskDefinition": format!("web:{}", new + 1), "containerInstance": host },
        "status": {
            "lastStatus": if state == "." { "PENDING" } else { "RUNNING" }, "healthStatus": health,
            "containerInstance": host, "acceptedAt": at(age), "observedGeneration": 1,
        },
    });
    if state != "." {
        task["status"]["startedAt"] = at(age);
    }
    if text.ends_with('*') {
        task["status"]["protectedUntil"] = at(-600);
    }
    if of != "x" {
        let labels = &mut task["metadata"]["labels"];
        labels[labels::SERVICE] = json!("web");
        labels[labels::REVISION] = json!(format!("web-{}", new + 1));
        labels[labels::DEPLOYMENT] = json!(deployments[new]);
        task["spec"]["group"] = json!("service:web");
    }
    let task: tallyman_crds::Task = serde_json::from_value(task).unwrap();
    bench.create(Kind::Task, task);
}

/// What the plan moves, in each way in which a row may say it.
fn outcomes(plan: &Plan) -> Vec<String> {
    let (starts, stops) = moves(plan);
    let mut hosts: Vec<&str> = Vec::new();
    for action in &plan.actions {
        if let Action::CreateTask(t) = action {
            let host = t.spec.container_instance.as_deref().unwrap();
            hosts.push(host.strip_prefix("host-").unwrap());
        }
    }
    hosts.sort_unstable();
    let mut numbers: Vec<u32> = Vec::new();
    for name in &stops {
        numbers.push(name.rsplit_once('-').unwrap().1.parse().unwrap());
    }
    numbers.sort_unstable();
    let numbers: Vec<String> = numbers.iter().map(|n| format!("#{n}")).collect();
    let started = [starts.len().to_string(), hosts.join(" ")];
    let stopped = [stops.len().to_string(), numbers.join(" ")];
    let each = started.iter().flat_map(|start| {
        let said = move |stop: &String| format!("start {start}, stop {stop}");
        stopped.iter().map(said)
    });
    each.collect()
}
