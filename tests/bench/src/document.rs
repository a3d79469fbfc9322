//! docs/benchmarks.md in parts, each written by a run of its own: a run of one part keeps the others.

use std::path::Path;

use anyhow::{Context as _, Result};

/// A part of the document, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A service on one host beside the raw engine. It is the head of the document and has no mark.
    Engine,
    /// Placement in process.
    Placement,
}

/// Where the second part begins.
const MARK: &str = "## Placement, in process\n";

/// Writes `text` as `part` of the document at `path`.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, part: Part, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    std::fs::write(path, replaced(&old, part, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, part: Part, text: &str) -> String {
    let (head, tail) = match old.find(MARK) {
        Some(at) => old.split_at(at),
        None => (old, ""),
    };
    let (head, tail) = match part {
        Part::Engine => (text, tail),
        Part::Placement => (head, text),
    };
    let parts: Vec<&str> = [head.trim_end(), tail.trim_end()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    format!("{}\n", parts.join("\n\n"))
}

/// Head of the second part.
pub fn placement_head() -> &'static str {
    MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_one_part_keeps_the_other() {
        let placement = format!("{MARK}\nfast\n");
        let both = replaced("# Benchmarks\n\nold\n", Part::Placement, &placement);
        assert_eq!(both, format!("# Benchmarks\n\nold\n\n{MARK}\nfast\n"));
        let newer = replaced(&both, Part::Engine, "# Benchmarks\n\nnew\n");
        assert_eq!(newer, format!("# Benchmarks\n\nnew\n\n{MARK}\nfast\n"));
        let faster = format!("{MARK}\nfaster\n");
        let both = replaced(&newer, Part::Placement, &faster);
        assert_eq!(both, format!("# Benchmarks\n\nnew\n\n{MARK}\nfaster\n"));
        assert_eq!(replaced("", Part::Placement, &placement), placement);
    }
}
