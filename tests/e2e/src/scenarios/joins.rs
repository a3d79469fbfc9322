//! Hosts that join with one command, and those that must not.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::names::host_identity;
use tallyman_lab::command::Output;
use tallyman_lab::{HostOptions, Lab, clock, wait_until};

use crate::suite::Joining;
use crate::user::{PATIENCE, User, condition, hello};

/// A host whose Secret was deleted is locked out within this.
const LOCKED_OUT: Duration = Duration::from_secs(15);

/// Scenarios in which a host joins.
pub fn joining() -> Vec<Joining> {
    vec![Joining {
        name: "a host joins with one command and runs a task; its used token, its name and, once revoked, its own token are refused",
        run: one_command,
    }]
}

const HOST: &str = "joined";

fn one_command(lab: &mut Lab, options: &HostOptions) -> Result<()> {
    // Every host of the lab joins so: one HostJoin, one command on the host.
    let index = lab.add_host(HOST, options)?;
    runs_a_task(&User::new(lab))?;
    used_token_is_refused(lab, index)?;
    taken_name_is_refused(lab)?;
    by_hand_and_from_git(lab)?;
    invited_by_the_plugin(lab)?;
    clock_is_off(lab, index)?;
    revoked_host_is_locked_out(lab, index)?;
    comes_back(lab, index)
}

fn runs_a_task(user: &User<'_>) -> Result<()> {
    let task = json!({
        "kind": "Task", "metadata": { "name": "first" },
        "spec": { "taskDefinition": "first", "containerInstance": HOST },
    });
    user.apply(&[hello("first", "x"), task])?;
    wait_until("a task to run on the host that joined", PATIENCE, || {
        let status = user.get("tasks", "first")?["status"].clone();
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", "first", "--timeout=60s"])?;
    user.delete(&["first"])
}

/// Runs the command of a host that joins in another folder, so as another host.
fn join(lab: &Lab, token: &str, name: &str, folder: &str) -> Result<(Output, PathBuf)> {
    let folder = lab.ledger().folder(folder)?;
    let command = lab.join_command(lab.host(0), token, name, &folder)?;
    Ok((command.run()?, folder))
}

fn refused(answer: &Output, words: &[&str]) -> Result<()> {
    ensure!(
        !answer.success && words.iter().all(|w| answer.stderr.contains(w)),
        "{answer:?} does not say {words:?}"
    );
    Ok(())
}

fn used_token_is_refused(lab: &Lab, index: usize) -> Result<()> {
    let token = lab.host(index).join_token();
    let (answer, folder) = join(lab, token, "thief", "thief")?;
    refused(
        &answer,
        &[
            "the token was used already",
            "joined as joined",
            "delete Secret",
        ],
    )?;
    ensure!(!folder.join("token").exists(), "the thief has a token");
    // Nor does it help to write past the command.
    let path = format!(
        "/apis/tallyman.dev/v1alpha1/namespaces/{}/hostjoins/{HOST}",
        lab.namespace()
    );
    let server = format!("--server={}", lab.control_plane().server());
    let with = [
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        &server,
        "--token",
        token,
    ];
    let kubectl = |args: &[&str]| lab.kubectl().run(with.iter().chain(args).copied());
    let read = kubectl(&["get", "--raw", &path])?;
    ensure!(read.success, "it reads its own HostJoin: {read:?}");
    let written = kubectl(&[
        "patch",
        "hostjoins.tallyman.dev",
        HOST,
        "-n",
        lab.namespace(),
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"request":null}}"#,
    ])?;
    ensure!(
        !written.success && written.stderr.contains("is used up"),
        "{written:?}"
    );
    Ok(())
}

fn taken_name_is_refused(lab: &Lab) -> Result<()> {
    let token = lab.permit_join("second", &json!({ "accept": "Automatic" }))?;
    let (answer, _) = join(lab, &token, HOST, "second")?;
    refused(
        &answer,
        &[
            "NameTaken",
            "The name joined is taken by a host that joined with another key",
            "--name",
        ],
    )?;
    // The token is not used up by that.
    let (answer, folder) = join(lab, &token, "spare", "second")?;
    ensure!(answer.success, "{answer:?}");
    let config = folder.join("kubeconfig");
    let own = lab
        .kubectl()
        .as_user(config)
        .ok(["get", "cinst", "spare", "-n", lab.namespace()])?;
    ensure!(own.contains("REGISTERING"), "{own}");
    forget(lab, &["spare"], &["second"])
}

fn forget(lab: &Lab, instances: &[&str], joins: &[&str]) -> Result<()> {
    let user = User::new(lab);
    for (kind, names) in [("containerinstances", instances), ("hostjoins", joins)] {
        for name in names {
            user.k(&[
                "delete",
                &format!("{kind}.tallyman.dev"),
                name,
                "--timeout=60s",
            ])?;
        }
    }
    Ok(())
}

/// A ContainerInstance that was applied before anything else; somebody compares keys before its host is let in.
fn by_hand_and_from_git(lab: &Lab) -> Result<()> {
    let user = User::new(lab);
    user.apply(&[json!({
        "kind": "ContainerInstance", "metadata": { "name": "from-git" },
        "spec": { "attributes": [{ "name": "stack", "value": "prod" }] },
    })])?;
    let any = lab.permit_join("any", &json!({ "accept": "Automatic" }))?;
    let (answer, _) = join(lab, &any, "from-git", "any")?;
    refused(&answer, &["NameTaken", "whose host has yet to join"])?;
    let token = lab.permit_join("from-git", &json!({ "containerInstance": "from-git" }))?;
    let answer = std::thread::scope(|scope| {
        let host = scope.spawn(|| join(lab, &token, "from-git", "from-git"));
        let accepted = accept(&user);
        let joined = host
            .join()
            .map_err(|_| anyhow::anyhow!("the host panicked"))?;
        accepted?;
        joined
    })?;
    ensure!(answer.0.success, "{:?}", answer.0);
    let key = user.get("hostjoins", "from-git")?["status"]["keyFingerprint"].clone();
    let key = key.as_str().context("no key")?;
    ensure!(
        answer.0.stdout.contains(key),
        "{} does not print {key}",
        answer.0.stdout
    );
    let instance = user.get("containerinstances", "from-git")?;
    ensure!(
        instance["spec"]["attributes"][0]["name"] == "stack",
        "{}",
        instance["spec"]
    );
    forget(lab, &["from-git"], &["any", "from-git"])
}

/// Seconds of a token's life, the least that the API server grants, and a clock by which most of it is over at once.
const SHORT: i64 = 600;
const LATE: i64 = 500;

/// It joins and works all the same, and says so. By the way its token grows old, and is renewed.
fn clock_is_off(lab: &Lab, index: usize) -> Result<()> {
    let user = User::new(lab);
    let token = lab.permit_join("late", &json!({ "accept": "Automatic" }))?;
    let folder = lab.ledger().folder("late")?;
    let mut command = lab.join_command(lab.host(0), &token, "late", &folder)?;
    for (name, value) in clock::off_by(-300)? {
        command = command.env(name, value);
    }
    let answer = command.run()?;
    ensure!(
        answer.success
            && answer.stderr.contains("The clock of this host is ")
            && answer.stderr.contains(" s behind the API server's"),
        "{answer:?}"
    );
    forget(lab, &["late"], &["late"])?;
    let agent = lab.host(index).agent();
    let token = lab.host(index).agent_kubeconfig().with_file_name("token");
    let short = short_token(&user)?;
    std::fs::write(&token, &short)?;
    let right = agent.command();
    let mut early = right.clone();
    for (name, value) in clock::off_by(LATE)? {
        early = early.env(name, value);
    }
    for (command, told) in [(early, true), (right, false)] {
        agent.kill9()?;
        agent.set_command(command);
        agent.start()?;
        wait_until("the host to say how its clock is", PATIENCE, || {
            let instance = user.get("containerinstances", HOST)?;
            let said = instance["status"]["host"]["message"].as_str();
            let said = said.unwrap_or_default();
            let named = said.contains(" s ahead of the API server's");
            ensure!(named == told, "{said}");
            Ok(true)
        })?;
        if told {
            wait_until("the token to be renewed", PATIENCE, || {
                Ok(std::fs::read_to_string(&token)? != short)
            })?;
        }
    }
    Ok(())
}

/// A token of the host that does not live long.
fn short_token(user: &User<'_>) -> Result<String> {
    let identity = host_identity(HOST);
    let token = user.k(&[
        "create",
        "token",
        &identity,
        &format!("--duration={SHORT}s"),
        "--bound-object-kind=Secret",
        &format!("--bound-object-name={identity}"),
    ])?;
    Ok(token.trim().to_owned())
}

/// What `kubectl tally join` prints is run on the host as it stands.
fn invited_by_the_plugin(lab: &Lab) -> Result<()> {
    let user = User::new(lab);
    let server = lab.control_plane().server_for_hosts();
    let invited = user.tally(&format!("join invited --automatic --server {server}"), 0)?;
    ensure!(
        invited.stdout.lines().count() == 1 && invited.stderr.contains("Whoever asks first"),
        "{invited:?}"
    );
    let folder = lab.ledger().folder("invited")?;
    let command = invited.stdout.trim();
    let joined = user.shell(&format!("{command} --folder '{}'", folder.display()))?;
    ensure!(joined.success, "{command}: {joined:?}");
    ensure!(folder.join("kubeconfig").exists(), "{joined:?}");
    let again = user.tally("join invited", 1)?;
    ensure!(
        again.stderr.contains("its host joined as invited") && again.stdout.is_empty(),
        "{again:?}"
    );
    forget(lab, &["invited"], &["invited"])
}

/// Waits until the host asks, and accepts its key as the message says.
fn accept(user: &User<'_>) -> Result<()> {
    let join = wait_until("the host to await acceptance", PATIENCE, || {
        let join = user.get("hostjoins", "from-git")?;
        let (_, reason, message) = condition(&join, "Ready");
        ensure!(reason == "AwaitingAcceptance", "{reason}: {message}");
        Ok(Some(join))
    })?;
    let key: &Value = &join["status"]["keyFingerprint"];
    let (_, _, message) = condition(&join, "Ready");
    let patch = json!({ "spec": { "acceptedKey": key } }).to_string();
    ensure!(message.contains(&patch), "{message} does not say {patch}");
    ensure!(
        join["status"]["containerInstance"].is_null(),
        "{}",
        join["status"]
    );
    user.k(&[
        "patch",
        "hostjoins.tallyman.dev",
        "from-git",
        "--type=merge",
        "-p",
        &patch,
    ])?;
    Ok(())
}

fn revoked_host_is_locked_out(lab: &Lab, index: usize) -> Result<()> {
    let user = User::new(lab);
    let host = lab.kubectl().as_user(lab.host(index).agent_kubeconfig());
    let own = || host.run(["get", "cinst", HOST, "-n", lab.namespace()]);
    ensure!(own()?.success, "it reads its own object before");
    user.k(&["delete", "secret", &host_identity(HOST)])?;
    let start = Instant::now();
    wait_until("the host to be locked out", LOCKED_OUT, || {
        let answer = own()?;
        ensure!(
            answer.success
                || answer.stderr.contains("Unauthorized")
                || answer.stderr.contains("logged in"),
            "{answer:?}"
        );
        Ok(!answer.success)
    })?;
    println!(
        "    locked out after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    // Nothing makes the Secret again by itself, and no join that does not name the host brings it back.
    let token = lab.permit_join("stranger", &json!({ "accept": "Automatic" }))?;
    let (answer, _) = join(lab, &token, HOST, "stranger")?;
    refused(&answer, &["NameTaken", "locked out"])?;
    forget(lab, &[], &["stranger"])
}

fn comes_back(lab: &Lab, index: usize) -> Result<()> {
    let user = User::new(lab);
    let host = lab.host(index);
    let spec = json!({ "containerInstance": HOST, "accept": "Automatic" });
    let token = lab.permit_join("again", &spec)?;
    let folder = host.agent_kubeconfig().parent().context("a folder")?;
    let answer = lab.join_command(host, &token, HOST, folder)?.run()?;
    ensure!(answer.success, "{answer:?}");
    let before = renewed(&user)?;
    host.agent().restart()?;
    wait_until("the host to renew its Lease again", PATIENCE, || {
        Ok(renewed(&user)? != before)
    })?;
    runs_a_task(&user)?;
    forget(lab, &[], &["again"])
}

/// When the Lease was last renewed.
fn renewed(user: &User<'_>) -> Result<String> {
    user.k(&[
        "get",
        "lease",
        &host_identity(HOST),
        "-o",
        "jsonpath={.spec.renewTime}",
    ])
}
