//! Looks at every engine and at every task while something is being broken, and writes down what must never be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tallyman_crds::lifecycle::LastStatus;
use tallyman_lab::{Host, Lab, http};

use crate::chaos::stage::STURDY;

/// How often an engine is looked at; a hung one is waited for this many times longer.
const ENGINE_PERIOD: Duration = Duration::from_millis(300);
/// How often the API server is asked for every task.
const API_PERIOD: Duration = Duration::from_millis(700);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// `GET /containers/json` of running containers that are of a task.
const RUNNING: &str =
    "/containers/json?filters=%7B%22label%22%3A%5B%22tallyman.dev%2Ftask-uid%22%5D%7D";

/// Running containers of tasks, as an engine lists them.
///
/// # Errors
/// It does not answer.
pub fn engine_runs(host: &Host) -> Result<Vec<Value>> {
    let reply = http::get_unix(host.engine_socket(), RUNNING, PATIENCE)?;
    Ok(serde_json::from_str(&reply.body)?)
}

/// Reads objects quickly, without a process for each.
pub struct Eyes {
    runtime: tokio::runtime::Runtime,
    client: Client,
    namespace: String,
}

impl Eyes {
    /// Of an administrator.
    ///
    /// # Errors
    /// The kubeconfig is of no use.
    pub fn open(lab: &Lab) -> Result<Eyes> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let config = Kubeconfig::read_from(lab.control_plane().admin_kubeconfig())?;
            let options = KubeConfigOptions::default();
            let mut config = Config::from_custom_kubeconfig(config, &options).await?;
            config.default_retry = false;
            config.connect_timeout = Some(PATIENCE);
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Eyes {
            runtime,
            client,
            namespace: lab.namespace().to_owned(),
        })
    }

    fn get(&self, path: &str) -> Result<Value> {
        let request = http_request(path)?;
        self.runtime.block_on(async {
            let call = self.client.request::<Value>(request);
            Ok(tokio::time::timeout(PATIENCE, call)
                .await
                .context("the API server does not answer")??)
        })
    }

    /// Every object of a kind of ours.
    ///
    /// # Errors
    /// The API server refuses, or does not answer within three seconds.
    pub fn list(&self, plural: &str) -> Result<Vec<Value>> {
        let namespace = &self.namespace;
        let path = format!("/apis/tallyman.dev/v1alpha1/namespaces/{namespace}/{plural}");
        let list = self.get(&path)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Who leads, by the Lease; empty for nobody.
    ///
    /// # Errors
    /// As [`Eyes::list`].
    pub fn leader(&self) -> Result<String> {
        let path =
            "/apis/coordination.k8s.io/v1/namespaces/tallyman-system/leases/tallyman-operator";
        let lease = self.get(path)?;
        let holder = lease["spec"]["holderIdentity"].as_str();
        Ok(holder.unwrap_or_default().to_owned())
    }
}

fn http_request(path: &str) -> Result<::http::Request<Vec<u8>>> {
    Ok(::http::Request::get(path).body(Vec::new())?)
}

/// A container of a task: uid of the task, and its name in the task definition.
type Place = (String, String);

#[derive(Default)]
struct Seen {
    /// Ids of all containers that were seen running, by what they are of.
    ran: BTreeMap<Place, BTreeSet<String>>,
    /// Where each task's containers run now.
    now: BTreeMap<String, BTreeSet<Place>>,
    /// Name of a task and its last status.
    statuses: BTreeMap<String, (String, LastStatus)>,
    /// Hosts whose agent was not connected at some time.
    disconnected: BTreeSet<String>,
    violations: BTreeSet<String>,
    looks: u64,
    /// The API server is being put back to an older state.
    goes_back: bool,
}

/// What was seen so far.
#[derive(Default)]
pub struct Witness {
    seen: Mutex<Seen>,
    done: AtomicBool,
}

/// Ends the looking, also when what is watched panics.
struct UntilDropped<'a>(&'a AtomicBool);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Witness {
    /// Does `work` while everything is looked at, and while `beside` is called twice a second.
    ///
    /// # Errors
    /// What `work` says, or there is no way to the API server.
    pub fn watch<T>(
        &self,
        lab: &Lab,
        beside: impl Fn() + Sync,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let eyes = Eyes::open(lab)?;
        std::thread::scope(|scope| {
            let _done = UntilDropped(&self.done);
            for host in lab.hosts() {
                scope.spawn(move || self.until_done(ENGINE_PERIOD, || self.look_at_engine(host)));
            }
            scope.spawn(move || {
                self.until_done(API_PERIOD, || {
                    self.look_at_tasks(&eyes.list("tasks")?);
                    self.look_at_hosts(&eyes.list("containerinstances")?);
                    Ok(())
                });
            });
            scope.spawn(|| {
                self.until_done(Duration::from_millis(500), || {
                    beside();
                    Ok(())
                });
            });
            work()
        })
    }

    /// A look that fails is one that was not had: what is broken does not answer.
    fn until_done(&self, period: Duration, look: impl Fn() -> Result<()>) {
        while !self.done.load(Ordering::Relaxed) {
            if look().is_ok() {
                self.seen().looks += 1;
            }
            std::thread::sleep(period);
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn look_at_engine(&self, host: &Host) -> Result<()> {
        self.note_engine(host.name(), &engine_runs(host)?);
        Ok(())
    }

    fn note_engine(&self, host: &str, list: &[Value]) {
        let mut seen = self.seen();
        let seen = &mut *seen;
        let mut here: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for c in list.iter().filter(|c| c["State"] == "running") {
            let label = |name: &str| c["Labels"][name].as_str().unwrap_or_default().to_owned();
            let id = c["Id"].as_str().unwrap_or_default().to_owned();
            let place = (
                label("tallyman.dev/task-uid"),
                label("com.amazonaws.ecs.container-name"),
            );
            let task = label("tallyman.dev/task");
            let ids = seen.ran.entry(place.clone()).or_default();
            ids.insert(id.clone());
            // One that its restart policy started again is another container of the same task.
            if ids.len() > 1 && !task.starts_with(STURDY) {
                seen.violations
                    .insert(format!("{task}: a second container ran on {host}: {ids:?}"));
            }
            here.entry(place).or_default().push(id);
        }
        for (place, ids) in &here {
            if ids.len() > 1 {
                seen.violations
                    .insert(format!("two containers {place:?} run on {host}: {ids:?}"));
            }
            for (other, there) in &seen.now {
                if other != host && there.contains(place) {
                    seen.violations
                        .insert(format!("{place:?} runs on {host} and on {other}"));
                }
            }
        }
        seen.now.insert(host.to_owned(), here.into_keys().collect());
    }

    fn look_at_tasks(&self, tasks: &[Value]) {
        let mut seen = self.seen();
        if seen.goes_back {
            return;
        }
        for task in tasks {
            let uid = task["metadata"]["uid"].as_str().unwrap_or_default();
            let name = task["metadata"]["name"].as_str().unwrap_or_default();
            let status = task["status"]["lastStatus"].clone();
            let Ok(status) = serde_json::from_value::<LastStatus>(status) else {
                continue;
            };
            let known = seen
                .statuses
                .insert(uid.to_owned(), (name.to_owned(), status));
            if let Some((_, before)) = known
                && !before.may_become(status)
            {
                seen.violations
                    .insert(format!("{name} went from {before:?} back to {status:?}"));
            }
        }
    }

    fn look_at_hosts(&self, hosts: &[Value]) {
        let mut seen = self.seen();
        for host in hosts {
            if host["status"]["agentConnected"] == false {
                let name = host["metadata"]["name"].as_str().unwrap_or_default();
                seen.disconnected.insert(name.to_owned());
            }
        }
    }

    /// Hosts whose agent was not connected at some time since the row began.
    pub fn disconnected(&self) -> BTreeSet<String> {
        self.seen().disconnected.clone()
    }

    /// Does `work`, which puts the API server back to an older state: what it says of tasks may go back with it.
    ///
    /// # Errors
    /// What `work` says.
    pub fn goes_back(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.seen().goes_back = true;
        let result = work();
        let mut seen = self.seen();
        seen.goes_back = false;
        seen.statuses.clear();
        result
    }

    /// Adds what somebody else found out.
    pub fn accuse(&self, what: String) {
        self.seen().violations.insert(what);
    }

    /// What was seen that must never be, since it was asked last, and how many looks were had.
    pub fn take(&self) -> (Vec<String>, u64) {
        let mut seen = self.seen();
        let looks = std::mem::take(&mut seen.looks);
        seen.disconnected.clear();
        let violations = std::mem::take(&mut seen.violations);
        (violations.into_iter().collect(), looks)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(id: &str, task: &str) -> Value {
        json!({ "Id": id, "State": "running", "Labels": {
            "tallyman.dev/task": task, "tallyman.dev/task-uid": format!("uid-{task}"),
            "com.amazonaws.ecs.container-name": "web",
        } })
    }

    #[test]
    fn the_same_container_seen_often_is_no_double() {
        let witness = Witness::default();
        for _ in 0..3 {
            witness.note_engine("a", &[container("1", "web-1"), container("2", "web-2")]);
        }
        assert_eq!(witness.take().0, Vec::<String>::new());
    }

    #[test]
    fn a_second_container_is_told_whether_it_runs_beside_the_first_after_it_or_elsewhere() {
        let witness = Witness::default();
        let both = [container("1", "web-1"), container("2", "web-1")];
        witness.note_engine("a", &both);
        assert_eq!(witness.take().0.len(), 2);

        let witness = Witness::default();
        witness.note_engine("a", &both[..1]);
        witness.note_engine("a", &both[1..]);
        assert_eq!(witness.take().0.len(), 1);

        let witness = Witness::default();
        witness.note_engine("a", &both[..1]);
        witness.note_engine("b", &both[..1]);
        assert_eq!(witness.take().0.len(), 1);
    }

    #[test]
    fn what_restarts_in_place_may_be_another_container_but_one_at_a_time() {
        let witness = Witness::default();
        let name = format!("{STURDY}-1");
        witness.note_engine("a", &[container("1", &name)]);
        witness.note_engine("a", &[container("2", &name)]);
        assert_eq!(witness.take().0, Vec::<String>::new());
        witness.note_engine("a", &[container("1", &name), container("2", &name)]);
        assert_eq!(witness.take().0.len(), 1);
    }

    #[test]
    fn a_status_that_goes_back_is_told() {
        let witness = Witness::default();
        let task = |status: &str| json!({ "metadata": { "uid": "u", "name": "web-1" }, "status": { "lastStatus": status } });
        for status in ["PENDING", "RUNNING", "STOPPED"] {
            witness.look_at_tasks(&[task(status)]);
        }
        assert_eq!(witness.take().0, Vec::<String>::new());
        witness.look_at_tasks(&[task("RUNNING")]);
        assert_eq!(witness.take().0.len(), 1);
        witness.look_at_tasks(&[task("STOPPED")]);
        let meanwhile = || {
            witness.look_at_tasks(&[task("PENDING")]);
            Ok(())
        };
        witness.goes_back(meanwhile).unwrap();
        witness.look_at_tasks(&[task("RUNNING")]);
        assert_eq!(witness.take().0, Vec::<String>::new());
        witness.look_at_tasks(&[task("PENDING")]);
        assert_eq!(witness.take().0.len(), 1);
    }
}
