//! The tasks: steps, reports, records.

use super::*;

impl Agent {
    pub(super) fn work(&mut self, p: &mut Process, shared: &mut Shared) {
        let context = HostContext {
            container_instance: self.name.clone(),
            address: None,
            pull_behavior: self.settings.images.pull_behavior,
            cleanup_wait: self.settings.tasks.cleanup_wait,
            cleanup_jitter: self.settings.tasks.cleanup_jitter,
            pull_upfront: self.settings.tasks.pull_upfront,
            enforcement: Enforcement::of(&self.settings.tasks, p.facts.description.as_ref(), true),
            plan_is_live: p.host.is_live(),
            silences: self.silences(&p.contacts, shared.now),
            supply: p.supply.clone(),
            registries: Default::default(),
        };
        p.news = false;
        p.work_at = shared.now + SignedDuration::from_secs(600);
        let uids: Vec<TaskUid> = p.machines.keys().cloned().collect();
        for uid in uids {
            let Some(machine) = p.machines.get_mut(&uid) else {
                continue;
            };
            let (step, freed) = p.holdings.step(machine, &context, shared.now);
            p.news |= !freed.is_empty();
            if p.records.get(&uid) != Some(&step.record) {
                p.records.insert(uid.clone(), step.record.clone());
                p.dirty = true;
            }
            if step.finished {
                p.records.remove(&uid);
                p.machines.remove(&uid);
                // Planned again while it was ending.
                if let Some(task) = p
                    .host
                    .assignment()
                    .and_then(|held| held.tasks.get(&uid))
                    .cloned()
                {
                    p.waiting.insert(uid, task);
                    begin_waiting(p);
                }
                continue;
            }
            for action in step.actions {
                machine.started(&action);
                let at = shared.now + soon(shared, 300);
                p.in_flight.push(InFlight {
                    uid: uid.clone(),
                    action,
                    at,
                    flight: Flight::Asked,
                });
            }
            match machine.due(shared.now) {
                Due::Nothing => {}
                Due::At(at) => p.work_at = p.work_at.min(at),
                Due::Now(parcel) => {
                    let at = shared.now + soon(shared, 200);
                    p.sending.push((uid.clone(), parcel, at));
                }
            }
            if let Some(at) = step.wake_at {
                p.work_at = p.work_at.min(at);
            }
        }
    }

    pub(super) fn deliver(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut p.sending)
            .into_iter()
            .partition(|(_, _, at)| *at <= shared.now);
        p.sending = later;
        for (uid, parcel, _) in due {
            if parcel.ends && p.dirty {
                self.flush(p)?;
            }
            let reachable = self.reachable(shared);
            let name = self.name.clone();
            let mut delivery = Delivery::Failed("no answer".to_owned());
            self.reports += 1;
            let lost = self.unanswered.filter(|lost| lost.at == self.reports);
            self.deed(|_| {
                if lost.is_none_or(|lost| lost.carried_out) {
                    delivery = deliver(&name, &parcel, reachable, shared);
                }
                if lost.is_some() {
                    delivery = Delivery::Failed("no answer within 15 s".to_owned());
                }
            })?;
            if let Some(machine) = p.machines.get_mut(&uid) {
                machine.delivered(&parcel, &delivery, shared.now);
            }
            p.news = true;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, p: &mut Process) -> Result<(), Dead> {
        p.dirty = false;
        let disk = Disk {
            plan: p.plan.clone(),
            records: p.records.clone(),
            engine: p.facts.description.clone(),
            contacts: self.disk.contacts.clone(),
        };
        self.deed(|agent| agent.disk = disk)
    }
}

fn deliver(host: &str, parcel: &Parcel, reachable: bool, shared: &mut Shared) -> Delivery {
    if !reachable {
        return Delivery::Failed("connection refused".to_owned());
    }
    let operations = parcel.json_patch();
    let result = shared
        .server
        .patch_status_by(Kind::Task, &parcel.name, &operations);
    let status = parcel.last_status.as_str();
    shared.note(
        host,
        &format!(
            "reports {} {status}{}",
            parcel.name,
            match &result {
                Ok(_) => String::new(),
                Err(refusal) => format!(" -> {refusal:?}"),
            }
        ),
    );
    match result {
        Ok(_) => Delivery::Accepted,
        Err(Refusal::NotFound | Refusal::Conflict | Refusal::AlreadyExists) => Delivery::Gone,
        Err(Refusal::Invalid(why)) => Delivery::Refused(why),
        Err(Refusal::Away) => Delivery::Failed("connection refused".to_owned()),
    }
}
