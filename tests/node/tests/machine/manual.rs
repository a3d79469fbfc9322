//! docs/install.md, whose commands are run as they are written there.

use anyhow::{Context, Result, ensure};
use tallyman_lab::paths;

/// The page.
pub struct Manual(String);

impl Manual {
    /// Reads it.
    pub fn read() -> Result<Self> {
        let path = paths::source_root()?.join("docs/install.md");
        Ok(Manual(std::fs::read_to_string(path)?))
    }

    /// The block of commands that begins with these words. `put` are words of it and what a reader puts in their place.
    pub fn block(&self, begin: &str, put: &[(&str, &str)]) -> Result<String> {
        let block = self
            .0
            .split("\n```")
            .filter_map(|part| part.split_once('\n'))
            .map(|(_language, text)| text)
            .find(|text| text.starts_with(begin))
            .with_context(|| format!("docs/install.md has no commands that begin with {begin}"))?;
        let mut block = block.to_owned();
        for (word, instead) in put {
            ensure!(block.contains(word), "{word} is not in\n{block}");
            block = block.replace(word, instead);
        }
        Ok(block)
    }
}
