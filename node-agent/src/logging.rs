//! Log lines: a lowercase event phrase and fields. What bodies the engine is sent (they hold
//! environments) is never logged: bollard is kept at `info` whatever is asked for.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Mutex;

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate, TimeFrequency};
use tallyman_agent_core::settings::process::{self, LogLevel, Process, Rollover};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::options::LogFormat;

/// Target of lines that say who was given credentials.
pub const AUDIT: &str = "audit";

/// Starts logging to standard error, and to `ECS_LOGFILE` when there is one. `RUST_LOG` goes before
/// `ECS_LOGLEVEL`. What is said of credentials goes to `ECS_AUDIT_LOGFILE`, too, at any level. A log file that cannot be
/// written is a warning: ECS hosts name one that is inside the container of ECS' agent.
///
/// # Errors
/// The audit file cannot be written; a sentence.
pub fn start(settings: &Process, format: Option<LogFormat>) -> Result<Option<String>, String> {
    let format = format.unwrap_or(match settings.log_format {
        Some(process::LogFormat::Json) => LogFormat::Json,
        Some(process::LogFormat::Logfmt) | None => LogFormat::Text,
    });
    let terminal = layer(format, io::stderr().is_terminal(), io::stderr);
    let mut layers: Vec<Boxed> = vec![terminal.with_filter(filter(settings.log_level)).boxed()];
    let mut warning = None;
    if let Some(path) = &settings.log_file {
        let level = settings.log_level_on_instance.unwrap_or(settings.log_level);
        match open(Path::new(path), settings) {
            Ok(writer) => layers.push(
                layer(format, false, Mutex::new(writer))
                    .with_filter(filter(level))
                    .boxed(),
            ),
            Err(error) => {
                let words = unwritable("ECS_LOGFILE", path, &error);
                warning = Some(format!(
                    "{words} Until then the log is on standard error alone."
                ));
            }
        }
    }
    layers.extend(audit(format, settings)?);
    tracing_subscriber::registry().with(layers).init();
    Ok(warning)
}

/// A file that a variable names cannot be written: what to do about it.
fn unwritable(variable: &str, path: &str, error: &io::Error) -> String {
    let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
    format!(
        "{variable} is `{path}`, which cannot be written: {error}. Name a file of this host, such as one in /var/log/tallyman, \
         or let the agent's unit write there with `ReadWritePaths={}`.",
        folder.display()
    )
}

/// `ECS_AUDIT_LOGFILE`
fn audit(format: LogFormat, settings: &Process) -> Result<Option<Boxed>, String> {
    let path = settings.audit_file.as_deref();
    let Some(path) = path.filter(|_| !settings.audit_file_disabled) else {
        return Ok(None);
    };
    let writer = open(Path::new(path), settings)
        .map_err(|error| unwritable("ECS_AUDIT_LOGFILE", path, &error))?;
    let writer = Mutex::new(writer);
    let of_audit = Targets::new().with_target(AUDIT, LevelFilter::INFO);
    Ok(Some(
        layer(format, false, writer).with_filter(of_audit).boxed(),
    ))
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn layer<W>(format: LogFormat, colours: bool, writer: W) -> Boxed
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(colours)
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines),
        LogFormat::Json => Box::new(lines.json().flatten_event(true)),
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder().parse_lossy(
        wanted.unwrap_or_else(|| format!("{},kube_client=off,hyper=warn", level.as_str())),
    );
    match "bollard=info".parse() {
        Ok(directive) if level != LogLevel::Off => filter.add_directive(directive),
        Ok(_) | Err(_) => filter,
    }
}

/// ECS_LOG_ROLLOVER_TYPE and its limits. Opened once for trial: the rotation itself would not say why it cannot.
fn open(path: &Path, settings: &Process) -> io::Result<FileRotate<AppendCount>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let limit = match settings.log_rollover {
        Rollover::Size => {
            let mib = usize::try_from(settings.log_file_mib).unwrap_or(usize::MAX);
            ContentLimit::BytesSurpassed(mib.saturating_mul(1024 * 1024))
        }
        Rollover::Hourly => ContentLimit::Time(TimeFrequency::Hourly),
    };
    let files = usize::try_from(settings.log_files).unwrap_or(usize::MAX);
    Ok(FileRotate::new(
        path,
        AppendCount::new(files),
        limit,
        Compression::None,
        None,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tracing::info;

    use super::*;

    #[test]
    fn a_line_is_text_or_an_object() {
        let folder = tempfile::tempdir().unwrap();
        let logged = |format: LogFormat| {
            let path = folder.path().join(format!("{format:?}"));
            let file = std::fs::File::create(&path).unwrap();
            let lines = tracing_subscriber::registry().with(layer(format, false, Mutex::new(file)));
            tracing::subscriber::with_default(lines, || info!(generation = 7, "plan taken"));
            std::fs::read_to_string(path).unwrap()
        };
        let text = logged(LogFormat::Text);
        assert!(text.ends_with("plan taken generation=7\n"), "{text}");
        let json = logged(LogFormat::Json);
        assert_eq!(json.lines().count(), 1, "{json}");
        let line: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(line["message"], "plan taken");
        assert_eq!(line["generation"], 7);
    }

    #[test]
    fn the_audit_file_has_what_is_said_of_credentials_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let mut settings = Process {
            audit_file: Some(path.display().to_string()),
            ..Process::default()
        };
        let said = |settings: &Process| {
            let layer = audit(LogFormat::Text, settings).unwrap();
            let lines = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(lines, || {
                info!(target: AUDIT, task = "web-000001", "gave credentials");
                info!("started");
            });
        };
        said(&settings);
        let told = std::fs::read_to_string(&path).unwrap();
        assert!(
            told.contains("gave credentials task=\"web-000001\"") && told.lines().count() == 1,
            "{told}"
        );
        settings.audit_file_disabled = true;
        said(&settings);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), told);

        settings.audit_file_disabled = false;
        let below = path.join("below/audit.log");
        settings.audit_file = Some(below.display().to_string());
        let Err(words) = audit(LogFormat::Text, &settings) else {
            panic!("a file below a file is written")
        };
        let folder = below.parent().unwrap().display();
        for part in [
            format!(
                "ECS_AUDIT_LOGFILE is `{}`, which cannot be written: ",
                below.display()
            ),
            format!("with `ReadWritePaths={folder}`."),
        ] {
            assert!(words.contains(&part), "{words}");
        }
    }
}
