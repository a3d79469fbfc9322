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
    let tests = paths::source_root()?.join("deploy/monitoring/rules.test.yaml");
    let said = monitoring()?.arg("test").arg(tests).check()?;
    let alerts = text("charts/tallyman/files/rules.yaml")?
        .matches("- alert: ")
        .count();
    ensure!(said.trim() == format!("{alerts} alerts"), "{said}");
    Ok(())
}
