//! Alert rules and dashboard, by Prometheus' own parser and engine and without a cluster. Needs the program of `dev/tools.sh engines`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tallyman_lab::command::Tool;
use tallyman_lab::paths;

fn monitoring() -> Result<Tool> {
    Ok(Tool::new(paths::test_tool("monitoring")?))
}

fn text(path: &str) -> Result<String> {
    let path = paths::source_root()?.join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Metrics of the table in docs/metrics.md, which the programs' own tests hold against what they tell, with their labels.
fn documented() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let mut columns = rest.split('|').map(str::trim);
        let (of, labels) = (columns.next()?, columns.next()?);
        let labels = labels.split(", ").map(str::trim).filter(|l| !l.is_empty());
        // Prometheus adds those of the target.
        let target = ["instance", "job"].into_iter();
        ["operator", "agent"].contains(&of).then(|| {
            (
                name.to_owned(),
                labels.chain(target).map(str::to_owned).collect(),
            )
        })
    };
    Ok(text("docs/metrics.md")?.lines().filter_map(row).collect())
}

#[test]
fn every_expression_names_metrics_and_labels_that_there_are() -> Result<()> {
    let root = paths::source_root()?.join("charts/tallyman/files");
    let said = monitoring()?
        .arg("check")
        .arg(root.join("rules.yaml"))
        .arg(root.join("dashboard.json"))
        .check()?;
    let expressions: Vec<Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
    let mut known = documented()?;
    ensure!(known.len() > 25, "docs/metrics.md lists {known:?}");
    let rules = text("charts/tallyman/files/rules.yaml")?;
    for name in rules
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- record: "))
    {
        let service = name.starts_with("service:").then_some("service");
        let labels = ["namespace", "cluster"].into_iter().chain(service);
        known.insert(name.to_owned(), labels.map(str::to_owned).collect());
    }
    let mut named = BTreeSet::new();
    for e in &expressions {
        for metric in e["metrics"].as_array().context("no metrics")? {
            let name = metric["name"].as_str().unwrap_or_default();
            let bucket = name.strip_suffix("_bucket");
            let labels = known.get(bucket.unwrap_or(name));
            let labels = labels.with_context(|| format!("nobody tells `{name}` of {e}"))?;
            for label in metric["labels"].as_array().into_iter().flatten() {
                let label = label.as_str().unwrap_or_default();
                ensure!(
                    labels.contains(label) || (bucket.is_some() && label == "le"),
                    "`{name}` has no label `{label}`: {e}"
                );
            }
            named.insert(name.to_owned());
        }
    }
    let of = |what: &str| {
        let starts = |e: &&Value| e["in"].as_str().is_some_and(|i| i.starts_with(what));
        expressions.iter().filter(starts).count()
    };
    ensure!(
        of("rule ") >= 12 && of("panel ") >= 20 && of("variable ") == 3,
        "{said}"
    );
    ensure!(named.len() > 20, "{named:?}");
    Ok(())
}

#[test]
fn every_alert_fires_when_it_should_and_not_otherwise() -> Result<()> {
    let path = "deploy/monitoring/rules.test.yaml";
    let tests = paths::source_root()?.join(path);
    let said = monitoring()?.arg("test").arg(tests).check()?;
    let alerts = text("charts/tallyman/files/rules.yaml")?
        .matches("- alert: ")
        .count();
    // Utilization, by the worked examples of the ECS guide.
    let expressions = text(path)?.matches("- expr: ").count();
    ensure!(expressions >= 6, "{expressions} expressions are tried");
    ensure!(
        said.trim() == format!("{alerts} alerts, {expressions} expressions"),
        "{said}"
    );
    Ok(())
}

/// What kube-state-metrics tells of objects of a real cluster, by its own code.
fn state_metrics() -> Result<String> {
    let objects = text("tests/node/goldens/state-metrics/objects.json")?;
    Tool::new(paths::test_tool("state-metrics")?)
        .arg(paths::source_root()?.join("deploy/monitoring/kube-state-metrics.yaml"))
        .stdin(objects)
        .check()
}

/// With TALLYMAN_WRITE the golden is written and not compared.
#[test]
fn kube_state_metrics_tells_of_real_objects_what_it_did() -> Result<()> {
    let told = state_metrics()?;
    let golden = paths::source_root()?.join("tests/node/goldens/state-metrics/metrics.txt");
    if std::env::var_os("TALLYMAN_WRITE").is_some() {
        std::fs::write(&golden, &told)?;
    }
    let kept = std::fs::read_to_string(&golden).with_context(|| golden.display().to_string())?;
    let lines = kept.lines().zip(told.lines());
    if let Some((before, now)) = lines.clone().find(|(before, now)| before != now) {
        anyhow::bail!("it told\n{before}\nand tells\n{now}");
    }
    ensure!(kept == told, "it tells more or less than it did");
    Ok(())
}

#[test]
fn every_metric_of_kube_state_metrics_is_documented_and_tells_something() -> Result<()> {
    let told = state_metrics()?;
    let docs = text("docs/metrics.md")?;
    let kinds: Vec<String> = tallyman_crds::schema::crds()
        .into_iter()
        // Nobody is told of a plan.
        .filter(|crd| crd.kind != "HostPlan")
        .map(|crd| {
            let letters = crd.kind.chars().enumerate().map(|(n, c)| match c {
                c if c.is_uppercase() && n > 0 => format!("_{}", c.to_ascii_lowercase()),
                c => c.to_ascii_lowercase().to_string(),
            });
            letters.collect()
        })
        .collect();
    let mut families = 0;
    for name in told.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (name, _) = name.split_once(' ').context("a type without a name")?;
        families += 1;
        let mut series = told.lines().filter(|l| l.starts_with(&format!("{name}{{")));
        let first = series.next();
        // That of a schedule that has never been due.
        let absent = ["last_schedule_time", "last_successful_time"];
        ensure!(
            first.is_some() || absent.iter().any(|a| name.contains(a)),
            "{name} tells nothing"
        );
        // Rows of the kinds are one for all.
        let kind = kinds
            .iter()
            .filter(|kind| name.starts_with(&format!("kube_tallyman_{kind}_")))
            .max_by_key(|kind| kind.len())
            .with_context(|| format!("{name} is of no kind"))?;
        let row = match name.rsplit_once(&format!("{kind}_")) {
            Some((_, shared @ ("condition" | "observed_generation"))) => {
                format!("kube_tallyman_KIND_{shared}")
            }
            _ => name.to_owned(),
        };
        let row = docs
            .lines()
            .find(|l| l.starts_with(&format!("| `{row}` | kube-state-metrics | ")))
            .with_context(|| format!("docs/metrics.md has no `{row}`"))?;
        let known = row.split('|').nth(3).unwrap_or_default();
        let known: BTreeSet<&str> = known.split(',').map(str::trim).collect();
        let all = first.into_iter().chain(series);
        for label in all.flat_map(labels) {
            let common = label.starts_with("customresource_");
            ensure!(
                common || known.contains(label.as_str()),
                "`{name}` has a label `{label}`"
            );
        }
    }
    ensure!(families > 50, "{families} metrics");
    for kind in kinds {
        let ready = format!("kube_tallyman_{kind}_condition{{");
        ensure!(told.contains(&ready), "nothing of {kind}");
    }
    Ok(())
}

/// Names of the labels of a line. Values have no commas before `="`.
fn labels(line: &str) -> Vec<String> {
    let inside = line.split_once('{').and_then(|(_, l)| l.rsplit_once('}'));
    let parts = inside.map_or("", |(inside, _)| inside).split("=\"");
    let names = parts.map(|part| {
        part.rsplit([',', '"'])
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}
