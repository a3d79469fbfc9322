//! docs/benchmarks.md in parts, each written by a run of its own: a run of one part keeps the others.

use std::path::Path;

use anyhow::{Context as _, Result};

/// A part of the document, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A service on one host beside the raw engine. It is the head of the document and has no mark.
    Engine,
    /// The agent at rest.
    Rest,
    /// Placement in process.
    Placement,
}

const PARTS: [Part; 3] = [Part::Engine, Part::Rest, Part::Placement];

impl Part {
    /// Its heading; the head of the document has none that it could be found by.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Engine => "",
            Self::Rest => "## The agent at rest\n",
            Self::Placement => "## Placement, in process\n",
        }
    }
}

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
    let mut rest = old;
    let mut parts = Vec::new();
    for one in PARTS.into_iter().rev() {
        let (head, own) = match rest.find(one.heading()) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        parts.push(if one == part { text } else { own }.trim_end());
        rest = head;
    }
    parts.reverse();
    parts.retain(|part| !part.is_empty());
    format!("{}\n", parts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_one_part_keeps_the_others() {
        let own = |part: Part, word: &str| format!("{}\n{word}\n", part.heading());
        let mut document = String::new();
        let head = "# Benchmarks\n\nold\n";
        for (part, text) in [
            (Part::Placement, own(Part::Placement, "fast")),
            (Part::Engine, head.to_owned()),
            (Part::Rest, own(Part::Rest, "small")),
        ] {
            document = replaced(&document, part, &text);
        }
        let (small, fast) = (own(Part::Rest, "small"), own(Part::Placement, "fast"));
        assert_eq!(document, format!("{head}\n{small}\n{fast}"));
        let newer = "# Benchmarks\n\nnew\n";
        document = replaced(&document, Part::Engine, newer);
        assert_eq!(document, format!("{newer}\n{small}\n{fast}"));
        let smaller = own(Part::Rest, "smaller");
        document = replaced(&document, Part::Rest, &smaller);
        assert_eq!(document, format!("{newer}\n{smaller}\n{fast}"));
        let faster = own(Part::Placement, "faster");
        document = replaced(&document, Part::Placement, &faster);
        assert_eq!(document, format!("{newer}\n{smaller}\n{faster}"));
    }
}
