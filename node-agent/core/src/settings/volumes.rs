//! How a host provides volumes.

use std::collections::BTreeMap;

use super::group::settings;
use super::values::{Wrong, flag, texts};
use crate::volumes::NfsExport;

/// EFS' own have 20 letters.
const MOST_OF_AN_ID: usize = 64;

settings! {
    /// How a host provides volumes.
    pub struct VolumeSettings {
        match_full_config: bool = false,
            ["ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", "SharedVolumeMatchFullConfig",
             "true: a shared volume that exists must have the labels and driver options of the task definition"],
            flag;
        file_systems: BTreeMap<String, NfsExport> = BTreeMap::new(),
            ["ECS_EFS_FILE_SYSTEMS", "EFSFileSystems",
             "NFS export for each fileSystemId, JSON like {\"fs-1\":\"nfs.example.com:/exports/data\"}"],
            file_systems;
    }
}

fn file_systems(text: &str) -> Result<BTreeMap<String, NfsExport>, Wrong> {
    let texts = texts("{\"fs-1\":\"nfs.example.com:/exports/data\"}", text)?;
    let mut exports = BTreeMap::new();
    let mut bad = Vec::new();
    for (id, text) in texts {
        // It becomes part of an attribute's name.
        if !(1..=MOST_OF_AN_ID).contains(&id.len())
            || !id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            bad.push(format!(
                "has the id `{id}`: ids are 1 to {MOST_OF_AN_ID} letters, digits and - _ ., as `fileSystemId` has them."
            ));
        }
        match NfsExport::parse(&text) {
            Some(export) => {
                exports.insert(id, export);
            }
            None => bad.push(format!(
                "has `{text}` for `{id}`, which is not a server and an absolute path, as in \
                 `nfs.example.com:/exports/data`."
            )),
        }
    }
    if bad.is_empty() {
        Ok(exports)
    } else {
        Err(Wrong::Refused(bad))
    }
}
