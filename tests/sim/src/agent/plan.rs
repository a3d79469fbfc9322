//! Plans in: from the API, or from disk while that is away.

use super::*;

impl Agent {
    pub(super) fn hear(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        if self.reachable(shared) {
            if let Some(went_back) = p.cache.follow(&shared.server) {
                p.heard = None;
                if went_back {
                    shared.note(&self.name, "sees that the API server went back");
                    p.host.api_went_back();
                    p.tell_again(shared);
                }
            }
            p.cache
                .receive(&shared.server, shared.lag, &mut shared.rng, shared.now);
            self.gap = p.cache.gap;
            let secret = p.cache.get(Kind::Secret, &names::host_identity(&self.name));
            if let Some(Object::Secret(secret)) = secret
                && p.supply.as_deref() != Some(&secret.supply())
            {
                p.supply = Some(Arc::new(secret.supply()));
                p.news = true;
            }
            let version = p.cache.version(Kind::HostPlan, &self.name);
            if version != p.heard {
                p.heard = version;
                p.news = true;
                p.report_at = shared.now;
                match p.cache.get(Kind::HostPlan, &self.name) {
                    Some(Object::Plan(plan)) => {
                        p.disk_plan_at = None;
                        let mut spec = json!(plan.spec);
                        spec[Plan::VERSION] = json!(version.unwrap_or_default().to_string());
                        if self.take_plan(p, &spec, true, shared) {
                            p.plan = Some(spec);
                            p.dirty = true;
                        }
                    }
                    _ => p.host.plan_gone(),
                }
            }
        }
        if p.disk_plan_at.is_some_and(|at| at <= shared.now) {
            p.disk_plan_at = None;
            if let Some(spec) = p.saved_plan.take()
                && p.host.assignment().is_none()
            {
                shared.note(&self.name, "works from the plan on disk");
                p.news = true;
                self.take_plan(p, &spec, false, shared);
            }
        }
        Ok(())
    }

    pub(super) fn take_plan(
        &self,
        p: &mut Process,
        spec: &Value,
        live: bool,
        shared: &mut Shared,
    ) -> bool {
        let Ok(plan) = Plan::from_json(spec) else {
            return false;
        };
        if let Some(saved) = p.saved_plan.take()
            && let Ok(saved) = Plan::from_json(&saved)
        {
            let _older_is_fine = p.host.offer(saved, false);
        }
        let offer = match p.host.offer(plan, live) {
            Ok(offer) => offer,
            Err(refusal) => {
                shared.note(&self.name, &refusal.to_string());
                p.tell_again(shared);
                return false;
            }
        };
        p.tell_again(shared);
        if offer.other_identity {
            p.listed = None;
            p.hints = None;
            p.list_at = shared.now;
        }
        for uid in &offer.unplanned {
            p.waiting.remove(uid);
            if let Some(machine) = p.machines.get_mut(uid) {
                machine.unplanned();
            }
        }
        let changed: BTreeSet<&TaskUid> = offer.assigned.iter().map(|t| &t.uid).collect();
        let all: Vec<AssignedTask> = p
            .host
            .assignment()
            .map(|held| held.tasks.values().cloned().collect())
            .unwrap_or_default();
        for task in all {
            match p.machines.get_mut(&task.uid) {
                Some(machine) if changed.contains(&task.uid) => machine.assign(task),
                Some(_) => {}
                None => {
                    if live && let Some(record) = p.saved.get_mut(&task.uid) {
                        record.maybe_forgotten = false;
                    }
                    p.waiting.insert(task.uid.clone(), task);
                }
            }
        }
        begin_waiting(p);
        true
    }
}

impl Process {
    /// When the API server went back, it is told everything again.
    fn tell_again(&mut self, shared: &Shared) {
        let Some(to_run) = self.host.tells_again() else {
            return;
        };
        self.outbox.again();
        self.report_at = shared.now;
        for (uid, record) in &mut self.saved {
            record.api_went_back(to_run.contains(uid));
        }
        for (uid, machine) in &mut self.machines {
            machine.api_went_back(to_run.contains(uid));
        }
        self.news = true;
    }
}

/// Tasks that waited for a list begin; so does what else is remembered.
pub(super) fn begin_waiting(p: &mut Process) {
    let Some(listed) = p.listed.clone() else {
        return;
    };
    let mut begin: Vec<(AssignedTask, Option<TaskRecord>)> = Vec::new();
    for (uid, task) in std::mem::take(&mut p.waiting) {
        begin.push((task, p.saved.remove(&uid)));
    }
    for (_, record) in std::mem::take(&mut p.saved) {
        begin.push((p.host.remembered(&record), Some(record)));
    }
    for (task, record) in begin {
        let record = record.or_else(|| p.records.get(&task.uid).cloned());
        let mine = of_task(&listed, &task.uid);
        let machine = TaskMachine::begin(task, record, &mine);
        p.machines.insert(machine.task().uid.clone(), machine);
    }
}

pub(super) fn of_task(list: &[ContainerSummary], uid: &TaskUid) -> Vec<ContainerSummary> {
    list.iter()
        .filter(|c| {
            c.labels.get(labels::CONTAINER_TASK_UID).map(String::as_str) == Some(uid.as_str())
        })
        .cloned()
        .collect()
}
