//! Families: what mints a revision and what does not (ECS RegisterTaskDefinition).

use std::sync::Arc;

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::json;
use tallyman_crds::{ConditionStatus, RevisionLifecycle};
use tallyman_operator_core::Kind;

fn revisions(bench: &Bench) -> Vec<(String, String)> {
    let mut list: Vec<_> = bench
        .objects
        .revisions
        .iter()
        .map(|r| {
            (
                r.metadata.name.clone().unwrap(),
                r.spec.definition.container_definitions[0].image.clone(),
            )
        })
        .collect();
    list.sort();
    list
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn each_change_mints_the_next_revision_and_identical_content_mints_none() {
    let mut bench = Bench::default();
    bench.apply_definition("web", definition("a"));
    bench.settle();
    bench.apply_definition("web", definition("a"));
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a")]));
    bench.apply_definition("web", definition("b"));
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a"), ("web-2", "b")]));
    let status = bench.definition_status("web");
    assert_eq!(
        (status.latest.as_deref(), status.latest_revision),
        (Some("web:2"), 2)
    );
    assert_eq!(status.conditions[0].message, "Registered as web:2.");
}

#[test]
fn back_to_earlier_content_is_a_new_revision() {
    let mut bench = Bench::default();
    for image in ["a", "b", "a"] {
        bench.apply_definition("web", definition(image));
        bench.settle();
    }
    assert_eq!(
        revisions(&bench),
        pairs(&[("web-1", "a"), ("web-2", "b"), ("web-3", "a")])
    );
}

#[test]
fn a_revision_is_a_snapshot_with_its_family_owner_and_fence() {
    let mut bench = Bench::default();
    let mut spec = definition("a");
    spec["family"] = json!("Front_End");
    bench.apply_definition("web", spec);
    bench.settle();
    let r = &bench.objects.revisions[0];
    assert_eq!(r.metadata.name.as_deref(), Some("web-1"));
    assert_eq!((r.spec.family.as_str(), r.spec.revision), ("Front_End", 1));
    assert_eq!(r.spec.definition.family.as_deref(), Some("Front_End"));
    assert_eq!(r.metadata.owner_references.as_ref().unwrap()[0].name, "web");
    assert_eq!(
        r.metadata.finalizers.as_deref().unwrap(),
        ["tallyman.dev/in-use"]
    );
    assert_eq!(
        bench.definition_status("web").latest.as_deref(),
        Some("Front_End:1")
    );
}

#[test]
fn the_younger_of_two_objects_of_one_family_is_stalled() {
    let mut bench = Bench::default();
    bench.apply_definition("web", definition("a"));
    bench.pass_time(1);
    let mut other = definition("b");
    other["family"] = json!("web");
    bench.apply_definition("a-younger-one", other);
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a")]));
    let status = bench.definition_status("a-younger-one");
    assert_eq!(status.conditions[0].reason, "FamilyConflict");
    assert_eq!(status.conditions[1].type_, "Stalled");
    assert_eq!(
        status.conditions[0].message,
        "`spec.family` must be of one TaskDefinition only; `web` has family `web` already."
    );
    bench.delete(Kind::TaskDefinition, "web");
    bench.settle();
    assert_eq!(
        bench.definition_status("a-younger-one").conditions[0].status,
        ConditionStatus::True
    );
    assert_eq!(
        bench.definition_status("a-younger-one").latest.as_deref(),
        Some("web:2")
    );
}

#[test]
fn a_definition_that_cannot_run_is_stalled_names_the_field_and_leaves_the_last_good_one() {
    let mut bench = Bench::default();
    bench.apply_definition("web", definition("a"));
    bench.settle();
    let mut bad = definition("b");
    bad["containerDefinitions"][0]
        .as_object_mut()
        .unwrap()
        .remove("memory");
    bench.apply_definition("web", bad);
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a")]));
    let status = bench.definition_status("web");
    assert_eq!(status.conditions[0].reason, "InvalidSpec");
    assert!(
        status.conditions[0]
            .message
            .contains("`spec.containerDefinitions[app].memory`")
    );
    assert_eq!(status.latest.as_deref(), Some("web:1"));
}

#[test]
fn a_definition_has_64_kibibytes() {
    let with = |bytes: usize| {
        let mut spec = definition("a");
        let value = "x".repeat(bytes / 2);
        spec["containerDefinitions"][0]["environment"] =
            json!([{ "name": "A", "value": value }, { "name": "B", "value": value }]);
        spec
    };
    let mut bench = Bench::default();
    bench.apply_definition("web", with(60_000));
    bench.settle();
    assert_eq!(
        bench.definition_status("web").conditions[0].reason,
        "Registered"
    );
    bench.apply_definition("web", with(70_000));
    bench.settle();
    let status = bench.definition_status("web");
    let said = &status.conditions[0].message;
    assert!(
        said.starts_with("`spec` must be at most 65536 bytes as JSON, not 70"),
        "{said}"
    );
    assert_eq!(status.latest.as_deref(), Some("web:1"));
}

#[test]
fn fields_that_are_left_out_are_told_and_others_refuse() {
    let mut bench = Bench::default();
    let mut spec = definition("a");
    spec["executionRoleArn"] = json!("arn:aws:iam::1:role/x");
    bench.apply_definition("web", spec.clone());
    bench.settle();
    let status = bench.definition_status("web");
    assert_eq!(status.conditions[0].status, ConditionStatus::True);
    assert_eq!(status.conditions[1].type_, "UnsupportedFields");
    let message = &status.conditions[1].message;
    assert!(
        message.starts_with("Left out: `spec.executionRoleArn` (no role is assumed"),
        "{message}"
    );
    spec["containerDefinitions"][0]["credentialSpecs"] = json!(["credentialspec:file://x.json"]);
    bench.apply_definition("web", spec);
    bench.settle();
    let status = bench.definition_status("web");
    assert_eq!(status.conditions[0].reason, "UnsupportedFields");
    assert!(
        status.conditions[0]
            .message
            .starts_with("Not supported: `spec.containerDefinitions[app].credentialSpecs` (group"),
        "{}",
        status.conditions[0].message
    );
}

#[test]
fn numbers_are_never_reused() {
    let mut bench = Bench::default();
    for image in ["a", "b"] {
        bench.apply_definition("web", definition(image));
        bench.settle();
    }
    bench.delete(Kind::TaskDefinitionRevision, "web-2");
    bench.settle();
    assert_eq!(
        revisions(&bench),
        pairs(&[("web-1", "a")]),
        "unused: it goes at once"
    );
    assert_eq!(
        bench.definition_status("web").latest.as_deref(),
        Some("web:1")
    );
    bench.apply_definition("web", definition("c"));
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a"), ("web-3", "c")]));
}

#[test]
fn content_of_an_older_revision_after_the_newest_was_deregistered_is_that_revision() {
    let mut bench = Bench::default();
    for image in ["a", "b"] {
        bench.apply_definition("web", definition(image));
        bench.settle();
    }
    bench.delete(Kind::TaskDefinitionRevision, "web-2");
    bench.settle();
    bench.apply_definition("web", definition("a"));
    bench.settle();
    let status = bench.definition_status("web");
    let latest = status.latest.unwrap();
    let exists = bench
        .objects
        .revisions
        .iter()
        .any(|r| latest == format!("web:{}", r.spec.revision));
    assert!(
        exists,
        "{latest} is said to be the latest and is not there: {:?}",
        revisions(&bench)
    );
    assert_eq!(
        status.conditions[0].message,
        format!("Registered as {latest}.")
    );
}

#[test]
fn a_deregistered_revision_is_inactive_and_kept_while_in_use() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["taskDefinition"] = json!("web:1")
    });
    bench.converge(1);
    bench.delete(Kind::TaskDefinitionRevision, "web-1");
    bench.settle();
    let status = bench.objects.revisions[0].status.clone().unwrap();
    assert_eq!(status.status, RevisionLifecycle::Inactive);
    assert_eq!(
        bench
            .tasks(|t| t.status.as_ref().unwrap().stop_code.is_none())
            .len(),
        1
    );
    bench.delete(Kind::Service, "web");
    bench.converge(1);
    assert!(revisions(&bench).is_empty());
}

#[test]
fn a_service_that_follows_a_family_falls_back_to_the_latest_active_revision() {
    let mut bench = Bench::with_service(1, 1, 0, 100);
    bench.roll("web:2");
    bench.converge(60);
    assert_eq!(
        bench.service_status("web").task_definition.as_deref(),
        Some("web:2")
    );
    bench.delete(Kind::TaskDefinitionRevision, "web-2");
    bench.converge(60);
    assert_eq!(
        bench.service_status("web").task_definition.as_deref(),
        Some("web:1")
    );
    assert_eq!(revisions(&bench), pairs(&[("web-1", "web:1")]));
}

#[test]
fn other_services_go_on_while_one_definition_is_bad() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    bench.apply_definition(
        "bad",
        json!({ "containerDefinitions": [{ "name": "x", "image": "" }] }),
    );
    bench.apply_service("bad", service("bad", 1, 100, 200));
    bench.scale("web", 2);
    bench.converge(1);
    assert_eq!(bench.reason("web"), "SteadyState");
    let status = bench.service_status("bad");
    assert!(
        status.conditions[0].message.contains("image"),
        "{}",
        status.conditions[0].message
    );
}

#[test]
fn a_revision_says_which_attributes_its_hosts_must_have() {
    let mut bench = Bench::default();
    let mut spec = definition("a");
    spec["cpu"] = json!("1024");
    spec["runtimePlatform"] = json!({ "cpuArchitecture": "ARM64" });
    bench.apply_definition("web", spec);
    bench.settle();
    let status = bench.objects.revisions[0].status.as_ref().unwrap();
    let required = status
        .requires_attributes
        .iter()
        .map(|a| (a.name.as_str(), a.value.as_deref()));
    assert_eq!(
        required.collect::<Vec<_>>(),
        [
            ("ecs.capability.task-cpu-mem-limit", None),
            ("ecs.cpu-architecture", Some("arm64"))
        ]
    );
}

#[test]
fn a_definition_that_is_applied_anew_takes_no_revision_that_goes_with_the_one_before() {
    let mut bench = Bench::default();
    bench.apply_definition("web", definition("a"));
    bench.settle();
    // Deleted, and applied again before the garbage collector took what it had registered.
    bench.objects.task_definitions.clear();
    bench.apply_definition("web", definition("a"));
    let again = Arc::make_mut(&mut bench.objects.task_definitions[0]);
    again.metadata.uid = Some("another".to_owned());
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-1", "a"), ("web-2", "a")]));
    let status = bench.definition_status("web");
    assert_eq!(status.latest.as_deref(), Some("web:2"));
    bench.objects.revisions.remove(0);
    bench.settle();
    assert_eq!(revisions(&bench), pairs(&[("web-2", "a")]));
}
