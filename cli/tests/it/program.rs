//! The program as it is run: what it refuses and with which code, and when it uses colours.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-tally");

/// The program, or another one that runs it, where no kubeconfig is and nothing says how colours are to be.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("NO_COLOR")
        .env("HOME", "/nowhere")
        .env("TERM", "xterm");
    command
        .env("KUBECONFIG", "/nowhere/config")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(PROGRAM).args(args).output().unwrap()
}

/// Code and standard error.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// What the program prints on a terminal.
fn on_a_terminal(line: &str, no_color: Option<&str>) -> String {
    let mut script = command("script");
    if let Some(value) = no_color {
        script.env("NO_COLOR", value);
    }
    let line = format!("{PROGRAM} {line}");
    let output = script.args(["-q", "-e", "-c", &line, "/dev/null"]).output();
    let output = output.expect("`script` of util-linux is to make a terminal");
    String::from_utf8(output.stdout).unwrap()
}

const RED: &str = "\u{1b}[31mwrong\u{1b}[0m";

#[test]
fn colours_are_for_terminals_alone_and_no_color_takes_them_away() {
    // There is no kubeconfig, which doctor calls wrong.
    let seen = on_a_terminal("doctor", None);
    assert!(seen.contains(RED), "{seen:?}");
    assert!(on_a_terminal("doctor", Some("")).contains(RED));
    for plain in [
        on_a_terminal("doctor", Some("1")),
        on_a_terminal("doctor -o json", None),
        on_a_terminal("doctor -o yaml", None),
        String::from_utf8(run(&["doctor"]).stdout).unwrap(),
    ] {
        assert!(plain.contains("wrong"), "{plain:?}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
    }
}

#[test]
fn findings_are_data_as_well() {
    let output = run(&["doctor", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["level"], "wrong");
    let yaml = String::from_utf8(run(&["doctor", "-o", "yaml"]).stdout).unwrap();
    assert_eq!(
        serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(),
        json
    );
}

#[test]
fn a_form_that_a_command_does_not_have_is_refused() {
    for (args, said) in [
        (
            &["doctor", "-o", "name"][..],
            "[possible values: table, json, yaml]",
        ),
        (
            &["get", "-o", "xml"],
            "[possible values: table, wide, json, yaml, name]",
        ),
        (&["status", "web", "-o", "json"], "unexpected argument '-o'"),
        (
            &["restart", "web", "-o", "name"],
            "unexpected argument '-o'",
        ),
        (
            &["get", "web", "-A"],
            "cannot be used with '--all-namespaces'",
        ),
        (&["history", "web", "-A"], "unexpected argument '-A'"),
    ] {
        let (code, stderr) = refusal(args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    // Nobody has to answer for that.
    let config = kubeconfig();
    let args = ["history", "web", "--events", "-o", "name", "--kubeconfig"];
    let (code, stderr) = refusal(&[&args[..], &[config.to_str().unwrap()]].concat());
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr,
        "error: events have no names: `-o name` and --events do not go together\n"
    );
}

/// A kubeconfig of an API server that is nowhere.
fn kubeconfig() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nowhere.yaml");
    let text = "{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], \
                users: [{name: a, user: {}}], contexts: [{name: a, context: {cluster: a, user: a}}]}";
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_is_not_there_yet_says_what_to_use_meanwhile() {
    for (args, meanwhile) in [
        (&["logs", "web", "-f"][..], "`docker logs ID`"),
        (&["logs", "-f", "web", "--tail=5"], "`docker logs ID`"),
        (
            &["exec", "-it", "web", "--", "sh"],
            "`docker exec -it ID sh`",
        ),
        (&["port-forward", "web", "8080:80"], "`kubectl tally get`"),
        (&["logs", "--help"], "`kubectl tally get -o wide`"),
        (&["logs"], "`kubectl tally get -o wide`"),
    ] {
        let (code, stderr) = refusal(args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with(&format!(
            "error: `kubectl tally {}` is not there yet; ",
            args[0]
        )));
        assert!(stderr.contains(meanwhile), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for hidden in ["  logs", "  exec", "  port-forward", "__complete"] {
        assert!(!help.contains(hidden), "{help}");
    }
    assert!(help.contains("Usage: kubectl tally "), "{help}");
}
