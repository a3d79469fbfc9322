//! What `kubectl tally` prints, for programs and for people who go on looking, of real objects.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::wait_until;

use super::plugin::says;
use crate::suite::{Scenario, binary};
use crate::user::{PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kubectl tally prints what programs read and kubectl takes",
        run: forms,
    },
    Scenario {
        name: "kubectl tally looks into all namespaces",
        run: all_namespaces,
    },
    Scenario {
        name: "kubectl tally get -w prints each change and ends on Ctrl-C",
        run: watch,
    },
    Scenario {
        name: "kubectl tally goes back to a revision that is named, and follows again",
        run: going_back,
    },
    Scenario {
        name: "the API server takes what kubectl tally convert makes of ECS' descriptions",
        run: converted,
    },
];

/// What a command prints as JSON.
fn data(user: &User<'_>, args: &str) -> Result<Value> {
    let output = user.tally(&format!("{args} -o json"), 0)?;
    serde_json::from_str(&output.stdout).with_context(|| format!("`{args}`: {}", output.stdout))
}

/// Names of the objects of a List, as kubectl prints them.
fn names(list: &Value) -> BTreeSet<String> {
    let items = list["items"].as_array().into_iter().flatten();
    let name = |o: &Value| {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let kind = text(&o["kind"]).to_lowercase();
        format!("{kind}.tallyman.dev/{}", text(&o["metadata"]["name"]))
    };
    items.map(name).collect()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn forms(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("shown", "x"), service("shown", 2)])?;
    user.wait_steady("shown", 2)?;

    // Objects: kubectl reads both forms, finds each by the name that is printed, and has the same fields.
    let list = data(user, "get shown")?;
    ensure!(names(&list).len() == 3, "a service and two tasks: {list}");
    let stored = user.get("services", "shown")?;
    ensure!(list["items"][0]["spec"] == stored["spec"], "{list}");
    ensure!(
        list["items"][0]["metadata"]["uid"] == stored["metadata"]["uid"],
        "{list}"
    );
    ensure!(!list.to_string().contains("managedFields"), "{list}");
    let namespace = user.namespace();
    for form in ["json", "yaml"] {
        for what in ["get shown", "get", "instances"] {
            let read =
                format!("kubectl tally -n {namespace} {what} -o {form} | kubectl get -f - -o name");
            let found = lines(&user.shell(&read)?.stdout);
            let wanted = names(&data(user, what)?);
            ensure!(
                found == wanted && !wanted.is_empty(),
                "`{read}`: {found:?}, not {wanted:?}"
            );
        }
    }
    for what in [
        "get shown",
        "explain shown",
        "history shown",
        "top",
        "top hosts",
        "instances",
    ] {
        let printed = lines(&user.tally(&format!("{what} -o name"), 0)?.stdout);
        let again = format!(
            "kubectl get -n {namespace} -o name $(kubectl tally -n {namespace} {what} -o name)"
        );
        let found = lines(&user.shell(&again)?.stdout);
        ensure!(
            found == printed && !printed.is_empty(),
            "`{what}`: {found:?}, not {printed:?}"
        );
    }

    // Facts of our own.
    let top = data(user, "top")?;
    ensure!(top["hosts"].as_array().map(Vec::len) == Some(3), "{top}");
    ensure!(
        top["services"][0]["service"] == "shown" && top["services"][0]["memory"] == 64,
        "{top}"
    );
    ensure!(data(user, "top services")? == top["services"], "{top}");
    ensure!(data(user, "explain shown")?["asWanted"] == true);
    let history = data(user, "history shown --events")?;
    ensure!(
        history["revisions"] == data(user, "history shown")?,
        "{history}"
    );
    let events = history["events"].to_string();
    says(&events, &["has reached a steady state"])?;
    let findings = user.shell(&format!("kubectl tally -n {namespace} doctor -o json"))?;
    let findings: Value = serde_json::from_str(&findings.stdout)?;
    says(&findings.to_string(), &["\"ok\"", "API server"])?;

    // A plan is one, too, and names what it would change.
    let plan = "sed s/web/planned/ examples/tour/web.yaml | kubectl tally plan -f - -o";
    let text = user.shell(&format!("{plan} json"))?.stdout;
    let forecast: Value = serde_json::from_str(&text).context(text)?;
    ensure!(
        forecast["services"][0]["subject"] == "service planned",
        "{forecast}"
    );
    let text = user.shell(&format!("{plan} name"))?.stdout;
    says(
        &text,
        &[
            "service.tallyman.dev/planned\n",
            "taskdefinition.tallyman.dev/planned\n",
        ],
    )?;
    says(
        &user.shell(&format!("{plan} yaml"))?.stdout,
        &["\nservices:\n", "subject: service planned\n"],
    )?;

    // More columns.
    let wide = user.tally("get shown -o wide", 0)?.stdout;
    for container in user.running("shown")?.values() {
        says(
            &wide,
            &["CONTAINER ID", container.get(..12).unwrap_or(container)],
        )?;
    }
    says(
        &user.tally("top -o wide", 0)?.stdout,
        &["GPUS RESERVED", "PORTS"],
    )?;
    says(
        &user.tally("instances -o wide", 0)?.stdout,
        &["ENGINE", "docker "],
    )?;
    says(
        &user.tally("history shown -o wide", 0)?.stdout,
        &["IMAGES", "localhost/tallyman/hello:1"],
    )?;
    says(
        &user.tally("explain shown -o wide", 0)?.stdout,
        &["ECS REASON"],
    )?;
    user.tally("history shown --events -o name", 1)?;
    user.tally("doctor -o name", 1)?;
    user.delete(&["shown"])
}

fn all_namespaces(user: &User<'_>) -> Result<()> {
    const FAR: &str = "tally-far";
    user.kubectl().ok(["create", "namespace", FAR])?;
    user.apply(&[hello("near", "x"), service("near", 1)])?;
    for mut far in [hello("far", "x"), service("far", 0)] {
        far["apiVersion"] = json!("tallyman.dev/v1alpha1");
        far["metadata"]["namespace"] = json!(FAR);
        user.kubectl().apply(&far.to_string())?;
    }
    user.wait_steady("near", 1)?;

    let all = data(user, "get -A")?;
    ensure!(names(&all).contains("service.tallyman.dev/far"), "{all}");
    ensure!(names(&all).contains("service.tallyman.dev/near"), "{all}");
    let text = user.tally("get --all-namespaces", 0)?.stdout;
    says(&text, &["NAMESPACE ", &format!("\n{FAR} ")])?;
    let row = |name: &str| {
        text.lines()
            .find(|l| l.contains(&format!("service {name} ")))
            .map(str::to_owned)
    };
    let far = row("far").context("no row of service far")?;
    ensure!(far.starts_with(FAR), "{far}");
    let near = row("near").context("no row of service near")?;
    ensure!(near.starts_with(user.namespace()), "{near}");
    ensure!(
        !user.tally("get", 0)?.stdout.contains(FAR),
        "one namespace is one namespace"
    );
    says(
        &user.tally("instances -A", 0)?.stdout,
        &["NAMESPACE ", &format!("\n{} ", user.namespace())],
    )?;
    let top = wait_until("top to count both services", PATIENCE, || {
        let top = data(user, "top services -A")?;
        let of = |namespace: &str| {
            let rows = top.as_array().into_iter().flatten();
            rows.filter(|s| s["namespace"] == namespace)
                .map(|s| s["service"].to_string())
                .collect::<Vec<_>>()
        };
        ensure!(
            of(FAR) == ["\"far\""] && of(user.namespace()) == ["\"near\""],
            "{top}"
        );
        Ok(Some(top))
    })?;
    ensure!(
        top[0]["namespace"] == user.namespace(),
        "in order of namespaces: {top}"
    );
    says(
        &user.tally("top -A", 0)?.stdout,
        &["NAMESPACE   HOST", "NAMESPACE   SERVICE"],
    )?;
    user.kubectl()
        .ok(["delete", "namespace", FAR, "--timeout=60s"])?;
    user.delete(&["near"])
}

/// `kubectl tally` that goes on, and what it has printed.
struct Going {
    child: Child,
    printed: tempfile::NamedTempFile,
}

impl Going {
    /// Begins it, as a shell would with `kubectl tally ARGS >file`.
    fn begin(user: &User<'_>, args: &[&str]) -> Result<Going> {
        let printed = tempfile::NamedTempFile::new()?;
        let child = Command::new(binary("kubectl-tally")?)
            .args(["-n", user.namespace()])
            .args(args)
            .env("KUBECONFIG", user.kubectl().kubeconfig())
            .stdin(Stdio::null())
            .stdout(File::create(printed.path())?)
            .spawn()?;
        Ok(Going { child, printed })
    }

    fn printed(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.printed.path())?)
    }

    fn wait_for(&self, parts: &[&str]) -> Result<String> {
        wait_until(format!("it to print {parts:?}"), PATIENCE, || {
            let text = self.printed()?;
            says(&text, parts)?;
            Ok(Some(text))
        })
    }

    /// Ctrl-C; with which code it ended.
    fn interrupt(mut self) -> Result<Option<i32>> {
        let id = self.child.id().to_string();
        Tool::new("kill").args(["-INT", &id]).check()?;
        let child = &mut self.child;
        let ended = wait_until("it to end on Ctrl-C", PATIENCE, || Ok(child.try_wait()?))?;
        Ok(ended.code())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("seen", "x"), service("seen", 1)])?;
    user.wait_steady("seen", 1)?;
    let people = Going::begin(user, &["get", "seen", "-w"])?;
    let programs = Going::begin(user, &["get", "seen", "-w", "-o", "json"])?;
    people.wait_for(&["service seen", "1/1 running"])?;
    programs.wait_for(&["\"desiredCount\": 1"])?;
    user.k(&["scale", "tsvc", "seen", "--replicas=2"])?;
    let text = people.wait_for(&["1/1 running", "2/2 running"])?;
    ensure!(!text.contains('\u{1b}'), "colours in a file: {text}");
    programs.wait_for(&["\"desiredCount\": 2"])?;
    for going in [people, programs] {
        let text = going.printed()?;
        let code = going.interrupt()?;
        ensure!(code == Some(130), "it ended with {code:?}:\n{text}");
    }
    user.delete(&["seen"])
}

fn going_back(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("back", "one"), service("back", 1)])?;
    user.tally("status back --timeout=90s", 0)?;
    for text in ["two", "three"] {
        user.apply(&[hello("back", text)])?;
        user.tally("status back --timeout=90s", 0)?;
    }
    let runs = || {
        let service = user.get("services", "back")?;
        anyhow::Ok((
            service["spec"]["taskDefinition"].clone(),
            service["status"]["taskDefinition"].clone(),
        ))
    };
    ensure!(runs()? == (json!("back"), json!("back:3")), "{:?}", runs()?);

    let output = user.tally("undo back --to-revision 1", 0)?;
    says(
        &output.stdout,
        &["service back: taskDefinition back -> back:1\n"],
    )?;
    says(
        &output.stderr,
        &["pinned to back:1", "`kubectl tally undo back --follow`"],
    )?;
    user.tally("status back --timeout=90s", 0)?;
    ensure!(
        runs()? == (json!("back:1"), json!("back:1")),
        "{:?}",
        runs()?
    );
    says(
        &user.tally("history back", 0)?.stdout,
        &["pinned, completed last"],
    )?;
    let output = user.tally("undo back --to-revision 9", 1)?;
    says(&output.stderr, &["there is no revision 9 of `back`"])?;

    let output = user.tally("undo back --follow", 0)?;
    says(
        &output.stdout,
        &["service back: taskDefinition back:1 -> back\n"],
    )?;
    user.tally("status back --timeout=90s", 0)?;
    ensure!(runs()? == (json!("back"), json!("back:3")), "{:?}", runs()?);
    let output = user.tally("undo back --follow", 0)?;
    says(&output.stdout, &["names back already; nothing was changed"])?;

    let events = user.tally("history back --events", 0)?.stdout;
    says(
        &events,
        &["REVISION", "\n\nAGE", "EVENT", "has reached a steady state"],
    )?;
    user.delete(&["back"])
}

fn converted(user: &User<'_>) -> Result<()> {
    const DATA: &str = "cli/tests/it/data";
    for (what, kinds) in [
        ("describe-tasks", &["runtask"][..]),
        ("describe-task-sets", &["taskset"]),
        ("describe-container-instances", &["containerinstance"]),
        ("describe-clusters", &["cluster"]),
        ("describe-services", &["service"]),
        ("describe-task-definition", &["taskdefinition"]),
    ] {
        let file = format!("{DATA}/{what}.json");
        let line = format!(
            "set -o pipefail; kubectl tally convert -f {file} 2>/dev/null | kubectl apply --server-side --dry-run=server -n {} -f -",
            user.namespace()
        );
        let output = user.shell(&line)?;
        ensure!(output.success, "{what}: {}{}", output.stdout, output.stderr);
        for kind in kinds {
            says(&output.stdout, &[&format!("{kind}.tallyman.dev/")])?;
        }
        // Nothing was left out that the API server does not know.
        ensure!(
            !output.stderr.contains("unknown field"),
            "{what}: {}",
            output.stderr
        );
    }
    Ok(())
}
