//! Files of log routers, as the agent writes them on its host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tallyman_agent_core::{HostFiles, RouterFiles, RouterFolder, TaskUid};
use tallyman_agent_engine::EngineError;

/// A disk that keeps what was written last.
#[derive(Default)]
pub(super) struct Routers(Mutex<BTreeMap<TaskUid, RouterFiles>>);

impl RouterFolder for Routers {
    fn provide(&self, files: &RouterFiles) -> Result<(), EngineError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(files.task.clone(), files.clone());
        Ok(())
    }
}

/// No task of the simulator is given variables from its host, which has no links.
impl HostFiles for Routers {
    fn leads_to(&self, path: &str) -> String {
        path.to_owned()
    }

    fn closed(&self) -> Vec<String> {
        Vec::new()
    }

    fn listens(&self, _: &str) -> bool {
        true
    }

    fn read(&self, path: &str) -> Result<String, EngineError> {
        Err(EngineError::CannotRead {
            path: path.to_owned(),
            message: "may not be read".to_owned(),
        })
    }
}
