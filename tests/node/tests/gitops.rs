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

/// Runs a script as Argo CD does.
fn lua(script: &Path, object: &Value) -> Result<Value> {
    let program = paths::test_tool("gitops")?;
    let said = Tool::new(program)
        .arg("lua")
        .arg(script)
        .stdin(object.to_string())
        .check()?;
    serde_json::from_str(&said).context(said)
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

/// An object of generation 3 that its controller has seen as `observed`, with conditions that are True.
fn object(observed: i64, conditions: &[(&str, &str)], spec: Value) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, message)| json!({"type": kind, "status": "True", "message": message}))
        .collect();
    json!({
        "metadata": {"name": "x", "generation": 3},
        "spec": spec,
        "status": {"observedGeneration": observed, "conditions": conditions},
    })
}

#[test]
fn health_is_what_the_conditions_say_of_this_generation() -> Result<()> {
    let ready = ("Ready", "steady");
    let mut deleted = object(3, &[ready], json!({}));
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut unseen = object(-1, &[], json!({}));
    unseen["status"]["conditions"] = Value::Null;
    let cases = [
        ("Healthy", "steady", object(3, &[ready], json!({}))),
        ("Progressing", "generation", object(2, &[ready], json!({}))),
        ("Progressing", "generation", unseen),
        (
            "Progressing",
            "generation",
            json!({"metadata": {"generation": 1}}),
        ),
        ("Progressing", "deleted", deleted),
        (
            "Progressing",
            "rolling",
            object(3, &[("Reconciling", "rolling")], json!({})),
        ),
        ("Progressing", "not ready", object(3, &[], json!({}))),
        (
            "Degraded",
            "no image",
            object(3, &[("Stalled", "no image")], json!({})),
        ),
        // Worse goes before what was asked for, and that before everything else.
        (
            "Degraded",
            "no image",
            object(
                3,
                &[("Reconciling", "x"), ("Stalled", "no image")],
                json!({"paused": true}),
            ),
        ),
        (
            "Suspended",
            "paused",
            object(3, &[ready], json!({"paused": true})),
        ),
        (
            "Suspended",
            "paused",
            object(3, &[ready], json!({"suspend": true})),
        ),
    ];
    for (status, word, object) in cases {
        let said = lua(&argo()?.join("health.lua"), &object)?;
        let message = said["message"].as_str().unwrap_or_default();
        ensure!(
            said["status"] == status && message.contains(word),
            "{object} is {said}, and not {status}"
        );
    }
    Ok(())
}

#[test]
fn actions_change_what_they_say_and_are_offered_when_they_would() -> Result<()> {
    let folder = Folder::new("actions")?;
    let bare = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    // Kind, state before, action, what it sets, and which action undoes it.
    for (kind, before, action, pointer, after, undo) in [
        (
            "service",
            json!({}),
            "pause",
            "/spec/paused",
            json!(true),
            "resume",
        ),
        (
            "containerinstance",
            json!({}),
            "drain",
            "/spec/status",
            json!("DRAINING"),
            "activate",
        ),
        (
            "scheduledtask",
            json!({}),
            "suspend",
            "/spec/suspend",
            json!(true),
            "resume",
        ),
    ] {
        let actions = Actions::read(kind, &folder)?;
        let old = bare(before);
        ensure!(!actions.disabled(action, &old)? && actions.disabled(undo, &old)?);
        let new = actions.run(action, &old)?;
        ensure!(new.pointer(pointer) == Some(&after), "{action} made {new}");
        ensure!(actions.disabled(action, &new)? && !actions.disabled(undo, &new)?);
        let undone = actions.run(undo, &new)?;
        ensure!(
            undone.pointer(pointer) != Some(&after),
            "{undo} made {undone}"
        );
    }
    let restarted = Actions::read("service", &folder)?.run("restart", &bare(json!({})))?;
    let annotation = &restarted["metadata"]["annotations"][tallyman_crds::labels::RESTARTED_AT];
    ensure!(annotation.is_string(), "restart made {restarted}");
    Ok(())
}

/// The actions of a kind, as Argo CD reads them.
struct Actions<'a> {
    kind: String,
    value: Value,
    folder: &'a Folder,
}

impl Actions<'_> {
    fn read<'a>(kind: &str, folder: &'a Folder) -> Result<Actions<'a>> {
        let path = argo()?.join(format!("actions-{kind}.yaml"));
        Ok(Actions {
            kind: kind.to_owned(),
            value: serde_saphyr::from_str(&std::fs::read_to_string(path)?)?,
            folder,
        })
    }

    fn script(&self, name: &str, text: &Value, object: &Value) -> Result<Value> {
        let text = text
            .as_str()
            .with_context(|| format!("{name} is no script"))?;
        let path = self.folder.0.join(format!("{}-{name}.lua", self.kind));
        std::fs::write(&path, text)?;
        lua(&path, object)
    }

    fn disabled(&self, action: &str, object: &Value) -> Result<bool> {
        let offered = self.script("discovery", &self.value["discovery.lua"], object)?;
        offered[action]["disabled"]
            .as_bool()
            .with_context(|| format!("{action} is not among {offered}"))
    }

    fn run(&self, action: &str, object: &Value) -> Result<Value> {
        let definitions = self.value["definitions"].as_array();
        let definition = definitions
            .into_iter()
            .flatten()
            .find(|definition| definition["name"] == action)
            .with_context(|| format!("{action} is not defined"))?;
        self.script(action, &definition["action.lua"], object)
    }
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
fn kustomize_changes_images_and_follows_names() -> Result<()> {
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
    Ok(())
}
