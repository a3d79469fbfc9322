//! What containers ask of their agent.

use tallyman_agent_core::Desired;
use tallyman_agent_core::metadata::{Place, protection};
use tallyman_agent_engine::PhaseKind;

use super::*;

impl Agent {
    /// Tasks whose running containers would get no credentials now, though the agent knows their plan and what its host
    /// was supplied.
    pub fn without_credentials(&self, now: Timestamp) -> Vec<TaskUid> {
        let Some(p) = self.process.as_ref() else {
            return Vec::new();
        };
        let Some(supply) = p.supply.as_deref() else {
            return Vec::new();
        };
        let running = self.engine.containers().into_iter();
        let running: BTreeSet<TaskUid> = running
            .filter(|container| container.phase == PhaseKind::Running)
            .filter_map(|container| container.labels.get(labels::CONTAINER_TASK_UID).cloned())
            .map(TaskUid::new)
            .collect();
        let refused = |uid: &TaskUid| {
            let role = p.machines.get(uid).and_then(|m| m.task().role.as_ref());
            role.is_some_and(|role| role.credentials(Some(supply), now).is_err())
        };
        running.into_iter().filter(refused).collect()
    }

    /// A container of this task asks to be protected until then: the answer, or why not in ECS' word. Nothing when the agent
    /// is dead or does not have the task.
    pub fn protect(
        &mut self,
        task: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<Result<(), &'static str>> {
        let p = self.process.as_mut()?;
        let mut all = p.machines.values_mut();
        let machine = all.find(|machine| machine.task().name == task)?;
        let (place, known) = (Place::default(), machine.record().protected_until);
        let refusal = protection::refused(machine.task(), &place)
            .or_else(|| protection::blocked(machine.task(), &place, known, now));
        if let Some(protection::Answer::Failure { reason, .. }) = refusal {
            return Some(Err(reason));
        }
        machine.protect(Some(until));
        p.news = true;
        Some(Ok(()))
    }

    /// The tasks that the agent was told of as ones to run, and whether protected tasks hold their service up.
    pub fn told_blocked(&self) -> Vec<(&TaskUid, bool)> {
        let machines = self.process.iter().flat_map(|p| p.machines.values());
        let to_run = machines.filter(|m| !matches!(m.task().desired, Desired::Stop { .. }));
        to_run
            .map(|m| (&m.task().uid, m.task().deployment_blocked))
            .collect()
    }
}
