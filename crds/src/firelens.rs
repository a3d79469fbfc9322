//! FireLens: a container of the task takes the output of others and routes it (ECS `firelensConfiguration`, log driver
//! `awsfirelens`). The one reading of both, so that the operator refuses exactly what an agent could not carry out.
//!
//! Facts of the definition only. What the router's configuration says is the agent's to write.

use std::collections::BTreeMap;

use crate::ecs::{
    ContainerDefinition, FirelensConfiguration, FirelensConfigurationType, LogConfiguration,
    LogDriver,
};
use crate::sources::Source;

/// Option of the log driver: most events that wait in the engine's memory (ECS `log-driver-buffer-limit`).
pub const BUFFER_LIMIT: &str = "log-driver-buffer-limit";

/// Most that [`BUFFER_LIMIT`] may be (ECS LogConfiguration).
const MOST_BUFFERED: u32 = 536_870_912;

const METADATA: &str = "enable-ecs-log-metadata";
const CONFIG_TYPE: &str = "config-file-type";
const CONFIG_VALUE: &str = "config-file-value";
const INCLUDE: &str = "include-pattern";
const EXCLUDE: &str = "exclude-pattern";

const CONFIGURATION: &str = "firelensConfiguration";
const OPTIONS: &str = "firelensConfiguration.options";
const DRIVER: &str = "logConfiguration.logDriver";
const DRIVER_OPTIONS: &str = "logConfiguration.options";
const SECRET_OPTIONS: &str = "logConfiguration.secretOptions";

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

/// A container whose output goes to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// Its name.
    pub container: &'a str,
    /// Its place in `containerDefinitions`.
    pub index: usize,
    /// Records must match this regular expression.
    pub include: Option<&'a str>,
    /// Records must not match this one.
    pub exclude: Option<&'a str>,
    /// Most events that wait in the engine's memory.
    pub buffer_limit: Option<u32>,
    /// Where its records go; `None` leaves that to the file that is included.
    pub output: Option<Output<'a>>,
}

/// An output plugin of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// Its name.
    pub plugin: &'a str,
    /// Its options.
    pub options: BTreeMap<&'a str, OptionValue<'a>>,
}

/// Value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// As written.
    Plain(&'a str),
    /// From a Secret; the router gets it as an environment variable.
    Secret(Source),
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
        match sender(container, index, log, configuration.r#type) {
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

fn sender<'a>(
    container: &'a ContainerDefinition,
    index: usize,
    log: &'a LogConfiguration,
    r#type: FirelensConfigurationType,
) -> Result<Sender<'a>, Wrong> {
    let LogConfiguration {
        log_driver: _,
        options,
        secret_options,
    } = log;
    let key = r#type.plugin_option();
    let mut sender = Sender {
        container: &container.name,
        index,
        include: None,
        exclude: None,
        buffer_limit: None,
        output: None,
    };
    let mut plugin = None;
    let mut of_plugin = BTreeMap::new();
    for (name, value) in options {
        one_line(name, value)?;
        match name.as_str() {
            INCLUDE => sender.include = Some(value),
            EXCLUDE => sender.exclude = Some(value),
            BUFFER_LIMIT => sender.buffer_limit = Some(buffer_limit(value)?),
            name if name == key => plugin = Some(value.as_str()),
            name => {
                of_plugin.insert(name, OptionValue::Plain(value));
            }
        }
    }
    for secret in secret_options {
        let name = secret.name.as_str();
        if [INCLUDE, EXCLUDE, BUFFER_LIMIT, key].contains(&name) {
            let message = format!("must not have `{name}`, which belongs into `options`");
            return Err((SECRET_OPTIONS, message));
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || "_.-@/".contains(c);
        if !name.chars().all(fine) {
            let message =
                format!("must have names of letters, digits, and _ . - @ /, unlike '{name}'");
            return Err((SECRET_OPTIONS, message));
        }
        let source = Source::of_value_from(&secret.value_from)
            .map_err(|why| ("logConfiguration.secretOptions.valueFrom", why))?;
        let before = of_plugin.insert(name, OptionValue::Secret(source));
        if before.is_some() {
            let message = format!("must not have `{name}`, which is set already");
            return Err((SECRET_OPTIONS, message));
        }
    }
    sender.output = match plugin.filter(|plugin| !plugin.is_empty()) {
        Some(plugin) => Some(Output {
            plugin,
            options: of_plugin,
        }),
        // The file that is included may say where the records go.
        None if of_plugin.is_empty() => None,
        None => {
            let message = format!(
                "must name the output plugin in `{key}`, since it has options for one and the log router is of type \
                 `{}`",
                r#type.as_str()
            );
            return Err((DRIVER_OPTIONS, message));
        }
    };
    Ok(sender)
}

/// An option is one line of the router's configuration.
fn one_line(name: &str, value: &str) -> Result<(), Wrong> {
    let breaks = |c: char| matches!(c, '\n' | '\r' | '\0');
    if name.is_empty() || name.chars().any(char::is_whitespace) || value.chars().any(breaks) {
        let message =
            format!("must have names without spaces and values of one line, unlike '{name}'");
        return Err((DRIVER_OPTIONS, message));
    }
    Ok(())
}

fn buffer_limit(text: &str) -> Result<u32, Wrong> {
    let limit = text.parse::<u32>().ok();
    limit
        .filter(|limit| *limit <= MOST_BUFFERED)
        .ok_or_else(|| {
            let message = format!(
                "must have a number from 0 to {MOST_BUFFERED} as `{BUFFER_LIMIT}`, not '{text}'"
            );
            (DRIVER_OPTIONS, message)
        })
}
