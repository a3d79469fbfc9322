//! What a person means by a name: a service, a run or a task.

use tallyman_crds::{RunTask, Service, Task};

use crate::words;

/// Kinds that commands are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// Service.
    Service,
    /// RunTask.
    Run,
    /// Task.
    Task,
}

impl SubjectKind {
    /// What it is called.
    pub fn noun(self) -> &'static str {
        match self {
            SubjectKind::Service => "service",
            SubjectKind::Run => "run",
            SubjectKind::Task => "task",
        }
    }

    fn of(word: &str) -> Option<SubjectKind> {
        let word = word.split('.').next().unwrap_or(word);
        match word.to_ascii_lowercase().as_str() {
            "service" | "services" | "tsvc" => Some(SubjectKind::Service),
            "runtask" | "runtasks" | "trun" | "run" => Some(SubjectKind::Run),
            "task" | "tasks" => Some(SubjectKind::Task),
            _ => None,
        }
    }
}

/// A name, and where to look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Where, in this order.
    pub kinds: Vec<SubjectKind>,
    /// Name of the object.
    pub name: String,
}

/// What was found.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one of it at a time")]
pub enum Found {
    /// A service.
    Service(Service),
    /// A run.
    Run(RunTask),
    /// A task.
    Task(Task),
}

impl Found {
    /// What kubectl takes for its name.
    pub fn resource(&self) -> String {
        match self {
            Found::Service(s) => words::ours(s),
            Found::Run(r) => words::ours(r),
            Found::Task(t) => words::ours(t),
        }
    }
}

impl Subject {
    /// Reads `web`, `service/web` or `services.tallyman.dev/web`, where one of `kinds` can be meant.
    ///
    /// # Errors
    /// The kind is none of these.
    pub fn parse(given: &str, kinds: &[SubjectKind]) -> Result<Subject, String> {
        let Some((kind, name)) = given.split_once('/') else {
            return Ok(Subject {
                kinds: kinds.to_vec(),
                name: given.to_owned(),
            });
        };
        let found = SubjectKind::of(kind).filter(|kind| kinds.contains(kind));
        let kind = found.ok_or_else(|| {
            let names: Vec<String> = kinds
                .iter()
                .map(|k| format!("`{}/{name}`", k.noun()))
                .collect();
            format!("`{given}` must name one of these: {}", words::list(&names))
        })?;
        Ok(Subject {
            kinds: vec![kind],
            name: name.to_owned(),
        })
    }

    /// That there is none.
    pub fn missing(&self, namespace: &str) -> String {
        let nouns: Vec<&str> = self.kinds.iter().map(|k| k.noun()).collect();
        let nouns = match nouns.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            other => other.join(""),
        };
        format!(
            "there is no {nouns} `{}` in namespace `{namespace}`; `kubectl tally get` lists what there is",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SubjectKind::{Run, Service, Task};

    #[test]
    fn a_name_may_say_its_kind() {
        for (given, kinds, name) in [
            ("web", vec![Service, Run], "web"),
            ("service/web", vec![Service], "web"),
            ("services.tallyman.dev/web", vec![Service], "web"),
            ("trun/etl", vec![Run], "etl"),
        ] {
            let wanted = Subject {
                kinds,
                name: name.to_owned(),
            };
            assert_eq!(Subject::parse(given, &[Service, Run]), Ok(wanted));
        }
        assert_eq!(
            Subject::parse("task/web-000001", &[Service, Run]),
            Err("`task/web-000001` must name one of these: `service/web-000001` and `run/web-000001`".to_owned())
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let subject = Subject::parse("x", &[Service, Run, Task]).expect("a subject");
        assert_eq!(
            subject.missing("default"),
            "there is no service, run or task `x` in namespace `default`; `kubectl tally get` lists what there is"
        );
    }
}
