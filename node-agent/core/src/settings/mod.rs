//! The `ECS_*` variables (ECS agent configuration), parsed from a map that the shell fills.
//!
//! A setting is one entry in its group ([`registration`], [`tasks`], ...); a group is a module and its three
//! lines here. A variable goes before the JSON file at `ECS_AGENT_CONFIG_FILE_PATH`, the file before the
//! default. As in ECS a value that cannot be read or is out of its range is replaced by the default, with a
//! warning; with a few ([`Wrong::Refused`]) ECS' agent does not start, and neither does this one.

pub mod elsewhere;
mod file;
pub mod gpus;
mod group;
pub mod images;
pub mod metadata;
pub mod network;
pub mod process;
pub mod registration;
pub mod tasks;
pub mod values;
pub mod volumes;

use std::collections::BTreeMap;

pub use group::Variable;
pub use process::LogLevel;
pub use values::Wrong;

use gpus::GpuSettings;
use images::Images;
use metadata::Metadata;
use network::Networking;
use process::Process;
use registration::Registration;
use tasks::Tasks;
use volumes::VolumeSettings;

/// Names the configuration file.
pub const FILE_VARIABLE: &str = "ECS_AGENT_CONFIG_FILE_PATH";
/// Where the configuration file is when no variable says otherwise.
pub const FILE: &str = "/etc/ecs_container_agent/config.json";

/// Whether a variable of the process is read, or told to have no meaning.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("ECS_")
        || elsewhere::reason(name).is_some()
        || variables().any(|known| known.name == name)
}

/// Variables that the agent reads, with what they do, for `--help`.
pub fn variables() -> impl Iterator<Item = &'static Variable> {
    [
        Registration::VARIABLES,
        Tasks::VARIABLES,
        Images::VARIABLES,
        VolumeSettings::VARIABLES,
        Metadata::VARIABLES,
        Networking::VARIABLES,
        GpuSettings::VARIABLES,
        Process::VARIABLES,
    ]
    .into_iter()
    .flatten()
}

/// Validated settings of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the host registers.
    pub registration: Registration,
    /// How tasks are run and cleaned up.
    pub tasks: Tasks,
    /// How images come and go.
    pub images: Images,
    /// How a host provides volumes.
    pub volumes: VolumeSettings,
    /// What containers may ask of their agent.
    pub metadata: Metadata,
    /// How tasks reach the network.
    pub network: Networking,
    /// GPUs of the host.
    pub gpus: GpuSettings,
    /// The agent as a process.
    pub process: Process,
}

/// Values with which ECS' agent does not start either; one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentences.join(" "))]
pub struct BadSettings {
    /// At least one for each bad variable.
    pub sentences: Vec<String>,
}

/// Settings and what to warn about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The settings.
    pub settings: Settings,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// What the groups read from, and what was wrong.
pub struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    file: file::Values,
    bad: Vec<String>,
    warnings: Vec<String>,
}

impl Settings {
    /// Reads the variables; unknown ones are left alone, empty ones count as absent.
    ///
    /// # Errors
    /// [`BadSettings`] names what ECS' agent does not start with either.
    pub fn parse(variables: &BTreeMap<String, String>) -> Result<Parsed, BadSettings> {
        Self::parse_with_file(variables, None)
    }

    /// Reads the variables and, for those that are not set, the text of the file at
    /// `ECS_AGENT_CONFIG_FILE_PATH`.
    ///
    /// # Errors
    /// [`BadSettings`] names what ECS' agent does not start with either.
    pub fn parse_with_file(
        variables: &BTreeMap<String, String>,
        file: Option<&str>,
    ) -> Result<Parsed, BadSettings> {
        let mut from = Reader {
            variables,
            file: file::Values::default(),
            bad: Vec::new(),
            warnings: Vec::new(),
        };
        match file::Values::parse(file.unwrap_or_default()) {
            Ok(values) => from.file = values,
            Err(sentence) => from.bad.push(sentence),
        }
        let settings = Self {
            registration: Registration::read(&mut from),
            tasks: Tasks::read(&mut from),
            images: Images::read(&mut from),
            volumes: VolumeSettings::read(&mut from),
            metadata: Metadata::read(&mut from),
            network: Networking::read(&mut from),
            gpus: GpuSettings::read(&mut from),
            process: Process::read(&mut from),
        };
        from.warnings.extend(left_aside(variables));
        from.warnings.extend(from.file.left_aside());
        if from.bad.is_empty() {
            Ok(Parsed {
                settings,
                warnings: from.warnings,
            })
        } else {
            Err(BadSettings {
                sentences: from.bad,
            })
        }
    }
}

impl Reader<'_> {
    /// The value of a variable, else that of the file, else the default.
    fn value<T>(
        &mut self,
        name: &str,
        key: &str,
        default: T,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> T {
        let set = self.variables.get(name).map(|value| value.trim());
        if let Some(text) = set.filter(|value| !value.is_empty()) {
            match read(text) {
                Ok(value) => return value,
                Err(wrong) => self.note(name, text, wrong),
            }
        }
        match self.file.value(key, read) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err((text, wrong))) => {
                self.note(&format!("`{key}` of the configuration file"), &text, wrong);
                default
            }
        }
    }

    fn note(&mut self, name: &str, text: &str, wrong: Wrong) {
        match wrong {
            Wrong::Wanted(wanted) => self.warnings.push(format!(
                "{name} is `{text}`, which is not {wanted}; the default is used."
            )),
            Wrong::Secret(wanted) => self
                .warnings
                .push(format!("{name} is not {wanted}; the default is used.")),
            Wrong::OutOfRange(clause) => self.warnings.push(format!(
                "{name} is `{text}`, {clause}; the default is used."
            )),
            Wrong::Refused(sentences) => self
                .bad
                .extend(sentences.iter().map(|rest| format!("{name} {rest}"))),
        }
    }
}

/// One sentence about variables of ECS' agent that are set and have no meaning here.
fn left_aside(variables: &BTreeMap<String, String>) -> Option<String> {
    let set: Vec<&str> = variables
        .iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(name, _)| name.as_str())
        .filter(|name| {
            !crate::settings::variables().any(|known| known.name == *name)
                && (elsewhere::reason(name).is_some() || name.starts_with("ECS_"))
                && *name != FILE_VARIABLE
        })
        .collect();
    (!set.is_empty()).then(|| {
        format!(
            "{} {} no meaning here; docs/settings.md has the reasons.",
            set.join(", "),
            if set.len() == 1 { "has" } else { "have" }
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallyman_agent_engine::PullBehavior;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Parsed, BadSettings> {
        let map = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Settings::parse(&map)
    }

    #[test]
    fn nothing_set_is_what_ecs_has() {
        let parsed = parse(&[("ECS_CLUSTER", ""), ("HOME", "/root")]).unwrap();
        assert_eq!(parsed.settings, Settings::default());
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn every_variable_is_read() {
        let settings = parse(&[
            ("ECS_CLUSTER", "batch"),
            ("ECS_RESERVED_MEMORY", "256"),
            ("ECS_RESERVED_PORTS", "[80, 22]"),
            ("ECS_RESERVED_PORTS_UDP", "[53]"),
            ("ECS_CONTAINER_STOP_TIMEOUT", "1m30s"),
            ("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached"),
            ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "10m"),
            ("ECS_INSTANCE_ATTRIBUTES", "{\"stack\":\"prod\"}"),
            ("ECS_CONTAINER_INSTANCE_TAGS", "{\"rack\":\"r1\"}"),
            ("ECS_DISABLE_PRIVILEGED", "true"),
            ("ECS_SELINUX_CAPABLE", "true"),
            ("ECS_APPARMOR_CAPABLE", "1"),
            ("ECS_TASK_PIDS_LIMIT", "100"),
            (
                "ECS_AVAILABLE_LOGGING_DRIVERS",
                "[\"json-file\",\"syslog\"]",
            ),
            ("ECS_LOGLEVEL", "crit"),
            ("ECS_DYNAMIC_HOST_PORT_RANGE", "40000-40010"),
            ("ECS_ENABLE_TASK_ENI", "false"),
            ("ECS_AWSVPC_NETWORK", "lan"),
            ("ECS_ENABLE_GPU_SUPPORT", "true"),
            ("ECS_NVIDIA_RUNTIME", "nvidia"),
            ("ECS_NVIDIA_GPU_INFO_FILE", "/etc/gpus.json"),
            ("ECS_NVIDIA_MPS_PIPE_DIRECTORY", "/run/mps/"),
            ("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", "true"),
            (
                "ECS_EFS_FILE_SYSTEMS",
                "{\"fs-1\":\"nfs.lan:/exports/a b\",\"fs-6\":\"[fd00::1]:/\"}",
            ),
        ])
        .unwrap()
        .settings;
        assert_eq!(settings.registration.cluster.as_deref(), Some("batch"));
        assert_eq!(settings.registration.reserved_memory_mib, 256);
        assert_eq!(settings.registration.reserved_ports, [22, 80]);
        assert_eq!(settings.registration.reserved_ports_udp, [53]);
        assert_eq!(settings.tasks.stop_timeout, Duration::from_secs(90));
        assert_eq!(settings.images.pull_behavior, PullBehavior::PreferCached);
        assert_eq!(settings.tasks.cleanup_wait, Duration::from_secs(600));
        assert_eq!(settings.registration.instance_attributes["stack"], "prod");
        assert_eq!(settings.registration.instance_tags["rack"], "r1");
        assert!(settings.registration.disable_privileged);
        assert!(settings.registration.selinux_capable && settings.registration.apparmor_capable);
        assert_eq!(settings.tasks.pids_limit, Some(100));
        assert_eq!(settings.registration.logging_drivers.unwrap().len(), 2);
        assert_eq!(settings.process.log_level, LogLevel::Error);
        assert!(!settings.network.task_eni);
        assert_eq!(settings.network.awsvpc_network.as_deref(), Some("lan"));
        let range = settings.network.dynamic_ports.unwrap();
        assert_eq!((range.first, range.last), (40_000, 40_010));
        assert!(settings.gpus.enabled);
        assert_eq!(settings.gpus.runtime.as_deref(), Some("nvidia"));
        assert_eq!(settings.gpus.info_file, "/etc/gpus.json");
        assert_eq!(settings.gpus.mps_pipe_directory, "/run/mps");
        assert!(settings.volumes.match_full_config);
        let exports = &settings.volumes.file_systems;
        let export = |id: &str| (exports[id].server.as_str(), exports[id].path.as_str());
        assert_eq!(export("fs-1"), ("nfs.lan", "/exports/a b"));
        assert_eq!(export("fs-6"), ("fd00::1", "/"));
    }

    #[test]
    fn below_the_minimum_is_the_default_with_a_warning() {
        let parsed = parse(&[
            ("ECS_CONTAINER_STOP_TIMEOUT", "500ms"),
            ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "0s"),
            ("ECS_TASK_PIDS_LIMIT", "0"),
            ("ECS_CONTAINER_INSTANCE_TAGS", "{\"\":\"keyless\"}"),
        ])
        .unwrap();
        assert_eq!(parsed.settings.registration.instance_tags.len(), 0);
        assert_eq!(parsed.settings.tasks.stop_timeout, Duration::from_secs(30));
        assert_eq!(
            parsed.settings.tasks.cleanup_wait,
            Duration::from_secs(10_800)
        );
        assert_eq!(parsed.settings.tasks.pids_limit, None);
        assert_eq!(parsed.warnings.len(), 4);
    }

    #[test]
    fn a_bad_value_is_the_default_and_a_sentence_that_names_variable_and_what_is_right() {
        let parsed = parse(&[
            ("ECS_RESERVED_MEMORY", "much"),
            ("ECS_RESERVED_PORTS", "22,80"),
            ("ECS_CONTAINER_STOP_TIMEOUT", "soon"),
            ("ECS_IMAGE_PULL_BEHAVIOR", "never"),
            ("ECS_LOGLEVEL", "loud"),
            ("ECS_DISABLE_PRIVILEGED", "maybe"),
            ("ECS_TASK_PIDS_LIMIT", "few"),
            ("ECS_DYNAMIC_HOST_PORT_RANGE", "40000"),
            ("ECS_AWSVPC_NETWORK", "none"),
            ("ECS_ENABLE_GPU_SUPPORT", "some"),
            ("ECS_NVIDIA_MPS_PIPE_DIRECTORY", "mps"),
            ("ECS_NVIDIA_RUNTIME", "nvidia runtime"),
        ])
        .unwrap();
        assert_eq!(parsed.settings, Settings::default());
        assert_eq!(parsed.warnings.len(), 12, "{parsed:?}");
        let wanted = "ECS_CONTAINER_STOP_TIMEOUT is `soon`, which is not a duration like `30s` or `1h30m`; \
                      the default is used.";
        assert!(parsed.warnings.iter().any(|w| w == wanted), "{parsed:?}");
    }

    #[test]
    fn what_ecs_does_not_start_with_stops_the_agent() {
        let error = parse(&[
            ("ECS_INSTANCE_ATTRIBUTES", "{\"a b\":\"\"}"),
            (
                "ECS_EFS_FILE_SYSTEMS",
                "{\"fs-1\":\"nfs,soft:/a\",\"fs-2\":\"nfs:/a/../b\",\"fs-3\":\"/a\"}",
            ),
        ])
        .unwrap_err();
        assert_eq!(error.sentences.len(), 5, "{error}");
    }
}
