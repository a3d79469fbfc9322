//! S26 and S28: what is made of a host that is not heard of.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tallyman_crds::Task;
use tallyman_operator_core::{Kind, Settings};

use super::Monitor;
use crate::api::{Cache, Object, Server};

impl Monitor {
    /// S26. Whoever has not seen it called so, or saw it renew its Lease lately, may take it for connected.
    pub(super) fn on_a_host_that_is_heard(
        &mut self,
        cache: &Cache,
        task: &Task,
        settings: &Settings,
        now: Timestamp,
    ) {
        let Some(host) = task.spec.container_instance.as_deref() else {
            return;
        };
        let Some(Object::Instance(seen)) = cache.get(Kind::ContainerInstance, host) else {
            return;
        };
        let status = seen.status.as_ref();
        let called = status.is_some_and(|s| s.registered_at.is_some() && !s.agent_connected);
        let silent = self.silence(host, now);
        if called && silent.is_some_and(|silent| silent >= settings.agent_grace) {
            let name = task.metadata.name.as_deref().unwrap_or_default();
            let message = format!("{name} was placed on {host}, of which nobody has heard");
            self.broken("S26", message);
        }
    }

    /// S28, of what a pass decided. A new leader takes what the last one said of a host for true until it is heard.
    pub(crate) fn called_disconnected(
        &mut self,
        server: &Server,
        task: &str,
        settings: &Settings,
        now: Timestamp,
    ) {
        self.hear(server, now);
        let Some(host) = server.get(Kind::Task, task).and_then(host_of) else {
            return;
        };
        let silent = self.silence(host, now);
        if let Some(silent) = silent.filter(|silent| *silent < settings.agent_grace)
            && says_connected(server, host) != Some(false)
        {
            let message =
                format!("{task} is called DISCONNECTED {silent:?} after {host} was heard");
            self.broken("S28", message);
        }
    }

    /// How long ago the host renewed its Lease.
    fn silence(&self, host: &str, now: Timestamp) -> Option<Duration> {
        let (_, since) = self.leases.get(host)?;
        Some(now.duration_since(*since).unsigned_abs())
    }

    pub(super) fn hear(&mut self, server: &Server, now: Timestamp) {
        for (host, lease) in server.leases() {
            if self
                .leases
                .get(host)
                .is_none_or(|(known, _)| known != lease)
            {
                self.leases.insert(host.clone(), (*lease, now));
            }
        }
    }
}

/// S28, at rest: tasks that say of their host's agent what their host does not.
pub(crate) fn mistaken(server: &Server) -> Vec<&str> {
    let says_otherwise = |t: &Value| {
        let said = t["status"]["connectivity"].as_str();
        let connected = host_of(t).and_then(|host| says_connected(server, host));
        said.is_some_and(|said| (said == "CONNECTED") != (connected == Some(true)))
    };
    let tasks = server.all(Kind::Task);
    let alive = tasks.filter(|(_, t)| t["status"]["lastStatus"] != "STOPPED");
    let mistaken = alive.filter(|(_, t)| says_otherwise(t));
    mistaken.map(|(name, _)| name).collect()
}

/// What its ContainerInstance says of it; `None`: nothing, or there is none.
fn says_connected(server: &Server, host: &str) -> Option<bool> {
    let host = server.get(Kind::ContainerInstance, host)?;
    host["status"]["agentConnected"].as_bool()
}

/// Where a task is: as whoever made it said, or, of a task of a user, as the operator chose.
fn host_of(task: &Value) -> Option<&str> {
    let said = |part: &str| task[part]["containerInstance"].as_str();
    said("spec").or_else(|| said("status"))
}
