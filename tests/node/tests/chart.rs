//! What the charts render, without a cluster: lint, schema, goldens, and what must never be in them. Needs Helm of `dev/tools.sh node`.
//!
//! After a change that is meant, `make crds` writes the goldens anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tallyman_lab::command::Tool;
use tallyman_lab::paths;
use tallyman_node::{Helm, NAMESPACE, RELEASE, objects};

/// Versions of Kubernetes that the README names.
const KUBERNETES: [&str; 5] = ["1.33.0", "1.34.0", "1.35.0", "1.36.3", "1.37.0"];

/// When it is set, goldens are written and not compared.
const WRITE: &str = "TALLYMAN_WRITE";

fn helm() -> Result<Helm> {
    let home = std::env::temp_dir().join(format!("tallyman-helm-{}", std::process::id()));
    Helm::new(&home, None)
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Values in which every setting has another value than its default.
fn everything() -> String {
    here("goldens/everything.values.yaml").display().to_string()
}

fn template(more: &[&str]) -> Result<String> {
    let helm = helm()?;
    let chart = helm.chart("tallyman");
    helm.ok(&[
        &["template", RELEASE, &chart, "--namespace", NAMESPACE],
        more,
    ]
    .concat())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

/// The chart's output as a person would keep it: without the lines that speak of Helm.
fn plain(rendered: &str) -> String {
    let gone = [
        "helm.sh/chart:",
        "app.kubernetes.io/managed-by:",
        "helm.sh/resource-policy:",
    ];
    let mut text = String::new();
    for line in rendered.lines() {
        let word = line.trim_start();
        if !gone.iter().any(|start| word.starts_with(start)) && !line.trim().is_empty() {
            text += line;
            text += "\n";
        }
    }
    // What is left of annotations that held nothing else.
    text.replace("  annotations:\nspec:", "spec:")
}

fn golden(path: &Path, text: &str) -> Result<()> {
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(path, text).with_context(|| path.display().to_string());
    }
    let kept = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        ensure!(
            kept == now,
            "{}:{} says\n{kept}\nand the chart renders\n{now}\nIf that is meant, run `make crds`.",
            path.display(),
            number + 1
        );
    }
    ensure!(
        kept == text,
        "{} is not what the chart renders; if that is meant, run `make crds`",
        path.display()
    );
    Ok(())
}

/// Files of the chart that are rendered as they are, and how far they are indented.
const FILES: [(&str, &str); 2] = [("rules.yaml", "  "), ("dashboard.json", "    ")];

fn file(name: &str) -> Result<String> {
    let path = paths::source_root()?
        .join("charts/tallyman/files")
        .join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The chart's output with the names of such files in their place.
fn without_files(rendered: &str) -> Result<String> {
    let mut text = rendered.to_owned();
    for (name, indent) in FILES {
        let indented: String = file(name)?
            .lines()
            .map(|line| format!("{}\n", format!("{indent}{line}").trim_end()))
            .collect();
        ensure!(
            text.matches(&indented).count() == 1,
            "files/{name} is not rendered once and as it is"
        );
        text = text.replace(&indented, &format!("{indent}# files/{name}\n"));
    }
    Ok(text)
}

/// What values.yaml says of its settings, each by its path: the comment that begins with `# --`.
fn said_of_values(text: &str) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut comment = Vec::new();
    for line in text.lines() {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        if let Some(first) = word.strip_prefix("# -- ") {
            comment = vec![first];
        } else if let Some(more) = word.strip_prefix("# ")
            && !comment.is_empty()
        {
            comment.push(more);
        } else {
            let key = word.split_once(':').map(|(key, _)| key);
            if let Some(key) = key.filter(|key| key.chars().all(char::is_alphanumeric)) {
                path.retain(|(of_parent, _)| *of_parent < indent);
                path.push((indent, key));
                if !comment.is_empty() {
                    let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
                    said.insert(keys.join("."), comment.join(" "));
                }
            }
            comment.clear();
        }
    }
    said
}

/// The settings of a schema without settings of their own, and what it says of each.
fn described(schema: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let description = value["description"].as_str();
        if description.is_some() || value["properties"].is_null() {
            found.insert(path.clone(), description.unwrap_or_default().to_owned());
        }
        described(value, &path, found);
    }
}

#[test]
fn the_schema_says_of_every_setting_what_the_values_say() -> Result<()> {
    for chart in ["tallyman", "tallyman-crds"] {
        let folder = paths::source_root()?.join("charts").join(chart);
        let said = said_of_values(&std::fs::read_to_string(folder.join("values.yaml"))?);
        let schema = std::fs::read_to_string(folder.join("values.schema.json"))?;
        let mut described_as = BTreeMap::new();
        described(&serde_json::from_str(&schema)?, "", &mut described_as);
        // Helm's own, and no setting of ours.
        described_as.remove("global");
        ensure!(said.len() > 2, "nothing is said of {chart}'s settings");
        for path in said.keys().chain(described_as.keys()) {
            ensure!(
                said.get(path) == described_as.get(path),
                "{chart}: values.yaml says of {path} {:?}, and values.schema.json {:?}",
                said.get(path),
                described_as.get(path)
            );
        }
    }
    Ok(())
}

#[test]
fn charts_are_clean_to_helm() -> Result<()> {
    let helm = helm()?;
    let (chart, crds, values) = (
        helm.chart("tallyman"),
        helm.chart("tallyman-crds"),
        everything(),
    );
    helm.ok(&["lint", "--strict", &chart, &crds])?;
    helm.ok(&["lint", "--strict", &chart, "--values", &values])?;
    Ok(())
}

#[test]
fn every_supported_kubernetes_gets_the_same_and_others_are_refused() -> Result<()> {
    let values = everything();
    for more in [vec![], vec!["--values", values.as_str()]] {
        let first = template(&more)?;
        for version in KUBERNETES {
            let again = template(&[more.as_slice(), &["--kube-version", version]].concat())?;
            ensure!(first == again, "Kubernetes {version} gets something else");
        }
    }
    let helm = helm()?;
    let old = helm.run(&[
        "template",
        RELEASE,
        &helm.chart("tallyman"),
        "--kube-version",
        "1.32.0",
    ])?;
    ensure!(!old.success && old.stderr.contains("1.33.0"), "{old:?}");
    Ok(())
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders() -> Result<()> {
    let rendered = template(&["--set", "crds.enabled=false"])?;
    let head = "# Written by `make crds` from charts/tallyman; do not edit.\n";
    let path = paths::source_root()?.join("deploy/install/operator.yaml");
    golden(&path, &format!("{head}{}", plain(&rendered)))
}

#[test]
fn every_setting_reaches_the_manifests() -> Result<()> {
    let rendered = template(&["--set", "crds.enabled=false", "--values", &everything()])?;
    let rendered = without_files(&rendered)?;
    golden(&here("goldens/everything.yaml"), &plain(&rendered))?;
    // A setting that the golden values leave out is a setting that nobody tries.
    let root = paths::source_root()?;
    let read = |path: &Path| -> Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(path)?)?)
    };
    let defaults = read(&root.join("charts/tallyman/values.yaml"))?;
    let tried = read(&here("goldens/everything.values.yaml"))?;
    let mut untried = BTreeSet::new();
    compare("", &defaults, &tried, &mut untried);
    ensure!(
        untried.is_empty(),
        "goldens/everything.values.yaml has to give these another value than their default: {untried:?}"
    );
    Ok(())
}

/// Settings that Kubernetes takes as a whole.
const WHOLE: [&str; 5] = [
    ".podSecurityContext",
    ".securityContext",
    ".resources",
    ".livenessProbe",
    ".readinessProbe",
];

/// Settings of `defaults` that have no value of their own in `tried`. A switch that is on shows what it switches.
fn compare(path: &str, defaults: &Value, tried: &Value, untried: &mut BTreeSet<String>) {
    match defaults {
        Value::Object(fields) if !fields.is_empty() && !WHOLE.contains(&path) => {
            for (name, value) in fields {
                compare(&format!("{path}.{name}"), value, &tried[name], untried);
            }
        }
        other => {
            if tried.is_null() || (tried == other && tried != true) {
                untried.insert(path.to_owned());
            }
        }
    }
}

#[test]
fn definitions_are_there_kept_or_left_out_as_asked() -> Result<()> {
    let kept = |text: &str| -> Result<(usize, usize)> {
        let objects = objects(text)?;
        let definitions = of_kind(&objects, "CustomResourceDefinition");
        let kept = definitions
            .iter()
            .filter(|d| d["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep");
        Ok((definitions.len(), kept.count()))
    };
    let all = tallyman_crds::schema::crds().len();
    ensure!(kept(&template(&[])?)? == (all, all));
    ensure!(kept(&template(&["--set", "crds.keep=false"])?)? == (all, 0));
    ensure!(kept(&template(&["--set", "crds.enabled=false"])?)? == (0, 0));
    let helm = helm()?;
    let crds = helm.chart("tallyman-crds");
    let alone = helm.ok(&["template", "tallyman-crds", &crds])?;
    ensure!(kept(&alone)? == (all, all));
    // Templates change metadata and nothing else.
    for rendered in [objects(&template(&[])?)?, objects(&alone)?] {
        for crd in tallyman_crds::schema::crds() {
            let name = &crd.json["metadata"]["name"];
            let found = rendered.iter().find(|o| {
                o["kind"] == "CustomResourceDefinition" && &o["metadata"]["name"] == name
            });
            let found = found.with_context(|| format!("{name} is not rendered"))?;
            ensure!(
                found["spec"] == crd.json["spec"],
                "{name} is not what crdgen makes"
            );
        }
    }
    Ok(())
}

#[test]
fn rules_and_dashboard_arrive_as_they_are() -> Result<()> {
    let rendered = objects(&template(&["--values", &everything()])?)?;
    let rules: Value = serde_saphyr::from_str(&file("rules.yaml")?)?;
    let shipped = of_kind(&rendered, "PrometheusRule");
    ensure!(shipped.len() == 1 && shipped[0]["spec"] == rules);
    ensure!(shipped[0]["metadata"]["labels"]["release"] == "prometheus");
    let dashboards = of_kind(&rendered, "ConfigMap").into_iter();
    let mut dashboards = dashboards.filter(|c| !c["data"]["tallyman.json"].is_null());
    let shipped = dashboards
        .next()
        .context("no ConfigMap has the dashboard")?;
    ensure!(shipped["data"]["tallyman.json"] == file("dashboard.json")?);
    ensure!(shipped["metadata"]["labels"]["grafana_dashboard"] == "tallyman");
    // What is told has labels of its own, which a target's would displace.
    let monitors = of_kind(&rendered, "ServiceMonitor");
    ensure!(monitors.len() == 1 && monitors[0]["spec"]["endpoints"][0]["honorLabels"] == true);
    let hosts = of_kind(&rendered, "ScrapeConfig");
    ensure!(hosts.len() == 1 && hosts[0]["spec"]["honorLabels"] == true);
    for kind in ["PrometheusRule", "ServiceMonitor", "ScrapeConfig"] {
        ensure!(
            of_kind(&objects(&template(&[])?)?, kind).is_empty(),
            "{kind} needs definitions that may not be there"
        );
    }
    Ok(())
}

#[test]
fn there_are_no_wildcards_hooks_or_lookups() -> Result<()> {
    for rendered in [template(&[])?, template(&["--values", &everything()])?] {
        for object in objects(&rendered)? {
            let name = &object["metadata"]["name"];
            let annotations = object["metadata"]["annotations"].as_object();
            ensure!(
                !annotations.is_some_and(|a| a.contains_key("helm.sh/hook")),
                "{name} is a hook"
            );
            for rule in object["rules"].as_array().into_iter().flatten() {
                let words = ["apiGroups", "resources", "verbs"].map(|field| rule[field].as_array());
                for word in words.into_iter().flatten().flatten() {
                    ensure!(
                        !["*", "escalate", "bind", "impersonate"]
                            .iter()
                            .any(|w| word == w),
                        "{name} has {word} in {rule}"
                    );
                }
            }
        }
    }
    let templates = paths::source_root()?.join("charts/tallyman/templates");
    for entry in std::fs::read_dir(templates)? {
        let path = entry?.path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path)?;
            for word in [
                "lookup ",
                "rand",
                "genCA",
                "now ",
                ".Release.Revision",
                "uuidv4",
            ] {
                ensure!(!text.contains(word), "{} says {word}", path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn the_pod_may_do_nothing_that_it_need_not() -> Result<()> {
    let objects = objects(&template(&[])?)?;
    let deployments = of_kind(&objects, "Deployment");
    ensure!(deployments.len() == 1 && deployments[0]["spec"]["replicas"] == 2);
    let pod = &deployments[0]["spec"]["template"]["spec"];
    ensure!(pod["securityContext"]["runAsNonRoot"] == true);
    ensure!(pod["securityContext"]["runAsUser"] == 65532);
    ensure!(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault");
    for container in pod["containers"].as_array().into_iter().flatten() {
        let security = &container["securityContext"];
        ensure!(security["readOnlyRootFilesystem"] == true);
        ensure!(security["allowPrivilegeEscalation"] == false);
        ensure!(security["capabilities"]["drop"] == serde_json::json!(["ALL"]));
    }
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        ensure!(pod[field].is_null(), "the pod has {field}");
    }
    Ok(())
}

#[test]
fn one_namespace_needs_no_rights_beyond_it() -> Result<()> {
    let objects = objects(&template(&["--set", "operator.namespace=shop"])?)?;
    ensure!(of_kind(&objects, "ClusterRoleBinding").is_empty());
    let roles: BTreeSet<_> = of_kind(&objects, "Role")
        .iter()
        .map(|role| role["metadata"]["namespace"].to_string())
        .collect();
    ensure!(roles == ["\"shop\"".to_owned(), format!("\"{NAMESPACE}\"")].into());
    Ok(())
}

#[test]
fn what_is_misspelt_is_named() -> Result<()> {
    let helm = helm()?;
    let chart = helm.chart("tallyman");
    for (value, word) in [
        ("operator.leaseDurations=15s", "leaseDurations"),
        ("operator.healthyAfter=40", "healthyAfter"),
        ("operator.replaceAfter=soon", "replaceAfter"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:1", "digest"),
        ("replica=3", "replica"),
        ("crds.keep=maybe", "keep"),
        ("metrics.agents.targets={10.0.0.5}", "targets"),
        ("metrics.agents.enabled=true", "metrics.agents.targets"),
    ] {
        let output = helm.run(&["template", RELEASE, &chart, "--set", value])?;
        ensure!(!output.success, "{value} is accepted");
        ensure!(output.stderr.contains(word), "{value}: {}", output.stderr);
    }
    Ok(())
}

#[test]
fn every_flag_of_the_operator_is_a_value_with_the_same_default() -> Result<()> {
    let help = Tool::new(paths::built_program("tallyman-operator")?)
        .arg("--help")
        .check()?;
    let objects = objects(&template(&[])?)?;
    let deployments = of_kind(&objects, "Deployment");
    let args: Vec<&str> = deployments[0]["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let set = template(&["--values", &everything()])?;
    // A pod has the account of its ServiceAccount; help and version end the program.
    let apart = ["--kubeconfig", "--help", "--version"];
    let mut flag = None;
    let mut seen = 0;
    for line in help.lines() {
        if let Some(found) = line.split_whitespace().find(|word| word.starts_with("--"))
            && line.trim_start().starts_with('-')
        {
            flag = Some(found.to_owned());
            if !apart.contains(&found) {
                seen += 1;
                ensure!(
                    set.contains(&format!("- {found}=")),
                    "{found} of the operator is no value of the chart: add it to values.yaml, values.schema.json and deployment.yaml"
                );
            }
        }
        let Some((_, default)) = line.split_once("[default: ") else {
            continue;
        };
        let default = default.trim_end_matches(']');
        let flag = flag.as_deref().unwrap_or_default();
        // Loopback would hide the probes from the kubelet.
        if flag == "--http-address" {
            continue;
        }
        let arg = args
            .iter()
            .find_map(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
        ensure!(
            arg == Some(default),
            "{flag} is {default} by default, and {arg:?} in the chart"
        );
    }
    ensure!(
        seen >= 11,
        "the operator's help names {seen} flags:\n{help}"
    );
    Ok(())
}

#[test]
fn kustomize_takes_the_plain_manifests() -> Result<()> {
    let root = paths::source_root()?;
    let kustomize = |folder: &Path| -> Result<Vec<Value>> {
        let kubectl = paths::control_plane_tool("kubectl")?;
        objects(&Tool::new(kubectl).arg("kustomize").arg(folder).check()?)
    };
    let all = kustomize(&root.join("deploy/install"))?;
    let deployments = of_kind(&all, "Deployment");
    ensure!(deployments.len() == 1 && deployments[0]["metadata"]["namespace"] == NAMESPACE);
    ensure!(of_kind(&all, "Namespace").len() == 1);
    ensure!(of_kind(&all, "CustomResourceDefinition").len() == tallyman_crds::schema::crds().len());
    ensure!(of_kind(&all, "ValidatingAdmissionPolicy").len() == 4);
    Ok(())
}
