//! From a git repository: what Flux does with a service, with Flux' own library for applying, pruning and waiting.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::{Output, Tool};
use tallyman_lab::{paths, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "from git: a wait ends with the rollout, a broken image fails it, revert and prune work",
    run: from_git,
}];

/// The service, its task definition, and its files.
const NAME: &str = "site";

fn from_git(user: &User<'_>) -> Result<()> {
    let repository = Repository::new(user)?;
    repository.definition("first")?;
    let mut wanted = service(NAME, 2);
    wanted["spec"]["deploymentConfiguration"] =
        json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": false } });
    repository.write("service.yaml", wanted)?;
    repository.commit("first")?;

    // The wait ends when all is there, and not before.
    repository.passes()?;
    runs_only(user, "site:1")?;

    // Nothing changed: nothing is written.
    let versions = || -> Result<Vec<Value>> {
        let kinds = [("services", NAME), ("taskdefinitions", NAME)];
        kinds
            .iter()
            .map(|(kind, name)| Ok(user.get(kind, name)?["metadata"]["resourceVersion"].clone()))
            .collect()
    };
    let before = versions()?;
    let told = repository.passes()?;
    ensure!(
        told.lines().count() == 2 && told.lines().all(|line| line.ends_with(" unchanged")),
        "a pass without a change: {told}"
    );
    ensure!(before == versions()?, "a pass without a change wrote");

    // The TaskDefinition alone changes, and the wait still is for the service.
    repository.definition("second")?;
    repository.commit("second")?;
    repository.passes()?;
    runs_only(user, "site:2")?;

    broken_and_reverted(user, &repository)?;

    // What is no longer in git goes, tasks first, and the pass ends when it is gone.
    repository.remove("service.yaml")?;
    repository.commit("no service")?;
    let told = repository.passes()?;
    ensure!(
        told.contains("Service/") && told.contains("deleted"),
        "{told}"
    );
    // What has stopped is removed a little later.
    let running: Vec<_> = user
        .containers()?
        .into_iter()
        .filter(|container| container.state == "running")
        .collect();
    ensure!(
        running.is_empty(),
        "the service is gone and {running:?} runs on"
    );
    user.k(&["delete", "configmap", "inventory-apps"])?;
    user.delete(&[NAME])
}

fn broken_and_reverted(user: &User<'_>, repository: &Repository) -> Result<()> {
    let mut broken = hello(NAME, "broken");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/no-such:1");
    repository.write("task-definition.yaml", broken)?;
    repository.commit("broken")?;
    let began = Instant::now();
    let failed = repository.pass()?;
    ensure!(!failed.success, "a broken image passed: {}", failed.stdout);
    ensure!(
        failed.stderr.contains("failed early") && failed.stderr.contains("status: 'Failed'"),
        "{}",
        failed.stderr
    );
    ensure!(
        began.elapsed() < PATIENCE,
        "it took {:?} to fail early",
        began.elapsed()
    );
    let (status, reason, message) = condition(&user.get("services", NAME)?, "Stalled");
    ensure!(
        status == "True" && message.contains("CannotPullContainerError"),
        "{reason}: {message}"
    );
    repository.git(&["revert", "--no-edit", "HEAD"])?;
    // A pass that looks before the operator has seen the revert finds the failure that is being mended; Flux tries again.
    wait_until("a pass with the revert", PATIENCE, || {
        repository.passes().map(|_| true)
    })?;
    // What was reverted is registered anew, as ECS does it.
    runs_only(user, "site:4")
}

/// Now, without another wait: two tasks of this revision run, and no other.
fn runs_only(user: &User<'_>, revision: &str) -> Result<()> {
    let tasks = user.alive(NAME)?;
    let right = tasks.iter().all(|task| {
        task["spec"]["taskDefinition"] == revision && task["status"]["lastStatus"] == "RUNNING"
    });
    let told: Vec<String> = tasks
        .iter()
        .map(|task| {
            format!(
                "{} {}",
                task["spec"]["taskDefinition"], task["status"]["lastStatus"]
            )
        })
        .collect();
    ensure!(
        right && tasks.len() == 2,
        "the wait ended with {told:?} and {}",
        user.why(NAME)
    );
    Ok(())
}

/// A git repository, and what brings it to the cluster.
struct Repository {
    folder: PathBuf,
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Repository {
    fn new(user: &User<'_>) -> Result<Repository> {
        let program = paths::test_tool("gitops")?;
        let repository = Repository {
            folder: user.lab.ledger().folder("gitops")?,
            program,
            kubeconfig: user.kubectl().kubeconfig().to_owned(),
            namespace: user.namespace().to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(repository)
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        Tool::new("git")
            .arg("-C")
            .arg(&self.folder)
            .args(["-c", "user.name=test", "-c", "user.email=test@example.com"])
            .args(args)
            .check()
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.folder).join(file)
    }

    fn write(&self, file: &str, mut object: Value) -> Result<()> {
        object["apiVersion"] = json!("tallyman.dev/v1alpha1");
        // JSON is YAML.
        std::fs::write(self.path(file), serde_json::to_vec_pretty(&object)?)
            .with_context(|| file.to_owned())
    }

    fn definition(&self, text: &str) -> Result<()> {
        self.write("task-definition.yaml", hello(NAME, text))
    }

    fn remove(&self, file: &str) -> Result<()> {
        std::fs::remove_file(self.path(file)).with_context(|| file.to_owned())
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])
            .map(drop)
    }

    /// One pass of what is committed.
    fn pass(&self) -> Result<Output> {
        Tool::new(&self.program)
            .arg("reconcile")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--repository")
            .arg(&self.folder)
            .args(["--namespace", &self.namespace, "--timeout", "90s"])
            .timeout(PATIENCE + Duration::from_secs(60))
            .run()
    }

    fn passes(&self) -> Result<String> {
        let output = self.pass()?;
        ensure!(output.success, "{}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }
}
