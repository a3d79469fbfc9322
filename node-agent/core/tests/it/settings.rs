//! Where settings come from, and that `docs/settings.md` tells all of them.
#![allow(clippy::disallowed_methods, reason = "a test that reads a page")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tallyman_agent_core::Settings;
use tallyman_agent_core::settings::process::{LogFormat, LogLevel, Rollover};
use tallyman_agent_core::settings::{Parsed, elsewhere, is_ours, variables};
use tallyman_agent_engine::PullBehavior;

fn parse(pairs: &[(&str, &str)], file: Option<&str>) -> Parsed {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Settings::parse_with_file(&map, file).unwrap()
}

#[test]
fn a_variable_goes_before_the_file_and_the_file_before_the_default() {
    let file = r#"{"Cluster": "filed", "ReservedMemory": 512, "ReservedPorts": [22, 80],
        "DockerStopTimeout": 45000000000, "ImagePullBehavior": 3, "PrivilegedDisabled": true,
        "TaskCPUMemLimit": false, "ImageCleanupExclusionList": ["a:1", "b"],
        "InstanceAttributes": {"stack": "prod"}, "TaskCleanupWaitDuration": 500000000}"#;
    let parsed = parse(
        &[("ECS_CLUSTER", "set"), ("ECS_RESERVED_PORTS", "")],
        Some(file),
    );
    let settings = parsed.settings;
    assert_eq!(settings.registration.cluster.as_deref(), Some("set"));
    assert_eq!(settings.registration.reserved_memory_mib, 512);
    assert_eq!(settings.registration.reserved_ports, [22, 80]);
    assert_eq!(settings.registration.instance_attributes["stack"], "prod");
    assert!(settings.registration.disable_privileged);
    assert_eq!(settings.tasks.stop_timeout, Duration::from_secs(45));
    assert!(!settings.tasks.cpu_mem_limit);
    assert_eq!(settings.images.pull_behavior, PullBehavior::PreferCached);
    assert_eq!(settings.images.excluded, ["a:1", "b"]);
    assert_eq!(settings.images.minimum_age, Duration::from_secs(3600));
    // Half a second is below the minimum.
    assert_eq!(settings.tasks.cleanup_wait, Duration::from_secs(3 * 3600));
    assert_eq!(parsed.warnings.len(), 1, "{:?}", parsed.warnings);
    assert!(
        parsed.warnings[0].starts_with("`TaskCleanupWaitDuration` of the configuration file"),
        "{:?}",
        parsed.warnings
    );
}

#[test]
fn every_minimum_is_as_the_page_says() {
    let mut stated = Vec::new();
    for variable in variables() {
        let Some((_, least)) = variable.what.split_once("at least ") else {
            continue;
        };
        let (least, _) = least.split_once(')').unwrap();
        let below = if least.ends_with(|c: char| c.is_ascii_digit()) {
            "0"
        } else {
            "500ms"
        };
        let parsed = parse(&[(variable.name, below)], None);
        assert_eq!(parsed.settings, Settings::default(), "{}", variable.name);
        assert_eq!(parsed.warnings.len(), 1, "{:?}", parsed.warnings);
        let parsed = parse(&[(variable.name, least)], None);
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        stated.push(variable.name);
    }
    // Those of ECS' README.
    for name in [
        "ECS_CONTAINER_CREATE_TIMEOUT",
        "ECS_CONTAINER_START_TIMEOUT",
        "ECS_CONTAINER_STOP_TIMEOUT",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
        "ECS_IMAGE_CLEANUP_INTERVAL",
    ] {
        assert!(stated.contains(&name), "{name} has no minimum");
    }
}

#[test]
fn a_bad_variable_leaves_the_value_of_the_file() {
    let parsed = parse(
        &[("ECS_RESERVED_MEMORY", "much")],
        Some("{\"ReservedMemory\": 7}"),
    );
    assert_eq!(parsed.settings.registration.reserved_memory_mib, 7);
    assert_eq!(parsed.warnings.len(), 1);
}

#[test]
fn a_file_that_is_no_json_object_stops_the_agent_and_an_empty_one_does_not() {
    let error = Settings::parse_with_file(&BTreeMap::new(), Some("Cluster=a")).unwrap_err();
    assert!(error.to_string().contains("not a JSON object"), "{error}");
    assert!(parse(&[], Some(" \n")).warnings.is_empty());
}

/// As the setup of ECS writes it on an EC2 host, with what people add.
#[test]
fn the_environment_file_of_an_ecs_host_starts_the_agent() {
    let parsed = parse(
        &[
            ("ECS_CLUSTER", "prod"),
            ("ECS_BACKEND_HOST", ""),
            ("ECS_DATADIR", "/data"),
            ("ECS_ENABLE_TASK_IAM_ROLE", "true"),
            ("ECS_LOGFILE", "/log/ecs-agent.log"),
            ("ECS_LOG_OUTPUT_FORMAT", "json"),
            ("ECS_LOG_ROLLOVER_TYPE", "hourly"),
            ("ECS_LOGLEVEL_ON_INSTANCE", "none"),
            (
                "ECS_AVAILABLE_LOGGING_DRIVERS",
                "[\"json-file\",\"awslogs\"]",
            ),
            ("ECS_IMAGE_CLEANUP_INTERVAL", "1m"),
            ("ECS_EXCLUDE_UNTRACKED_IMAGE", "base:1, tools"),
            ("ECS_CGROUP_CPU_PERIOD", "10ms"),
            ("ECS_SOMETHING_NEW", "1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("SSL_CERT_DIR", "/etc/pki"),
        ],
        None,
    );
    let settings = parsed.settings;
    assert_eq!(settings.process.data_dir, "/data");
    assert_eq!(settings.process.log_format, Some(LogFormat::Json));
    assert_eq!(settings.process.log_rollover, Rollover::Hourly);
    assert_eq!(settings.process.log_level_on_instance, Some(LogLevel::Off));
    assert_eq!(settings.images.excluded, ["base:1", "tools"]);
    assert_eq!(settings.images.cleanup_interval, Duration::from_secs(1800));
    assert_eq!(settings.tasks.cgroup_cpu_period, Duration::from_millis(10));
    assert_eq!(
        parsed.warnings,
        [
            "ECS_IMAGE_CLEANUP_INTERVAL is `1m`, below its minimum of 600 s; the default is used.",
            "ECS_SOMETHING_NEW, SSL_CERT_DIR have no meaning here; \
             docs/settings.md has the reasons.",
        ]
    );
}

#[test]
fn a_variable_is_read_or_has_no_meaning_and_is_passed_on_either_way() {
    let mut names = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for variable in variables() {
        assert!(names.insert(variable.name), "{} twice", variable.name);
        assert!(
            variable.key.is_empty() || keys.insert(variable.key),
            "{} twice",
            variable.key
        );
    }
    for (name, _) in elsewhere::VARIABLES {
        assert!(names.insert(name), "{name} twice");
    }
    assert!(names.into_iter().all(is_ours));
    assert!(elsewhere::VARIABLES.is_sorted());
}

#[test]
fn the_page_has_every_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let text = std::fs::read_to_string(path).unwrap();
    let found: BTreeSet<&str> = text.lines().filter(|l| l.starts_with("| `")).collect();
    let mut honoured: Vec<String> = variables()
        .map(|v| {
            let key = if v.key.is_empty() {
                String::new()
            } else {
                format!("`{}`", v.key)
            };
            format!("| `{}` | {key} | {} |", v.name, v.what)
        })
        .collect();
    honoured.sort();
    let left_out = elsewhere::VARIABLES
        .iter()
        .map(|(name, reason)| format!("| `{name}` | {reason} |"));
    let wanted: Vec<String> = honoured.into_iter().chain(left_out).collect();
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|row| !found.contains(row.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "missing in docs/settings.md: {missing:#?}"
    );
    let known: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let stale: Vec<&&str> = found.difference(&known).collect();
    assert!(stale.is_empty(), "stale in docs/settings.md: {stale:#?}");
}
