//! The generated definitions are current, bounded everywhere, explained everywhere, and every rule has its cases.

use std::collections::BTreeSet;

use crate::support;
use serde_json::Value;
use tallyman_crds::{rules, schema};

#[test]
fn generated_definitions_are_current() {
    let folder = support::here("generated");
    let mut wanted = BTreeSet::new();
    for crd in schema::crds() {
        let path = folder.join(&crd.file);
        let text = crd.yaml().expect("a definition can be written as YAML");
        assert!(
            std::fs::read_to_string(&path).ok().as_deref() == Some(text.as_str()),
            "{} is stale: run `cargo run -p tallyman-crds` and commit the result",
            path.display()
        );
        wanted.insert(path);
    }
    let found: BTreeSet<_> = support::files(&folder, "yaml").into_iter().collect();
    assert_eq!(
        found, wanted,
        "crds/generated/ holds the definitions and nothing else"
    );
}

#[test]
fn charts_and_plain_manifests_are_current() {
    let root = support::here("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let [hosts, joins] = schema::charts::POLICIES.map(read);
    let derived = schema::charts::derived(&schema::charts::Sources {
        operator: &read(schema::charts::OPERATOR),
        policies: [&hosts, &joins],
        authority: &read(schema::charts::AUTHORITY),
    })
    .expect("deploy/ has what charts need");
    let mut wanted = BTreeSet::new();
    for file in derived {
        let path = root.join(&file.path);
        assert!(
            std::fs::read_to_string(&path).ok().as_deref() == Some(file.text.as_str()),
            "{} is stale: run `make crds` and commit the result",
            path.display()
        );
        wanted.insert(path);
    }
    // A kind that is no more must not stay in a chart.
    let found = [
        "charts/tallyman/templates/crds",
        "charts/tallyman-crds/templates",
    ]
    .into_iter()
    .flat_map(|folder| support::files(&root.join(folder), "yaml"));
    for path in found {
        assert!(wanted.contains(&path), "{} is of no kind", path.display());
    }
}

#[test]
fn definitions_fit_an_annotation() {
    // A client-side apply keeps the whole object in one annotation of at most 262144 bytes.
    for crd in schema::crds() {
        let bytes = serde_json::to_string(&crd.json).expect("JSON").len();
        assert!(
            bytes < 200_000,
            "{} has {bytes} bytes as compact JSON",
            crd.file
        );
    }
}

#[test]
fn every_field_is_explained() {
    walk_all(&mut |path, node| {
        let text = node["description"].as_str().unwrap_or_default();
        assert!(
            path.ends_with("[]") || !text.is_empty(),
            "{path} has no description"
        );
        assert!(!text.starts_with("Auto-generated"), "{path}: {text}");
    });
}

#[test]
fn everything_is_bounded() {
    walk_all(&mut |path, node| match node["type"].as_str() {
        Some("string") => assert!(
            node.get("maxLength").is_some() || node.get("enum").is_some(),
            "{path}: a text needs maxLength or enum"
        ),
        Some("array") => {
            assert!(
                node.get("maxItems").is_some(),
                "{path}: a list needs maxItems"
            );
            assert!(
                node.get("x-kubernetes-list-type").is_some(),
                "{path}: a list needs a list type"
            );
        }
        Some("integer") => {
            assert!(
                node["minimum"].is_i64(),
                "{path}: a number needs a whole minimum"
            );
            let top = node.get("maximum").is_none_or(Value::is_i64);
            assert!(top, "{path}: a whole number needs a whole maximum");
            assert!(
                node.get("maximum").or(node.get("format")).is_some(),
                "{path}: a number needs a maximum"
            );
        }
        Some("number") => assert!(
            node.get("minimum").is_some() && node.get("maximum").is_some(),
            "{path}: a number needs minimum and maximum"
        ),
        Some("object") => {
            let map = node.get("additionalProperties").is_some();
            assert!(
                !map || node.get("maxProperties").is_some(),
                "{path}: a map needs maxProperties"
            );
        }
        Some("boolean") => {}
        other => unreachable!("{path}: type {other:?}"),
    });
}

#[test]
fn schemas_carry_no_noise() {
    walk_all(&mut |path, node| {
        for word in [
            "nullable", "title", "anyOf", "oneOf", "allOf", "$ref", "const", "$schema",
        ] {
            assert!(node.get(word).is_none(), "{path} says {word}");
        }
        let values = node["enum"].as_array().cloned().unwrap_or_default();
        assert!(values.iter().all(Value::is_string), "{path}: {values:?}");
        if let Some(format) = node["format"].as_str() {
            assert!(
                // Where a text has a format the API server takes a list for it.
                ["int32", "int64"].contains(&format),
                "{path}: format {format}"
            );
        }
        assert!(!node["default"].is_array(), "{path}: a list as default");
    });
}

#[test]
fn nobody_scales_a_service_by_default() {
    let crds = schema::crds();
    let service = crds
        .iter()
        .find(|crd| crd.kind == "Service")
        .expect("there is a Service");
    let version = &service.json["spec"]["versions"][0];
    let desired =
        &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["desiredCount"];
    assert_eq!(
        desired.get("default"),
        None,
        "a default would undo what an autoscaler or kubectl scale set"
    );
    assert_eq!(
        version["subresources"]["scale"]["specReplicasPath"],
        ".spec.desiredCount"
    );
}

#[test]
fn an_untouched_object_never_looks_observed() {
    for crd in schema::crds().iter().filter(|crd| crd.kind != "HostPlan") {
        let root = &crd.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let status = &root["properties"]["status"];
        assert_eq!(status["default"]["observedGeneration"], -1, "{}", crd.kind);
        assert_eq!(
            status["properties"]["observedGeneration"]["default"], -1,
            "{}",
            crd.kind
        );
    }
}

#[test]
fn rules_have_ids_of_their_own_and_messages_that_name_a_field() {
    let mut ids = BTreeSet::new();
    for rule in rules::all() {
        assert!(
            ids.insert(rule.id.clone()),
            "two rules are called {}",
            rule.id
        );
        assert!(rule.message.contains('`'), "{}: {}", rule.id, rule.message);
        assert!(
            !rule.message.ends_with('.'),
            "{}: kubectl goes on after the message",
            rule.id
        );
    }
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let ruled: BTreeSet<String> = rules::all().into_iter().map(|rule| rule.id).collect();
    let cased: BTreeSet<String> = support::cases().into_iter().map(|case| case.rule).collect();
    assert_eq!(ruled, cased);
}

#[test]
fn every_rule_stands_in_a_definition() {
    let all: Vec<String> = schema::crds()
        .iter()
        .map(|crd| crd.json.to_string())
        .collect();
    for rule in rules::all() {
        // Quoted when it stands for itself, in brackets among others.
        let text = serde_json::to_string(&rule.expression).expect("JSON");
        let text = match rule.frozen {
            true => format!("({})", text.trim_matches('"')),
            false => text,
        };
        assert!(
            all.iter().any(|crd| crd.contains(&text)),
            "{} is attached to nothing",
            rule.id
        );
    }
}

/// Calls `look` with path and schema of every field of every kind.
fn walk_all(look: &mut dyn FnMut(&str, &Value)) {
    for crd in schema::crds() {
        walk(
            &crd.kind,
            &crd.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            look,
        );
    }
}

fn walk(path: &str, node: &Value, look: &mut dyn FnMut(&str, &Value)) {
    look(path, node);
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, look);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = node.get(word).filter(|child| child.is_object()) {
            walk(&format!("{path}[]"), child, look);
        }
    }
}
