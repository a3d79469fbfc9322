//! What a task definition takes from Secrets and ConfigMaps, and how it reaches the host that runs it.
//!
//! ECS keeps such values in Secrets Manager, Parameter Store and S3; here they are keys of the Secrets and ConfigMaps in
//! the Task's own namespace. A host may read none of those. The operator copies what the host's tasks name, key by key,
//! into the host's own Secret ([`Supply`], under [`DATA_KEY`]) and leaves a receipt there of what it copied ([`Receipt`], in the
//! annotation [`crate::labels::SUPPLIED`]). So operator and agent must read a reference in the same way: here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::ecs::{
    ContainerDefinition, EnvironmentFile, EnvironmentFileType, RepositoryCredentials, TaskOverride,
};
use crate::firelens::{self, External};
use crate::task_definition::TaskDefinitionSpec;
use crate::versions::is_older;
use crate::{labels, roles};

/// Key of the host's Secret that holds the [`Supply`].
pub const DATA_KEY: &str = "supply.json";
/// The same, sealed to the key that the host joined with, if it did.
pub const SEALED_KEY: &str = "supply.sealed";

/// Key that is taken of an object with several when none is named.
pub const WHOLE: &str = "value";

/// Keys of registry credentials: user name and password, or what `kubectl create secret docker-registry` makes.
pub mod registry {
    /// User name.
    pub const USERNAME: &str = "username";
    /// Password.
    pub const PASSWORD: &str = "password";
    /// A Docker configuration file with the credentials of one or more registries.
    pub const DOCKER_CONFIG: &str = ".dockerconfigjson";
}

/// Where a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl SourceKind {
    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// An object that values are kept in, in the namespace of the Task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceObject {
    /// Secret or ConfigMap.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for SourceObject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}`", self.kind.as_str(), self.name)
    }
}

impl SourceObject {
    /// The Secret of this name, written as Kubernetes allows.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub(crate) fn secret(name: &str) -> Result<Self, String> {
        Self::new(SourceKind::Secret, name)
    }

    fn new(kind: SourceKind, name: &str) -> Result<Self, String> {
        let name = object_name(name).ok_or_else(|| {
            format!(
                "must name a {}: up to 253 lower case letters, digits, `-` and `.`",
                kind.as_str()
            )
        })?;
        Ok(Self { kind, name })
    }
}

/// One value of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The object.
    pub object: SourceObject,
    /// Which of its keys; `None` is the only one, or [`WHOLE`].
    pub key: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(out, "key `{key}` of {}", self.object),
            None => self.object.fmt(out),
        }
    }
}

impl Source {
    fn new(kind: SourceKind, name: &str, key: Option<&str>) -> Result<Self, String> {
        Ok(Self {
            object: SourceObject::new(kind, name)?,
            key: key.filter(|key| !key.is_empty()).map(str::to_owned),
        })
    }

    /// Reads a `valueFrom` (ECS `Secret`):
    ///
    /// | written | is |
    /// |---|---|
    /// | `db:password` | key `password` of Secret `db` |
    /// | `db` | the only key of Secret `db`, or its key `value` |
    /// | `arn:aws:secretsmanager:<region>:<account>:secret:prod/Db-AbCdEf:password::` | key `password` of Secret `prod-db` |
    /// | `arn:aws:ssm:<region>:<account>:parameter/prod/db/password`, `/prod/db/password` | the only key of Secret `prod-db-password` |
    ///
    /// Names that Kubernetes does not allow are written small, with `-` for every other character. The six characters
    /// that Secrets Manager adds to a name are left out.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub fn of_value_from(text: &str) -> Result<Self, String> {
        let secret = SourceKind::Secret;
        let Some(arn) = text.strip_prefix("arn:") else {
            return match text.split_once(':') {
                Some((_, "")) => Err(format!("must name a key after the `:`, unlike '{text}'")),
                Some((name, key)) => Self::new(secret, name, Some(key)),
                None => Self::new(secret, text, None),
            };
        };
        // partition:service:region:account:resource
        let parts: Vec<&str> = arn.splitn(5, ':').collect();
        let [_, service, _, _, resource] = parts[..] else {
            return Err(format!("must be a whole ARN, unlike '{text}'"));
        };
        match service {
            "ssm" => match resource.strip_prefix("parameter/") {
                Some(name) => Self::new(secret, name, None),
                None => Err(format!("must be the ARN of a parameter, unlike '{text}'")),
            },
            "secretsmanager" => {
                let parts: Vec<&str> = resource.split(':').collect();
                let ["secret", name, rest @ ..] = &parts[..] else {
                    return Err(format!("must be the ARN of a secret, unlike '{text}'"));
                };
                let (key, versions) = match rest {
                    [] => (None, &[][..]),
                    [key, versions @ ..] => (Some(*key), versions),
                };
                let current = |v: &&str| v.is_empty() || *v == "AWSCURRENT";
                if versions.len() > 2 || !versions.iter().all(current) {
                    return Err(
                        "must not name a version stage or id: a Secret has no versions".to_owned(),
                    );
                }
                Self::new(secret, unsuffixed(name), key)
            }
            other => Err(format!(
                "must be a secret or a parameter, and `{other}` keeps neither"
            )),
        }
    }

    /// Reads a `repositoryCredentials.credentialsParameter`: the Secret, without a key.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub fn of_registry(credentials: &RepositoryCredentials) -> Result<SourceObject, String> {
        let source = Self::of_value_from(&credentials.credentials_parameter)?;
        match source.key {
            None => Ok(source.object),
            Some(_) => Err("must name a Secret and no key of it".to_owned()),
        }
    }

    /// Reads the ARN of an object in S3: `arn:aws:s3:::bucket/prod/web.env` is key `prod.web.env` of ConfigMap `bucket`.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub fn of_object(arn: &str) -> Result<Self, String> {
        let object = arn
            .strip_prefix("arn:")
            .and_then(|arn| arn.split_once(":s3:::"))
            .and_then(|(_, object)| object.split_once('/'))
            .filter(|(_, key)| !key.is_empty());
        let Some((bucket, key)) = object else {
            return Err(format!(
                "must be the ARN of an object, such as `arn:aws:s3:::bucket/web.env`, unlike '{arn}'"
            ));
        };
        Self::new(SourceKind::ConfigMap, bucket, Some(&key.replace('/', ".")))
    }

    /// Reads an `environmentFiles` entry. Of type `s3` (ECS): `arn:aws:s3:::bucket/prod/web.env` is key `prod.web.env` of
    /// ConfigMap `bucket`. Of type `configMap` and `secret` (ours): `name:key`, or `name` for the only key. Of type `file`
    /// (ours): an absolute path.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub fn of_file(file: &EnvironmentFile) -> Result<FileSource, String> {
        let EnvironmentFile { value, r#type } = file;
        let kept = |kind| match value.split_once(':') {
            Some((_, "")) => Err(format!("must name a key after the `:`, unlike '{value}'")),
            Some((name, key)) => Self::new(kind, name, Some(key)),
            None => Self::new(kind, value, None),
        };
        match r#type {
            EnvironmentFileType::S3 => Self::of_object(value).map(FileSource::Kept),
            EnvironmentFileType::ConfigMap => kept(SourceKind::ConfigMap).map(FileSource::Kept),
            EnvironmentFileType::Secret => kept(SourceKind::Secret).map(FileSource::Kept),
            EnvironmentFileType::File => host_path(value).map(FileSource::Host),
        }
    }

    /// Finds the value in what the object holds. A key that is none of the object's is looked for in the JSON object
    /// that [`WHOLE`] (or the only key) holds, as Secrets Manager keeps them.
    pub fn choose(&self, data: &BTreeMap<String, Vec<u8>>) -> Supplied {
        let whole = || match data.get(WHOLE) {
            Some(bytes) => Ok(bytes),
            None if data.len() == 1 => data.values().next().ok_or(Supplied::NoKey),
            None if data.is_empty() => Err(Supplied::NoKey),
            None => Err(Supplied::SeveralKeys),
        };
        let bytes = match &self.key {
            None => whole(),
            Some(key) => match data.get(key) {
                Some(bytes) => Ok(bytes),
                None => {
                    let member = whole().ok().and_then(|bytes| member(bytes, key));
                    return member.map_or(Supplied::NoKey, Supplied::Value);
                }
            },
        };
        match bytes.map(|bytes| String::from_utf8(bytes.clone())) {
            Ok(Ok(text)) => Supplied::Value(text),
            Ok(Err(_)) => Supplied::NotText,
            Err(answer) => answer,
        }
    }

    /// Under which key a [`Supply`] has it.
    fn entry(&self) -> String {
        let kind = match self.object.kind {
            SourceKind::Secret => "secret",
            SourceKind::ConfigMap => "configmap",
        };
        let key = self.key.as_deref().unwrap_or_default();
        format!("{kind}/{}/{key}", self.object.name)
    }
}

/// Where a file of environment variables is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// In a Secret or ConfigMap.
    Kept(Source),
    /// On the host that runs the container, at this absolute path.
    Host(String),
}

impl FileSource {
    /// What the operator supplies of it.
    pub fn kept(self) -> Option<Source> {
        match self {
            Self::Kept(source) => Some(source),
            Self::Host(_) => None,
        }
    }
}

fn host_path(text: &str) -> Result<String, String> {
    let climbs = text.split('/').any(|part| part == "..");
    if !text.starts_with('/') || text.ends_with('/') || climbs || text.contains('\0') {
        return Err(format!(
            "must be the absolute path of a file without `..`, such as `/etc/app/web.env`, unlike '{text}'"
        ));
    }
    Ok(text.to_owned())
}

fn member(bytes: &[u8], key: &str) -> Option<String> {
    let whole: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    match whole.get(key)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// A name that Kubernetes allows; `None` when nothing is left of it.
fn object_name(text: &str) -> Option<String> {
    let allowed = |c: char| match c {
        'a'..='z' | '0'..='9' | '.' | '-' => c,
        _ => '-',
    };
    let name: String = text.to_lowercase().chars().map(allowed).collect();
    let name = name.trim_matches(['-', '.']);
    (!name.is_empty() && name.len() <= 253).then(|| name.to_owned())
}

/// The name of a secret less what Secrets Manager adds: a hyphen and six letters or digits.
fn unsuffixed(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((short, suffix))
            if suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            short
        }
        _ => name,
    }
}

/// Everything that a task of `spec`, run with `overrides`, takes from Secrets and ConfigMaps. What cannot be read is
/// left out: the definition was refused for it.
pub fn of_task(spec: &TaskDefinitionSpec, overrides: Option<&TaskOverride>) -> BTreeSet<Source> {
    let changed = |c: &ContainerDefinition| {
        let changes = overrides.into_iter().flat_map(|o| &o.container_overrides);
        changes
            .filter(|o| o.name.as_ref() == Some(&c.name))
            .map(|o| &o.environment_files)
            .find(|files| !files.is_empty())
            .cloned()
    };
    let mut sources = roles::of_task(spec, overrides);
    for c in &spec.container_definitions {
        let files = changed(c).unwrap_or_else(|| c.environment_files.clone());
        let files = files.iter().flat_map(Source::of_file);
        sources.extend(files.filter_map(FileSource::kept));
        let options = c.log_configuration.iter().flat_map(|l| &l.secret_options);
        sources.extend(
            c.secrets
                .iter()
                .chain(options)
                .flat_map(|s| Source::of_value_from(&s.value_from)),
        );
        let credentials = c
            .repository_credentials
            .iter()
            .flat_map(Source::of_registry);
        sources.extend(credentials.flat_map(|object| of_credentials(&object)));
        let router = c.firelens_configuration.iter();
        let options = router.flat_map(firelens::router_options);
        sources.extend(options.filter_map(|options| match options.external? {
            External::Kept(source) => Some(source),
            External::File(_) => None,
        }));
    }
    sources
}

/// What registry credentials may be found under.
pub fn of_credentials(object: &SourceObject) -> [Source; 3] {
    [
        registry::USERNAME,
        registry::PASSWORD,
        registry::DOCKER_CONFIG,
    ]
    .map(|key| Source {
        object: object.clone(),
        key: Some(key.to_owned()),
    })
}

/// A Secret or ConfigMap as it was read.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// All that it holds.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// The resourceVersion of an object that values may be taken from; `None` of one of ours: it holds what other hosts are
/// given.
pub fn version(metadata: &ObjectMeta) -> Option<&str> {
    let version = metadata.resource_version.as_deref();
    version.filter(|_| !labels::is_ours(metadata))
}

/// The supply of `sources` out of `objects`, and its receipt. One of ours is as one that is not there.
pub fn supply(
    sources: &BTreeSet<Source>,
    objects: &BTreeMap<SourceObject, Contents>,
) -> (Supply, Receipt) {
    let mut supply = Supply::default();
    let mut receipt = Receipt::default();
    for source in sources {
        let found = objects.get(&source.object);
        let found = found.and_then(|found| Some((version(&found.metadata)?, &found.data)));
        let (version, answer) = match found {
            Some((version, data)) => (version.to_owned(), source.choose(data)),
            None => (String::new(), Supplied::NoObject),
        };
        supply.0.insert(source.entry(), answer);
        receipt.0.insert(source.entry(), version);
    }
    (supply, receipt)
}

/// What a host was given for a [`Source`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Supplied {
    /// The value.
    Value(String),
    /// There is no such object, or it is one of ours and not to be handed out.
    NoObject,
    /// The object has no such key.
    NoKey,
    /// No key was named, and the object has several.
    SeveralKeys,
    /// The value is not UTF-8.
    NotText,
}

impl fmt::Debug for Supplied {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Value(_) => "Value(..)",
            Self::NoObject => "NoObject",
            Self::NoKey => "NoKey",
            Self::SeveralKeys => "SeveralKeys",
            Self::NotText => "NotText",
        })
    }
}

/// Everything that the tasks of a host take from Secrets and ConfigMaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Supply(BTreeMap<String, Supplied>);

impl Supply {
    /// What was found for `source`; `None` when it is not supplied (yet).
    pub fn get(&self, source: &Source) -> Option<&Supplied> {
        self.0.get(&source.entry())
    }
}

/// What was supplied to a host: each [`Source`], and the resourceVersion of its object at that time (empty: there was
/// none). No values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipt(BTreeMap<String, String>);

impl Receipt {
    /// True when it says that exactly `sources` were supplied, each as of its object's present version, or a newer one
    /// than the caller has seen.
    pub fn says<'a>(
        &self,
        sources: &BTreeSet<Source>,
        present: impl Fn(&SourceObject) -> Option<&'a str>,
    ) -> bool {
        self.0.len() == sources.len() && sources.iter().all(|s| self.has(s, present(&s.object)))
    }

    /// True when `source` was supplied as of `present`, or of a newer version.
    pub fn has(&self, source: &Source, present: Option<&str>) -> bool {
        self.0
            .get(&source.entry())
            .is_some_and(|noted| match present {
                None => noted.is_empty(),
                Some(version) => noted == version || is_older(version, noted),
            })
    }
}
