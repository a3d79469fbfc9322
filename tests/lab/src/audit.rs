//! The API server's audit log: who wrote what how often. Benchmarks count from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Every request once, when it is answered, without its content.
pub const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

/// What kind of request it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// User name, as the API server sees it.
    pub user: String,
    /// `create`, `patch`, `watch` ...
    pub verb: String,
    /// `tasks`, `tasks/status`, or the path of what is no resource.
    pub resource: String,
}

impl Request {
    /// It changes something.
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

/// An audit log from a place in it on.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
    from: u64,
}

impl AuditLog {
    /// All of the log.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        AuditLog {
            path: path.into(),
            from: 0,
        }
    }

    /// What is written from now on.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn from_now(&self) -> Result<Self> {
        let length = std::fs::metadata(&self.path)
            .context("the audit log")?
            .len();
        Ok(AuditLog {
            path: self.path.clone(),
            from: length,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Requests by kind. A watch counts twice: when it begins and when it ends.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<Request, u64>> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("cannot open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut counts = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            if let Ok(entry) = serde_json::from_str::<Entry>(&line?) {
                *counts.entry(entry.into()).or_default() += 1;
            }
        }
        Ok(counts)
    }
}

#[derive(Deserialize)]
struct Entry {
    verb: String,
    user: User,
    #[serde(rename = "objectRef")]
    object: Option<Object>,
    #[serde(rename = "requestURI")]
    uri: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: Option<String>,
    subresource: Option<String>,
}

impl From<Entry> for Request {
    fn from(entry: Entry) -> Self {
        let path = || entry.uri.split('?').next().unwrap_or_default().to_owned();
        let resource = match entry.object {
            Some(Object {
                resource: Some(resource),
                subresource: Some(sub),
            }) => {
                format!("{resource}/{sub}")
            }
            Some(Object {
                resource: Some(resource),
                subresource: None,
            }) => resource,
            Some(Object { resource: None, .. }) | None => path(),
        };
        Request {
            user: entry.user.username,
            verb: entry.verb,
            resource,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_user_verb_and_resource() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let patch = r#"{"verb":"patch","requestURI":"/apis/x","user":{"username":"a"},"objectRef":{"resource":"tasks","subresource":"status"}}"#;
        let health = r#"{"verb":"get","requestURI":"/readyz?x","user":{"username":"b"}}"#;
        std::fs::write(&path, format!("{health}\n")).unwrap();
        let log = AuditLog::new(&path).from_now().unwrap();
        std::fs::write(&path, format!("{health}\n{patch}\n{patch}\n{{\"verb\":")).unwrap();
        let counts: Vec<_> = log.counts().unwrap().into_iter().collect();
        let request = Request {
            user: "a".into(),
            verb: "patch".into(),
            resource: "tasks/status".into(),
        };
        assert!(request.is_write());
        assert_eq!(counts, [(request, 2)]);
        assert_eq!(AuditLog::new(&path).counts().unwrap().len(), 2);
    }
}
