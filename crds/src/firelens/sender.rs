//! A container that sends its output to the log router of its task: the options of the log driver `awsfirelens`, most of which
//! are for an output plugin of the router.

use std::collections::BTreeMap;

use super::Wrong;
use crate::ecs::{ContainerDefinition, FirelensConfigurationType, LogConfiguration};
use crate::sources::Source;

/// Option of the log driver: most events that wait in the engine's memory (ECS `log-driver-buffer-limit`).
pub const BUFFER_LIMIT: &str = "log-driver-buffer-limit";

/// Most that [`BUFFER_LIMIT`] may be (ECS LogConfiguration).
const MOST_BUFFERED: u32 = 536_870_912;

const INCLUDE: &str = "include-pattern";
const EXCLUDE: &str = "exclude-pattern";
const DRIVER_OPTIONS: &str = "logConfiguration.options";
const SECRET_OPTIONS: &str = "logConfiguration.secretOptions";

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

/// Reads the log configuration of a container that sends to a router of this type.
pub(super) fn sender<'a>(
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
