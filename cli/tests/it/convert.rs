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
