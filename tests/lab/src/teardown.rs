//! Takes away what a ledger lists: objects in a cluster that was given, processes, containers, mounts, namespaces, links, rules, cgroups,
//! folders. In that order, because each holds the next. Every step runs even if one before it failed, and doing it all twice is fine.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use tallyman_crds::labels;

use crate::command::Tool;
use crate::network::NAMESPACES;
use crate::process::MARK;
use crate::procfs::{self, ProcessId};
use crate::state::{GuestContainers, RecordedEngine, RecordedProcess, State};
use crate::wait::settle;
use crate::{cluster_changes, firewall, mounts, paths, state};

const PATIENCE: Duration = Duration::from_secs(20);

/// Where containerd's shims keep their sockets, whatever the containerd's own folder is.
const SHIM_SOCKETS: &str = "/run/containerd/s";

/// Two teardowns in one process would only step on each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Clears the machine of a run.
///
/// # Errors
/// Lists everything that could not be taken away; the state file stays then, for another try.
pub fn clear(state: &State) -> Result<()> {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();

    // While operator and agents are there: they let go of what is deleted.
    let left = cluster_changes::leave(state);
    // Whoever starts containers goes first, or it would start them anew.
    let tallyman = |recorded: &RecordedProcess| recorded.is_tallyman();
    failures.note("operator and agents", end(state, tallyman));
    if let Some(guest) = &state.guest {
        failures.note("containers on the local engine", remove_guests(guest));
    }
    failures.note("processes", end(state, |_| true));
    for engine in &state.engines {
        failures.note("containers", end_containers(engine));
    }
    failures.note("processes", end_marked(&state.id));

    for folder in state.folders.iter().chain([&state.run]) {
        failures.note("mounts", mounts::clear(folder));
    }
    for namespace in &state.namespaces {
        failures.note("network namespace", remove_namespace(namespace));
    }
    for link in &state.links {
        failures.note("network link", remove_link(link));
    }
    for rule in &state.firewall_rules {
        failures.note("firewall rule", firewall::remove(rule));
    }
    if state.agent_address {
        failures.note("metadata endpoint", firewall::remove_agent());
    }
    if let Some(before) = &state.firewall_before {
        failures.note("firewall", before.restore());
    }
    for engine in &state.engines {
        failures.note("cgroups", remove_cgroups(&engine.cgroup));
    }
    for folder in &state.folders {
        failures.note("folder", remove_folder(folder));
    }
    for file in &state.files {
        failures.note(
            "file",
            ignore_missing(fs::remove_file(file)).map_err(Error::from),
        );
    }
    if failures.0.is_empty() {
        failures.note("state", forget(state));
    }
    // It is told, but there is no other try: those who would take part in it are gone.
    failures.note("not everything could be deleted from the cluster", left);
    failures.into_result(&state.id)
}

#[derive(Default)]
struct Failures(Vec<Error>);

impl Failures {
    fn note(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.0.push(error.context(what.to_owned()));
        }
    }

    fn into_result(self, id: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = self.0.iter().map(|error| format!("{error:#}")).collect();
        Err(anyhow!(
            "lab {id} is not wholly down:\n  {}",
            lines.join("\n  ")
        ))
    }
}

fn end(state: &State, which: impl Fn(&RecordedProcess) -> bool) -> Result<()> {
    let processes: Vec<ProcessId> = state
        .processes
        .iter()
        .filter(|recorded| which(recorded))
        .filter_map(|recorded| recorded.process)
        .collect();
    procfs::kill_all(&processes, PATIENCE)
}

/// Children of ours, and processes that were started but not yet written down.
fn end_marked(id: &str) -> Result<()> {
    // Anything that bears our mark may have had a child in the meantime.
    for _ in 0..5 {
        let left = procfs::with_variable(MARK, id);
        if left.is_empty() {
            break;
        }
        procfs::kill_all(&left, PATIENCE)?;
    }
    Ok(())
}

/// Ends the containers of an engine that is itself gone, then their shims.
///
/// # Errors
/// When some survive.
pub fn end_containers(engine: &RecordedEngine) -> Result<()> {
    let shims = procfs::shims(&engine.containerd_socket);
    let sockets: BTreeSet<PathBuf> = shims
        .iter()
        .flat_map(|shim| procfs::socket_files(*shim, Path::new(SHIM_SOCKETS)))
        .collect();
    // Shims first, so that no exit is reported to an engine that may be started again.
    procfs::kill_all(&shims, PATIENCE)?;
    settle(PATIENCE, || {
        let left = cgroup_processes(&engine.cgroup);
        procfs::kill_all(&left, PATIENCE).is_ok() && left.is_empty()
    })
    .map_err(|()| anyhow!("containers in cgroup {} survive", engine.cgroup))?;
    for socket in sockets {
        ignore_missing(fs::remove_file(&socket))
            .with_context(|| format!("cannot remove {}", socket.display()))?;
    }
    Ok(())
}

/// A cgroup's folder in every hierarchy of this machine, version 1 and 2.
fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    let name = cgroup.trim_start_matches('/');
    if name.is_empty() {
        return Vec::new();
    }
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    hierarchies
        .chain([root.to_owned()])
        .map(|hierarchy| hierarchy.join(name))
        .filter(|folder| folder.is_dir())
        .collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn cgroup_processes(cgroup: &str) -> Vec<ProcessId> {
    let mut found = BTreeSet::new();
    let mut folders = cgroup_folders(cgroup);
    while let Some(folder) = folders.pop() {
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            listed
                .lines()
                .filter_map(|pid| ProcessId::of(pid.parse().ok()?)),
        );
        folders.extend(subfolders(&folder));
    }
    found
        .into_iter()
        .filter(|process| process.is_alive())
        .collect()
}

fn remove_cgroups(cgroup: &str) -> Result<()> {
    fn remove(folder: &Path) -> bool {
        let below = subfolders(folder).iter().all(|inner| remove(inner));
        below && ignore_missing(fs::remove_dir(folder)).is_ok()
    }
    // The kernel needs a moment to let go of the last process.
    settle(PATIENCE, || {
        cgroup_folders(cgroup).iter().all(|folder| remove(folder))
    })
    .map_err(|()| anyhow!("cgroup {cgroup} cannot be removed"))
}

fn remove_guests(guest: &GuestContainers) -> Result<()> {
    let docker = || Tool::new("docker").args(["-H", &guest.docker_host]);
    if let Some(label) = &guest.label {
        let listed = docker().args([
            "ps",
            "-aq",
            "--no-trunc",
            "--filter",
            &format!("label={label}"),
        ]);
        let listed = match listed.check() {
            Ok(listed) => listed,
            // Nothing can be left on an engine that is gone, and nothing can be done about it either.
            Err(_) if docker().arg("version").check().is_err() => return Ok(()),
            Err(error) => return Err(error),
        };
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if !ids.is_empty() {
            docker()
                .args(["rm", "--force", "--volumes"])
                .args(&ids)
                .check()?;
        }
    }
    // What the agent brought there; whoever else runs one gets it again.
    remove_brought(
        &docker,
        &["network", "ls"],
        labels::TASK_NETWORK,
        &["network", "rm"],
    );
    remove_brought(
        &docker,
        &["image", "ls"],
        labels::PAUSE_IMAGE,
        &["image", "rm"],
    );
    for image in &guest.images {
        // Somebody else may use it by now.
        docker().args(["image", "rm", image]).run()?;
    }
    Ok(())
}

/// Removes what carries a label and nobody uses; what somebody uses stays.
fn remove_brought(docker: &dyn Fn() -> Tool, list: &[&str], label: &str, remove: &[&str]) {
    let filter = format!("label={label}");
    let listed = docker()
        .args(list)
        .args(["--quiet", "--filter", &filter])
        .check();
    for id in listed.unwrap_or_default().split_whitespace() {
        let _in_use = docker().args(remove).arg(id).run();
    }
}

fn remove_namespace(name: &str) -> Result<()> {
    if Path::new(NAMESPACES).join(name).exists() {
        Tool::new("ip").args(["netns", "delete", name]).check()?;
    }
    Ok(())
}

fn remove_link(name: &str) -> Result<()> {
    let path = Path::new("/sys/class/net").join(name);
    if path.exists() {
        let output = Tool::new("ip").args(["link", "delete", name]).run()?;
        // A pair's end goes by itself, a little after its namespace.
        anyhow::ensure!(output.success || !path.exists(), "{}", output.stderr.trim());
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    let mounted = mounts::below(folder)?;
    anyhow::ensure!(
        mounted.is_empty(),
        "{} holds mounts: {mounted:?}",
        folder.display()
    );
    ignore_missing(fs::remove_dir_all(folder))
        .with_context(|| format!("cannot remove {}", folder.display()))
}

fn forget(state: &State) -> Result<()> {
    state::forget(state)?;
    if state.made_work {
        remove_if_empty(&state.work)?;
        if let Some(parent) = state
            .work
            .parent()
            .filter(|parent| parent.file_name().is_some_and(|name| name == ".lab"))
        {
            remove_if_empty(parent)?;
        }
    }
    ignore_missing(fs::remove_dir_all(&state.run))?;
    remove_if_empty(&paths::run_root())
}

fn remove_if_empty(folder: &Path) -> Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => {
            ignore_missing(other).with_context(|| format!("cannot remove {}", folder.display()))
        }
    }
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
