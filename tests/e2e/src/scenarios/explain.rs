//! Why something does not run, said on the object and in an event.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
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
    // All that ECS has at once: each field that is not honoured is named.
    let text = include_str!("../../../../crds/tests/fixtures/task-definitions/every-field.json");
    let every: Value = serde_json::from_str(text)?;
    user.apply(&[
        json!({ "kind": "TaskDefinition", "metadata": { "name": "every-field" }, "spec": every }),
    ])?;
    wait_until("every such field to be named", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("taskdefinitions", "every-field")?, "Ready");
        ensure!(reason == "UnsupportedFields", "{reason}: {message}");
        for field in ["proxyConfiguration", "credentialSpecs", "ephemeralStorage"] {
            ensure!(message.contains(field), "it lacks {field}: {message}");
        }
        Ok(true)
    })?;
    user.delete(&["ahead", "every-field"])
}
