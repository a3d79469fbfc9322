//! `crdgen`: writes the CustomResourceDefinitions to `crds/generated/`; with `--check` it only says whether they are stale.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallyman_crds::schema;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    let done = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => write(&folder),
        ["--check"] => check(&folder),
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

/// What should be in the folder, by path.
fn wanted(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    schema::crds()
        .iter()
        .map(|crd| match crd.yaml() {
            Ok(text) => Ok((folder.join(&crd.file), text)),
            Err(error) => Err(format!("{}: {error}", crd.file)),
        })
        .collect()
}

fn write(folder: &Path) -> Result<(), String> {
    for (path, text) in wanted(folder)? {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn check(folder: &Path) -> Result<(), String> {
    for (path, text) in wanted(folder)? {
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            return Err(format!(
                "{} is stale: run crdgen and commit",
                path.display()
            ));
        }
    }
    Ok(())
}
