//! What a Compose service mounts.

use serde::Deserialize;
use serde_json::{Value, json};

use super::compose_values::{Fields, mib};
use super::object_name;

/// A volume that a container wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Name in the task definition.
    pub volume: String,
    /// Path of the host, or name of a volume; neither for one that goes with the task.
    pub source: Option<String>,
}

/// Volumes, where they are seen, and memory that is seen as a folder.
pub(super) fn volumes(service: &str, fields: &mut Fields) -> (Vec<Mount>, Vec<Value>, Vec<Value>) {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Short(String),
        Long(Value),
    }
    let (mut mounts, mut points) = (Vec::new(), Vec::new());
    let mut tmpfs = Vec::new();
    for (i, given) in fields
        .take::<Vec<Given>>("volumes")
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let (source, target, read_only) = match given {
            Given::Short(text) => {
                let mut parts = text.split(':');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(target), None, _) => (None, target.to_owned(), false),
                    (Some(source), Some(target), mode) => {
                        let modes: Vec<&str> = mode.unwrap_or_default().split(',').collect();
                        for other in modes.iter().filter(|m| !matches!(**m, "" | "ro" | "rw")) {
                            fields.lost("volumes", &format!("`{text}`: ECS has no `{other}`"));
                        }
                        (
                            Some(source.to_owned()),
                            target.to_owned(),
                            modes.contains(&"ro"),
                        )
                    }
                    (None, ..) => continue,
                }
            }
            Given::Long(value) => {
                let mut long = Fields::of("volumes", value);
                let kind = long.text("type").unwrap_or_else(|| "volume".to_owned());
                let target = long.text("target").unwrap_or_default();
                let source = long.text("source");
                let read_only = long.take::<bool>("read_only").unwrap_or(false);
                if kind == "tmpfs" {
                    let mut inner = long.inner("tmpfs");
                    let size = inner.text("size").as_deref().and_then(mib).unwrap_or(64);
                    tmpfs.push(json!({ "containerPath": target, "size": size }));
                    fields.notes.extend(inner.end());
                    fields.notes.extend(long.end());
                    continue;
                }
                if !matches!(kind.as_str(), "volume" | "bind") {
                    long.lost(
                        "type",
                        &format!("`{kind}` is neither a volume, a path of the host nor tmpfs"),
                    );
                    fields.notes.extend(long.end());
                    continue;
                }
                fields.notes.extend(long.end());
                (source, target, read_only)
            }
        };
        if let Some(path) = source
            .as_deref()
            .filter(|s| s.starts_with('.') || s.starts_with('~'))
        {
            fields.lost(
                "volumes",
                &format!("`{path}` on `{target}` is beside the Compose file; hosts have absolute paths only, and such files belong into the image"),
            );
            continue;
        }
        let volume = match &source {
            Some(path) if path.starts_with('/') => object_name(path),
            Some(name) => name.clone(),
            None => format!("{}-{i}", object_name(service)),
        };
        let mut point = json!({ "sourceVolume": volume, "containerPath": target });
        if read_only {
            point["readOnly"] = true.into();
        }
        points.push(point);
        mounts.push(Mount { volume, source });
    }
    (mounts, points, tmpfs)
}
