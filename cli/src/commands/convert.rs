//! `convert`: reads files, prints manifests, and names on stderr what was not carried over.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use super::print;
use crate::args::Convert;
use crate::convert::{self, Options};
use crate::{manifests, outcome};

pub(super) fn convert(args: &Convert) -> Result<u8> {
    let mut manifests = Vec::new();
    for source in &args.filename {
        for (file, text) in manifests::texts(source)? {
            let options = Options {
                name: args.name.clone().unwrap_or_else(|| folder(source)),
                named: args.name.is_some(),
                together: args.together,
                variables: variables(source)?,
            };
            let made = convert::convert(&text, &options).map_err(|why| anyhow!(why));
            manifests.extend(made.with_context(|| format!("{file} cannot be converted"))?);
        }
    }
    print(&convert::text(&manifests))?;
    for manifest in &manifests {
        for note in &manifest.notes {
            eprintln!("{}: {note}", manifest.title());
        }
    }
    Ok(outcome::DONE)
}

/// Name of the folder of a file, as Compose calls a project that has no name.
fn folder(source: &str) -> String {
    let full = std::fs::canonicalize(Path::new(source)).unwrap_or_default();
    let folder = full
        .parent()
        .and_then(Path::file_name)
        .and_then(|n| n.to_str());
    folder.unwrap_or("app").to_owned()
}

/// Variables for a Compose file: those of the file `.env` beside it, and those of this process, which win.
fn variables(source: &str) -> Result<BTreeMap<String, String>> {
    let beside = Path::new(source)
        .parent()
        .unwrap_or(Path::new(""))
        .join(".env");
    let mut found = BTreeMap::new();
    if source != "-" && beside.is_file() {
        let text = std::fs::read_to_string(&beside)
            .with_context(|| format!("cannot read {}", beside.display()))?;
        for line in text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            if let Some((name, value)) = line.split_once('=') {
                let value = value.trim().trim_matches(['"', '\'']);
                found.insert(
                    name.trim().trim_start_matches("export ").to_owned(),
                    value.to_owned(),
                );
            }
        }
    }
    found.extend(std::env::vars());
    Ok(found)
}
