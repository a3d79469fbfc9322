//! The engine: lists, hints, and the calls that are under way.

use tallyman_agent_core::silence;

use super::*;

impl Agent {
    pub(super) fn look(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let now = shared.now;
        let Some(instance) = p.host.container_instance_uid().map(str::to_owned) else {
            return Ok(());
        };
        let scope = (labels::CONTAINER_INSTANCE_UID, instance.as_str());
        if p.hints.is_none() && p.watch_at <= now {
            p.hints = Some(self.engine.watch(scope));
            p.list_at = now;
        }
        while let Some(stream) = &mut p.hints {
            match stream.next().now_or_never() {
                None => break,
                Some(None | Some(Hint::Lost)) => {
                    p.hints = None;
                    p.watch_at = now + WATCH_RETRY;
                }
                Some(Some(hint)) => {
                    p.news = true;
                    let name = hint.container().unwrap_or_default().to_owned();
                    for machine in p.machines.values_mut() {
                        machine.hinted(&name, &hint);
                    }
                }
            }
        }
        if p.list_at <= now {
            let mut answer = None;
            self.deed(|agent| answer = block_on(agent.engine.list(scope)).ok())?;
            match answer {
                Some(list) => self.take_list(p, list, shared)?,
                None => p.list_at = now + LIST_RETRY,
            }
        }
        if p.volumes_at <= now && p.listed.is_some() && p.host.is_live() {
            p.volumes_at = now + VOLUME_LIST_PERIOD;
            let mut answer = None;
            self.deed(|agent| answer = block_on(agent.engine.list_volumes(scope)).ok())?;
            self.sweep_volumes(p, &answer.unwrap_or_default(), shared)?;
        }
        Ok(())
    }

    fn sweep_volumes(
        &mut self,
        p: &mut Process,
        list: &[VolumeState],
        shared: &mut Shared,
    ) -> Result<(), Dead> {
        let known: BTreeSet<TaskUid> = p.machines.keys().chain(p.waiting.keys()).cloned().collect();
        for stray in p.host.stray_volumes(list, &known, shared.now) {
            shared.note(&self.name, &format!("condemns volume {}", stray.name));
            shared
                .monitor
                .condemned(&shared.server, &self.name, &stray.task, &stray.name);
            self.deed(|agent| {
                let owner = (labels::CONTAINER_TASK_UID, stray.task.as_str());
                let _again_later = block_on(agent.engine.remove_volume(&stray.name, owner));
            })?;
        }
        Ok(())
    }

    pub(super) fn take_list(
        &mut self,
        p: &mut Process,
        list: Vec<ContainerSummary>,
        shared: &mut Shared,
    ) -> Result<(), Dead> {
        p.list_at = shared.now + LIST_PERIOD;
        p.news = true;
        for (uid, machine) in &mut p.machines {
            machine.listed(&of_task(&list, uid));
        }
        let ended: BTreeSet<TaskUid> = p
            .records
            .values()
            .filter(|r| r.is_stopped())
            .map(|r| r.uid.clone())
            .collect();
        p.holdings.gpus.saw(&list, &ended);
        let forgotten = p.host.forgotten(p.records.values());
        let forgotten = forgotten.into_keys().collect();
        let condemned = p.host.strays(&list, &ended, &forgotten, shared.now);
        let silences = self.silences(&p.contacts, shared.now);
        let silence = silences.missed_since(p.silences_heard);
        p.silences_heard = silences.over();
        let known = |uid: &TaskUid| p.records.contains_key(uid) || p.machines.contains_key(uid);
        let overdue = silence::overdue(&list, known, silence);
        p.listed = Some(list);
        begin_waiting(p);
        for stray in overdue {
            shared.note(&self.name, &format!("cut off, stops {}", stray.name));
            let name = stray.name.clone();
            self.deed(|agent| {
                let grace = silence::stop_timeout(agent.settings.tasks.stop_timeout);
                let _again_later = block_on(agent.engine.stop(&name, grace));
            })?;
        }
        for stray in condemned {
            shared.note(&self.name, &format!("condemns {}", stray.name));
            if let Some(machine) = p.machines.get_mut(&stray.task) {
                machine.condemn();
                continue;
            }
            shared
                .monitor
                .condemned(&shared.server, &self.name, &stray.task, &stray.name);
            let name = stray.name.clone();
            self.deed(|agent| {
                let gone =
                    block_on(agent.engine.stop(&name, agent.settings.tasks.stop_timeout)).is_ok();
                if gone {
                    let _again_later = block_on(agent.engine.remove(&name));
                }
            })?;
        }
        Ok(())
    }

    /// Engine calls that are due are made, and answers that are due arrive.
    pub(super) fn settle(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let mut flights = std::mem::take(&mut p.in_flight);
        shared.rng.shuffle(&mut flights);
        let mut outcome = Ok(());
        for mut flight in flights {
            if flight.at > shared.now || outcome.is_err() {
                p.in_flight.push(flight);
                continue;
            }
            match flight.flight {
                Flight::Asked => {
                    let (uid, action) = (&flight.uid, &flight.action);
                    if let Some(machine) = p.machines.get(uid) {
                        shared.monitor.in_order(&self.engine, machine, action);
                    }
                    if action.verb() == Verb::Stop
                        && let Some(machine) = p.machines.get(uid)
                    {
                        shared.monitor.stopping(&shared.server, &self.name, machine);
                    }
                    if action.must_be_remembered() && p.dirty {
                        outcome = self.flush(p);
                        if outcome.is_err() {
                            p.in_flight.push(flight);
                            continue;
                        }
                    }
                    let mut answer = None;
                    let gpus = &p.holdings.gpus;
                    outcome = self.deed(|agent| {
                        answer = Some(block_on(perform(
                            &agent.engine,
                            agent.premises(gpus),
                            action,
                        )));
                    });
                    if let Some(answer) = answer {
                        let dynamic = p.machines.get(uid).is_some_and(|machine| {
                            let known = machine.record().containers.get(action.container());
                            known.is_some_and(|known| known.chooses_ports)
                        });
                        if let Some(EngineError::PortTaken { message, .. }) = answer.error()
                            && !dynamic
                        {
                            shared.monitor.port_taken(&self.name, message);
                        }
                        let error = answer
                            .error()
                            .map(|e| format!(" -> {e}"))
                            .unwrap_or_default();
                        shared.note(
                            &self.name,
                            &format!("{} {}{error}", action.verb(), target(p, uid)),
                        );
                        flight.flight = Flight::Done(answer);
                        flight.at = shared.now + soon(shared, 60);
                        p.in_flight.push(flight);
                    }
                }
                Flight::Done(answer) => {
                    p.news = true;
                    if let Some(machine) = p.machines.get_mut(&flight.uid) {
                        machine.settle(flight.action.container(), answer, shared.now);
                    }
                }
            }
        }
        outcome
    }
}

fn target(p: &Process, uid: &TaskUid) -> String {
    p.machines
        .get(uid)
        .map_or_else(|| uid.to_string(), |m| m.task().name.clone())
}
