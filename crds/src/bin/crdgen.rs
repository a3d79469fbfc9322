//! `crdgen`: writes the CustomResourceDefinitions to `crds/generated/`, and what charts and plain manifests take from them and from
//! `deploy/`; with `--check` it only says whether something is stale.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallyman_crds::schema::{self, charts};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => write(&root),
        ["--check"] => check(&root),
        _ => Err("usage: crdgen [--check]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
    }
}

/// What should be there, by path.
fn wanted(root: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    for crd in schema::crds() {
        let text = crd
            .yaml()
            .map_err(|error| format!("{}: {error}", crd.file))?;
        files.push((root.join("crds/generated").join(&crd.file), text));
    }
    let read = |file: &str| read(&root.join(file));
    let [hosts, joins] = charts::POLICIES.map(read);
    let derived = charts::derived(&charts::Sources {
        operator: &read(charts::OPERATOR)?,
        policies: [&hosts?, &joins?],
        authority: &read(charts::AUTHORITY)?,
    })?;
    files.extend(
        derived
            .into_iter()
            .map(|file| (root.join(file.path), file.text)),
    );
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(root: &Path) -> Result<(), String> {
    for (path, text) in wanted(root)? {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn check(root: &Path) -> Result<(), String> {
    for (path, text) in wanted(root)? {
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            return Err(format!(
                "{} is stale: run crdgen and commit",
                path.display()
            ));
        }
    }
    Ok(())
}
