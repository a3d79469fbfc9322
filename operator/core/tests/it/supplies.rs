//! Secrets on their way to hosts: what a host is given, when its tasks are told to it, and when it is taken away.

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::{Value, json};
use tallyman_crds::sources::{SourceKind, Supplied};
use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::{Action, requirements};

fn with_secret(image: &str, value_from: &str) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["secrets"] =
        json!([{ "name": "PASSWORD", "valueFrom": value_from }]);
    spec
}

fn value(text: &str) -> Option<Supplied> {
    Some(Supplied::Value(text.to_owned()))
}

fn planned(bench: &Bench, host: &str) -> Vec<String> {
    let plan = bench.host_plan(host);
    plan.tasks.iter().map(|t| t.name.clone()).collect()
}

#[test]
fn a_task_is_told_to_its_host_after_its_values() {
    let mut bench = Bench::with_hosts(1);
    bench.secret("db", &[("password", "one"), ("user", "anna")]);
    bench.settle();
    bench.apply_definition("web", with_secret("web:1", "db:password"));
    bench.apply_service("web", service("web", 1, 100, 200));
    let mut order = Vec::new();
    for action in bench.settle() {
        match action {
            Action::CreateTask(_) => order.push("task"),
            Action::Supply { .. } => order.push("supply"),
            Action::WriteHostPlan { .. } => order.push("plan"),
            _ => {}
        }
    }
    assert_eq!(order, ["task", "supply", "plan"]);
    assert_eq!(bench.given("host-a", "db:password").cloned(), value("one"));
    assert_eq!(
        bench.given("host-a", "db:user"),
        None,
        "nothing beside what a task names"
    );
}

#[test]
fn values_are_sealed_to_the_key_that_the_host_joined_with() {
    for key in [None, Some("c2VhbGVk")] {
        let mut bench = Bench::with_hosts(1);
        bench.settle();
        if let Some(key) = key {
            bench.host_key("host-a", key);
        }
        bench.secret("db", &[("password", "one")]);
        bench.apply_definition("web", with_secret("web:1", "db:password"));
        bench.apply_service("web", service("web", 1, 100, 200));
        let keys: Vec<_> = bench
            .settle()
            .into_iter()
            .filter_map(|action| match action {
                Action::Supply { key, .. } => Some(key),
                _ => None,
            })
            .collect();
        assert_eq!(keys, [key.map(str::to_owned)]);
    }
}

#[test]
fn only_the_host_that_runs_the_task_is_given_its_values_and_not_longer() {
    let mut bench = Bench::with_hosts(2);
    bench.secret("db", &[("password", "one")]);
    bench.apply_definition("web", with_secret("web:1", "db:password"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    let host = bench.host_of("web-000001");
    let other = if host == "host-a" { "host-b" } else { "host-a" };
    assert_eq!(bench.given(&host, "db:password").cloned(), value("one"));
    assert_eq!(bench.given(other, "db:password"), None);

    bench.report("web-000001", LastStatus::Running, &json!({}));
    bench.scale("web", 0);
    bench.settle();
    assert_eq!(
        bench.given(&host, "db:password"),
        None,
        "a task that is to stop starts nothing any more"
    );
}

#[test]
fn what_is_missing_is_told_to_the_host_so_that_the_task_can_fail() {
    let mut bench = Bench::with_hosts(1);
    bench.secret("db", &[("user", "anna")]);
    bench.apply_definition("web", with_secret("web:1", "db:password"));
    bench.apply_definition("api", with_secret("api:1", "nothing:password"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.apply_service("api", service("api", 1, 100, 200));
    bench.settle();
    assert_eq!(bench.given("host-a", "db:password"), Some(&Supplied::NoKey));
    assert_eq!(
        bench.given("host-a", "nothing:password"),
        Some(&Supplied::NoObject)
    );
    assert_eq!(planned(&bench, "host-a"), ["api-000001", "web-000001"]);

    // What is put right is supplied anew, also before the next task asks for it.
    bench.secret("nothing", &[("password", "two")]);
    bench.settle();
    assert_eq!(
        bench.given("host-a", "nothing:password").cloned(),
        value("two")
    );
}

#[test]
fn a_changed_secret_reaches_the_host_and_its_next_task() {
    let mut bench = Bench::with_hosts(1);
    bench.secret("db", &[("password", "one")]);
    bench.apply_definition("web", with_secret("web:1", "db:password"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    bench.report("web-000001", LastStatus::Running, &json!({}));
    bench.secret("db", &[("password", "two")]);
    bench.scale("web", 2);
    bench.settle();
    assert_eq!(bench.given("host-a", "db:password").cloned(), value("two"));
    assert_eq!(planned(&bench, "host-a"), ["web-000001", "web-000002"]);

    // A host goes on knowing what it was told, though the Secret is gone.
    bench.delete_secret("db");
    bench.settle();
    assert_eq!(planned(&bench, "host-a"), ["web-000001", "web-000002"]);
    assert_eq!(
        bench.given("host-a", "db:password"),
        Some(&Supplied::NoObject)
    );
}

#[test]
fn a_task_that_never_was_told_can_be_stopped_without_its_values() {
    let mut bench = Bench::with_hosts(1);
    bench.settle();
    // Locked out: its Secret is deleted.
    bench.objects.host_secrets.clear();
    bench.apply_definition("web", with_secret("web:1", "db:password"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    assert_eq!(planned(&bench, "host-a"), Vec::<String>::new());
    bench.scale("web", 0);
    bench.settle();
    let task = bench.task("web-000001").status.clone().unwrap_or_default();
    assert_eq!(
        (task.last_status, task.stop_code),
        (
            LastStatus::Stopped,
            Some(StopCode::ServiceSchedulerInitiated)
        ),
        "no host knows of it, so none is asked"
    );
}

#[test]
fn what_the_operator_made_is_handed_to_nobody_and_not_asked_for_again() {
    let mut bench = Bench::with_hosts(1);
    for kind in [SourceKind::Secret, SourceKind::ConfigMap] {
        bench.ours(kind, "mine");
    }
    let mut spec = with_secret("web:1", "mine:key");
    spec["containerDefinitions"][0]["environmentFiles"] =
        json!([{ "type": "configMap", "value": "mine:key" }]);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 1, 100, 200));
    // It settles: nothing is supplied twice.
    bench.settle();
    assert_eq!(bench.given("host-a", "mine:key"), Some(&Supplied::NoObject));
}

#[test]
fn a_stopping_task_keeps_the_credentials_of_its_role_and_nothing_else() {
    let mut bench = Bench::with_hosts(1);
    bench.secret("db", &[("password", "one")]);
    bench.secret("web", &[("AccessKeyId", "id"), ("SecretAccessKey", "key")]);
    let mut spec = with_secret("web:1", "db:password");
    spec["taskRoleArn"] = json!("arn:aws:iam::123456789012:role/web");
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    bench.report("web-000001", LastStatus::Running, &json!({}));
    assert_eq!(
        bench.given("host-a", "web:AccessKeyId"),
        value("id").as_ref()
    );
    bench.scale("web", 0);
    bench.settle();
    assert_eq!(bench.given("host-a", "db:password"), None);
    assert_eq!(
        bench.given("host-a", "web:AccessKeyId"),
        value("id").as_ref()
    );

    bench.report("web-000001", LastStatus::Stopped, &json!({}));
    bench.settle();
    assert_eq!(bench.given("host-a", "web:AccessKeyId"), None);
}

#[test]
fn a_role_is_read_and_needs_a_host_that_hands_out_credentials() {
    let mut bench = Bench::with_hosts(1);
    let mut spec = definition("web:1");
    spec["taskRoleArn"] = json!("arn:aws:iam::123456789012:user/web");
    bench.apply_definition("web", spec.clone());
    bench.settle();
    let message = |bench: &Bench| {
        let conditions = bench.definition_status("web").conditions;
        let stalled = conditions.into_iter().find(|c| c.type_ == "Stalled");
        stalled.map(|c| c.message).unwrap_or_default()
    };
    let said = message(&bench);
    assert!(
        said.contains("`spec.taskRoleArn` must be the name or the ARN of a role"),
        "{said}"
    );
    for (mode, attribute) in [
        ("bridge", "task-iam-role"),
        ("host", "task-iam-role-network-host"),
    ] {
        spec["taskRoleArn"] = json!("web");
        spec["networkMode"] = json!(mode);
        let spec = serde_json::from_value(spec.clone()).unwrap();
        let name = format!("com.amazonaws.ecs.capability.{attribute}");
        assert!(requirements::of(&spec).contains_key(&name), "{mode}");
    }
}

#[test]
fn references_that_cannot_be_read_stall_the_definition() {
    for (value_from, wanted) in [
        ("db:", "must name a key after the `:`"),
        ("arn:aws:s3:::bucket/key", "`s3` keeps neither"),
        (
            "arn:aws:secretsmanager:eu-west-1:1:secret:db-AbCdEf:password:AWSPREVIOUS:",
            "must not name a version",
        ),
        ("--", "must name a Secret"),
    ] {
        let mut bench = Bench::default();
        bench.apply_definition("web", with_secret("web:1", value_from));
        bench.settle();
        let status = bench.definition_status("web");
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
        let message = stalled.map(|c| c.message.clone()).unwrap_or_default();
        assert!(
            message.contains("spec.containerDefinitions[app].secrets.valueFrom")
                && message.contains(wanted),
            "{value_from}: {message}"
        );
    }
}

#[test]
fn a_name_is_set_once() {
    let mut bench = Bench::default();
    let mut spec = with_secret("web:1", "db:password");
    spec["containerDefinitions"][0]["environment"] = json!([{ "name": "PASSWORD", "value": "x" }]);
    bench.apply_definition("web", spec);
    bench.settle();
    let status = bench.definition_status("web");
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
    let message = stalled.map(|c| c.message.clone()).unwrap_or_default();
    assert!(message.contains("`PASSWORD` must be set once"), "{message}");
}
