//! What becomes of ECS JSON and of Compose files, and that nothing of them is dropped without a word.
use insta::assert_snapshot;
use serde_json::Value;
use tallyman_cli::convert::{Options, convert, text};

fn options(together: bool) -> Options {
    Options {
        name: "folder".to_owned(),
        together,
        ..Options::default()
    }
}

fn converted(given: &str, together: bool) -> String {
    text(&convert(given, &options(together)).unwrap())
}

#[test]
fn a_described_task_definition() {
    assert_snapshot!(converted(
        include_str!("data/describe-task-definition.json"),
        false
    ));
}

#[test]
fn described_services() {
    assert_snapshot!(converted(
        include_str!("data/describe-services.json"),
        false
    ));
}

#[test]
fn described_tasks() {
    assert_snapshot!(converted(include_str!("data/describe-tasks.json"), false));
}

#[test]
fn described_task_sets() {
    assert_snapshot!(converted(
        include_str!("data/describe-task-sets.json"),
        false
    ));
}

#[test]
fn described_container_instances() {
    assert_snapshot!(converted(
        include_str!("data/describe-container-instances.json"),
        false
    ));
}

#[test]
fn described_clusters() {
    assert_snapshot!(converted(
        include_str!("data/describe-clusters.json"),
        false
    ));
}

/// Every field that ECS prints is in the manifest, or a note names it.
#[test]
fn no_field_that_ecs_describes_is_dropped_in_silence() {
    for (text, list) in [
        (include_str!("data/describe-tasks.json"), "tasks"),
        (include_str!("data/describe-task-sets.json"), "taskSets"),
        (
            include_str!("data/describe-container-instances.json"),
            "containerInstances",
        ),
        (include_str!("data/describe-clusters.json"), "clusters"),
        (include_str!("data/describe-services.json"), "services"),
    ] {
        let file: Value = serde_json::from_str(text).unwrap();
        for described in file[list].as_array().unwrap() {
            let one = serde_json::json!({ list: [described] });
            let made = convert(&one.to_string(), &options(false)).unwrap();
            let said = converted(&one.to_string(), false);
            assert_eq!(made.len(), 1, "{list}");
            for (field, value) in described.as_object().unwrap() {
                let nothing = [serde_json::json!([]), serde_json::json!("")].contains(value);
                // These are there under the name that they have in input, or are the object's name.
                let input = field.trim_end_matches("Arn");
                let known = ["cluster", "clusterName", "service", "serviceName"].contains(&input);
                let is_there = made[0].spec.get(input).is_some();
                let is_named = ["", "spec."]
                    .iter()
                    .any(|at| said.contains(&format!("`{at}{field}")));
                // Those of a service's task change nothing.
                let changes_nothing = field == "overrides"
                    && value["containerOverrides"] == serde_json::json!([{ "name": "web" }]);
                assert!(
                    nothing || known || is_there || is_named || changes_nothing,
                    "{list}: `{field}` is neither carried over nor named:\n{said}"
                );
            }
        }
    }
}

#[test]
fn tasks_that_are_alike_are_copies_of_one_run() {
    let file: Value = serde_json::from_str(include_str!("data/describe-tasks.json")).unwrap();
    let mut tasks = vec![file["tasks"][0].clone(); 13];
    tasks[1]["overrides"]["containerOverrides"][0]["command"] = serde_json::json!(["other"]);
    let text = serde_json::json!({ "tasks": tasks }).to_string();
    let made = convert(&text, &options(false)).unwrap();
    let counts: Vec<&Value> = made.iter().map(|m| &m.spec["count"]).collect();
    assert_eq!(
        counts,
        [&serde_json::json!(10), &Value::Null, &serde_json::json!(2)]
    );
}

#[test]
fn a_compose_file_a_service_for_each() {
    assert_snapshot!(converted(include_str!("data/compose.yaml"), false));
}

#[test]
fn a_compose_file_as_one_task() {
    assert_snapshot!(converted(include_str!("data/compose.yaml"), true));
}

#[test]
fn what_is_nothing_of_it_is_refused_with_what_would_be_right() {
    for (given, wanted) in [
        (
            "{}",
            "it must be the output of `aws ecs describe-task-definition`",
        ),
        (
            "only words",
            "it must be the output of `aws ecs describe-task-definition`",
        ),
        ("services: {}", "`services` is empty"),
        ("a: [", "it is neither JSON nor YAML"),
        (r#"{"services": []}"#, "it describes no service"),
        (
            r#"{"tasks": [], "failures": [{"arn": "a", "reason": "MISSING"}]}"#,
            r#"it describes no task; `failures`: [{"arn":"a","reason":"MISSING"}]"#,
        ),
        (r#"{"taskSets": [{}]}"#, "a task set must have `serviceArn`"),
        (r#"{"clusters": [7]}"#, "it must be an object, not 7"),
        (
            r#"{"containerInstances": [{}]}"#,
            "a container instance must have `containerInstanceArn`",
        ),
        (
            r#"{"containerDefinitions": []}"#,
            "a task definition must have `family`",
        ),
        (
            "services: {a: {image: '${NO:?give it}'}}",
            "variable `NO` must be set: give it",
        ),
    ] {
        let said = convert(given, &options(false)).unwrap_err();
        assert!(said.starts_with(wanted), "{given}: {said}");
    }
}

/// Every field that the Compose specification has of a service, as far as it can stand alone: it is carried over, or named.
#[test]
fn no_field_of_a_service_is_dropped_in_silence() {
    let whole = include_str!("data/every-field.yaml");
    let file: Value = serde_saphyr::from_str(whole).unwrap();
    let fields = file["services"]["one"].as_object().unwrap();
    for (field, value) in fields.iter().filter(|(f, _)| *f != "image") {
        let one = |with: bool| {
            let mut service = serde_json::json!({ "image": "a", "mem_limit": "64m" });
            if with {
                service[field] = value.clone();
            }
            let file = serde_json::json!({ "services": { "one": service } });
            convert(&file.to_string(), &options(true)).unwrap()
        };
        let (without, with) = (one(false), one(true));
        let same_as_default = ["restart"].contains(&field.as_str());
        assert!(
            same_as_default || without != with,
            "`{field}` makes no difference and is not named"
        );
    }
}
