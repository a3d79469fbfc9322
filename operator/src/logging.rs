//! Log lines on standard error: an event phrase and fields, as text or one JSON object a line. RUST_LOG says what is logged.

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging; `format` is `text` or `json`.
pub fn start(format: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    lines(format, filter, colours, std::io::stderr).init();
}

fn lines<W>(
    format: &str,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer);
    match format {
        "json" => Box::new(lines.json().flatten_event(true).finish()),
        _ => Box::new(lines.finish()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: &str) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let lines = lines(format, EnvFilter::new("info"), false, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(lines, || {
            tracing::info!(epoch = 7, identity = "a", "leading");
            tracing::debug!("not told");
        });
        let told = paper.0.lock().unwrap().clone();
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn a_line_is_text_or_an_object() {
        let text = logged("text");
        assert!(text.ends_with("leading epoch=7 identity=\"a\"\n"), "{text}");
        let json = logged("json");
        assert_eq!(json.lines().count(), 1, "{json}");
        let line: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(line["message"], "leading");
        assert_eq!(line["epoch"], 7);
        assert_eq!(line["level"], "INFO");
    }
}
