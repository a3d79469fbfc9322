//! The host as a whole: what it says of itself, and that it lives.

use super::*;

/// What a host says of itself, and what that is of: it is asked for in every round, has some fifty attributes, and seldom others.
pub(super) struct Said {
    host: HostFacts,
    engine: EngineFacts,
    applied: Fence,
    report: HostReport,
}

impl Said {
    fn is_of(&self, host: &HostFacts, engine: &EngineFacts, applied: Fence) -> bool {
        self.applied == applied && self.engine == *engine && self.host == *host
    }
}

impl Agent {
    pub(super) fn describe(&mut self, p: &mut Process) -> Result<(), Dead> {
        if !p.facts.heard || p.facts.trouble.is_some() {
            let mut answer = None;
            self.deed(|agent| answer = block_on(agent.engine.describe()).ok())?;
            p.facts.heard = true;
            p.facts.trouble = answer.is_none().then(|| "it is away".to_owned());
            if answer.is_some() {
                p.facts.description = answer;
                p.dirty = true;
            }
        }
        Ok(())
    }

    pub(super) fn report(&mut self, p: &mut Process, shared: &mut Shared) {
        if !p.facts.heard {
            return;
        }
        let forgotten = p.host.forgotten(p.records.values());
        let facts = HostFacts {
            agent_version: "0.1.0".to_owned(),
            address: None,
            boot_id: Some(self.boot_id()),
            roles: ROLES,
            faults: Default::default(),
            gpus: self.gpus.clone(),
            ledger_trouble: None,
            forgotten: forgotten.into_values().collect(),
            rival: None,
            clock: None,
        };
        let applied = p.host.applied();
        let said = p.said.as_ref();
        if said.is_none_or(|said| !said.is_of(&facts, &p.facts, applied)) {
            let Ok(report) = register::report(&self.settings, &facts, &p.facts, applied) else {
                return;
            };
            p.news |= !p.holdings.account.registered(&report).is_empty();
            p.said = Some(Said {
                host: facts,
                engine: p.facts.clone(),
                applied,
                report,
            });
        }
        let Some(Said { report, .. }) = &p.said else {
            return;
        };
        let at = p.outbox.due(report, shared.now);
        p.report_at = at.max(shared.now + SignedDuration::from_millis(100));
        if at > shared.now {
            return;
        }
        let reachable = self.reachable(shared);
        let must = Preconditions::default();
        let body = json!({ "host": host(report) });
        if reachable
            && shared
                .server
                .patch_status(Kind::ContainerInstance, &self.name, &body, &must)
                .is_ok()
        {
            p.outbox.sent(report.clone(), shared.now);
        } else {
            p.outbox.failed(7, shared.now);
        }
    }

    pub(super) fn renew(&mut self, p: &mut Process, shared: &mut Shared) {
        if p.lease_at <= shared.now {
            p.lease_at = shared.now + LEASE_PERIOD;
            if !self.reachable(shared) {
                return;
            }
            if shared.server.renew(&self.name).is_err() {
                p.lease_at = shared.now + SignedDuration::from_secs(2);
            } else if shared.rng.chance(5) {
                // It is stored, and nobody hears of it.
                p.lease_at = shared.now + SignedDuration::from_secs(2);
            } else {
                let now = self.since_boot(shared.now);
                Arc::make_mut(&mut p.contacts).confirmed(&self.boot_id(), now, now);
                self.disk.contacts = Arc::clone(&p.contacts);
                p.news = true;
            }
        }
    }
}

/// A host's report as a merge patch: what is absent is taken away.
fn host(report: &HostReport) -> Value {
    let mut value = json!(report);
    for field in ["attributes", "address", "bootId", "engineId", "message"] {
        if value[field].is_null() {
            value[field] = Value::Null;
        }
    }
    value
}
