//! `make up` and `make down`, as the Makefile runs them: on a control plane of their own and on a cluster that is given. Needs root and
//! `dev/tools.sh all`. A target of its own, because it uses the Docker of this machine, or starts one where none runs.

mod traces;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tallyman_lab::command::Tool;
use tallyman_lab::control_plane::{ControlPlane, ControlPlaneOptions};
use tallyman_lab::{Ledger, Process, paths};

use traces::{inventory, is_again, traces};

/// There is one Docker on this machine, and one firewall.
static MACHINE: Mutex<()> = Mutex::new(());

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the service may take to be scaled.
const SOON: Duration = Duration::from_secs(60);

/// What somebody sees who types `make up` or `make down`.
fn lab(command: &str, work: &Path, more: &[&str]) -> Result<String> {
    let began = Instant::now();
    let output = Tool::new(paths::built_program("lab")?)
        .args([command, "--work"])
        .arg(work)
        .args(more)
        .timeout(PATIENCE)
        .run()?;
    let told = format!("{}{}", output.stdout, output.stderr);
    ensure!(output.success, "{command}: {told}");
    println!("{command} took {:.1?}", began.elapsed());
    Ok(told)
}

/// It says all this.
fn says(told: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(told.contains(word), "`{word}` is not in\n{told}");
    }
    Ok(())
}

/// What a person has to see at its end.
const SHOWN: [&str; 5] = [
    "Hello from Tallyman",
    "$ kubectl get tsvc",
    "$ kubectl get task",
    "$ kubectl get cinst",
    "make down",
];

#[test]
fn a_page_is_served_and_everything_is_taken_away_again() -> Result<()> {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let work = folder.path().join("up");
    says(&lab("quickstart", &work, &[])?, &SHOWN)?;
    let ledger = Ledger::open(&work)?.context("it keeps no record")?;
    let id = ledger.id();

    // Again, with everything there.
    let told = lab("quickstart", &work, &[])?;
    says(&told, &["Tallyman is up already"])?;
    says(&told, &SHOWN)?;

    // Again, with a part that is not.
    Process::attach(&ledger, "operator")?.kill9()?;
    let told = lab("quickstart", &work, &[])?;
    says(&told, &["operator was not running; starting it again"])?;
    says(&told, &SHOWN)?;

    // As its last lines propose.
    let plane = ControlPlane::attach(&ledger)?;
    let kubectl = plane.kubectl();
    kubectl.ok(["scale", "tsvc", "hello", "--replicas=4"])?;
    kubectl.ok([
        "wait",
        "--for=jsonpath={.status.runningCount}=4",
        "tsvc/hello",
        &format!("--timeout={}s", SOON.as_secs()),
    ])?;
    drop(plane);

    let told = lab("quickstart-down", &work, &[])?;
    says(&told, &["everything that `make up` had made is gone"])?;
    ensure!(traces(&id).is_empty(), "it left {:?}", traces(&id));
    ensure!(!work.exists(), "it left {}", work.display());
    says(&lab("quickstart-down", &work, &[])?, &["nothing is up"])
}

#[test]
fn a_given_cluster_is_left_as_it_was_found() -> Result<()> {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let work = folder.path().join("up");
    let ledger = Ledger::create(None)?;
    let plane = ControlPlane::start(&ledger, &ControlPlaneOptions::default())?;
    let kubectl = plane.kubectl();
    let before = inventory(kubectl)?;
    let kubeconfig = plane.admin_kubeconfig().display().to_string();
    let told = lab("quickstart", &work, &["--kubeconfig", &kubeconfig])?;
    says(&told, &["using the cluster of"])?;
    says(&told, &SHOWN)?;
    ensure!(inventory(kubectl)? != before, "it installed nothing there");
    let id = Ledger::open(&work)?.context("it keeps no record")?.id();

    lab("quickstart-down", &work, &[])?;
    is_again(kubectl, &before)?;
    ensure!(traces(&id).is_empty(), "it left {:?}", traces(&id));
    Ok(())
}
