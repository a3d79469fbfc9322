//! Plans in: from the API, or from disk while that is away.

use super::*;

impl Agent {
    pub(super) fn hear(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        if self.reachable(shared) {
            if p.cache.follow(&shared.server) {
                shared.note(&self.name, "sees that the API server went back");
                p.host.api_went_back();
                if p.host.tells_again() {
                    p.tell_again(shared);
                }
                p.heard = None;
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
                        let spec = json!(plan.spec);
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
                if p.host.tells_again() {
                    p.tell_again(shared);
                }
                return false;
            }
        };
        if p.host.tells_again() {
            p.tell_again(shared);
        }
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
        for uid in &offer.forgotten {
            if let Some(record) = p.saved.get_mut(uid) {
                record.forgotten = true;
            }
            if let Some(machine) = p.machines.get_mut(uid) {
                machine.forget();
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
                    p.waiting.insert(task.uid.clone(), task);
                }
            }
        }
        begin_waiting(p);
        true
    }
}

impl Process {
    /// The API server may have lost what it was told.
    fn tell_again(&mut self, shared: &Shared) {
        self.outbox.again();
        self.report_at = shared.now;
        for record in self.saved.values_mut() {
            record.acknowledged = None;
            record.end_acknowledged = false;
        }
        for machine in self.machines.values_mut() {
            machine.tell_again();
        }
        self.news = true;
    }

    /// Tasks that the API server forgot, and that run.
    pub(super) fn forgotten(&self) -> BTreeMap<TaskUid, String> {
        let records = self.records.values();
        let forgotten = records.filter(|r| r.forgotten && !r.is_stopped());
        forgotten.map(|r| (r.uid.clone(), r.name.clone())).collect()
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
