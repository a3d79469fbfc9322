//! The ledger: what a run has made on this machine.
//!
//! It lives in `state.json` in the run's work folder and is written before a thing is made (names) or as soon as it has an identity
//! (processes). Teardown reads nothing else, so that a run that was killed can be cleared by the next one or by `lab down`.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::CommandSpec;
use crate::procfs::ProcessId;
use crate::{cluster_changes, firewall, interrupt, paths, teardown};

const FILE: &str = "state.json";

/// Everything a run has made, and what is needed to describe it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Six hexadecimal digits, part of every name.
    pub id: String,
    /// The process that made it; a run without keeper and without owner is rubbish.
    pub owner: Option<ProcessId>,
    /// Stays after its owner ended.
    pub kept: bool,
    /// Its work folder.
    pub work: PathBuf,
    /// Its short folder for sockets.
    pub run: PathBuf,
    /// The work folder did not exist before.
    pub made_work: bool,
    /// Processes in the order of their first start.
    pub processes: Vec<RecordedProcess>,
    /// Engines started, by containerd socket, to find their shims.
    pub engines: Vec<RecordedEngine>,
    /// An engine that is not ours but holds containers that are.
    pub guest: Option<GuestContainers>,
    /// Network namespaces.
    pub namespaces: Vec<String>,
    /// Network links in the root namespace.
    pub links: Vec<String>,
    /// Rules of ours: `[table, chain, rule...]`.
    pub firewall_rules: Vec<Vec<String>>,
    /// Taken before an engine was started in the root namespace.
    pub firewall_before: Option<firewall::Before>,
    /// An agent in the root namespace puts the address of its metadata endpoint on loopback, and leads port 80 to it.
    #[serde(default)]
    pub agent_address: bool,
    /// Folders, removed with all they hold.
    pub folders: Vec<PathBuf>,
    /// Files outside of these.
    pub files: Vec<PathBuf>,
    /// Control plane, for whoever comes later.
    pub control_plane: Option<ControlPlaneRecord>,
    /// Hosts, for people.
    pub hosts: Vec<HostRecord>,
    /// Objects that were not in the cluster before, in order of creation.
    pub created: Vec<ObjectRecord>,
    /// What a quickstart did beyond processes.
    pub quickstart: Option<QuickstartRecord>,
}

/// A process and how it was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordedProcess {
    /// Name, unique in the run.
    pub name: String,
    /// Last known incarnation.
    pub process: Option<ProcessId>,
    /// How to start it again.
    pub command: CommandSpec,
}

impl RecordedProcess {
    /// An operator or an agent.
    pub fn is_tallyman(&self) -> bool {
        ["operator", "agent"]
            .iter()
            .any(|program| self.name.starts_with(program))
    }
}

/// An engine of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedEngine {
    /// Prefix of its processes, and its folder in the run's short folder.
    pub name: String,
    /// Version of its dockerd.
    pub version: String,
    /// Socket of its containerd.
    pub containerd_socket: PathBuf,
    /// Cgroup of all its containers, below each hierarchy's root.
    pub cgroup: String,
}

/// Our containers on somebody else's engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestContainers {
    /// As in DOCKER_HOST.
    pub docker_host: String,
    /// `key=value` that all of them carry.
    pub label: Option<String>,
    /// Images that we made there.
    pub images: Vec<String>,
}

/// How to reach the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneRecord {
    /// Of the administrator.
    pub kubeconfig: PathBuf,
    /// Started by this run.
    pub embedded: bool,
    /// Where it writes its audit log.
    pub audit_log: Option<PathBuf>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRecord {
    /// Name of host and ContainerInstance.
    pub name: String,
    /// Address at which its published ports are reached.
    pub address: String,
    /// Engine, for people.
    pub engine: String,
    /// Socket of its engine.
    pub socket: PathBuf,
}

/// How far `lab quickstart` came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuickstartRecord {
    /// ContainerInstance of this machine.
    pub instance: String,
    /// Everything was brought up once.
    pub complete: bool,
}

/// An object in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// `Kind.version.group`, as kubectl takes it without a doubt.
    pub kind: String,
    /// Namespace, if it has one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Uid: an object of this name that somebody made later is not ours. Empty while it is made.
    pub uid: String,
}

impl ObjectRecord {
    /// Both are the object of this name, now or earlier.
    pub fn names_same(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
    }
}

impl std::fmt::Display for ObjectRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A run's ledger. The last one to let go of it clears the machine, unless the run is kept.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    cleared: AtomicBool,
    /// Opened, not created: the thing is somebody else's to end.
    visitor: AtomicBool,
}

impl Ledger {
    /// Begins a run in `work`, or in a folder of its own when none is given. Clears what killed runs have left first.
    ///
    /// # Errors
    /// When a run lives in `work` already, or on the file system's.
    pub fn create(work: Option<&Path>) -> Result<Arc<Self>> {
        sweep();
        let id = new_id();
        let work = match work {
            Some(work) => std::path::absolute(work)?,
            None => paths::source_root()?.join(".lab").join(format!("run-{id}")),
        };
        if let Some(state) = read(&work)? {
            if state.kept || state.owner.is_some_and(ProcessId::is_alive) {
                bail!(
                    "{} holds lab {}, which is up; take it down first, or choose another folder",
                    work.display(),
                    state.id
                );
            }
            teardown::clear(&state)?;
        }
        let run = paths::run_root().join(&id);
        let state = State {
            owner: ProcessId::own(),
            made_work: !work.exists(),
            run: run.clone(),
            work: work.clone(),
            id,
            ..State::default()
        };
        paths::private_folder(&work)?;
        paths::private_folder(&run)?;
        fs::write(run.join("work"), work.as_os_str().as_encoded_bytes())?;
        write(&state)?;
        let ledger = Arc::new(Ledger {
            state: Mutex::new(state),
            cleared: AtomicBool::new(false),
            visitor: AtomicBool::new(false),
        });
        interrupt::register(&ledger);
        Ok(ledger)
    }

    /// The run that lives in `work`, if any. Letting go of it changes nothing.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(work: &Path) -> Result<Option<Arc<Self>>> {
        let work = std::path::absolute(work)?;
        Ok(read(&work)?.map(|state| {
            Arc::new(Ledger {
                state: Mutex::new(state),
                cleared: AtomicBool::new(false),
                visitor: AtomicBool::new(true),
            })
        }))
    }

    /// A copy of what is written.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// The run's id.
    pub fn id(&self) -> String {
        self.lock().id.clone()
    }

    /// The run's work folder.
    pub fn work(&self) -> PathBuf {
        self.lock().work.clone()
    }

    /// The run's short folder.
    pub fn run(&self) -> PathBuf {
        self.lock().run.clone()
    }

    /// Folder of all logs.
    ///
    /// # Errors
    /// Of the file system.
    pub fn logs(&self) -> Result<PathBuf> {
        self.folder("logs")
    }

    /// A folder below the work folder, private and removed at the end.
    ///
    /// # Errors
    /// Of the file system.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.work().join(name);
        self.update(|state| {
            if !state.folders.contains(&path) {
                state.folders.push(path.clone());
            }
        })?;
        paths::private_folder(&path)?;
        Ok(path)
    }

    /// Changes what is written, in memory and on disk.
    ///
    /// # Errors
    /// Of the file system.
    pub fn update(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        interrupt::check();
        let mut state = self.lock();
        change(&mut state);
        write(&state)
    }

    /// The run outlives this process.
    ///
    /// # Errors
    /// Of the file system.
    pub fn keep(&self) -> Result<()> {
        self.update(|state| state.kept = true)
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lock().kept
    }

    /// Logs of what failed are worth more than a clean folder: they outlive the run, and where they are is said.
    pub fn save_logs(&self) {
        save_logs(&self.state());
    }

    /// [`Ledger::clear`] by a later command than the one that made it all: what has ended in the meantime and has to take part is
    /// started first.
    ///
    /// # Errors
    /// As [`Ledger::clear`].
    pub fn down(self: &Arc<Self>) -> Result<()> {
        if let Err(error) = cluster_changes::wake(self) {
            eprintln!("{error:#}");
        }
        self.clear()
    }

    /// Takes away all that is written here. Doing it twice is fine.
    ///
    /// # Errors
    /// Names everything that could not be taken away.
    pub fn clear(&self) -> Result<()> {
        // Read once; a teardown that takes long must not hold up a reader.
        let state = self.state();
        self.cleared.store(true, Ordering::SeqCst);
        teardown::clear(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let ours = !self.visitor.load(Ordering::SeqCst) && !self.is_kept();
        // The handler is at it, and ends the process.
        interrupt::check();
        if !ours || self.cleared.load(Ordering::SeqCst) {
            return;
        }
        if std::thread::panicking() {
            self.save_logs();
        }
        if let Err(error) = self.clear() {
            eprintln!("{error:#}");
        }
    }
}

fn save_logs(state: &State) {
    let Some(folder) = state.work.parent() else {
        return;
    };
    let kept = folder.join(format!("failed-{}", state.id));
    if fs::rename(state.work.join("logs"), &kept).is_ok() {
        eprintln!("the logs of this run are in {}", kept.display());
    }
}

/// Clears runs whose owner is gone and that nobody wanted to keep.
pub fn sweep() {
    for state in known() {
        if !state.kept && !state.owner.is_some_and(ProcessId::is_alive) {
            eprintln!("clearing lab {}, whose process was killed", state.id);
            if let Err(error) = teardown::clear(&state) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// All runs on this machine that left a trace.
pub fn known() -> Vec<State> {
    fs::read_dir(paths::run_root())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("work")).ok())
        .filter_map(|work| read(Path::new(&work)).ok().flatten())
        .collect()
}

fn read(work: &Path) -> Result<Option<State>> {
    let path = work.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("in {}", path.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(state: &State) -> Result<()> {
    paths::private_file(&state.work.join(FILE), serde_json::to_vec_pretty(state)?)
}

/// Removes the file itself: the last thing a teardown does.
pub(crate) fn forget(state: &State) -> Result<()> {
    for path in [
        state.work.join(FILE),
        state.work.join(FILE).with_added_extension("new"),
    ] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    Ok(())
}

fn new_id() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:06x}", hasher.finish() & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("lab");
        let ledger = Ledger::create(Some(&work)).unwrap();
        let folder = ledger.folder("data").unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        let read = Ledger::open(&work).unwrap().unwrap();
        assert_eq!(read.id(), ledger.id());
        assert_eq!(read.state().folders, [folder]);
        drop(read);
        assert!(work.exists(), "a visitor clears nothing");
        let run = ledger.run();
        drop(ledger);
        assert!(!work.exists());
        assert!(!run.exists());
    }

    #[test]
    fn a_folder_that_was_there_stays_with_what_others_put_in_it() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("precious"), "x").unwrap();
        let ledger = Ledger::create(Some(parent.path())).unwrap();
        ledger.folder("data").unwrap();
        drop(ledger);
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "precious");
    }

    #[test]
    fn two_runs_do_not_share_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("lab");
        let _first = Ledger::create(Some(&work)).unwrap();
        let error = Ledger::create(Some(&work)).unwrap_err();
        assert!(error.to_string().contains("which is up"), "{error}");
    }

    #[test]
    fn a_kept_run_stays_until_it_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("lab");
        let ledger = Ledger::create(Some(&work)).unwrap();
        ledger.keep().unwrap();
        drop(ledger);
        let again = Ledger::open(&work).unwrap().unwrap();
        again.clear().unwrap();
        assert!(!work.exists());
    }
}
