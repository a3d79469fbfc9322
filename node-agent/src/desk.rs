//! Where questions about tasks go: to the worker of each, which alone knows it.
//!
//! Nothing is prepared for answers, so what nobody asks costs nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use tallyman_agent_core::TaskUid;
use tallyman_agent_core::metadata::TaskSight;
use tokio::sync::{mpsc, oneshot};

use crate::worker::Told;

type Workers = BTreeMap<TaskUid, mpsc::UnboundedSender<Told>>;

/// The workers, by task.
#[derive(Default)]
pub struct Desk(Mutex<Workers>);

impl Desk {
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker began.
    pub fn open(&self, uid: TaskUid, worker: mpsc::UnboundedSender<Told>) {
        self.workers().insert(uid, worker);
    }

    /// A worker ended.
    pub fn close(&self, uid: &TaskUid) {
        self.workers().remove(uid);
    }

    /// Tells the worker of a task, if it has one.
    pub fn tell(&self, uid: &TaskUid, told: Told) -> bool {
        let workers = self.workers();
        workers
            .get(uid)
            .is_some_and(|worker| worker.send(told).is_ok())
    }

    /// A task at this moment, if it has a worker.
    pub async fn ask(&self, uid: &TaskUid) -> Option<TaskSight> {
        let (reply, answer) = oneshot::channel();
        if !self.tell(uid, Told::Asked(reply)) {
            return None;
        }
        answer.await.ok().map(|sight| *sight)
    }

    /// Protects a task from scale-in and deployments until then, or not any more; true once the API server knows.
    pub async fn protect(&self, uid: &TaskUid, until: Option<Timestamp>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(uid, Told::Protect { until, reply }) && answer.await.is_ok()
    }

    /// All tasks, sorted by uid.
    pub async fn ask_all(&self) -> Vec<TaskSight> {
        let uids: Vec<TaskUid> = self.workers().keys().cloned().collect();
        let asked = uids.iter().map(|uid| self.ask(uid));
        join_all(asked).await.into_iter().flatten().collect()
    }
}
