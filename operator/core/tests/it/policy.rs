//! What a cluster does not let its tasks ask of a host: said with field and policy, and what runs is left alone.

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::{Value, json};
use tallyman_crds::DesiredStatus;
use tallyman_operator_core::Kind;

fn privileged() -> Value {
    let mut spec = definition("a");
    spec["containerDefinitions"][0]["privileged"] = json!(true);
    spec
}

fn stalled(bench: &Bench, service: &str) -> String {
    let conditions = bench.service_status(service).conditions;
    let found = conditions.into_iter().find(|c| c.type_ == "Stalled");
    found.map_or(String::new(), |c| c.message)
}

fn able(bench: &mut Bench) {
    let name = "com.amazonaws.ecs.capability.privileged-container";
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["attributes"] = json!([{ "name": name }]);
    });
}

#[test]
fn a_service_says_which_field_the_policy_refuses_and_runs_once_it_is_allowed() {
    let mut bench = Bench::with_hosts(1);
    able(&mut bench);
    bench.apply_definition("web", privileged());
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    let said = stalled(&bench, "web");
    let sentence =
        "must not be true: `spec.taskPolicy.privileged` of the Cluster does not allow it";
    assert!(
        said.contains(".privileged` ") && said.contains(sentence),
        "{said}"
    );
    assert!(bench.names(Kind::Task).is_empty());
    bench.set_policy(json!({ "privileged": true }));
    bench.settle();
    assert_eq!(stalled(&bench, "web"), "");
    assert_eq!(bench.names(Kind::Task).len(), 1);
}

#[test]
fn what_runs_goes_on_when_the_policy_is_narrowed_and_holds_what_it_holds() {
    let mut bench = Bench::with_hosts(1);
    able(&mut bench);
    bench.set_policy(json!({ "privileged": true }));
    bench.apply_definition("web", privileged());
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    let free = |bench: &Bench| {
        bench
            .instance("host-a")
            .status
            .clone()
            .unwrap()
            .remaining_resources
    };
    let (tasks, before) = (bench.names(Kind::Task), free(&bench));
    bench.set_policy(json!({}));
    bench.settle();
    assert!(stalled(&bench, "web").contains("does not allow it"));
    assert_eq!((bench.names(Kind::Task), free(&bench)), (tasks, before));
    let task = bench.task(&bench.names(Kind::Task)[0]);
    assert_eq!(task.spec.desired_status, DesiredStatus::Running);
}

#[test]
fn a_users_own_task_is_stopped_with_the_field() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", privileged());
    bench.settle();
    bench.apply_task("once", json!({ "taskDefinition": "web" }));
    bench.settle();
    let reason = bench
        .task("once")
        .status
        .clone()
        .unwrap()
        .stopped_reason
        .unwrap();
    assert!(
        reason.contains("`spec.taskPolicy.privileged` of the Cluster"),
        "{reason}"
    );
}

#[test]
fn a_host_is_told_the_policy_of_its_cluster() {
    let mut bench = Bench::with_hosts(1);
    bench.set_policy(json!({ "unconfined": true }));
    bench.settle();
    let policy = bench.host_plan("host-a").task_policy.clone().unwrap();
    assert_eq!(policy.unconfined, Some(true));
}
