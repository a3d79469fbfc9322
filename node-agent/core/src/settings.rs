//! The `ECS_*` variables (ECS agent configuration), parsed from a map that the shell fills.
//!
//! As in ECS a value below its minimum is replaced by the default, with a warning. A value that cannot be
//! read at all is an error with a sentence: a host that silently runs with other settings than written
//! down is worse than one that says why it does not start.

use std::collections::BTreeMap;
use std::time::Duration;

use tallyman_agent_engine::PullBehavior;

use crate::volumes::{NfsExport, VolumeSettings};

/// Variables that the agent reads, with what they do, for `--help`.
pub const VARIABLES: [(&str, &str); 18] = [
    (
        "ECS_CLUSTER",
        "informational: warns when the plan names another cluster",
    ),
    (
        "ECS_RESERVED_MEMORY",
        "MiB that tasks do not get (default 0)",
    ),
    (
        "ECS_RESERVED_PORTS",
        "taken TCP host ports, JSON list (default [22,2375,2376,51678,51679])",
    ),
    (
        "ECS_RESERVED_PORTS_UDP",
        "taken UDP host ports, JSON list (default [])",
    ),
    (
        "ECS_CONTAINER_STOP_TIMEOUT",
        "between SIGTERM and SIGKILL (default 30s, at least 1s)",
    ),
    (
        "ECS_IMAGE_PULL_BEHAVIOR",
        "default, always, once or prefer-cached",
    ),
    (
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
        "how long containers of a stopped task are kept (default 3h, at least 1s)",
    ),
    (
        "ECS_INSTANCE_ATTRIBUTES",
        "custom attributes, JSON object of texts",
    ),
    (
        "ECS_DISABLE_PRIVILEGED",
        "true: do not offer the capability for privileged containers",
    ),
    (
        "ECS_SELINUX_CAPABLE",
        "true: offer the capability for SELinux labels in `dockerSecurityOptions`",
    ),
    (
        "ECS_APPARMOR_CAPABLE",
        "true: offer the capability for AppArmor profiles in `dockerSecurityOptions`",
    ),
    (
        "ECS_TASK_PIDS_LIMIT",
        "most processes of each container, 1 to 4194304 (default: no limit)",
    ),
    (
        "ECS_AVAILABLE_LOGGING_DRIVERS",
        "log drivers to offer, JSON list (default: the engine's)",
    ),
    (
        "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG",
        "true: a shared volume that exists must have the labels and driver options of the task definition",
    ),
    (
        "ECS_EFS_FILE_SYSTEMS",
        "NFS export for each fileSystemId, JSON like {\"fs-1\":\"nfs.example.com:/exports/data\"}",
    ),
    (
        "ECS_LOGLEVEL",
        "crit, error, warn, info or debug (default info); RUST_LOG goes before",
    ),
    (
        "ECS_DATADIR",
        "where plan and records are kept (default /var/lib/tallyman)",
    ),
    (
        "DOCKER_HOST",
        "the engine (default unix:///var/run/docker.sock)",
    ),
];

/// TCP ports of a host that ECS takes for used: ssh, Docker, the agent's own.
const RESERVED_PORTS: [u16; 5] = [22, 2375, 2376, 51678, 51679];
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const CLEANUP_WAIT: Duration = Duration::from_secs(3 * 60 * 60);
/// ECS's bounds on custom attributes.
const MOST_ATTRIBUTES: usize = 10;
const MOST_PORTS: usize = 100;
/// The kernel's most processes on 64-bit machines, ECS's bound on `ECS_TASK_PIDS_LIMIT`.
const MOST_PIDS: i64 = 4_194_304;

/// Validated settings of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ECS_CLUSTER`.
    pub cluster: Option<String>,
    /// `ECS_RESERVED_MEMORY`, MiB.
    pub reserved_memory_mib: i64,
    /// `ECS_RESERVED_PORTS`.
    pub reserved_ports: Vec<u16>,
    /// `ECS_RESERVED_PORTS_UDP`.
    pub reserved_ports_udp: Vec<u16>,
    /// `ECS_CONTAINER_STOP_TIMEOUT`.
    pub stop_timeout: Duration,
    /// `ECS_IMAGE_PULL_BEHAVIOR`.
    pub pull_behavior: PullBehavior,
    /// `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION`.
    pub cleanup_wait: Duration,
    /// `ECS_INSTANCE_ATTRIBUTES`.
    pub instance_attributes: BTreeMap<String, String>,
    /// `ECS_DISABLE_PRIVILEGED`.
    pub disable_privileged: bool,
    /// `ECS_SELINUX_CAPABLE`.
    pub selinux_capable: bool,
    /// `ECS_APPARMOR_CAPABLE`.
    pub apparmor_capable: bool,
    /// `ECS_TASK_PIDS_LIMIT`; no limit when absent.
    pub task_pids_limit: Option<i64>,
    /// `ECS_AVAILABLE_LOGGING_DRIVERS`.
    pub logging_drivers: Option<Vec<String>>,
    /// `ECS_SHARED_VOLUME_MATCH_FULL_CONFIG`, `ECS_EFS_FILE_SYSTEMS`.
    pub volumes: VolumeSettings,
    /// `ECS_LOGLEVEL`.
    pub log_level: LogLevel,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: None,
            reserved_memory_mib: 0,
            reserved_ports: RESERVED_PORTS.to_vec(),
            reserved_ports_udp: Vec::new(),
            stop_timeout: STOP_TIMEOUT,
            pull_behavior: PullBehavior::Default,
            cleanup_wait: CLEANUP_WAIT,
            instance_attributes: BTreeMap::new(),
            disable_privileged: false,
            selinux_capable: false,
            apparmor_capable: false,
            task_pids_limit: None,
            logging_drivers: None,
            volumes: VolumeSettings::default(),
            log_level: LogLevel::Info,
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `crit`, `error`
    Error,
    /// `warn`
    Warn,
    /// `info`
    Info,
    /// `debug`
    Debug,
}

impl LogLevel {
    /// As log filters spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Values that cannot be read; one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentences.join(" "))]
pub struct BadSettings {
    /// One for each bad variable.
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

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    bad: Vec<String>,
    warnings: Vec<String>,
}

impl Settings {
    /// Reads the `ECS_*` variables; unknown ones are left alone, empty ones count as absent.
    ///
    /// # Errors
    /// [`BadSettings`] names every variable that cannot be read.
    pub fn parse(variables: &BTreeMap<String, String>) -> Result<Parsed, BadSettings> {
        let mut from = Reader {
            variables,
            bad: Vec::new(),
            warnings: Vec::new(),
        };
        let defaults = Self::default();
        let settings = Self {
            cluster: from.text("ECS_CLUSTER").map(str::to_owned),
            reserved_memory_mib: from.memory("ECS_RESERVED_MEMORY"),
            reserved_ports: from
                .ports("ECS_RESERVED_PORTS")
                .unwrap_or(defaults.reserved_ports),
            reserved_ports_udp: from.ports("ECS_RESERVED_PORTS_UDP").unwrap_or_default(),
            stop_timeout: from.duration(
                "ECS_CONTAINER_STOP_TIMEOUT",
                STOP_TIMEOUT,
                Duration::from_secs(1),
            ),
            pull_behavior: from.pull_behavior("ECS_IMAGE_PULL_BEHAVIOR"),
            cleanup_wait: from.duration(
                "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
                CLEANUP_WAIT,
                Duration::from_secs(1),
            ),
            instance_attributes: from.attributes("ECS_INSTANCE_ATTRIBUTES"),
            disable_privileged: from.flag("ECS_DISABLE_PRIVILEGED"),
            selinux_capable: from.flag("ECS_SELINUX_CAPABLE"),
            apparmor_capable: from.flag("ECS_APPARMOR_CAPABLE"),
            task_pids_limit: from.pids_limit("ECS_TASK_PIDS_LIMIT"),
            logging_drivers: from.json("ECS_AVAILABLE_LOGGING_DRIVERS", "[\"json-file\"]"),
            volumes: VolumeSettings {
                match_full_config: from.flag("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG"),
                file_systems: from.file_systems("ECS_EFS_FILE_SYSTEMS"),
            },
            log_level: from.log_level("ECS_LOGLEVEL"),
        };
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
    fn text(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    fn refuse(&mut self, name: &str, wanted: &str) {
        let value = self.text(name).unwrap_or_default().to_owned();
        self.bad
            .push(format!("{name} is `{value}`, which is not {wanted}."));
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &str, example: &str) -> Option<T> {
        let parsed = serde_json::from_str(self.text(name)?);
        match parsed {
            Ok(value) => Some(value),
            Err(_) => {
                self.refuse(name, &format!("JSON like `{example}`"));
                None
            }
        }
    }

    fn memory(&mut self, name: &str) -> i64 {
        let Some(value) = self.text(name) else {
            return 0;
        };
        match value.parse::<i64>() {
            Ok(mib) if mib >= 0 => mib,
            _ => {
                self.refuse(name, "a number of MiB");
                0
            }
        }
    }

    /// Out of range is no limit, with a warning, as any value below its minimum is the default.
    fn pids_limit(&mut self, name: &str) -> Option<i64> {
        let value = self.text(name)?;
        match value.parse::<i64>() {
            Ok(limit) if (1..=MOST_PIDS).contains(&limit) => Some(limit),
            Ok(_) => {
                self.warnings.push(format!(
                    "{name} is `{value}`, not 1 to {MOST_PIDS}; no limit is set."
                ));
                None
            }
            Err(_) => {
                self.refuse(name, "a number of processes");
                None
            }
        }
    }

    fn ports(&mut self, name: &str) -> Option<Vec<u16>> {
        let mut ports: Vec<u16> = self.json(name, "[22,8080]")?;
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > MOST_PORTS {
            self.bad.push(format!(
                "{name} has {} ports; at most {MOST_PORTS} can be reserved.",
                ports.len()
            ));
        }
        Some(ports)
    }

    fn duration(&mut self, name: &str, default: Duration, least: Duration) -> Duration {
        let Some(value) = self.text(name) else {
            return default;
        };
        match duration(value) {
            None => {
                self.refuse(name, "a duration like `30s` or `1h30m`");
                default
            }
            Some(span) if span < least => {
                self.warnings.push(format!(
                    "{name} is `{value}`, below its minimum of {} s; the default of {} s is used.",
                    least.as_secs(),
                    default.as_secs()
                ));
                default
            }
            Some(span) => span,
        }
    }

    fn pull_behavior(&mut self, name: &str) -> PullBehavior {
        match self.text(name) {
            None | Some("default") => PullBehavior::Default,
            Some("always") => PullBehavior::Always,
            Some("once") => PullBehavior::Once,
            Some("prefer-cached") => PullBehavior::PreferCached,
            Some(_) => {
                self.refuse(name, "one of default, always, once and prefer-cached");
                PullBehavior::Default
            }
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.text(name) {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => {
                self.refuse(name, "true or false");
                false
            }
        }
    }

    fn file_systems(&mut self, name: &str) -> BTreeMap<String, NfsExport> {
        let texts: BTreeMap<String, String> = self
            .json(name, "{\"fs-1\":\"nfs.example.com:/exports/data\"}")
            .unwrap_or_default();
        let mut exports = BTreeMap::new();
        for (id, text) in texts {
            match NfsExport::parse(&text) {
                Some(export) => {
                    exports.insert(id, export);
                }
                None => self.bad.push(format!(
                    "{name} has `{text}` for `{id}`, which is not a server and an absolute path, as in \
                     `nfs.example.com:/exports/data`."
                )),
            }
        }
        exports
    }

    fn log_level(&mut self, name: &str) -> LogLevel {
        match self.text(name) {
            None | Some("info") => LogLevel::Info,
            Some("crit" | "critical" | "error") => LogLevel::Error,
            Some("warn" | "warning") => LogLevel::Warn,
            Some("debug" | "trace") => LogLevel::Debug,
            Some(_) => {
                self.refuse(name, "one of crit, error, warn, info and debug");
                LogLevel::Info
            }
        }
    }

    fn attributes(&mut self, name: &str) -> BTreeMap<String, String> {
        let attributes: BTreeMap<String, String> =
            self.json(name, "{\"stack\":\"prod\"}").unwrap_or_default();
        if attributes.len() > MOST_ATTRIBUTES {
            self.bad.push(format!(
                "{name} has {} attributes; at most {MOST_ATTRIBUTES} are allowed.",
                attributes.len()
            ));
        }
        for (key, value) in &attributes {
            if !attribute_name(key) {
                self.bad.push(format!(
                    "{name} has an attribute `{key}`: names are 1 to 128 letters, digits and _ . - / \\."
                ));
            }
            if !attribute_value(value) {
                self.bad.push(format!(
                    "{name} has `{value}` as value of `{key}`: values are 1 to 128 letters, digits, \
                     inner spaces and _ . @ - / \\ :."
                ));
            }
        }
        attributes
    }
}

fn attribute_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-/\\".contains(c))
}

fn attribute_value(value: &str) -> bool {
    (1..=128).contains(&value.len())
        && value.trim() == value
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.@-/\\: ".contains(c))
}

/// Go's durations, as ECS takes them: `1h30m`, `30s`, `500ms`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[letters..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
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
            ("ECS_DISABLE_PRIVILEGED", "true"),
            ("ECS_SELINUX_CAPABLE", "true"),
            ("ECS_APPARMOR_CAPABLE", "1"),
            ("ECS_TASK_PIDS_LIMIT", "100"),
            (
                "ECS_AVAILABLE_LOGGING_DRIVERS",
                "[\"json-file\",\"syslog\"]",
            ),
            ("ECS_LOGLEVEL", "crit"),
            ("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", "true"),
            (
                "ECS_EFS_FILE_SYSTEMS",
                "{\"fs-1\":\"nfs.lan:/exports/a b\",\"fs-6\":\"[fd00::1]:/\"}",
            ),
        ])
        .unwrap()
        .settings;
        assert_eq!(settings.cluster.as_deref(), Some("batch"));
        assert_eq!(settings.reserved_memory_mib, 256);
        assert_eq!(settings.reserved_ports, [22, 80]);
        assert_eq!(settings.reserved_ports_udp, [53]);
        assert_eq!(settings.stop_timeout, Duration::from_secs(90));
        assert_eq!(settings.pull_behavior, PullBehavior::PreferCached);
        assert_eq!(settings.cleanup_wait, Duration::from_secs(600));
        assert_eq!(settings.instance_attributes["stack"], "prod");
        assert!(settings.disable_privileged);
        assert!(settings.selinux_capable && settings.apparmor_capable);
        assert_eq!(settings.task_pids_limit, Some(100));
        assert_eq!(settings.logging_drivers.unwrap().len(), 2);
        assert_eq!(settings.log_level, LogLevel::Error);
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
        ])
        .unwrap();
        assert_eq!(parsed.settings.stop_timeout, STOP_TIMEOUT);
        assert_eq!(parsed.settings.cleanup_wait, CLEANUP_WAIT);
        assert_eq!(parsed.settings.task_pids_limit, None);
        assert_eq!(parsed.warnings.len(), 3);
    }

    #[test]
    fn every_bad_value_gets_a_sentence_that_names_it() {
        let error = parse(&[
            ("ECS_RESERVED_MEMORY", "-1"),
            ("ECS_RESERVED_PORTS", "22,80"),
            ("ECS_CONTAINER_STOP_TIMEOUT", "soon"),
            ("ECS_IMAGE_PULL_BEHAVIOR", "never"),
            ("ECS_INSTANCE_ATTRIBUTES", "{\"a b\":\"\"}"),
            ("ECS_LOGLEVEL", "loud"),
            ("ECS_DISABLE_PRIVILEGED", "maybe"),
            ("ECS_TASK_PIDS_LIMIT", "few"),
            (
                "ECS_EFS_FILE_SYSTEMS",
                "{\"fs-1\":\"nfs,soft:/a\",\"fs-2\":\"nfs:/a/../b\",\"fs-3\":\"/a\"}",
            ),
        ])
        .unwrap_err();
        assert_eq!(error.sentences.len(), 12, "{error}");
        assert!(
            error
                .to_string()
                .contains("ECS_CONTAINER_STOP_TIMEOUT is `soon`"),
            "{error}"
        );
    }
}
