//! Log routers at the door: what a definition may say of them, and what it asks of its host.

use crate::common::written::{one, problems, spec};
use serde_json::{Value, json};
use tallyman_crds::TaskDefinitionSpec;
use tallyman_operator_core::definition::Definition;

/// A router with these options, and a container with this log configuration.
fn routed(options: Value, log: Value) -> TaskDefinitionSpec {
    spec(json!({ "containerDefinitions": [
        { "name": "app", "image": "a", "memory": 64, "logConfiguration": log },
        { "name": "logs", "image": "r", "memory": 64,
          "firelensConfiguration": { "type": "fluentbit", "options": options } },
    ]}))
}

#[test]
fn a_log_router_and_what_is_sent_to_it_follow_the_rules_of_ecs() {
    let sends = |options: Value| json!({ "logDriver": "awsfirelens", "options": options });
    let stdout = || sends(json!({ "Name": "stdout" }));
    let file = json!({ "config-file-type": "file", "config-file-value": "/extra.conf" });
    for (options, log) in [
        (json!({}), stdout()),
        (
            json!({ "enable-ecs-log-metadata": "false" }),
            sends(json!({})),
        ),
        (file, sends(json!({ "exclude-pattern": "^#" }))),
        (json!({}), json!({ "logDriver": "json-file" })),
    ] {
        let parsed = Definition::parse(&routed(options.clone(), log.clone()));
        assert!(parsed.is_ok(), "{options} {log}: {parsed:?}");
    }
    let kept = |value: &str| json!({ "config-file-type": "s3", "config-file-value": value });
    for (options, log, at, words) in [
        (
            json!({ "enable-ecs-log-metadata": "maybe" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must have `true` or `false` as `enable-ecs-log-metadata`, not 'maybe'",
        ),
        (
            json!({ "config-file-type": "s3" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must have `config-file-value` with `config-file-type`",
        ),
        (
            json!({ "config-file-value": "/a" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must have `config-file-type`",
        ),
        (
            json!({ "config-file-type": "http", "config-file-value": "/a" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must have `file` or `s3` as `config-file-type`, not 'http'",
        ),
        (
            json!({ "config-file-type": "file", "config-file-value": "a b" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must have an absolute path without spaces",
        ),
        (
            json!({ "config-file-type": "file", "config-file-value": "/fluent-bit/etc/fluent-bit.conf" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "must not have `/fluent-bit/etc/fluent-bit.conf`",
        ),
        (
            kept("arn:aws:s3:::acme/extra.YAML"),
            stdout(),
            "logs].firelensConfiguration.options",
            "classic format",
        ),
        (
            kept("acme/extra.conf"),
            stdout(),
            "logs].firelensConfiguration.options",
            "must be the ARN of an object",
        ),
        (
            json!({ "flush": "1" }),
            stdout(),
            "logs].firelensConfiguration.options",
            "unlike `flush`",
        ),
        (
            json!({}),
            sends(json!({ "Host": "x" })),
            "app].logConfiguration.options",
            "must name the output plugin in `Name`",
        ),
        (
            json!({}),
            sends(json!({ "@type": "stdout" })),
            "app].logConfiguration.options",
            "must name the output plugin in `Name`",
        ),
        (
            json!({}),
            sends(json!({ "Name": "stdout", "log-driver-buffer-limit": "536870913" })),
            "app].logConfiguration.options",
            "must have a number from 0 to 536870912",
        ),
        (
            json!({}),
            sends(json!({ "Name": "stdout\n[OUTPUT]" })),
            "app].logConfiguration.options",
            "values of one line",
        ),
        (
            json!({}),
            json!({ "logDriver": "awsfirelens", "options": { "Name": "http", "Host": "x" },
                            "secretOptions": [{ "name": "Host", "valueFrom": "s:a" }] }),
            "app].logConfiguration.secretOptions",
            "set already",
        ),
        (
            json!({}),
            json!({ "logDriver": "awsfirelens", "options": { "Name": "http" },
                            "secretOptions": [{ "name": "Name", "valueFrom": "s:a" }] }),
            "app].logConfiguration.secretOptions",
            "belongs into `options`",
        ),
        (
            json!({}),
            json!({ "logDriver": "awsfirelens", "options": { "Name": "http" },
                            "secretOptions": [{ "name": "a}", "valueFrom": "s:a" }] }),
            "app].logConfiguration.secretOptions",
            "unlike 'a}'",
        ),
        (
            json!({}),
            json!({ "logDriver": "awsfirelens", "options": { "Name": "http" },
                            "secretOptions": [{ "name": "a", "valueFrom": "db:" }] }),
            "app].logConfiguration.secretOptions.valueFrom",
            "must name a key",
        ),
    ] {
        let found = problems(&routed(options, log));
        let [problem] = &found[..] else {
            panic!("{words}: {found:?}")
        };
        assert!(
            problem.contains(at) && problem.contains(words),
            "{words}: {problem}"
        );
    }
}

#[test]
fn a_task_has_one_log_router_that_is_root_and_sends_to_no_other() {
    let sends = json!({ "logDriver": "awsfirelens", "options": { "Name": "stdout" } });
    let alone = problems(&one(json!({ "logConfiguration": sends.clone() })));
    assert_eq!(
        alone,
        [
            "`spec.containerDefinitions[app].logConfiguration.logDriver` is `awsfirelens`, so a container of the task \
             must have `firelensConfiguration`"
        ]
    );
    let router = |more: Value| {
        let mut whole = json!({ "firelensConfiguration": { "type": "fluentd" } });
        whole
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one(whole)
    };
    for user in ["", "0", "0:0", "root"] {
        let parsed = Definition::parse(&router(json!({ "user": user })));
        assert!(parsed.is_ok(), "{user}: {parsed:?}");
    }
    for (more, at, words) in [
        (
            json!({ "user": "1000" }),
            "app].user",
            "must be absent or `0`",
        ),
        (
            json!({ "logConfiguration": { "logDriver": "awsfirelens", "options": {} } }),
            "app].logConfiguration.logDriver",
            "cannot send to itself",
        ),
    ] {
        let found = problems(&router(more));
        assert!(
            found.len() == 1 && found[0].contains(at) && found[0].contains(words),
            "{found:?}"
        );
    }
    let mut two = router(json!({}));
    let mut other = two.container_definitions[0].clone();
    other.name = "other".to_owned();
    two.container_definitions.push(other);
    let found = problems(&two);
    assert!(
        found.len() == 1
            && found[0].contains("other].firelensConfiguration")
            && found[0].contains("one container"),
        "{found:?}"
    );
}

#[test]
fn a_log_router_must_be_offered_by_the_host() {
    let of = |options: Value, log: Value| -> Vec<String> {
        let demand = Definition::parse(&routed(options, log)).unwrap().demand;
        demand.attributes.into_keys().collect()
    };
    const DRIVER: [&str; 2] = [
        "com.amazonaws.ecs.capability.docker-remote-api.1.18",
        "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
    ];
    let log = json!({ "logDriver": "awsfirelens", "options": { "Name": "stdout", "log-driver-buffer-limit": "1" } });
    let kept = json!({ "config-file-type": "s3", "config-file-value": "arn:aws:s3:::a/b.conf" });
    let mut wanted = DRIVER.to_vec();
    wanted.extend([
        "ecs.capability.firelens.fluentbit",
        "ecs.capability.firelens.options.config.s3",
        "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit",
    ]);
    assert_eq!(of(kept, log), wanted);
    let log = json!({ "logDriver": "awsfirelens", "options": { "Name": "stdout" } });
    let file = json!({ "config-file-type": "file", "config-file-value": "/a" });
    let mut wanted = DRIVER.to_vec();
    wanted.extend([
        "ecs.capability.firelens.fluentbit",
        "ecs.capability.firelens.options.config.file",
    ]);
    assert_eq!(of(file, log), wanted);
}
