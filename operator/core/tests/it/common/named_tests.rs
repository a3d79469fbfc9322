//! Tests that documents name: they must be there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The conformance suite, and the pulls beside it: both engine generations run them.
const OF_ENGINES: [&str; 2] = [
    "node-agent/engine/src/conformance",
    "node-agent/docker/tests/pulls.rs",
];
/// Scenarios, by module; its `mod.rs` says which of them both generations run.
const SCENARIOS: &str = "tests/e2e/src/scenarios";

/// All that may hold tests.
pub struct NamedTests {
    /// Path below the root, and text.
    files: Vec<(PathBuf, String)>,
    /// Files of tests that real engines of both generations run.
    of_engines: Vec<PathBuf>,
}

impl NamedTests {
    /// Of the source tree.
    pub fn all() -> Self {
        let mut files = Vec::new();
        let mut folders: Vec<PathBuf> = ["node-agent", "operator/core", "tests", "crds"]
            .map(PathBuf::from)
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
                let path = folder.join(entry.unwrap().file_name());
                let whole = root().join(&path);
                if whole.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    files.push((path, std::fs::read_to_string(whole).unwrap()));
                }
            }
        }
        let list = std::fs::read_to_string(root().join(SCENARIOS).join("mod.rs")).unwrap();
        let (_, of_both) = list
            .split_once("OF_BOTH_ENGINES: &[&[Scenario]] = &[")
            .unwrap();
        let (of_both, _) = of_both.split_once("];").unwrap();
        let modules = of_both
            .split(',')
            .filter_map(|one| one.trim().strip_suffix("::SCENARIOS"));
        let scenarios = modules.map(|module| Path::new(SCENARIOS).join(format!("{module}.rs")));
        Self {
            files,
            of_engines: OF_ENGINES
                .into_iter()
                .map(PathBuf::from)
                .chain(scenarios)
                .collect(),
        }
    }

    /// There is a test function or a scenario of the name.
    pub fn has(&self, name: &str) -> bool {
        self.is_in(name, |_| true)
    }

    /// There is one that real engines of both generations run.
    pub fn has_on_engines(&self, name: &str) -> bool {
        self.is_in(name, |path| {
            self.of_engines.iter().any(|of| path.starts_with(of))
        })
    }

    fn is_in(&self, name: &str, looked_at: impl Fn(&Path) -> bool) -> bool {
        let spelled = [
            format!("fn {name}("),
            format!("fn {name}<"),
            format!("name: \"{name}\""),
        ];
        let mut files = self.files.iter().filter(|(path, _)| looked_at(path));
        files.any(|(_, text)| spelled.iter().any(|name| text.contains(name)))
    }

    /// The numbers of rows of `document` that tests carry, each with the name of the test: the line above it is
    /// `/// Step 3.2 of`, or `/// Steps 3.2 and 3.3 of`, and the document.
    pub fn carried(&self, document: &str) -> BTreeSet<(String, String)> {
        let end = format!(" of `{document}`.");
        let mut found = BTreeSet::new();
        let mut numbers: Vec<&str> = Vec::new();
        let lines = self.files.iter().flat_map(|(_, text)| text.lines());
        for line in lines.map(str::trim) {
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
