//! Completion: scripts of shells, and what kubectl asks a plugin.

use clap::CommandFactory as _;

use crate::args::{Cli, Shell};

/// The script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Kubectl => {
            return b"#!/bin/sh\n# Save as kubectl_complete-tally in the PATH and make it executable: kubectl asks it.\n\
                     exec kubectl-tally __complete -- \"$@\"\n"
                .to_vec();
        }
    };
    // The script must not be that of a program with a space in its name.
    command.set_bin_name("kubectl-tally");
    clap_complete::generate(shell, &mut command, "kubectl-tally", &mut script);
    script
}

/// What the last of `words` is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these, with what each is.
    These(Vec<(String, String)>),
    /// The name of an object of these resources.
    Names(&'static [&'static str]),
    /// A file.
    File,
}

/// What may stand in the place of the last word.
pub fn wanted(words: &[String]) -> Wanted {
    let command = Cli::command();
    let (last, before) = match words {
        [before @ .., last] => (last.as_str(), before),
        [] => ("", &[][..]),
    };
    let sub = before.iter().find_map(|word| command.find_subcommand(word));
    let Some(sub) = sub else {
        let subs = command.get_subcommands().filter(|s| !s.is_hide_set());
        let all = subs.map(|s| (s.get_name().to_owned(), about(s.get_about())));
        return Wanted::These(all.filter(|(name, _)| name.starts_with(last)).collect());
    };
    if last.starts_with('-') {
        let flags = sub.get_arguments().chain(command.get_arguments());
        let flags =
            flags.filter_map(|a| Some((format!("--{}", a.get_long()?), about(a.get_help()))));
        return Wanted::These(flags.filter(|(name, _)| name.starts_with(last)).collect());
    }
    let previous = before.last().map(String::as_str).unwrap_or_default();
    if matches!(previous, "-f" | "--filename" | "--kubeconfig") {
        return Wanted::File;
    }
    match sub.get_name() {
        "get" | "explain" => Wanted::Names(&["services", "runtasks", "tasks"]),
        "status" => Wanted::Names(&["services", "runtasks"]),
        "history" | "undo" | "restart" => Wanted::Names(&["services"]),
        "stop" => Wanted::Names(&["tasks", "runtasks"]),
        "run" => Wanted::Names(&["taskdefinitions"]),
        "drain" | "undrain" | "join" => Wanted::Names(&["containerinstances"]),
        _ => Wanted::These(Vec::new()),
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Candidates as kubectl reads them (cobra): a line each, then what the shell is to do.
pub fn answer(candidates: &[(String, String)], files: bool) -> String {
    let mut text: String = candidates
        .iter()
        .map(|(name, about)| format!("{name}\t{about}\n"))
        .collect();
    text.push_str(if files { ":0\n" } else { ":4\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Wanted {
        wanted(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn commands_flags_names_and_files_are_completed() {
        let Wanted::These(subs) = of(&["st"]) else {
            panic!("no list")
        };
        let names: Vec<_> = subs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["status", "stop"]);
        let Wanted::These(flags) = of(&["drain", "--w"]) else {
            panic!("no list")
        };
        assert_eq!(flags[0].0, "--wait");
        assert_eq!(
            of(&["-n", "prod", "status", "w"]),
            Wanted::Names(&["services", "runtasks"])
        );
        assert_eq!(of(&["plan", "-f", ""]), Wanted::File);
        assert_eq!(
            answer(&[("a".to_owned(), "b".to_owned())], false),
            "a\tb\n:4\n"
        );
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Kubectl] {
            let text = String::from_utf8(script(shell)).expect("text");
            assert!(text.contains("kubectl-tally"), "{shell:?}: {text}");
        }
    }
}
