//! What programs read: JSON and YAML that say the same, names that kubectl takes, and a column of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use insta::assert_snapshot;
use kube::Resource;
use serde_json::{Value, json};
use tallyman_cli::args::Form;
use tallyman_cli::explain::explain;
use tallyman_cli::forecast::{Change, Forecast, Verb};
use tallyman_cli::history::{Past, events_data};
use tallyman_cli::subject::Found;
use tallyman_cli::table::{Listing, Paint, data};
use tallyman_cli::tree::{Scope, listing};
use tallyman_cli::{namespaces, totals};
use tallyman_crds::Service;
use tallyman_operator_core::Objects;

use crate::support::{cluster, now, object};

const PLAIN: Paint = Paint(false);

/// What a program reads of a listing, the same in both forms.
fn read(listing: &Listing) -> Value {
    both(&listing.data.value())
}

fn both(value: &Value) -> Value {
    let of_json: Value = serde_json::from_str(&data(value, Form::Json)).unwrap();
    let of_yaml: Value = serde_saphyr::from_str(&data(value, Form::Yaml)).unwrap();
    assert_eq!(of_json, of_yaml);
    of_json
}

fn names(listing: &Listing) -> Vec<String> {
    let text = listing.text(Form::Name, PLAIN);
    text.lines().map(str::to_owned).collect()
}

/// What `get -o name` would print of a List of objects.
fn names_of_items(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    let name = |o: &Value| {
        assert_eq!(o["apiVersion"], "tallyman.dev/v1alpha1");
        let kind = o["kind"].as_str().unwrap().to_lowercase();
        let name = o["metadata"]["name"].as_str().unwrap();
        format!("{kind}.tallyman.dev/{name}")
    };
    items.iter().map(name).collect()
}

fn tree(objects: &Objects, scope: Scope<'_>) -> Listing {
    listing(objects, scope, false, now())
}

/// The cluster with a run, a task of nobody and books of who wrote what.
fn whole() -> Objects {
    let mut objects = cluster();
    let books = json!([{ "manager": "kubectl", "operation": "Apply" }]);
    let run =
        json!({ "metadata": { "managedFields": books }, "spec": { "taskDefinition": "web" } });
    objects.run_tasks.push(object("RunTask", "etl", run));
    let alone = json!({ "spec": { "taskDefinition": "web" } });
    objects.tasks.push(object("Task", "alone", alone));
    objects
}

#[test]
fn get_prints_objects_as_kubectl_does() {
    let objects = whole();
    let all = tree(&objects, Scope::All);
    let list = read(&all);
    assert_eq!(
        (&list["apiVersion"], &list["kind"]),
        (&json!("v1"), &json!("List"))
    );
    assert_eq!(names(&all), names_of_items(&list));
    assert_eq!(
        names(&all),
        [
            "service.tallyman.dev/web",
            "runtask.tallyman.dev/etl",
            "task.tallyman.dev/web-000001",
            "task.tallyman.dev/web-000002",
            "task.tallyman.dev/web-000003",
            "task.tallyman.dev/alone",
        ]
    );
    // Every field of an object, but for the book that the server keeps.
    let service = serde_json::to_value(&*objects.services[0]).unwrap();
    assert_eq!(list["items"][0], service);
    assert!(!list.to_string().contains("managedFields"));
    let run = tree(&objects, Scope::Run("etl"));
    assert_eq!(names(&run), ["runtask.tallyman.dev/etl"]);
    let web = tree(&objects, Scope::Service("web"));
    assert_eq!(names(&web).len(), 4);
    let nothing = read(&tree(&Objects::default(), Scope::All));
    assert_eq!(nothing["items"], json!([]));
}

#[test]
fn wide_trees_name_containers_for_docker() {
    let mut objects = cluster();
    let mut task = (*objects.tasks[1]).clone();
    let id = "4f1c0d2e9a8b7c6d5e4f30212223242526272829";
    task.status.as_mut().unwrap().containers[0].runtime_id = Some(id.to_owned());
    objects.tasks[1] = Arc::new(task);
    let listing = tree(&objects, Scope::Task("web-000002"));
    assert_snapshot!(listing.text(Form::Wide, PLAIN));
    assert!(!listing.text(Form::Table, PLAIN).contains("CONTAINER ID"));
}

#[test]
fn hosts_and_services_have_numbers_and_names() {
    let objects = cluster();
    let hosts = totals::hosts(&objects);
    assert_eq!(
        names(&hosts),
        ["a", "b", "c"].map(|h| format!("containerinstance.tallyman.dev/{h}"))
    );
    let first = &read(&hosts)[0];
    assert_eq!(first["namespace"], "default");
    assert_eq!(first["cluster"], "default");
    assert_eq!(first["registered"]["cpu"], 2048);
    let services = totals::services(&objects, "default");
    assert_eq!(names(&services), ["service.tallyman.dev/web"]);
    assert_eq!(
        read(&services),
        json!([{ "namespace": "default", "service": "web", "cluster": "default", "tasks": 2, "cpu": 512,
                 "memory": 1024, "gpus": 0, "hosts": { "a": 2 } }])
    );
    let instances = totals::instances(&objects, "default", None);
    assert_eq!(names(&instances), names_of_items(&read(&instances)));
}

#[test]
fn a_history_has_its_events_for_programs_too() {
    let objects = cluster();
    let service = &objects.services[0];
    let listing = Past::of(service, &objects.revisions)
        .unwrap()
        .listing(service, now());
    assert_eq!(
        names(&listing),
        ["taskdefinitionrevision.tallyman.dev/web-1"]
    );
    let revision = &read(&listing)[0];
    assert_eq!(
        (&revision["revision"], &revision["taskDefinition"]),
        (&json!(1), &json!("web:1"))
    );
    assert_eq!(revision["images"], json!(["web:1"]));
    assert_eq!(
        both(&events_data(service)),
        json!([{ "createdAt": "2026-01-01T00:00:00Z", "message": "(service web) has reached a steady state." }])
    );
}

#[test]
fn explanations_and_forecasts_have_both_forms_and_names() {
    let objects = cluster();
    let found = Found::Service(Service::clone(&objects.services[0]));
    assert_eq!(found.resource(), "service.tallyman.dev/web");
    let explanation = both(&explain(&objects, "default", &found, now()).data());
    assert_eq!(
        (&explanation["subject"], &explanation["asWanted"]),
        (&json!("service web"), &json!(true))
    );

    let change = |group: &str, kind: &str, verb| Change {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: "web".to_owned(),
        verb,
        differences: Vec::new(),
    };
    let forecast = Forecast {
        objects: vec![
            change("tallyman.dev", "Service", Verb::Change),
            change("tallyman.dev", "TaskDefinition", Verb::Keep),
            change("", "ConfigMap", Verb::Create),
        ],
        ..Forecast::default()
    };
    assert_eq!(
        forecast.names(),
        "service.tallyman.dev/web\nconfigmap/web\n"
    );
    let read = both(&serde_json::to_value(&forecast).unwrap());
    assert_eq!(read["objects"][0]["verb"], "change");
}

/// YAML has words that are more than text.
#[test]
fn text_stays_text() {
    let odd = [
        "yes",
        "NO",
        "null",
        "~",
        "1",
        "1e3",
        "0x1F",
        "01",
        "1:30",
        "2026-01-01",
        "",
        " a",
        "a: b",
        "- a",
        "#a",
        "a\nb\n",
        "é\u{1b}",
        "{{x}}",
        "!t",
        "&a",
        "*a",
        "'",
        "\"",
        "@",
        "%",
        "=",
        ".inf",
    ];
    both(&json!(odd));
    let keys: BTreeMap<&str, i32> = odd.iter().map(|k| (*k, 1)).collect();
    both(&json!(keys));
}

/// The same objects in another namespace.
fn moved<K: Resource + Clone>(list: &[Arc<K>], namespace: &str) -> Vec<Arc<K>> {
    let each = list.iter().map(|o| {
        let mut o = K::clone(o);
        o.meta_mut().namespace = Some(namespace.to_owned());
        Arc::new(o)
    });
    each.collect()
}

#[test]
fn objects_of_all_namespaces_stay_apart() {
    let here = cluster();
    let objects = Objects {
        clusters: [here.clusters.clone(), moved(&here.clusters, "prod")].concat(),
        revisions: [here.revisions.clone(), moved(&here.revisions, "prod")].concat(),
        services: [here.services.clone(), moved(&here.services, "prod")].concat(),
        tasks: [here.tasks.clone(), moved(&here.tasks[1..2], "prod")].concat(),
        instances: [here.instances.clone(), moved(&here.instances[..1], "prod")].concat(),
        ..Objects::default()
    };
    let parts = namespaces::apart(objects);
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["default", "prod"]);
    let all = |list: &dyn Fn(&str, &Objects) -> Listing| {
        let parts = parts.iter();
        Listing::of_namespaces(parts.map(|(n, o)| (n.clone(), list(n, o))).collect())
    };
    let trees = all(&|_, o| tree(o, Scope::All));
    let hosts = all(&|_, o| totals::hosts(o));
    let services = all(&|n, o| totals::services(o, n));
    let instances = all(&|n, o| totals::instances(o, n, None));
    let texts = [&trees, &hosts, &services, &instances].map(|l| l.text(Form::Table, PLAIN));
    assert_snapshot!(texts.join("\n"));
    // Two tasks of `default` and one of `prod`, each by its own service.
    let tasks: Vec<Value> = read(&services)
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["tasks"].clone())
        .collect();
    assert_eq!(tasks, [2, 1]);
    let namespaces = read(&instances);
    let namespaces = namespaces["items"].as_array().unwrap().iter();
    let namespaces: Vec<&str> = namespaces
        .map(|i| i["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, ["default", "default", "default", "prod"]);
    let nothing = Listing::of_namespaces(BTreeMap::new());
    assert!(nothing.table.rows.is_empty() && nothing.names.is_empty());
}
