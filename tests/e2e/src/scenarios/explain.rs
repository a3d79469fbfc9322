//! Why something does not run, said on the object and in an event.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::{Scenario, folder};
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a service that cannot be placed says why, with counts",
        run: unplaceable,
    },
    Scenario {
        name: "kubectl describe of a service has the sentences of ECS",
        run: sentences,
    },
    Scenario {
        name: "a bad task definition names its field, and others go on",
        run: bad_definition,
    },
    Scenario {
        name: "a field that nothing honours is named, with the reason",
        run: unsupported,
    },
    Scenario {
        name: "the examples of the 2015 guide register, and run or name the field",
        run: guide_2015,
    },
];

fn events_of(user: &User<'_>, name: &str) -> Result<Vec<String>> {
    let all = user
        .kubectl()
        .list("events.events.k8s.io", user.namespace())?;
    Ok(all
        .iter()
        .filter(|e| e["regarding"]["name"] == name)
        .filter_map(|e| e["note"].as_str().map(str::to_owned))
        .collect())
}

fn unplaceable(user: &User<'_>) -> Result<()> {
    let mut t = hello("big", "x");
    t["spec"]["containerDefinitions"][0]["memory"] = json!(900_000);
    user.apply(&[t, service("big", 2)])?;
    wait_until("the service to say why", PATIENCE, || {
        let s = user.get("services", "big")?;
        let (_, reason, message) = condition(&s, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        for part in [
            "2 of 2 tasks cannot be placed",
            "Of 3 hosts, 3 lack memory",
            "900000 MiB",
            "insufficient memory available",
        ] {
            ensure!(
                message.contains(part),
                "the message lacks '{part}': {message}"
            );
        }
        Ok(true)
    })?;
    let sentence = "(service big) was unable to place a task because no container instance met all of its requirements.";
    wait_until("the ECS event", PATIENCE, || {
        let events = events_of(user, "big")?;
        ensure!(events.iter().any(|e| e.starts_with(sentence)), "{events:?}");
        Ok(true)
    })?;
    user.apply(&[hello("big", "x")])?;
    user.wait_steady("big", 2)?;
    user.delete(&["big"])
}

/// Changes a `spec`.
type Want = fn(&mut Value);

/// Those that need a breaker, a protected task or `memberOf` are in the scenarios of these.
fn sentences(user: &User<'_>) -> Result<()> {
    let mut rows: Vec<(&str, Value, Value, Vec<&str>)> = vec![(
        "plain",
        hello("plain", "x"),
        service("plain", 1),
        vec![
            "(service plain) has started 1 tasks: (task plain-000001).",
            "(service plain) has reached a steady state.",
        ],
    )];
    // What no host has, or not for a fourth task, and what ECS says of the closest.
    let wants: [(&str, Want, &str); 4] = [
        (
            "cpu",
            |spec| spec["containerDefinitions"][0]["cpu"] = json!(262_144),
            "has insufficient CPU units available.",
        ),
        (
            "memory",
            |spec| spec["containerDefinitions"][0]["memory"] = json!(900_000),
            "has insufficient memory available.",
        ),
        (
            "port",
            |spec| spec["containerDefinitions"][0]["portMappings"][0]["hostPort"] = json!(8091),
            "is already using a port required by your task.",
        ),
        (
            "arm",
            |spec| spec["runtimePlatform"] = json!({ "cpuArchitecture": "ARM64" }),
            "is missing an attribute required by your task.",
        ),
    ];
    for (name, want, sentence) in wants {
        let mut definition = hello(name, "x");
        want(&mut definition["spec"]);
        let unplaced =
            "was unable to place a task because no container instance met all of its requirements.";
        rows.push((name, definition, service(name, 4), vec![unplaced, sentence]));
    }
    let mut nobody = service("nobody", 1);
    nobody["spec"]["cluster"] = json!("empty");
    let no_host = "(service nobody) was unable to place a task because no container instance met all of its requirements. Reason: No \
                   Container Instances were found in your cluster.";
    rows.push(("nobody", hello("nobody", "x"), nobody, vec![no_host]));
    let mut sick = hello("sick", "x");
    sick["spec"]["containerDefinitions"][0]["healthCheck"] =
        json!({ "command": ["CMD-SHELL", "exit 1"], "interval": 5, "retries": 1 });
    let failed = vec![
        "(service sick) (task sick-",
        ") failed container health checks.",
    ];
    rows.push(("sick", sick, service("sick", 1), failed));
    let mut broken = hello("never", "x");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/no-such:1");
    rows.push((
        "never",
        broken,
        service("never", 1),
        vec!["(service never) is unable to consistently start tasks successfully."],
    ));
    let objects: Vec<Value> = rows
        .iter()
        .flat_map(|(_, t, s, _)| [t.clone(), s.clone()])
        .collect();
    user.apply(&objects)?;
    for (name, _, _, sentences) in &rows {
        said(user, name, sentences)?;
    }
    user.k(&["scale", "services.tallyman.dev/plain", "--replicas=0"])?;
    said(
        user,
        "plain",
        &["(service plain) has stopped 1 running tasks: (task plain-000001)."],
    )?;
    // All are to stay healthy, and not one more may run: nothing can move.
    let mut tight = service("plain", 1);
    tight["spec"]["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": 100, "maximumPercent": 100 });
    user.apply(&[tight])?;
    user.wait_steady("plain", 1)?;
    user.apply(&[hello("plain", "y")])?;
    said(
        user,
        "plain",
        &[
            "(service plain) was unable to stop or start tasks during a deployment because of the service deployment configuration. \
           Update the minimumHealthyPercent or maximumPercent value and try again.",
        ],
    )?;
    let names: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
    user.delete(&names)?;
    user.k(&["delete", "clusters.tallyman.dev", "empty", "--timeout=60s"])?;
    Ok(())
}

/// Waits until `kubectl describe` of the service has all these sentences.
fn said(user: &User<'_>, service: &str, sentences: &[&str]) -> Result<()> {
    wait_until(format!("the sentences of {service}"), PATIENCE, || {
        let text = user.k(&["describe", "services.tallyman.dev", service])?;
        for sentence in sentences {
            ensure!(text.contains(sentence), "it lacks '{sentence}':\n{text}");
        }
        Ok(true)
    })
}

fn bad_definition(user: &User<'_>) -> Result<()> {
    let mut t = hello("bad", "x");
    t["spec"]["containerDefinitions"][0]["portMappings"][0]["containerPort"] = json!(700_000);
    let refused = user
        .apply(&[t])
        .map_or_else(|e| format!("{e:#}"), |text| format!("accepted: {text}"));
    ensure!(
        refused.contains("containerPort") && refused.contains("65535"),
        "kubectl said: {refused}"
    );
    // What no schema can know is said on the object.
    let mut a = hello("twin-a", "x");
    a["spec"]["family"] = json!("twin");
    let mut b = hello("twin-b", "x");
    b["spec"]["family"] = json!("twin");
    user.apply(&[a])?;
    wait_until("twin-a to register", PATIENCE, || {
        Ok(condition(&user.get("taskdefinitions", "twin-a")?, "Ready").0 == "True")
    })?;
    user.apply(&[b, hello("good", "x"), service("good", 1)])?;
    wait_until("twin-b to be Stalled", PATIENCE, || {
        let (stalled, reason, message) =
            condition(&user.get("taskdefinitions", "twin-b")?, "Stalled");
        ensure!(
            stalled == "True" && reason == "FamilyConflict",
            "{reason}: {message}"
        );
        ensure!(message.contains("spec.family"), "{message}");
        Ok(true)
    })?;
    user.wait_steady("good", 1)?;
    user.delete(&["good", "twin-a", "twin-b"])
}

fn unsupported(user: &User<'_>) -> Result<()> {
    let mut t = hello("ahead", "x");
    t["spec"]["containerDefinitions"][0]["credentialSpecs"] =
        json!(["credentialspec:file://x.json"]);
    user.apply(&[t, service("ahead", 1)])?;
    wait_until("the task definition to name the field", PATIENCE, || {
        let (status, _, message) =
            condition(&user.get("taskdefinitions", "ahead")?, "UnsupportedFields");
        ensure!(
            status == "True"
                && message
                    .contains("`spec.containerDefinitions[web].credentialSpecs` (group managed"),
            "{message}"
        );
        Ok(true)
    })?;
    wait_until("the service to pass it on", PATIENCE, || {
        let (_, _, message) = condition(&user.get("services", "ahead")?, "Ready");
        ensure!(message.contains("credentialSpecs"), "{message}");
        Ok(true)
    })?;
    ensure!(
        user.tasks("ahead")?.is_empty(),
        "a task was started all the same"
    );
    user.delete(&["ahead"])
}

/// `crds/tests/fixtures/task-definitions` holds the task definitions of the guide of 2015 as they were printed.
fn guide_2015(user: &User<'_>) -> Result<()> {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crds/tests/fixtures/task-definitions");
    let mut names = Vec::new();
    let mut runnable = Vec::new();
    // The hosts of the lab are this machine: what the guide mounts of the host is taken from here.
    let of_host = folder(user.lab.host(1).generation()).join("guide");
    for entry in std::fs::read_dir(&fixtures)? {
        let path = entry?.path();
        let mut spec: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        for c in spec["containerDefinitions"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            // What the image is to run by itself is a server, and one that links to it finds it running.
            let served = c.get("command").is_none() && c.get("entryPoint").is_none();
            c["image"] = json!(if served {
                "localhost/tallyman/hello:1"
            } else {
                "localhost/tallyman/busybox:1"
            });
        }
        let volumes = spec.get_mut("volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            if let Some(path) = volume["host"]["sourcePath"].as_str() {
                volume["host"]["sourcePath"] = json!(format!("{}{path}", of_host.display()));
            }
        }
        // The image has a shell and no Apache.
        let runs = spec["containerDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|c| matches!(c["entryPoint"][0].as_str(), None | Some("sh")));
        let file = path
            .file_stem()
            .map(|s| s.to_string_lossy().replace('_', "-"))
            .unwrap_or_default();
        let name = format!("guide-{file}");
        // Two fixtures print the same family.
        spec["family"] = json!(name);
        user.apply(&[
            json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": spec }),
        ])?;
        if runs {
            runnable.push(name.clone());
        }
        names.push(name);
    }
    ensure!(
        names.len() >= 3,
        "only {} examples in {}",
        names.len(),
        fixtures.display()
    );
    let mut run = Vec::new();
    for name in &names {
        let registered = wait_until(
            format!("{name} to register or to name the field"),
            PATIENCE,
            || {
                let t = user.get("taskdefinitions", name)?;
                let (ready, reason, message) = condition(&t, "Ready");
                let named = reason == "UnsupportedFields" && message.contains("spec.");
                ensure!(ready == "True" || named, "{reason}: {message}");
                Ok(Some(ready == "True"))
            },
        )?;
        if registered && runnable.contains(name) {
            run.push(name.as_str());
        }
    }
    ensure!(!run.is_empty(), "none of the examples of the guide runs");
    // One after the other: most of them want port 80.
    for name in &run {
        let task = json!({ "kind": "Task", "metadata": { "name": name }, "spec": { "taskDefinition": name } });
        user.apply(&[task])?;
        wait_until(format!("a task of {name} to run"), PATIENCE, || {
            let status = user.get("tasks", name)?["status"].clone();
            ensure!(status["startedAt"].is_string(), "{status}");
            Ok(true)
        })?;
        user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    }
    if of_host.exists() {
        std::fs::remove_dir_all(&of_host)?;
    }
    user.delete(&names.iter().map(String::as_str).collect::<Vec<_>>())
}
