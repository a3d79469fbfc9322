//! What rules accept and refuse, read from `tests/cases`.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

/// One row of `tests/cases`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Id of the rule.
    pub rule: String,
    /// Kind of the object.
    pub kind: String,
    #[serde(default = "usual_name")]
    name: String,
    /// Name of the accepted and of the refused object, where the name is what the rule is about.
    names: Option<(String, String)>,
    /// The three below are statuses.
    #[serde(default)]
    pub status: bool,
    spec: Option<Value>,
    before: Option<Value>,
    accepted: Value,
    refused: Value,
}

fn usual_name() -> String {
    "case".to_owned()
}

impl Case {
    /// What is stored before, if the rule compares with it.
    pub fn before(&self) -> Option<Value> {
        self.before
            .as_ref()
            .map(|part| self.object(&self.name, part))
    }

    /// What the rule accepts.
    pub fn accepted(&self) -> Value {
        let name = self
            .names
            .as_ref()
            .map_or(&self.name, |(accepted, _)| accepted);
        self.object(name, &self.accepted)
    }

    /// What the rule refuses.
    pub fn refused(&self) -> Value {
        let name = self
            .names
            .as_ref()
            .map_or(&self.name, |(_, refused)| refused);
        self.object(name, &self.refused)
    }

    fn object(&self, name: &str, part: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "tallyman.dev/v1alpha1",
            "kind": self.kind,
            "metadata": { "name": name },
        });
        if self.status {
            object["spec"] = self.spec.clone().expect("a case about a status has a spec");
            object["status"] = part.clone();
        } else {
            object["spec"] = part.clone();
        }
        object
    }
}

/// Every case, in the order of files and rows.
pub fn cases() -> Vec<Case> {
    files(&here("tests/cases"), "yaml")
        .iter()
        .flat_map(|path| {
            let text = read(path);
            let rows: Vec<Case> = serde_saphyr::from_str(&text)
                .unwrap_or_else(|error| unreachable!("{}: {error}", path.display()));
            rows
        })
        .collect()
}

/// A path below this crate.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Files of a folder with this extension, sorted.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is part of the crate")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// A file's text.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_else(|error| unreachable!("{}: {error}", path.display()))
}
