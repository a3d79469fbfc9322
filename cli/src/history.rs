//! Revisions of a service's task definition, and the one to go back to.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tallyman_crds::{Service, TaskDefinitionRevision, names};

use crate::standing::followed;
use crate::table::{Cell, Data, Listing, Table, Tone};
use crate::words::{age, age_of, name, ours, word};

/// The family of a service, and its revisions by number.
pub struct Past<'a> {
    /// The family.
    pub family: String,
    /// Revisions, the highest number first.
    pub revisions: Vec<&'a TaskDefinitionRevision>,
}

impl<'a> Past<'a> {
    /// That of a service.
    ///
    /// # Errors
    /// The service has no task definition of its own.
    pub fn of(
        service: &Service,
        all: &'a [Arc<TaskDefinitionRevision>],
    ) -> Result<Past<'a>, String> {
        let subject = name(&service.metadata);
        let given = service.spec.task_definition.as_deref().ok_or_else(|| {
            format!(
                "service `{subject}` has no `spec.taskDefinition`: its tasks are those of its task sets (`kubectl get tset`)"
            )
        })?;
        let short = given.rsplit('/').next().unwrap_or(given);
        let family = match followed(service) {
            Some(family) => family,
            None => short.rsplit_once(':').map_or(short, |(family, _)| family),
        };
        let mine = all.iter().filter(|r| r.spec.family == family).map(|r| &**r);
        let mut revisions: Vec<_> = mine.collect();
        revisions.sort_by_key(|r| std::cmp::Reverse(r.spec.revision));
        Ok(Past {
            family: family.to_owned(),
            revisions,
        })
    }

    /// `family:number`.
    fn ecs_name(&self, revision: &TaskDefinitionRevision) -> String {
        names::family_revision(&self.family, revision.spec.revision)
    }

    fn active(&self) -> impl Iterator<Item = &&'a TaskDefinitionRevision> {
        self.revisions
            .iter()
            .filter(|r| r.metadata.deletion_timestamp.is_none())
    }

    /// The revision that the service's spec asks for.
    pub fn asked_for(&self, service: &Service) -> Option<String> {
        match followed(service) {
            Some(_) => self.active().next().map(|r| self.ecs_name(r)),
            None => {
                let given = service.spec.task_definition.as_deref()?;
                Some(given.rsplit('/').next().unwrap_or(given).to_owned())
            }
        }
    }

    /// The revision to go back to: the one of this number, or the one that completed last before the one that is asked for.
    ///
    /// # Errors
    /// There is none, or it was deregistered.
    pub fn back(&self, service: &Service, to: Option<i64>) -> Result<String, String> {
        if let Some(number) = to {
            let found = self.revisions.iter().find(|r| r.spec.revision == number);
            return match found {
                None => Err(format!(
                    "there is no revision {number} of `{}`; `kubectl tally history {}` lists what there is",
                    self.family,
                    name(&service.metadata)
                )),
                Some(r) if r.metadata.deletion_timestamp.is_some() => Err(format!(
                    "{} is INACTIVE (deregistered); name an ACTIVE revision",
                    self.ecs_name(r)
                )),
                Some(r) => Ok(self.ecs_name(r)),
            };
        }
        let asked = self.asked_for(service);
        let completed = service
            .status
            .as_ref()
            .and_then(|s| s.last_completed_deployment.as_ref());
        let completed = completed.map(|d| d.task_definition.clone());
        let is_active = |name: &String| self.active().any(|r| self.ecs_name(r) == *name);
        if let Some(before) = completed.filter(|c| Some(c) != asked.as_ref() && is_active(c)) {
            return Ok(before);
        }
        let number = asked
            .as_deref()
            .and_then(|a| a.rsplit_once(':')?.1.parse::<i64>().ok());
        let lower = self
            .active()
            .find(|r| number.is_some_and(|n| r.spec.revision < n));
        lower.map(|r| self.ecs_name(r)).ok_or_else(|| {
            format!(
                "`{}` has no ACTIVE revision before {}",
                self.family,
                asked.as_deref().unwrap_or("the present one")
            )
        })
    }

    /// The revisions as a table.
    pub fn listing(&self, service: &Service, now: Timestamp) -> Listing {
        let status = service.status.as_ref();
        let asked = self.asked_for(service);
        let mut table = Table::new(
            &["REVISION", "STATUS", "AGE", "DEPLOYMENT", "NOTE"],
            &["IMAGES"],
        );
        let mut data = Vec::new();
        for r in &self.revisions {
            let ecs_name = self.ecs_name(r);
            let deployments = status.map_or(&[][..], |s| s.deployments.as_slice());
            let deployment = deployments.iter().find(|d| d.task_definition == ecs_name);
            let runs = deployment.map(|d| {
                format!(
                    "{}, {} of {} running, {}",
                    word(&d.status),
                    d.running_count,
                    d.desired_count,
                    word(&d.rollout_state)
                )
            });
            let mut notes = Vec::new();
            if asked.as_deref() == Some(&ecs_name) {
                let how = if followed(service).is_some() {
                    "followed"
                } else {
                    "pinned"
                };
                notes.push(how.to_owned());
            }
            let completed = status.and_then(|s| s.last_completed_deployment.as_ref());
            if completed.is_some_and(|d| d.task_definition == ecs_name) {
                notes.push("completed last".to_owned());
            }
            let failed = status.and_then(|s| s.failed_deployment.as_ref());
            let failed = failed.filter(|d| d.task_definition == ecs_name);
            notes.extend(failed.map(|d| format!("failed: {}", d.reason)));
            let inactive = r.metadata.deletion_timestamp.is_some();
            let state = if inactive {
                Cell::new("INACTIVE", Tone::Dim)
            } else {
                Cell::new("ACTIVE", Tone::Plain)
            };
            let containers = &r.spec.definition.container_definitions;
            let images: Vec<&str> = containers.iter().map(|c| c.image.as_str()).collect();
            data.push(json!({
                "revision": r.spec.revision, "taskDefinition": ecs_name, "active": !inactive,
                "createdAt": r.metadata.creation_timestamp, "deployment": deployment, "notes": notes, "images": images,
            }));
            let tone = if failed.is_some() {
                Tone::Bad
            } else {
                Tone::Plain
            };
            table.rows.push(vec![
                ecs_name.into(),
                state,
                age_of(&r.metadata, now).into(),
                runs.unwrap_or_default().into(),
                Cell::new(notes.join(", "), tone),
                images.join(", ").into(),
            ]);
        }
        Listing {
            table,
            names: self.revisions.iter().map(|r| ours(*r)).collect(),
            data: Data::Rows(data),
        }
    }
}

/// What happened to a service lately, newest first.
pub fn events(service: &Service, now: Timestamp) -> Table {
    let mut table = Table::new(&["AGE", "EVENT"], &[]);
    let events = service.status.iter().flat_map(|s| &s.events);
    table.rows.extend(events.map(|e| {
        vec![
            age(Some(&e.created_at), now).into(),
            e.message.as_str().into(),
        ]
    }));
    table
}

/// The same for programs.
pub fn events_data(service: &Service) -> Value {
    json!(service.status.as_ref().map_or(&[][..], |s| &s.events))
}
