//! Tests that documents name: they must be there.
#![allow(dead_code, reason = "not every file asks for everything")]

use std::collections::BTreeSet;
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

    /// The numbers of rows of `document` that tests carry, each with the name of the test: the line above it is
    /// `/// Step 3.2 of`, or `/// Steps 3.2 and 3.3 of`, and the document.
    pub fn carried(&self, document: &str) -> BTreeSet<(String, String)> {
        let end = format!(" of `{document}`.");
        let mut found = BTreeSet::new();
        let mut numbers: Vec<&str> = Vec::new();
        for line in self.0.lines().map(str::trim) {
            let steps = line
                .strip_prefix("/// Step")
                .and_then(|l| l.strip_suffix(&end));
            if let Some(steps) = steps {
                let words = steps.split([' ', ',']);
                numbers.extend(words.filter(|w| w.starts_with(|c: char| c.is_ascii_digit())));
            } else if let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                let carried = numbers.drain(..);
                found.extend(carried.map(|number| (number.to_owned(), name.to_owned())));
            } else if !line.starts_with("///") && !line.starts_with("#[") {
                numbers.clear();
            }
        }
        found
    }
}
