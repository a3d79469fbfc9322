//! What Argo CD and kustomize are told of Tallyman's kinds, by their own programs and without a cluster. Needs the programs of
//! `dev/tools.sh`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::paths;
use tallyman_node::objects;

fn argo() -> Result<PathBuf> {
    Ok(paths::source_root()?.join("deploy/gitops/argocd"))
}

fn kustomize(folder: &Path) -> Result<Vec<Value>> {
    let kubectl = paths::control_plane_tool("kubectl")?;
    objects(&Tool::new(kubectl).arg("kustomize").arg(folder).check()?)
}

/// A folder of this test's own below the system's, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("tallyman-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn health_and_actions_pass_their_cases() -> Result<()> {
    let program = paths::test_tool("gitops")?;
    let said = Tool::new(program)
        .arg("argo-test")
        .arg(argo()?.join(CUSTOMIZATIONS))
        .check()?;
    let of = |word: &str| {
        said.lines()
            .filter(|l| l.starts_with("ok ") && l.contains(word))
            .count()
    };
    ensure!(
        of("health of") >= 12 && of("/actions") >= 20,
        "few cases: {said}"
    );
    Ok(())
}

/// What Flux' checks find in objects: failures and warnings.
fn checked(folder: &Folder, objects: &[Value]) -> Result<(Vec<String>, Vec<String>)> {
    let file = folder.0.join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string())?;
    let said = Tool::new(paths::test_tool("gitops")?)
        .args(["conditions", "--objects"])
        .arg(&file)
        .check()?;
    let said: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    ensure!(said["objects"] == objects.len(), "{said}");
    let texts = |field: &str| -> Vec<String> {
        let list = said[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Ok((texts("failures"), texts("warnings")))
}

/// The end-to-end tests run these checks on every version of every object: here is that they can fail.
#[test]
fn fluxs_checks_of_conditions_find_what_is_wrong() -> Result<()> {
    let folder = Folder::new("conditions")?;
    let condition = |kind: &str, status: &str, generation: i64| {
        json!({
            "type": kind, "status": status, "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "X", "message": "x",
        })
    };
    let object = |name: &str, generation: i64, conditions: &[Value]| {
        json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": generation},
            "status": {"observedGeneration": generation, "conditions": conditions},
        })
    };
    let ready = condition("Ready", "True", 2);
    let wrong = [
        ("absent", vec![]),
        ("both", vec![ready.clone(), condition("Stalled", "True", 2)]),
        (
            "busy",
            vec![ready.clone(), condition("Reconciling", "True", 2)],
        ),
        (
            "torn",
            vec![
                condition("Ready", "False", 2),
                condition("Reconciling", "True", 2),
                condition("Stalled", "True", 2),
            ],
        ),
        ("old", vec![condition("Ready", "True", 1)]),
        ("unknown", vec![condition("Ready", "Unknown", 2)]),
    ];
    for (name, conditions) in wrong {
        let (failures, _) = checked(&folder, &[object(name, 2, &conditions)])?;
        let named = failures
            .first()
            .is_some_and(|f| f.starts_with(&format!("Service shop/{name}: ")));
        ensure!(named, "{name}: {failures:?}");
    }
    let superfluous = [ready.clone(), condition("Stalled", "False", 2)];
    let (failures, warnings) = checked(&folder, &[object("idle", 2, &superfluous)])?;
    ensure!(
        failures.is_empty() && !warnings.is_empty(),
        "{failures:?} {warnings:?}"
    );
    // Of this generation nothing has been said yet.
    let mut behind = object("behind", 2, &[]);
    behind["status"]["observedGeneration"] = json!(-1);
    let right = [object("right", 2, &[ready]), behind];
    let (failures, warnings) = checked(&folder, &right)?;
    ensure!(
        failures.is_empty() && warnings.is_empty(),
        "{failures:?} {warnings:?}"
    );
    Ok(())
}

/// Where Argo CD's own source has its scripts, and how.
const CUSTOMIZATIONS: &str = "resource_customizations";

/// Names in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The actions of a kind as Argo CD's ConfigMap has them: one text with every script.
fn actions_of(kind: &str) -> Result<String> {
    let folder = argo()?.join(CUSTOMIZATIONS).join(GROUP).join(kind);
    let folder = folder.join("actions");
    let script = |path: PathBuf, indent: &str| -> Result<String> {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let lines = text.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("{indent}{line}\n"),
        });
        Ok(lines.collect())
    };
    let mut text = format!(
        "# Made of {CUSTOMIZATIONS}/{GROUP}/{kind}/actions by `make crds`.\ndiscovery.lua: |\n{}definitions:\n",
        script(folder.join("discovery.lua"), "  ")?
    );
    for name in names(&folder)? {
        let path = folder.join(&name).join("action.lua");
        if path.is_file() {
            let action = script(path, "      ")?;
            text.push_str(&format!("  - name: {name}\n    action.lua: |\n{action}"));
        }
    }
    Ok(text)
}

/// The group of all kinds, and of the folder of scripts.
const GROUP: &str = "tallyman.dev";

#[test]
fn the_config_map_has_the_scripts_that_are_tested() -> Result<()> {
    let kustomization = std::fs::read_to_string(argo()?.join("kustomization.yaml"))?;
    let mut kinds = names(&argo()?.join(CUSTOMIZATIONS).join(GROUP))?;
    // Every kind, which has health alone.
    kinds.retain(|kind| kind != "_");
    ensure!(
        kinds == ["ContainerInstance", "ScheduledTask", "Service", "Task"],
        "{kinds:?}"
    );
    for kind in kinds {
        let file = format!("actions-{}.yaml", kind.to_lowercase());
        let line = format!("resource.customizations.actions.{GROUP}_{kind}={file}");
        ensure!(kustomization.contains(&line), "it has no `{line}`");
        let path = argo()?.join(&file);
        let made = actions_of(&kind)?;
        if std::env::var_os("TALLYMAN_WRITE").is_some() {
            std::fs::write(&path, &made)?;
        }
        let kept = std::fs::read_to_string(&path).with_context(|| file.clone())?;
        ensure!(
            kept == made,
            "{file} is not made of the scripts: `make crds`"
        );
        let parsed: Value = serde_saphyr::from_str(&kept)?;
        let discovery = parsed["discovery.lua"].as_str();
        let source = argo()?
            .join(CUSTOMIZATIONS)
            .join(GROUP)
            .join(&kind)
            .join("actions/discovery.lua");
        ensure!(
            discovery == Some(&std::fs::read_to_string(source)?),
            "{file} reads as {discovery:?}"
        );
    }
    Ok(())
}

#[test]
fn argo_cd_is_taught_every_kind() -> Result<()> {
    let folder = Folder::new("argo")?;
    let root = argo()?;
    // kustomize takes no absolute path to a component.
    let up = folder
        .0
        .components()
        .skip(1)
        .map(|_| "../")
        .collect::<String>();
    let component = format!("{up}{}", root.strip_prefix("/")?.display());
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["map.yaml"],
        "components": [component],
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm"}, "data": {"url": "https://argo.example.com"},
    });
    std::fs::write(
        folder.0.join("kustomization.yaml"),
        kustomization.to_string(),
    )?;
    std::fs::write(folder.0.join("map.yaml"), map.to_string())?;
    let rendered = kustomize(&folder.0)?;
    ensure!(rendered.len() == 1 && rendered[0]["data"]["url"] == "https://argo.example.com");
    for crd in tallyman_crds::schema::crds() {
        // Internal: nobody applies one.
        let taught = &rendered[0]["data"]
            [format!("resource.customizations.health.tallyman.dev_{}", crd.kind)];
        ensure!(
            taught.is_string() || crd.kind == "HostPlan",
            "{} has no health",
            crd.kind
        );
    }
    Ok(())
}

#[test]
fn kustomize_changes_images_and_follows_names_and_hashes() -> Result<()> {
    let folder = Folder::new("overlay")?;
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/overlay");
    for file in ["kustomization.yaml", "objects.yaml"] {
        std::fs::copy(overlay.join(file), folder.0.join(file))?;
    }
    let configuration = paths::source_root()?.join("deploy/gitops/kustomizeconfig.yaml");
    std::fs::copy(configuration, folder.0.join("kustomizeconfig.yaml"))?;
    let rendered = kustomize(&folder.0)?;
    let find = |kind: &str| {
        rendered
            .iter()
            .find(|object| object["kind"] == kind)
            .with_context(|| format!("{kind} is not rendered"))
    };
    let containers = &find("TaskDefinition")?["spec"]["containerDefinitions"];
    ensure!(
        containers[0]["image"] == "registry.example.com/web:v2",
        "{containers}"
    );
    ensure!(
        containers[1]["image"] == "registry.example.com/side:v1",
        "{containers}"
    );
    let service = &find("Service")?["spec"];
    ensure!(
        service["taskDefinition"] == "shop-web" && service["cluster"] == "shop-main",
        "{service}"
    );
    let run = &find("ScheduledTask")?["spec"]["runTask"];
    ensure!(
        run["taskDefinition"] == "shop-web" && run["cluster"] == "shop-main",
        "{run}"
    );
    // Generated ones have a name by what is in them: everything that named them does again.
    let made = |kind: &str, prefix: &str| {
        let mut names = rendered
            .iter()
            .filter(|object| object["kind"] == kind)
            .filter_map(|object| object["metadata"]["name"].as_str())
            .filter(|name| name.starts_with(prefix) && name.len() > prefix.len());
        names
            .next()
            .map(str::to_owned)
            .with_context(|| format!("{kind} {prefix} is not generated"))
    };
    let database = made("Secret", "shop-database-")?;
    let registry = made("Secret", "shop-registry-")?;
    let role = made("Secret", "shop-web-role-")?;
    let settings = made("ConfigMap", "shop-settings-")?;
    let keys = made("Secret", "shop-keys-")?;
    let web = &containers[0];
    for (field, named) in [
        ("/secrets/0/valueFrom", &database),
        ("/logConfiguration/secretOptions/0/valueFrom", &database),
        ("/repositoryCredentials/credentialsParameter", &registry),
        ("/environmentFiles/0/value", &settings),
        ("/environmentFiles/1/value", &keys),
    ] {
        let value = web.pointer(field).and_then(Value::as_str);
        ensure!(value == Some(named), "{field} is {value:?} and not {named}");
    }
    // A key behind the name is no name to kustomize.
    ensure!(web["secrets"][1]["valueFrom"] == "fixed:password", "{web}");
    let definition = &find("TaskDefinition")?["spec"];
    ensure!(definition["taskRoleArn"] == role.as_str(), "{definition}");
    for run in [run, &find("RunTask")?["spec"], &find("Task")?["spec"]] {
        let overrides = &run["overrides"];
        let file = &overrides["containerOverrides"][0]["environmentFiles"][0]["value"];
        ensure!(
            overrides["taskRoleArn"] == role.as_str() && file == settings.as_str(),
            "{overrides}"
        );
    }
    Ok(())
}

#[test]
fn manifests_of_the_guide_name_what_they_bring() -> Result<()> {
    let guide = std::fs::read_to_string(paths::source_root()?.join("docs/gitops.md"))?;
    let blocks = guide.split("```yaml\n").skip(1);
    let mut found = Vec::new();
    for block in blocks.filter_map(|block| block.split("```").next()) {
        // Parts of objects are shown, too.
        if block.starts_with("apiVersion") {
            found.extend(objects(block).with_context(|| block.to_owned())?);
        }
    }
    let is = |kind: &Value, name: &Value, namespace: &Value| {
        found.iter().any(|o| {
            o["kind"] == *kind
                && o["metadata"]["name"] == *name
                && o["metadata"]["namespace"] == *namespace
        })
    };
    let mut named = 0;
    for o in &found {
        let namespace = &o["metadata"]["namespace"];
        for source in [
            &o["spec"]["sourceRef"],
            &o["spec"]["chart"]["spec"]["sourceRef"],
        ] {
            named += usize::from(source.is_object());
            ensure!(
                source.is_null() || is(&source["kind"], &source["name"], namespace),
                "nothing is {source} of {o}"
            );
        }
        for before in o["spec"]["dependsOn"].as_array().into_iter().flatten() {
            named += 1;
            ensure!(
                is(&o["kind"], &before["name"], namespace),
                "nothing is {before} of {o}"
            );
        }
        let target = &o["spec"]["targetNamespace"];
        let made = o["spec"]["install"]["createNamespace"] == true;
        ensure!(
            target.is_null() || made || is(&json!("Namespace"), target, &Value::Null),
            "nobody makes namespace {target} of {o}"
        );
    }
    ensure!(named == 4, "{named} names in {} objects", found.len());
    Ok(())
}
