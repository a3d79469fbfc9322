//! What containers ask of their agent.

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

    /// A container of this task asks to be protected until then; false when the agent does not have it.
    pub fn protect(&mut self, task: &str, until: Timestamp) -> bool {
        let Some(p) = self.process.as_mut() else {
            return false;
        };
        let mut all = p.machines.values_mut();
        let Some(machine) = all.find(|machine| machine.task().name == task) else {
            return false;
        };
        machine.protect(Some(until));
        p.news = true;
        true
    }
}
