//! Who else sets the count of a service: other field managers, `kubectl scale`, a HorizontalPodAutoscaler.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use super::gitops::Repository;
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "managers of different fields of a service do not fight, and `kubectl scale` stays",
        run: managed,
    },
    Scenario {
        name: "a HorizontalPodAutoscaler scales a service, and git leaves the count to it",
        run: autoscaled,
    },
];

/// `kubectl apply --server-side` of fields of a service by a manager, without force.
fn applied(user: &User<'_>, manager: &str, name: &str, spec: &Value) -> Result<String> {
    let manifest = json!({
        "apiVersion": "tallyman.dev/v1alpha1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": user.namespace() },
        "spec": spec,
    });
    let manager = format!("--field-manager={manager}");
    user.kubectl()
        .tool()
        .args(["apply", "--server-side", &manager, "-f", "-"])
        .stdin(manifest.to_string())
        .check()
}

/// `again` applies what was applied before: nobody refuses, and nothing is written. The operator may write in between, then it is done
/// once more.
fn writes_nothing(user: &User<'_>, name: &str, again: impl Fn() -> Result<()>) -> Result<()> {
    let version = || -> Result<Value> {
        Ok(user.get("services", name)?["metadata"]["resourceVersion"].clone())
    };
    wait_until("an apply that writes nothing", PATIENCE, || {
        let before = version()?;
        again()?;
        let after = version()?;
        ensure!(before == after, "it was {before} and is {after}");
        Ok(true)
    })
}

fn managed(user: &User<'_>) -> Result<()> {
    const NAME: &str = "shared";
    user.apply(&[hello(NAME, "x")])?;
    let what = json!({ "taskDefinition": NAME });
    let many = json!({ "desiredCount": 2 });
    let both = || -> Result<()> {
        applied(user, "developers", NAME, &what)?;
        applied(user, "capacity", NAME, &many).map(drop)
    };
    both()?;
    user.wait_steady(NAME, 2)?;
    writes_nothing(user, NAME, both)?;
    let spec = user.get("services", NAME)?["spec"].clone();
    ensure!(
        spec["taskDefinition"] == NAME && spec["desiredCount"] == 2,
        "{spec}"
    );

    // Each owns its own: whoever takes the other's field is told whose it is.
    let refused = applied(
        user,
        "developers",
        NAME,
        &json!({ "taskDefinition": NAME, "desiredCount": 5 }),
    );
    let refused = refused.err().context("developers took the count")?;
    ensure!(
        format!("{refused:#}").contains(r#"conflict with "capacity": .spec.desiredCount"#),
        "{refused:#}"
    );

    // Without a manager of the count what runs stays, until somebody scales. A manifest without the field leaves that alone.
    applied(user, "capacity", NAME, &json!({}))?;
    let spec = user.get("services", NAME)?["spec"].clone();
    ensure!(spec["desiredCount"].is_null(), "{spec}");
    user.wait_steady(NAME, 2)?;
    // Autoscalers see nothing of a service without a count: docs/gitops.md says so.
    let unseen = scale_of(user, NAME);
    let unseen = unseen.err().context("a count that is not there was told")?;
    ensure!(
        format!("{unseen:#}").contains(r#"".spec.desiredCount" does not exist"#),
        "{unseen:#}"
    );
    user.k(&["scale", "services.tallyman.dev/shared", "--replicas=3"])?;
    user.wait_steady(NAME, 3)?;
    writes_nothing(user, NAME, || {
        applied(user, "developers", NAME, &what).map(drop)
    })?;
    user.wait_steady(NAME, 3)?;
    user.delete(&[NAME])
}

/// What an autoscaler sees of a service.
fn scale_of(user: &User<'_>, name: &str) -> Result<Value> {
    let path = format!(
        "/apis/tallyman.dev/v1alpha1/namespaces/{}/services/{name}/scale",
        user.namespace()
    );
    let said = user.kubectl().ok(["get", "--raw", &path])?;
    serde_json::from_str(&said).context(said)
}

fn autoscaled(user: &User<'_>) -> Result<()> {
    const NAME: &str = "elastic";
    let repository = Repository::new(user, NAME)?;
    repository.write("task-definition.yaml", hello(NAME, "x"))?;
    repository.write("service.yaml", service(NAME, 1))?;
    repository.commit("one to begin with")?;
    repository.passes()?;
    told_to_autoscalers(user, NAME, 1)?;

    // Below the minimum, and later above the maximum, it needs no measurements.
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": NAME, "namespace": user.namespace() },
        "spec": {
            "scaleTargetRef": { "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service", "name": NAME },
            "minReplicas": 3,
            "maxReplicas": 4,
            "metrics": [{
                "type": "External",
                "external": {
                    "metric": { "name": "queue-length" },
                    "target": { "type": "AverageValue", "averageValue": "10" },
                },
            }],
        },
    });
    user.kubectl().apply(&autoscaler.to_string())?;
    user.wait_steady(NAME, 3)?;
    told_to_autoscalers(user, NAME, 3)?;

    // Git has the count to begin with, and Flux is told to leave it to others.
    let told = repository.passes_with(&["--ignore", "/spec/desiredCount"])?;
    ensure!(
        told.lines().all(|line| line.ends_with(" unchanged")),
        "a pass that ignores the count: {told}"
    );
    ensure!(user.get("services", NAME)?["spec"]["desiredCount"] == 3);
    user.k(&["scale", "services.tallyman.dev/elastic", "--replicas=6"])?;
    user.wait_steady(NAME, 4)?;

    // At zero it rests.
    user.k(&["scale", "services.tallyman.dev/elastic", "--replicas=0"])?;
    wait_until("the autoscaler to rest", PATIENCE, || {
        let found = user
            .kubectl()
            .get("horizontalpodautoscalers", user.namespace(), NAME)?
            .context("there is no autoscaler")?;
        let (status, reason, _) = condition(&found, "ScalingActive");
        ensure!(
            status == "False" && reason == "ScalingDisabled",
            "ScalingActive is {status}: {reason}"
        );
        Ok(true)
    })?;
    user.k(&["delete", "horizontalpodautoscalers", NAME])?;
    user.k(&["delete", "configmap", "inventory-apps"])?;
    user.delete(&[NAME])
}

/// The contract of HorizontalPodAutoscalers and of KEDA: how many are wanted, how many there are, and a selector, as text, that finds
/// those.
fn told_to_autoscalers(user: &User<'_>, name: &str, count: usize) -> Result<()> {
    let scale = scale_of(user, name)?;
    ensure!(
        scale["spec"]["replicas"] == count && scale["status"]["replicas"] == count,
        "{scale}"
    );
    let selector = scale["status"]["selector"]
        .as_str()
        .context("the selector is no text")?;
    let names = user.k(&["get", "tasks.tallyman.dev", "-l", selector, "-o", "name"])?;
    ensure!(
        names.lines().count() == count,
        "{selector} finds {names:?} and not {count}"
    );
    Ok(())
}
