//! Objects that are there and cannot be read: nobody takes them for deleted, others go on, and the field is told.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tallyman_crds::DesiredStatus;
use tallyman_crds::readable::Unread;
use tallyman_operator_core::unreadable::of_join;
use tallyman_operator_core::{Action, Kind, Memory, Plan, Unreadable};

use crate::common::Bench;
use crate::common::build::{definition, service};

fn unread(metadata: ObjectMeta) -> Unread {
    Unread {
        metadata,
        cluster: Some("default".to_owned()),
        field: "spec.tags[0].key".to_owned(),
        why: "invalid type: string \"hunter2\", expected i32".to_owned(),
    }
}

/// The object leaves the cache, and is known by its metadata only.
fn darken(bench: &mut Bench, kind: Kind, name: &str) {
    fn take<K>(list: &mut Vec<Arc<K>>, meta: impl Fn(&K) -> &ObjectMeta, name: &str) -> ObjectMeta {
        let at = list
            .iter()
            .position(|o| meta(o).name.as_deref() == Some(name))
            .unwrap();
        meta(&list.remove(at)).clone()
    }
    let objects = &mut bench.objects;
    let metadata = match kind {
        Kind::Service => take(&mut objects.services, |o| &o.metadata, name),
        Kind::Task => take(&mut objects.tasks, |o| &o.metadata, name),
        Kind::RunTask => take(&mut objects.run_tasks, |o| &o.metadata, name),
        Kind::ContainerInstance => take(&mut objects.instances, |o| &o.metadata, name),
        Kind::TaskDefinition => take(&mut objects.task_definitions, |o| &o.metadata, name),
        Kind::TaskDefinitionRevision => take(&mut objects.revisions, |o| &o.metadata, name),
        Kind::HostPlan => take(&mut objects.plans, |o| &o.metadata, name),
        other => panic!("no test needs a {other:?}"),
    };
    objects.unreadable.push(Arc::new(Unreadable {
        kind,
        unread: unread(metadata),
    }));
}

/// What a pass over everything decides, for the namespace and for each cluster.
fn plans(bench: &Bench) -> Vec<Plan> {
    let mut memory = Memory::new("test", &bench.settings, bench.epoch);
    memory.pass_over(&bench.objects, bench.now)
}

fn at_rest() -> Bench {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.apply_service("other", service("web", 1, 100, 200));
    bench.converge(60);
    bench
}

fn told(plans: &[Plan]) -> Vec<String> {
    let notes = plans.iter().flat_map(|p| &p.notes);
    let unreadable = notes.filter(|n| n.reason == "Unreadable");
    unreadable.map(|n| n.message.clone()).collect()
}

/// Whatever they decide, carried out until nothing is left to do.
fn settle(bench: &mut Bench) -> usize {
    let mut done = 0;
    for _ in 0..12 {
        let all = plans(bench);
        let actions: usize = all.iter().map(|p| p.actions.len()).sum();
        let publications: usize = all.iter().map(|p| p.publications.len()).sum();
        if actions + publications == 0 {
            return done;
        }
        done += actions;
        all.iter().for_each(|plan| bench.apply(plan));
    }
    panic!("no fixpoint");
}

#[test]
fn tasks_of_a_service_that_cannot_be_read_run_on_and_another_service_goes_on() {
    let mut bench = at_rest();
    let before = bench.tasks(|t| t.spec.group.as_deref() == Some("service:web"));
    assert_eq!(before.len(), 2);
    darken(&mut bench, Kind::Service, "web");
    bench.scale("other", 3);
    settle(&mut bench);
    bench.run_all();
    settle(&mut bench);
    let running = |bench: &Bench, group: &str| {
        bench.tasks(|t| {
            t.spec.group.as_deref() == Some(group)
                && t.spec.desired_status == DesiredStatus::Running
        })
    };
    assert_eq!(running(&bench, "service:web"), before);
    assert_eq!(running(&bench, "service:other").len(), 3);
    // Not even when their host is lost: nobody knows what the service wants of that.
    bench.silent("host-a", 4000);
    settle(&mut bench);
    assert_eq!(running(&bench, "service:web"), before);
}

#[test]
fn the_field_is_told_and_not_its_value() {
    let mut bench = at_rest();
    darken(&mut bench, Kind::Service, "web");
    assert_eq!(
        told(&plans(&bench)),
        [
            "(Service web) is stored in a way that this version cannot read: `spec.tags[0].key` must be i32. Put the field right, \
             or delete the object. Until then it and what is its own are left as they are; nothing else waits for it."
        ]
    );
}

#[test]
fn a_plan_that_cannot_be_read_is_made_anew_and_says_what_it_said() {
    let mut bench = at_rest();
    let plan = |bench: &Bench| {
        bench
            .objects
            .plans
            .iter()
            .find(|p| p.metadata.name.as_deref() == Some("host-a"))
            .cloned()
    };
    let before = plan(&bench).unwrap();
    assert!(!before.spec.tasks.is_empty());
    darken(&mut bench, Kind::HostPlan, "host-a");
    let all = plans(&bench);
    let actions: Vec<_> = all.iter().flat_map(|p| &p.actions).collect();
    assert!(
        matches!(actions[..], [Action::Delete(of)] if of.kind == Kind::HostPlan && Some(&of.uid) == before.metadata.uid.as_ref()),
        "{actions:?}"
    );
    let [message] = told(&all).try_into().unwrap();
    assert!(message.contains("It is deleted and made anew"), "{message}");
    // It is gone.
    bench.objects.unreadable.clear();
    settle(&mut bench);
    let after = plan(&bench).unwrap();
    assert_eq!(after.spec.tasks, before.spec.tasks);
    assert_eq!(after.spec.definitions, before.spec.definitions);
}

#[test]
fn where_a_task_or_a_host_cannot_be_read_nothing_is_decided_in_its_cluster() {
    for (kind, name) in [
        (Kind::Task, "web-000001"),
        (Kind::ContainerInstance, "host-a"),
    ] {
        let mut bench = at_rest();
        bench.apply_service("far", json!({ "taskDefinition": "web", "cluster": "far" }));
        settle(&mut bench);
        darken(&mut bench, kind, name);
        bench.scale("other", 3);
        bench.silent("host-b", 4000);
        bench.edit(Kind::Service, "far", &|v| {
            v["spec"]["desiredCount"] = json!(1);
        });
        let all = plans(&bench);
        let actions: Vec<_> = all.iter().flat_map(|p| &p.actions).collect();
        assert!(actions.is_empty(), "{kind:?}: {actions:?}");
        let published = all.iter().flat_map(|p| &p.publications);
        let published: Vec<_> = published.map(|p| p.target.name.as_str()).collect();
        assert!(published.contains(&"far"), "{kind:?}: {published:?}");
        assert!(!published.contains(&"other"), "{kind:?}: {published:?}");
        let [message] = told(&all).try_into().unwrap();
        assert!(
            message.contains("nothing is decided in cluster `default`"),
            "{message}"
        );
    }
}

#[test]
fn without_a_revision_nobody_can_tell_so_the_namespace_waits() {
    let mut bench = at_rest();
    darken(&mut bench, Kind::TaskDefinitionRevision, "web-1");
    bench.apply_definition("web", definition("web:2"));
    bench.scale("other", 3);
    let all = plans(&bench);
    assert!(all.iter().all(|p| p.actions.is_empty()), "{all:?}");
    let [message] = told(&all).try_into().unwrap();
    assert!(
        message.contains("nothing is decided in this namespace"),
        "{message}"
    );
}

#[test]
fn a_revision_is_not_let_go_while_something_that_may_use_it_cannot_be_read() {
    let mut bench = at_rest();
    for service in ["web", "other"] {
        bench.edit(Kind::Service, service, &|v| {
            v["spec"]["desiredCount"] = json!(0)
        });
    }
    bench.settle();
    bench.stop_all();
    bench.delete(Kind::Service, "other");
    bench.settle();
    darken(&mut bench, Kind::Service, "web");
    darken(&mut bench, Kind::TaskDefinition, "web");
    bench.delete(Kind::TaskDefinitionRevision, "web-1");
    settle(&mut bench);
    assert_eq!(bench.names(Kind::TaskDefinitionRevision), ["web-1"]);
}

#[test]
fn a_schedule_waits_while_one_of_its_runs_cannot_be_read() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("job", definition("job:1"));
    let fields = json!({ "scheduleExpression": "rate(1 hour)", "concurrencyPolicy": "Forbid" });
    bench.apply_schedule("hourly", fields);
    bench.settle();
    bench.pass_time(3700);
    bench.settle();
    let [run] = bench.names(Kind::RunTask).try_into().unwrap();
    bench.run_all();
    bench.settle();
    let tasks = bench.names(Kind::Task);
    darken(&mut bench, Kind::RunTask, &run);
    bench.pass_time(7300);
    settle(&mut bench);
    assert!(
        bench.names(Kind::RunTask).is_empty(),
        "Forbid: the run may go on"
    );
    assert_eq!(
        bench.names(Kind::Task),
        tasks,
        "nor is its task taken for that of a run that was deleted"
    );
}

#[test]
fn of_a_host_join_the_field_is_told_and_that_nothing_else_waits() {
    let metadata = ObjectMeta {
        name: Some("host-a".to_owned()),
        ..ObjectMeta::default()
    };
    assert_eq!(
        of_join(&unread(metadata)),
        "(HostJoin host-a) is stored in a way that this version cannot read: `spec.tags[0].key` must be i32. Put the field right, \
         or delete the object. Until then no host joins by it; hosts that have joined and other joins do not wait."
    );
}
