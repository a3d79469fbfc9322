//! Completion of `kubectl tally` in real shells, with names of the API server.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::command::Output;

use super::plugin::says;
use crate::suite::Scenario;
use crate::user::{User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "shells complete commands of kubectl tally and names of the API server",
    run: completion,
}];

/// What a shell offers, a candidate a line.
fn offers(output: &Output, wanted: &[&str]) -> Result<()> {
    ensure!(output.success, "{}{}", output.stdout, output.stderr);
    let words = output.stdout.lines();
    let words: Vec<&str> = words.map(|l| l.split('\t').next().unwrap_or(l)).collect();
    ensure!(
        words == wanted,
        "{wanted:?} were to be offered: {}{}",
        output.stdout,
        output.stderr
    );
    Ok(())
}

/// bash with the script loaded, after it completed these words with the function that the script registered.
fn in_bash(user: &User<'_>, words: &str) -> Result<Output> {
    user.shell(&format!(
        "set -u; source <(kubectl tally completion bash) && registered=($(complete -p kubectl-tally)) && \
         COMP_WORDS=(kubectl-tally {words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
         ${{registered[2]}} && printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ))
}

fn in_fish(user: &User<'_>, line: &str) -> Result<Output> {
    user.shell(&format!(
        "fish --no-config -c 'kubectl-tally completion fish | source; complete -C \"kubectl-tally {line}\"'"
    ))
}

/// zsh with the script loaded, and the two functions of its completion that the script calls put in place of those that want
/// a terminal.
fn in_zsh(user: &User<'_>, words: &str) -> Result<Output> {
    user.shell(&format!(
        "zsh -f -c 'compdef() {{ function=$1 }}; _describe() {{ print -l -- ${{${{(P)2}}%%:*}} }}; _files() {{ print files }}; \
         source <(kubectl-tally completion zsh); words=(kubectl-tally {words}); CURRENT=$#words; $function'"
    ))
}

fn completion(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("typed", "x"), service("typed", 0), service("tyre", 0)])?;
    let namespace = user.namespace();

    offers(&in_bash(user, "sta")?, &["status"])?;
    offers(
        &in_bash(user, &format!("-n {namespace} status ty"))?,
        &["typed", "tyre"],
    )?;
    offers(
        &in_bash(user, &format!("history -n {namespace} typ"))?,
        &["typed"],
    )?;
    offers(&in_bash(user, "get -o na")?, &["name"])?;
    // Somewhere else there is nothing of that name, and no error either.
    offers(&in_bash(user, "-n kube-system status ty")?, &[""])?;

    offers(&in_fish(user, "sta")?, &["status"])?;
    offers(
        &in_fish(user, &format!("-n {namespace} status ty"))?,
        &["typed", "tyre"],
    )?;
    offers(
        &in_fish(user, &format!("-n {namespace} history "))?,
        &["typed", "tyre"],
    )?;
    offers(&in_zsh(user, "sta")?, &["status"])?;
    offers(
        &in_zsh(user, &format!("-n {namespace} status ty"))?,
        &["typed", "tyre"],
    )?;
    offers(
        &in_zsh(user, &format!("-n {namespace} history \"\""))?,
        &["typed", "tyre"],
    )?;
    offers(&in_zsh(user, "plan -f x")?, &["files"])?;
    for shell in ["bash", "zsh", "fish"] {
        let check = format!(
            "kubectl-tally completion {shell} > /tmp/$$ && {shell} -n /tmp/$$; code=$?; rm -f /tmp/$$; exit $code"
        );
        let output = user.shell(&check)?;
        ensure!(output.success, "{shell} -n: {}", output.stderr);
    }

    // kubectl itself asks `kubectl_complete-tally`, which is in the PATH, as the tour says.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kubectl_complete-tally");
    let script = user.tally("completion kubectl", 0)?.stdout;
    std::fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    let kubectl = |words: &str| {
        let path = folder.path().display();
        user.shell(&format!(
            "PATH={path}:$PATH; kubectl __complete tally {words}"
        ))
    };
    says(&kubectl("sta")?.stdout, &["status\t", ":4\n"])?;
    let names = kubectl(&format!("-n {namespace} status ty"))?;
    says(&names.stdout, &["typed\t", "tyre\t", ":4\n"])?;
    user.delete(&["typed", "tyre"])
}
