//! Completion: scripts of shells, which ask this program, and what it answers. kubectl asks the same way for its plugins.

use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory as _};

use crate::args::{Cli, Connection, Shell};

/// The script for a shell.
pub fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("completion/kubectl-tally.bash"),
        Shell::Zsh => include_str!("completion/kubectl-tally.zsh"),
        Shell::Fish => include_str!("completion/kubectl-tally.fish"),
        Shell::Kubectl => include_str!("completion/kubectl_complete-tally"),
    }
}

/// What the last word is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these, with what each is.
    These(Vec<(String, String)>),
    /// The name of an object of these resources.
    Names(&'static [&'static str]),
    /// The name of a namespace.
    Namespace,
    /// A file.
    File,
}

/// A command line that is not complete.
struct Line<'a> {
    /// The command, if it is said.
    sub: Option<&'a Command>,
    /// How many words there are of which no flag takes one.
    given: usize,
    /// A flag that takes the last word.
    flag: Option<&'a Arg>,
    /// A `--` stands before it: it is of a container's command.
    inside: bool,
    /// Where to ask.
    connection: Connection,
}

impl<'a> Line<'a> {
    fn of(command: &'a Command, before: &[String]) -> Line<'a> {
        let mut line = Line {
            sub: None,
            given: 0,
            flag: None,
            inside: false,
            connection: Connection::default(),
        };
        for word in before {
            if let Some(flag) = line.flag.take() {
                line.connect(flag, word);
            } else if word == "--" {
                line.inside = true;
            } else if word.starts_with('-') {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (word.as_str(), None),
                };
                let arguments = line.arguments(command);
                let flag = arguments
                    .into_iter()
                    .find(|a| is(a, name) && a.get_action().takes_values());
                match (flag, value) {
                    (Some(flag), Some(value)) => line.connect(flag, value),
                    (flag, None) => line.flag = flag,
                    (None, Some(_)) => {}
                }
            } else if line.sub.is_none() {
                line.sub = command.find_subcommand(word);
            } else {
                line.given += 1;
            }
        }
        line
    }

    /// Takes note of where to ask, should the flag say that.
    fn connect(&mut self, flag: &Arg, value: &str) {
        match flag.get_id().as_str() {
            "namespace" => self.connection.namespace = Some(value.to_owned()),
            "context" => self.connection.context = Some(value.to_owned()),
            "kubeconfig" => self.connection.kubeconfig = Some(PathBuf::from(value)),
            _ => {}
        }
    }

    /// All that the command takes, with what every command takes.
    fn arguments(&self, command: &'a Command) -> Vec<&'a Arg> {
        let own = self.sub.into_iter().flat_map(Command::get_arguments);
        let all = own.chain(command.get_arguments());
        all.filter(|a| !a.is_hide_set()).collect()
    }
}

/// `word` is this flag.
fn is(flag: &Arg, word: &str) -> bool {
    let long = word.strip_prefix("--");
    let short = word.strip_prefix('-').filter(|_| long.is_none());
    let mut letters = short.unwrap_or_default().chars();
    long.is_some_and(|long| flag.get_long() == Some(long))
        || (letters.next().is_some_and(|c| flag.get_short() == Some(c)) && letters.next().is_none())
}

/// What may stand in the place of the last word, and where to ask for names.
pub fn wanted(words: &[String]) -> (Wanted, Connection) {
    let command = Cli::command();
    let (last, before) = match words {
        [before @ .., last] => (last.as_str(), before),
        [] => ("", &[][..]),
    };
    let line = Line::of(&command, before);
    let wanted = of_line(&line, &command, last);
    (wanted, line.connection)
}

fn of_line(line: &Line<'_>, command: &Command, last: &str) -> Wanted {
    let begins = |all: Vec<(String, String)>| {
        let all = all.into_iter();
        Wanted::These(all.filter(|(name, _)| name.starts_with(last)).collect())
    };
    if line.inside {
        return Wanted::File;
    }
    if let Some(flag) = line.flag {
        return match flag.get_id().as_str() {
            "filename" | "kubeconfig" => Wanted::File,
            "namespace" | "system_namespace" => Wanted::Namespace,
            _ => begins(values(flag)),
        };
    }
    if last.starts_with('-') {
        let flags = line.arguments(command).into_iter();
        let flags =
            flags.filter_map(|a| Some((format!("--{}", a.get_long()?), about(a.get_help()))));
        return begins(flags.collect());
    }
    let Some(sub) = line.sub else {
        let subs = command.get_subcommands().filter(|s| !s.is_hide_set());
        return begins(
            subs.map(|s| (s.get_name().to_owned(), about(s.get_about())))
                .collect(),
        );
    };
    let mut places = sub.get_positionals().filter(|p| !p.is_last_set());
    let Some(place) = places.nth(line.given) else {
        return Wanted::These(Vec::new());
    };
    match sub.get_name() {
        "get" | "explain" => Wanted::Names(&["services", "runtasks", "tasks"]),
        "status" => Wanted::Names(&["services", "runtasks"]),
        "history" | "undo" | "restart" => Wanted::Names(&["services"]),
        "stop" => Wanted::Names(&["tasks", "runtasks"]),
        "run" => Wanted::Names(&["taskdefinitions"]),
        "drain" | "undrain" | "join" => Wanted::Names(&["containerinstances"]),
        _ => begins(values(place)),
    }
}

/// The values that it takes, should these be few.
fn values(of: &Arg) -> Vec<(String, String)> {
    let all = of.get_possible_values().into_iter();
    all.map(|v| (v.get_name().to_owned(), about(v.get_help())))
        .collect()
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
        both(words).0
    }

    fn both(words: &[&str]) -> (Wanted, Connection) {
        wanted(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    fn these(words: &[&str]) -> Vec<String> {
        match of(words) {
            Wanted::These(all) => all.into_iter().map(|(name, _)| name).collect(),
            other => panic!("{words:?}: no list but {other:?}"),
        }
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn commands_flags_values_names_and_files_are_completed() {
        assert_eq!(these(&["st"]), ["status", "stop"]);
        assert_eq!(these(&["drain", "--w"]), ["--wait"]);
        assert_eq!(these(&["get", "--name"]), ["--namespace"]);
        assert_eq!(these(&["get", "-o", "n"]), ["name"]);
        assert_eq!(these(&["doctor", "-o", ""]), ["table", "json", "yaml"]);
        assert_eq!(these(&["top", "h"]), ["hosts"]);
        assert_eq!(these(&["status", "web", "--timeout", ""]), NONE);
        assert_eq!(of(&["plan", "-f", ""]), Wanted::File);
        assert_eq!(of(&["run", "job", "--", "sh", ""]), Wanted::File);
        assert_eq!(of(&["get", "-n", ""]), Wanted::Namespace);
        let of_status = Wanted::Names(&["services", "runtasks"]);
        assert_eq!(of(&["status", "w"]), of_status);
        assert_eq!(of(&["status", "--timeout", "5m", "w"]), of_status);
        // It takes one name.
        assert_eq!(these(&["status", "web", ""]), NONE);
        assert_eq!(these(&["run", "job", ""]), NONE);
        // What is hidden is offered to nobody.
        assert_eq!(these(&["lo"]), NONE);
        assert_eq!(
            answer(&[("a".to_owned(), "b".to_owned())], false),
            "a\tb\n:4\n"
        );
    }

    #[test]
    fn names_are_asked_for_where_the_line_says() {
        let (wanted, connection) = both(&["-n", "get", "--context=far", "get", "w"]);
        assert_eq!(wanted, Wanted::Names(&["services", "runtasks", "tasks"]));
        assert_eq!(connection.namespace.as_deref(), Some("get"));
        assert_eq!(connection.context.as_deref(), Some("far"));
        let (_, connection) = both(&["get", "--kubeconfig", "a/b", "w"]);
        assert_eq!(connection.kubeconfig, Some(PathBuf::from("a/b")));
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Kubectl] {
            let text = script(shell);
            assert!(text.contains("kubectl-tally __complete"), "{shell:?}");
        }
    }
}
