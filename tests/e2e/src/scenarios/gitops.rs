//! From a git repository: what Flux does with a service, with Flux' own library for applying, pruning and waiting.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::{Output, Tool};
use tallyman_lab::{http, paths, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "from git: examples/hello is deployed, a broken image fails it, revert, drift and prune work",
    run: from_git,
}];

/// The service of the example, and its task definition.
const NAME: &str = "hello";

/// Its files.
const SERVICE: &str = "service.yaml";
const DEFINITION: &str = "task-definition.yaml";

/// What its page says.
const GREETING: &str = "Hello from Tallyman";

/// A line of git's service: one more failed task, and the deployment is given up.
const BREAKER: &str = "  deploymentConfiguration:
    deploymentCircuitBreaker: {enable: true, rollback: false}
";

fn from_git(user: &User<'_>) -> Result<()> {
    let repository = Repository::new(user, NAME)?;
    repository.copy(&paths::source_root()?.join("examples/hello"))?;
    repository.commit("the example")?;

    // The wait ends when all is there, and not before.
    repository.passes()?;
    runs_only(user, 1, GREETING)?;
    nothing_changed(user, &repository)?;

    // The TaskDefinition alone changes, and the wait still is for the service.
    repository.edit(DEFINITION, |text| text.replace(GREETING, "Hello from git"))?;
    repository.commit("another text")?;
    repository.passes()?;
    runs_only(user, 2, "Hello from git")?;

    drifted_and_corrected(user, &repository)?;
    broken_and_reverted(user, &repository)?;

    // What is no longer in git goes, tasks first, and the pass ends when it is gone.
    repository.remove(SERVICE)?;
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

/// A pass over what it left itself says so of both objects, and writes neither.
fn nothing_changed(user: &User<'_>, repository: &Repository) -> Result<()> {
    let versions = || -> Result<Vec<Value>> {
        let kinds = ["services", "taskdefinitions"];
        kinds
            .iter()
            .map(|kind| Ok(user.get(kind, NAME)?["metadata"]["resourceVersion"].clone()))
            .collect()
    };
    let before = versions()?;
    let told = repository.passes()?;
    ensure!(
        told.lines().count() == 2 && told.lines().all(|line| line.ends_with(" unchanged")),
        "a pass without a change: {told}"
    );
    ensure!(before == versions()?, "a pass without a change wrote");
    Ok(())
}

/// Somebody at kubectl edits what git has: the next pass says so and puts it back, and its wait is for what follows from that.
fn drifted_and_corrected(user: &User<'_>, repository: &Repository) -> Result<()> {
    user.k(&[
        "patch",
        "services.tallyman.dev",
        NAME,
        "--type=merge",
        "--patch",
        r#"{"spec":{"desiredCount":3}}"#,
    ])?;
    user.wait_steady(NAME, 3)?;
    corrected(repository, "Service/", "TaskDefinition/")?;
    ensure!(user.get("services", NAME)?["spec"]["desiredCount"] == 2);
    runs_only(user, 2, "Hello from git")?;

    user.k(&[
        "patch",
        "taskdefinitions.tallyman.dev",
        NAME,
        "--type=json",
        "--patch",
        r#"[{"op":"replace","path":"/spec/containerDefinitions/0/environment/0/value","value":"Hello from somebody"}]"#,
    ])?;
    wait_until("what somebody wrote to be deployed", PATIENCE, || {
        runs_only(user, 3, "Hello from somebody").map(|()| true)
    })?;
    corrected(repository, "TaskDefinition/", "Service/")?;
    // What is put back is registered anew, as ECS does it.
    runs_only(user, 4, "Hello from git")?;
    nothing_changed(user, repository)
}

/// A pass changes the object that drifted and not the other.
fn corrected(repository: &Repository, drifted: &str, other: &str) -> Result<()> {
    let told = repository.passes()?;
    let says = |object: &str, action: &str| {
        told.lines()
            .any(|line| line.starts_with(object) && line.ends_with(action))
    };
    ensure!(
        says(drifted, " configured") && says(other, " unchanged"),
        "a pass over what drifted: {told}"
    );
    Ok(())
}

fn broken_and_reverted(user: &User<'_>, repository: &Repository) -> Result<()> {
    repository.edit(SERVICE, |text| text + BREAKER)?;
    repository.commit("a limit")?;
    repository.passes()?;
    repository.edit(DEFINITION, |text| text.replace("/hello:1", "/no-such:1"))?;
    repository.commit("broken")?;
    let began = Instant::now();
    let failed = repository.pass(&[])?;
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
    runs_only(user, 6, "Hello from git")
}

/// Now, without another wait: two tasks of this revision run, and no other, and their pages say it.
fn runs_only(user: &User<'_>, revision: u32, text: &str) -> Result<()> {
    let tasks = user.alive(NAME)?;
    let right = tasks.iter().all(|task| {
        task["spec"]["taskDefinition"] == format!("{NAME}:{revision}")
            && task["status"]["lastStatus"] == "RUNNING"
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
    let addresses: Vec<_> = tasks.iter().flat_map(|t| user.addresses(t)).collect();
    ensure!(addresses.len() == 2, "pages at {addresses:?}");
    for address in addresses {
        let page = http::get(address, "/", Duration::from_secs(5))?;
        ensure!(page.body.contains(text), "{address}: {}", page.body);
    }
    Ok(())
}

/// A git repository, and what brings it to the cluster.
pub(super) struct Repository {
    folder: PathBuf,
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Repository {
    pub(super) fn new(user: &User<'_>, name: &str) -> Result<Repository> {
        let program = paths::test_tool("gitops")?;
        let repository = Repository {
            folder: user.lab.ledger().folder(&format!("git-{name}"))?,
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

    /// The manifests of a folder, as they are.
    fn copy(&self, folder: &Path) -> Result<()> {
        for file in [SERVICE, DEFINITION] {
            std::fs::copy(folder.join(file), self.path(file)).with_context(|| file.to_owned())?;
        }
        Ok(())
    }

    /// An object of ours as a manifest.
    pub(super) fn write(&self, file: &str, mut object: Value) -> Result<()> {
        object["apiVersion"] = json!("tallyman.dev/v1alpha1");
        // JSON is YAML.
        std::fs::write(self.path(file), serde_json::to_vec_pretty(&object)?)
            .with_context(|| file.to_owned())
    }

    /// Changes the text of a file; it has to become another one.
    fn edit(&self, file: &str, change: impl FnOnce(String) -> String) -> Result<()> {
        let before = std::fs::read_to_string(self.path(file)).with_context(|| file.to_owned())?;
        let after = change(before.clone());
        ensure!(before != after, "{file} has nothing of what is edited");
        std::fs::write(self.path(file), after).with_context(|| file.to_owned())
    }

    fn remove(&self, file: &str) -> Result<()> {
        std::fs::remove_file(self.path(file)).with_context(|| file.to_owned())
    }

    pub(super) fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])
            .map(drop)
    }

    /// One pass of what is committed.
    fn pass(&self, options: &[&str]) -> Result<Output> {
        Tool::new(&self.program)
            .arg("reconcile")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--repository")
            .arg(&self.folder)
            .args(["--namespace", &self.namespace, "--timeout", "90s"])
            .args(options)
            .timeout(PATIENCE + Duration::from_secs(60))
            .run()
    }

    /// One that has to end well: what it says.
    pub(super) fn passes(&self) -> Result<String> {
        self.passes_with(&[])
    }

    /// The same with options.
    pub(super) fn passes_with(&self, options: &[&str]) -> Result<String> {
        let output = self.pass(options)?;
        ensure!(output.success, "{}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }
}
