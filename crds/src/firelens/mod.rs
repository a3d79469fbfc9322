//! FireLens: a container of the task takes the output of others and routes it (ECS `firelensConfiguration`, log driver
//! `awsfirelens`). The one reading of both, so that the operator refuses exactly what an agent could not carry out.
//!
//! Facts of the definition only. What the router's configuration says is the agent's to write.

mod sender;

use crate::ecs::{
    ContainerDefinition, FirelensConfiguration, FirelensConfigurationType, LogConfiguration,
    LogDriver,
};
use crate::sources::Source;

pub use sender::{BUFFER_LIMIT, OptionValue, Output, Sender};

const METADATA: &str = "enable-ecs-log-metadata";
const CONFIG_TYPE: &str = "config-file-type";
const CONFIG_VALUE: &str = "config-file-value";

const CONFIGURATION: &str = "firelensConfiguration";
const OPTIONS: &str = "firelensConfiguration.options";
const DRIVER: &str = "logConfiguration.logDriver";

impl FirelensConfigurationType {
    /// Where the router reads its configuration, inside its container.
    pub fn config_path(self) -> &'static str {
        match self {
            Self::Fluentd => "/fluentd/etc/fluent.conf",
            Self::Fluentbit => "/fluent-bit/etc/fluent-bit.conf",
        }
    }

    /// Where it finds a file of a ConfigMap, inside its container.
    pub fn external_path(self) -> &'static str {
        match self {
            Self::Fluentd => "/fluentd/etc/external.conf",
            Self::Fluentbit => "/fluent-bit/etc/external.conf",
        }
    }

    /// Option of the log driver that names the output plugin.
    pub fn plugin_option(self) -> &'static str {
        match self {
            Self::Fluentd => "@type",
            Self::Fluentbit => "Name",
        }
    }
}

/// A file that the router's configuration includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// A path inside the router's container.
    File(String),
    /// Of type `s3` in ECS; here a key of a ConfigMap.
    Kept(Source),
}

/// What the options of a `firelensConfiguration` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterOptions {
    /// Records say which task they are of.
    pub log_metadata: bool,
    /// What is included.
    pub external: Option<External>,
}

/// The log router of a task, and who sends to it.
#[derive(Clone, Debug, PartialEq)]
pub struct FireLens<'a> {
    /// The container that is the router.
    pub router: &'a ContainerDefinition,
    /// What runs there.
    pub r#type: FirelensConfigurationType,
    /// How it is set up.
    pub options: RouterOptions,
    /// Containers with the log driver `awsfirelens`, in the order of the definition.
    pub senders: Vec<Sender<'a>>,
}

/// A field that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The container whose field is wrong.
    pub container: String,
    /// Path of the field in the container definition.
    pub field: &'static str,
    /// What would be right, starting with a verb: "must name ...".
    pub message: String,
}

/// What is wrong with one field: its path, and what would be right.
type Wrong = (&'static str, String);

/// Reads router and senders of a task; `None` when it has no router.
///
/// # Errors
/// Everything that is wrong (ECS RegisterTaskDefinition).
pub fn read(containers: &[ContainerDefinition]) -> Result<Option<FireLens<'_>>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut note = |container: &ContainerDefinition, (field, message): Wrong| {
        mistakes.push(Mistake {
            container: container.name.clone(),
            field,
            message,
        });
    };
    let mut routers = containers
        .iter()
        .filter_map(|c| Some((c, c.firelens_configuration.as_ref()?)));
    let router = routers.next();
    for (other, _) in routers {
        let message = "must be given to one container of the task only".to_owned();
        note(other, (CONFIGURATION, message));
    }
    let options = router.and_then(|(container, configuration)| {
        for wrong in unfit(container) {
            note(container, wrong);
        }
        match router_options(configuration) {
            Ok(options) => Some(options),
            Err(wrong) => {
                note(container, wrong);
                None
            }
        }
    });
    let mut senders = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let Some(log) = sends(container) else {
            continue;
        };
        let Some((_, configuration)) = router else {
            let message =
                "is `awsfirelens`, so a container of the task must have `firelensConfiguration`";
            note(container, (DRIVER, message.to_owned()));
            continue;
        };
        match sender::sender(container, index, log, configuration.r#type) {
            Ok(sender) => senders.push(sender),
            Err(wrong) => note(container, wrong),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(router
        .zip(options)
        .map(|((router, configuration), options)| FireLens {
            router,
            r#type: configuration.r#type,
            options,
            senders,
        }))
}

/// The log configuration of a container that sends to the router.
pub fn sends(container: &ContainerDefinition) -> Option<&LogConfiguration> {
    let log = container.log_configuration.as_ref();
    log.filter(|log| log.log_driver == LogDriver::Awsfirelens)
}

/// Why a container cannot be the router.
fn unfit(container: &ContainerDefinition) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let user = container.user.as_deref().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    if !matches!(user, "" | "0" | "root") {
        let message = "must be absent or `0` with `firelensConfiguration`: the log router runs as root to read its \
             configuration and to make its socket";
        wrong.push(("user", message.to_owned()));
    }
    if sends(container).is_some() {
        let message = "must be another one than `awsfirelens` with `firelensConfiguration`: the log router cannot send \
             to itself";
        wrong.push((DRIVER, message.to_owned()));
    }
    wrong
}

/// Reads the options of a `firelensConfiguration`.
///
/// # Errors
/// Path of the field, and what would be right.
pub fn router_options(
    configuration: &FirelensConfiguration,
) -> Result<RouterOptions, (&'static str, String)> {
    let FirelensConfiguration { r#type, options } = configuration;
    let wrong = |message: String| (OPTIONS, message);
    let known = [METADATA, CONFIG_TYPE, CONFIG_VALUE];
    if let Some(other) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(wrong(format!(
            "must have no other keys than `{METADATA}`, `{CONFIG_TYPE}` and `{CONFIG_VALUE}`, unlike `{other}`"
        )));
    }
    let log_metadata = match options.get(METADATA) {
        None => true,
        Some(text) => truth(text).ok_or_else(|| {
            wrong(format!(
                "must have `true` or `false` as `{METADATA}`, not '{text}'"
            ))
        })?,
    };
    let value = options.get(CONFIG_VALUE).filter(|value| !value.is_empty());
    let external = match (options.get(CONFIG_TYPE).map(String::as_str), value) {
        (None, None) => None,
        (None, Some(_)) => {
            let message =
                format!("must have `{CONFIG_TYPE}`, `file` or `s3`, with `{CONFIG_VALUE}`");
            return Err(wrong(message));
        }
        (Some("file" | "s3"), None) => {
            let message = format!("must have `{CONFIG_VALUE}` with `{CONFIG_TYPE}`");
            return Err(wrong(message));
        }
        (Some("file"), Some(path)) => Some(External::File(
            included(path, *r#type).map_err(wrong)?.to_owned(),
        )),
        (Some("s3"), Some(arn)) => {
            classic(arn, *r#type).map_err(wrong)?;
            let source = Source::of_object(arn);
            Some(External::Kept(source.map_err(|why| {
                wrong(format!("has a `{CONFIG_VALUE}` that {why}"))
            })?))
        }
        (Some(other), _) => {
            return Err(wrong(format!(
                "must have `file` or `s3` as `{CONFIG_TYPE}`, not '{other}'"
            )));
        }
    };
    Ok(RouterOptions {
        log_metadata,
        external,
    })
}

/// As ECS agents read a truth value.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A path that the router's configuration may include.
fn included(path: &str, r#type: FirelensConfigurationType) -> Result<&str, String> {
    let own = r#type.config_path();
    if !path.starts_with('/') || path.chars().any(char::is_whitespace) {
        return Err(format!(
            "must have an absolute path without spaces as `{CONFIG_VALUE}`, not '{path}'"
        ));
    }
    if path == own {
        return Err(format!(
            "must not have `{own}` as `{CONFIG_VALUE}`: the configuration that includes the file is there"
        ));
    }
    classic(path, r#type)?;
    Ok(path)
}

/// Fluent Bit includes no file of its other format.
fn classic(value: &str, r#type: FirelensConfigurationType) -> Result<(), String> {
    let lower = value.to_lowercase();
    let yaml = lower.ends_with(".yaml") || lower.ends_with(".yml");
    match r#type {
        FirelensConfigurationType::Fluentbit if yaml => Err(format!(
            "must have a file in the classic format of Fluent Bit as `{CONFIG_VALUE}`, not YAML as '{value}'"
        )),
        FirelensConfigurationType::Fluentbit | FirelensConfigurationType::Fluentd => Ok(()),
    }
}
