//! The host's key for ids of containers, beside its records.

use std::path::Path;

use anyhow::Context;
use tallyman_agent_core::metadata::MetadataKey;
use tracing::warn;

use crate::files;

const FILE: &str = "metadata.key";

/// The key in the data folder; a new one when there is none. With a new one, URIs of containers that were created
/// before lead nowhere.
///
/// # Errors
/// It can be neither read nor written, or the kernel gives no random bytes.
pub fn load(folder: &Path) -> anyhow::Result<MetadataKey> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) => return Ok(MetadataKey::new(bytes)),
            Err(_) => {
                warn!(path = %path.display(), "the key of metadata URIs is broken; making a new one")
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the kernel gives no random bytes")?;
    files::replace(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(MetadataKey::new(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path()).unwrap();
        assert!(first == load(folder.path()).unwrap());
        let path = folder.path().join(FILE);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(first != load(folder.path()).unwrap());
    }
}
