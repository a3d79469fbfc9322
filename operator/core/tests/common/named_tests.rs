//! Tests that documents name: they must be there.

use std::path::{Path, PathBuf};

/// Root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All that may hold tests, as text.
pub struct NamedTests(String);

impl NamedTests {
    /// Of the source tree.
    pub fn all() -> Self {
        let mut text = String::new();
        let mut folders: Vec<PathBuf> = ["node-agent", "operator/core", "tests", "crds"]
            .map(|f| root().join(f))
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    text.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        Self(text)
    }

    /// There is a test function or a scenario of the name.
    pub fn has(&self, name: &str) -> bool {
        let spelled = [
            format!("fn {name}("),
            format!("fn {name}<"),
            format!("name: \"{name}\""),
        ];
        spelled.iter().any(|text| self.0.contains(text))
    }
}
