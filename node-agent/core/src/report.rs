//! When a task's status is sent, and as what.
//!
//! One patch in flight for each task, in order, again until the API server has taken it or says that the
//! Task is gone. What passes quickly is not sent at all: PENDING and STOPPING wait, since most tasks have
//! passed them by then (a started task costs one patch, a stopped one another), while RUNNING and STOPPED
//! go out at once. PENDING waits only a second when there is something to tell: a pull, or a failure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tallyman_crds::{LastStatus, TaskStatus};

use crate::assignment::AssignedTask;
use crate::backoff::{Backoff, later};
use crate::ids::TaskUid;
use crate::names::hash;
use crate::task::{TaskRecord, left_behind};

/// How long a PENDING that has something to tell waits for RUNNING.
const PULLING: Duration = Duration::from_secs(1);
/// How long a PENDING that only waits for its turn does, when many tasks start together.
const QUEUEING: Duration = Duration::from_secs(10);
/// How long STOPPING waits for STOPPED. Containers that honour SIGTERM are quicker.
const STOPPING: Duration = Duration::from_secs(5);
/// How long STOPPED waits for the removal, of a Task that is being deleted.
const REMOVING: Duration = Duration::from_secs(1);
/// How long a change within a status (health, ports, a message) waits for another one.
const WITHIN: Duration = Duration::from_millis(150);
/// After a failed delivery.
const FAILED: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(30),
};
/// After a refused one: somebody has to change something first.
const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(60),
};

/// A status on its way to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Name of the Task.
    pub name: String,
    /// uid of the Task: a precondition, so that a namesake is never written.
    pub uid: TaskUid,
    /// `metadata.uid`, which the Task must have, and every field of `status` that is the agent's.
    pub body: Value,
    /// Hash of the body.
    pub fingerprint: u64,
    /// It says STOPPED.
    pub ends: bool,
    /// Until when it says that the task is protected.
    pub protected_until: Option<Timestamp>,
    /// It says RUNNING for the first time, or STOPPED: worth a line in the log.
    pub last_status: LastStatus,
}

impl Parcel {
    /// The parcel as a JSON Patch (RFC 6902) for the `status` subresource.
    ///
    /// Not a merge patch: for the status subresource of a custom resource the API server takes
    /// `metadata` from the stored object before it compares, so a uid in a merge patch is no
    /// precondition there (seen on 1.36). A `test` operation is one; when it fails, the answer is 422
    /// without details. Each field is put in place of the old one, and the operator's are left; what
    /// is absent is added before it is removed, because what is not there cannot be removed.
    pub fn json_patch(&self) -> Value {
        let test = json!({ "op": "test", "path": "/metadata/uid", "value": self.uid.as_str() });
        let fields = self.body.get("status").and_then(Value::as_object);
        let fields = fields.into_iter().flatten().flat_map(|(field, value)| {
            let path = format!("/status/{field}");
            let put = json!({ "op": "add", "path": path, "value": value });
            let remove = value
                .is_null()
                .then(|| json!({ "op": "remove", "path": path }));
            [Some(put), remove]
        });
        std::iter::once(test).chain(fields.flatten()).collect()
    }
}

/// Whether a status is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Due {
    /// The API server has it, or a patch is in flight.
    Nothing,
    /// Ask again then.
    At(Timestamp),
    /// Send it now and tell [`Outbox::settle`].
    Now(Box<Parcel>),
}

/// How a parcel fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The API server took it.
    Accepted,
    /// There is no Task of that name and uid: nobody wants to know any more.
    Gone,
    /// The API server or a policy will not have it (403, 422), in its words.
    Refused(String),
    /// Anything else: asked again soon.
    Failed(String),
}

/// The reports of one task.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    in_flight: bool,
    failures: u32,
    not_before: Option<Timestamp>,
    /// Since when there is something unsent.
    unsent_since: Option<Timestamp>,
    /// `lastStatus` that the API server took last in this process.
    told: Option<LastStatus>,
}

impl Outbox {
    /// Whether `report` is to be sent. Marks it in flight when it is.
    pub fn due(
        &mut self,
        task: &AssignedTask,
        record: &TaskRecord,
        report: &TaskStatus,
        now: Timestamp,
    ) -> Due {
        if self.in_flight || (record.condemned && !task.planned) {
            return Due::Nothing;
        }
        // Nothing new can come of a task whose end the API server has, except its removal, and what is in its way.
        if record.end_acknowledged
            && record.removed_at.is_none()
            && left_behind(task, record).is_none()
        {
            return Due::Nothing;
        }
        let mut body = body(&record.uid, report);
        let fingerprint = fingerprint(&body);
        if record.acknowledged == Some(fingerprint) {
            self.unsent_since = None;
            return Due::Nothing;
        }
        let since = *self.unsent_since.get_or_insert(now);
        let patience = match report.last_status {
            LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => {
                if has_news(record) { PULLING } else { QUEUEING }
            }
            LastStatus::Running if self.told == Some(LastStatus::Running) => WITHIN,
            LastStatus::Running => Duration::ZERO,
            LastStatus::Deactivating | LastStatus::Stopping | LastStatus::Deprovisioning => {
                STOPPING
            }
            LastStatus::Stopped if task.remove && record.removed_at.is_none() => REMOVING,
            LastStatus::Stopped => Duration::ZERO,
        };
        let at = later(since, patience).max(self.not_before.unwrap_or(Timestamp::MIN));
        if now < at && at <= later(now, Duration::from_secs(300)) {
            return Due::At(at);
        }
        self.in_flight = true;
        if record.acknowledged.is_none() {
            introduce(&mut body, report);
        }
        Due::Now(Box::new(Parcel {
            name: record.name.clone(),
            uid: record.uid.clone(),
            body,
            fingerprint,
            ends: report.last_status == LastStatus::Stopped,
            protected_until: record.protected_until,
            last_status: report.last_status,
        }))
    }

    /// How a parcel fared. What is acknowledged goes to the record and so survives a restart.
    pub fn settle(
        &mut self,
        task: &AssignedTask,
        record: &mut TaskRecord,
        parcel: &Parcel,
        delivery: &Delivery,
        now: Timestamp,
    ) {
        self.in_flight = false;
        let taken = match delivery {
            Delivery::Accepted | Delivery::Gone => true,
            // The plan does not have it and its end is not wanted: the Task has ended otherwise.
            Delivery::Refused(_) => parcel.ends && !task.planned,
            Delivery::Failed(_) => false,
        };
        if taken {
            record.acknowledged = Some(parcel.fingerprint);
            record.protection_told = parcel.protected_until;
            record.end_acknowledged |= parcel.ends;
            self.told = Some(parcel.last_status);
            self.failures = 0;
            self.not_before = None;
            self.unsent_since = None;
        } else {
            self.failures = self.failures.saturating_add(1);
            let pace = match delivery {
                Delivery::Refused(_) => REFUSED,
                Delivery::Accepted | Delivery::Gone | Delivery::Failed(_) => FAILED,
            };
            self.not_before = Some(pace.next(self.failures, record.salt(), now));
        }
    }
}

/// Whether a task on its way up has something to tell: an image on its way, or something that failed.
fn has_news(record: &TaskRecord) -> bool {
    record.containers.values().any(|known| {
        let pulling = !known.prepared && !known.created;
        pulling || known.retrying.is_some() || known.looking.is_some() || known.failure.is_some()
    })
}

/// A status and the uid it is for. Everything is named, absent values as null and lists whole, so that
/// it means the same whether it is merged or put in place of the old one.
pub fn body(uid: &TaskUid, report: &TaskStatus) -> Value {
    let TaskStatus {
        observed_generation,
        conditions,
        last_status,
        container_instance,
        accepted_at,
        health_status,
        stop_code,
        stopped_reason,
        pull_started_at,
        pull_stopped_at,
        started_at,
        stopping_at,
        execution_stopped_at,
        stopped_at,
        removed_at,
        protected_until,
        // The operator's, but for the first word of it.
        connectivity: _,
        connectivity_at: _,
        // The operator's.
        absence: _,
        ports,
        attachments,
        containers,
    } = report;
    json!({
        "metadata": { "uid": uid.as_str() },
        "status": {
            "observedGeneration": observed_generation,
            "conditions": conditions,
            "lastStatus": last_status,
            "containerInstance": container_instance,
            "acceptedAt": accepted_at,
            "healthStatus": health_status,
            "stopCode": stop_code,
            "stoppedReason": stopped_reason,
            "pullStartedAt": pull_started_at,
            "pullStoppedAt": pull_stopped_at,
            "startedAt": started_at,
            "stoppingAt": stopping_at,
            "executionStoppedAt": execution_stopped_at,
            "stoppedAt": stopped_at,
            "removedAt": removed_at,
            "protectedUntil": protected_until,
            "ports": ports,
            "attachments": attachments,
            "containers": containers,
        },
    })
}

/// What the agent says once, with the first of its reports that the API server takes; then it is the operator's.
fn introduce(body: &mut Value, report: &TaskStatus) {
    if let Some(status) = body.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("connectivity".to_owned(), json!(report.connectivity));
        status.insert("connectivityAt".to_owned(), json!(report.connectivity_at));
    }
}

/// Hash of a patch. Objects are sorted by key, so equal statuses have equal hashes in every process.
pub fn fingerprint(body: &Value) -> u64 {
    hash(body.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_for_one_uid_and_leaves_what_is_the_operators() {
        let uid = TaskUid::new("u");
        let parcel = Parcel {
            name: "web-000001".to_owned(),
            uid: uid.clone(),
            body: body(&uid, &TaskStatus::default()),
            fingerprint: 0,
            ends: false,
            protected_until: None,
            last_status: LastStatus::Pending,
        };
        let patch = parcel.json_patch();
        let operations = patch.as_array().into_iter().flatten();
        let brief: Vec<String> = operations
            .map(|o| format!("{} {} {}", o["op"], o["path"], o["value"]).replace('"', ""))
            .collect();
        assert_eq!(
            brief.first().map(String::as_str),
            Some("test /metadata/uid u")
        );
        assert!(
            brief.contains(&"add /status/lastStatus PENDING".to_owned()),
            "{brief:?}"
        );
        // What is not there cannot be removed, so it is put there first.
        let added = brief
            .iter()
            .position(|o| o == "add /status/stoppedReason null");
        let removed = brief
            .iter()
            .position(|o| o.starts_with("remove /status/stoppedReason"));
        assert!(added.is_some() && added < removed, "{brief:?}");
        // All of the status, and the operator's word of an absence, stay.
        let others = |o: &&String| o.contains("/status/absence") || o.contains("/status ");
        assert_eq!(brief.iter().find(others), None);
    }
}
