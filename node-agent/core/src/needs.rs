//! What a container takes from Secrets and ConfigMaps, put in when it is created and kept nowhere (ECS: read once, before
//! the container is created).

use std::collections::{BTreeMap, BTreeSet};

use tallyman_agent_engine::{ContainerSpec, EngineError, RegistryCredentials, Sensitive};
use tallyman_crds::ecs::{ContainerDefinition, ContainerOverride, Secret};
use tallyman_crds::firelens;
use tallyman_crds::sources::{FileSource, Source, SourceObject, Supplied, Supply, of_credentials};

use crate::host_files::HostFiles;
use crate::refused::Refused;
use crate::registries::Registries;

/// References of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    secrets: Vec<(String, Source)>,
    log_options: Vec<(String, Source)>,
    files: Vec<FileSource>,
    /// Variables that definition or run set, which no file changes.
    set: BTreeSet<String>,
    credentials: Option<SourceObject>,
    /// The file that the configuration of a log router includes.
    configuration: Option<Source>,
}

/// Why a need is not met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The operator has not delivered it yet, or we have not heard of it.
    #[error("{0} has not been delivered yet")]
    NotYet(Source),
    /// It is not to be had; what is wrong.
    #[error("{0}")]
    Never(String),
    /// The same of the file that the configuration of a log router includes.
    #[error("{0}")]
    NoConfiguration(String),
}

impl Needs {
    /// Reads the references of a container, as `changes` has them.
    ///
    /// # Errors
    /// [`Refused::Parameter`] names the field that cannot be read.
    pub(crate) fn of(
        container: &ContainerDefinition,
        changes: &ContainerOverride,
    ) -> Result<Self, Refused> {
        let refuse = |field: &'static str| {
            let container = container.name.clone();
            move |why: String| Refused::Parameter {
                container: container.clone(),
                field,
                why,
            }
        };
        let read = |secret: &Secret, field: &'static str| {
            let source = Source::of_value_from(&secret.value_from).map_err(refuse(field))?;
            Ok((secret.name.clone(), source))
        };
        let files = if changes.environment_files.is_empty() {
            &container.environment_files
        } else {
            &changes.environment_files
        };
        // What a container sends to a log router, that one's options are for.
        let options = container.log_configuration.iter();
        let options = options.filter(|_| firelens::sends(container).is_none());
        let variables = container.environment.iter().chain(&changes.environment);
        let credentials = container.repository_credentials.as_ref();
        Ok(Self {
            secrets: container
                .secrets
                .iter()
                .map(|s| read(s, "secrets.valueFrom"))
                .collect::<Result<_, _>>()?,
            log_options: options
                .flat_map(|log| &log.secret_options)
                .map(|s| read(s, "logConfiguration.secretOptions.valueFrom"))
                .collect::<Result<_, _>>()?,
            files: files
                .iter()
                .map(|f| Source::of_file(f).map_err(refuse("environmentFiles.value")))
                .collect::<Result<_, _>>()?,
            set: variables.filter_map(|v| v.name.clone()).collect(),
            credentials: credentials
                .map(Source::of_registry)
                .transpose()
                .map_err(refuse("repositoryCredentials.credentialsParameter"))?,
            configuration: None,
        })
    }

    /// Adds what a log router takes for the containers that send to it: variables, and the file that it includes.
    pub(crate) fn route(
        &mut self,
        (variables, configuration): (Vec<(String, Source)>, Option<Source>),
    ) {
        self.secrets.extend(variables);
        self.configuration = configuration;
    }

    /// The file that the configuration of a log router includes, if a ConfigMap has it.
    ///
    /// # Errors
    /// It is not there.
    pub fn configuration(&self, supply: Option<&Supply>) -> Result<Option<String>, Unmet> {
        let Some(source) = &self.configuration else {
            return Ok(None);
        };
        match take(supply, source) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(Unmet::Never(why)) => Err(Unmet::NoConfiguration(why)),
            Err(other) => Err(other),
        }
    }

    /// Whether everything is there.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self, supply: Option<&Supply>, image: &str) -> Result<(), Unmet> {
        let named = self.secrets.iter().chain(&self.log_options);
        let kept = self.files.iter().filter_map(|file| match file {
            FileSource::Kept(source) => Some(source),
            // Read when the container is created.
            FileSource::Host(_) => None,
        });
        let sources = named.map(|(_, source)| source).chain(kept);
        for source in sources {
            take(supply, source)?;
        }
        self.configuration(supply)?;
        self.credentials(supply, image).map(|_| ())
    }

    /// The task's own credentials for the registry of its image.
    ///
    /// # Errors
    /// They are not there.
    pub fn credentials(
        &self,
        supply: Option<&Supply>,
        image: &str,
    ) -> Result<Option<RegistryCredentials>, Unmet> {
        let Some(object) = &self.credentials else {
            return Ok(None);
        };
        let never = |what: &str| Unmet::Never(format!("{object} {what}"));
        let [username, password, config] = of_credentials(object);
        let found = [&username, &password, &config]
            .map(|source| supply.and_then(|s| s.get(source)).ok_or(source));
        match found {
            [Err(source), ..] | [_, Err(source), _] | [.., Err(source)] => {
                Err(Unmet::NotYet(source.clone()))
            }
            [
                Ok(Supplied::Value(username)),
                Ok(Supplied::Value(password)),
                _,
            ] => Ok(Some(RegistryCredentials {
                username: username.clone(),
                password: Sensitive::new(password.as_str()),
            })),
            [.., Ok(Supplied::Value(config))] => {
                let known = Registries::of_config(config)
                    .map_err(|wanted| never(&format!("is not {wanted}")))?;
                let of_image = known.of(image).cloned();
                let none = || never(&format!("has no credentials for the registry of `{image}`"));
                of_image.map(Some).ok_or_else(none)
            }
            [Ok(Supplied::NoObject), ..] => Err(never("does not exist")),
            [Ok(_), Ok(_), Ok(_)] => Err(never(
                "must have the keys `username` and `password`, or be of type `kubernetes.io/dockerconfigjson`",
            )),
        }
    }

    /// Its files of variables, if it has any.
    ///
    /// # Errors
    /// One of those that the operator delivers is not there.
    pub fn variable_files(&self, supply: Option<&Supply>) -> Result<Option<VariableFiles>, Unmet> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let files = self.files.iter().map(|file| {
            Ok(match file {
                FileSource::Kept(source) => {
                    VariableFile::Text(Sensitive::new(take(supply, source)?))
                }
                FileSource::Host(path) => VariableFile::Host(path.clone()),
            })
        });
        let secrets = self.secrets.iter().map(|(name, _)| name);
        Ok(Some(VariableFiles {
            files: files.collect::<Result<_, _>>()?,
            set: self.set.iter().chain(secrets).cloned().collect(),
        }))
    }

    /// Puts the values into what the engine is told, but for those in files of variables. A secret counts more than what the
    /// definition or the run says.
    ///
    /// # Errors
    /// One is not there.
    pub fn fill(&self, spec: &mut ContainerSpec, supply: Option<&Supply>) -> Result<(), Unmet> {
        let mut hidden: BTreeMap<String, Sensitive> = BTreeMap::new();
        for (name, source) in &self.secrets {
            hidden.insert(name.clone(), Sensitive::new(take(supply, source)?));
        }
        spec.environment
            .retain(|(name, _)| !hidden.contains_key(name));
        spec.secrets = hidden.into_iter().collect();
        if let Some(log) = &mut spec.parameters.log {
            for (name, source) in &self.log_options {
                let value = Sensitive::new(take(supply, source)?);
                log.secret_options.insert(name.clone(), value);
            }
        }
        Ok(())
    }
}

/// Files of variables of one container, in the order in which they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableFiles {
    files: Vec<VariableFile>,
    /// Variables that the definition, the run or a secret sets, which no file changes.
    set: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum VariableFile {
    /// What a Secret or ConfigMap had.
    Text(Sensitive),
    /// A file of the host, at this path.
    Host(String),
}

impl VariableFiles {
    /// Puts their variables into what the engine is told. Of a name the first file counts (ECS).
    ///
    /// # Errors
    /// [`EngineError::CannotRead`]
    pub fn fill(&self, spec: &mut ContainerSpec, host: &dyn HostFiles) -> Result<(), EngineError> {
        let mut hidden: BTreeMap<String, Sensitive> = BTreeMap::new();
        for file in &self.files {
            let text = match file {
                VariableFile::Text(text) => text.clone(),
                VariableFile::Host(path) => Sensitive::new(host.read(path)?),
            };
            for (name, value) in variables(text.expose()) {
                if !self.set.contains(name) {
                    let value = || Sensitive::new(value);
                    hidden.entry(name.to_owned()).or_insert_with(value);
                }
            }
        }
        spec.environment
            .retain(|(name, _)| !hidden.contains_key(name));
        spec.secrets.extend(hidden);
        Ok(())
    }
}

/// Lines `NAME=value` (ECS environment files): no quotes, nothing expanded; empty lines, comments and lines without `=`
/// are left out.
fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), value))
        .filter(|(name, _)| !name.is_empty())
}

/// The value of a source.
///
/// # Errors
/// It is not there (yet).
pub(crate) fn take<'a>(supply: Option<&'a Supply>, source: &Source) -> Result<&'a str, Unmet> {
    let object = &source.object;
    Err(Unmet::Never(
        match supply.and_then(|supply| supply.get(source)) {
            None => return Err(Unmet::NotYet(source.clone())),
            Some(Supplied::Value(text)) => return Ok(text),
            Some(Supplied::NoObject) => format!("{object} does not exist"),
            Some(Supplied::NoKey) => match &source.key {
                Some(key) => format!("{object} has no key `{key}`"),
                None => format!("{object} is empty"),
            },
            Some(Supplied::SeveralKeys) => {
                format!("{object} has several keys, so one must be named, as in `name:key`")
            }
            Some(Supplied::NotText) => format!("{source} is not text"),
        },
    ))
}
