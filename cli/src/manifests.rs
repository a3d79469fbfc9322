//! Manifests from files, folders and standard input, as `kubectl apply -f` takes them.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Endings of files that are read from a folder, as kubectl has them.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// All objects of these files, in order; a List is its items.
///
/// # Errors
/// Something cannot be read, or is no object.
pub fn read(sources: &[String]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for source in sources {
        for (name, text) in texts(source)? {
            objects.extend(parse(&text).with_context(|| format!("{name} is not usable"))?);
        }
    }
    if objects.is_empty() {
        bail!("there is no object in {}", sources.join(", "));
    }
    Ok(objects)
}

/// Names and contents of what `source` means.
///
/// # Errors
/// It cannot be read.
pub fn texts(source: &str) -> Result<Vec<(String, String)>> {
    if source == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let path = Path::new(source);
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {source}"))? {
            let file = entry
                .with_context(|| format!("cannot read {source}"))?
                .path();
            let ending = file
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            if file.is_file() && ENDINGS.contains(&ending) {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            bail!("there is no .yaml, .yml or .json file in {source}");
        }
    } else {
        files.push(path.to_owned());
    }
    let read = |file: std::path::PathBuf| {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        Ok((name, text))
    };
    files.into_iter().map(read).collect()
}

/// The objects of a text, YAML or JSON.
///
/// # Errors
/// It is neither, or holds something that is no object with a kind and a name.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|d| !d.is_null()) {
        match document["items"].as_array() {
            Some(items) => objects.extend(items.iter().cloned()),
            None => objects.push(document),
        }
    }
    for o in &objects {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&o["apiVersion"]), text(&o["kind"]));
        if version.is_empty() || kind.is_empty() {
            bail!("every object must have `apiVersion` and `kind`");
        }
        if text(&o["metadata"]["name"]).is_empty() {
            bail!("{kind} must have `metadata.name`");
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_its_items_and_empty_documents_are_none() {
        let text = "---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: a/v1, kind: B, metadata: {name: c}}\n\
                    ---\napiVersion: v1\nkind: D\nmetadata: {name: e}\n";
        let kinds: Vec<_> = parse(text)
            .expect("objects")
            .iter()
            .map(|o| o["kind"].to_string())
            .collect();
        assert_eq!(kinds, ["\"B\"", "\"D\""]);
        let nameless = parse("apiVersion: v1\nkind: D\n").map_err(|e| e.to_string());
        assert_eq!(nameless, Err("D must have `metadata.name`".to_owned()));
    }
}
