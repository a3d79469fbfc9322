//! Fields that nothing honours, so that none is ignored in silence.
//!
//! The tables say of every field how far it is honoured, and why no further. What would change what runs is refused: the
//! object is Stalled and says which field. What only advises (hints, names for what is not there) is left out, and the
//! object says so in the condition `UnsupportedFields`. Both say why, and what to use instead.

mod tables;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use tallyman_crds::{
    RunTaskSpec, ScheduledTaskSpec, ServiceSpec, TaskDefinitionSpec, TaskSetSpec, TaskSpec,
};

/// Of a field that is in no table; a test finds none.
const UNKNOWN: &str = "nothing here knows it";

/// Fields of one object that are not supported, each with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsupported {
    /// Without these something else would run than what was written; the object is refused.
    pub refused: BTreeMap<String, &'static str>,
    /// The object works without these.
    pub ignored: BTreeMap<String, &'static str>,
}

impl Unsupported {
    /// Sentence for the condition, or `None` when everything is honoured.
    pub fn sentence(&self) -> Option<String> {
        match (self.refused.is_empty(), self.ignored.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("Left out: {}.", list(&self.ignored))),
            (false, _) => Some(format!(
                "Not supported: {}. Remove {} to run this here.",
                list(&self.refused),
                if self.refused.len() == 1 {
                    "the field"
                } else {
                    "these fields"
                }
            )),
        }
    }
}

/// Fields that share a reason stand together, where the first of them stands.
fn list(fields: &BTreeMap<String, &'static str>) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for why in fields.values() {
        if !reasons.contains(why) {
            reasons.push(why);
        }
    }
    let told = reasons.iter().map(|why| {
        let those = fields.iter().filter(|(_, w)| *w == why);
        let those: Vec<_> = those.map(|(field, _)| format!("`{field}`")).collect();
        format!("{} ({why})", those.join(", "))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// How far a field is honoured, and why no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// With everything below it.
    Full,
    /// Left out; the object says so.
    Ignored(&'static str),
    /// Refused when it has a value.
    Refused(&'static str),
    /// For these values; another one is refused.
    Values(&'static [&'static str], &'static str),
    /// A list that is empty or has one of these values.
    OneOf(&'static [&'static str], &'static str),
}

impl Support {
    /// What the documents call it.
    pub fn word(self) -> &'static str {
        match self {
            Full => "yes",
            Ignored(_) => "left out",
            Refused(_) => "refused",
            Values(..) | OneOf(..) => "partly",
        }
    }

    /// Why it is honoured no further, as a clause; `None` for what is honoured.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Full => None,
            Ignored(why) | Refused(why) | Values(_, why) | OneOf(_, why) => Some(why),
        }
    }
}

use Support::{Full, Ignored, OneOf, Refused, Values};

/// A kind whose spec has fields of ECS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TaskDefinition.
    TaskDefinition,
    /// Service.
    Service,
    /// TaskSet.
    TaskSet,
    /// Task.
    Task,
    /// RunTask, and `runTask` of a ScheduledTask.
    RunTask,
}

impl Kind {
    /// Fields with how far they are honoured; of a field that is there twice the first line counts.
    pub fn fields(self) -> Cow<'static, [(&'static str, Support)]> {
        match self {
            Kind::TaskDefinition => tables::DEFINITION.into(),
            Kind::Service => tables::SERVICE.into(),
            Kind::TaskSet => tables::TASK_SET.into(),
            Kind::Task => tables::TASK.into(),
            Kind::RunTask => [tables::RUN_TASK, tables::TASK].concat().into(),
        }
    }

    /// What is done with a field, by its path: `containerDefinitions[].cpu`. `None`: no line is about it, and it is refused.
    pub fn support(self, path: &str) -> Option<Support> {
        let of = |(pattern, support): &(&str, Support)| {
            let below = path.strip_prefix(pattern)?;
            let part = below.is_empty() || below.starts_with('.') || below.starts_with("[]");
            part.then_some(*support)
        };
        self.fields().iter().find_map(of)
    }
}

/// Fields of a task definition that are not supported.
pub fn of_definition(spec: &TaskDefinitionSpec) -> Unsupported {
    scan(
        serde_json::to_value(spec).ok(),
        "spec",
        Kind::TaskDefinition,
        "containerDefinitions",
    )
}

/// Fields of a service that are not supported.
pub fn of_service(spec: &ServiceSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", Kind::Service, "")
}

/// Fields of a task set that are not supported.
pub fn of_task_set(spec: &TaskSetSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", Kind::TaskSet, "")
}

/// Fields of a task that are not supported.
pub fn of_task(spec: &TaskSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", Kind::Task, "")
}

/// Fields of a run that are not supported.
pub fn of_run(spec: &RunTaskSpec) -> Unsupported {
    of_run_at(spec, "spec")
}

/// Fields of a schedule's runs that are not supported; its own all are.
pub fn of_schedule(spec: &ScheduledTaskSpec) -> Unsupported {
    of_run_at(&spec.run_task, "spec.runTask")
}

fn of_run_at(spec: &RunTaskSpec, at: &str) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), at, Kind::RunTask, "")
}

/// `at`: where the user finds the object that is scanned.
fn scan(spec: Option<Value>, at: &str, kind: Kind, named: &str) -> Unsupported {
    let mut found = Unsupported::default();
    if let Some(spec) = spec {
        walk(&spec, "", at, &kind.fields(), named, &mut found);
    }
    found
}

/// `pattern`: the path as the tables write it; `shown`: as the user finds it, with container names as indices.
fn walk(
    value: &Value,
    pattern: &str,
    shown: &str,
    table: &[(&str, Support)],
    named: &str,
    found: &mut Unsupported,
) {
    let support = table.iter().find(|(p, _)| *p == pattern).map(|(_, s)| *s);
    match support {
        Some(Full) => return,
        Some(Ignored(why)) => {
            if in_use(value) {
                found.ignored.insert(shown.to_owned(), why);
            }
            return;
        }
        Some(Refused(why)) => {
            if in_use(value) {
                found.refused.insert(shown.to_owned(), why);
            }
            return;
        }
        Some(Values(allowed, why)) => {
            if let Some(text) = value.as_str().filter(|v| !allowed.contains(v)) {
                found.refused.insert(format!("{shown}: {text}"), why);
            }
            return;
        }
        Some(OneOf(allowed, why)) => {
            let given: Vec<&str> = value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if !given.is_empty() && !given.iter().any(|v| allowed.contains(v)) {
                found
                    .refused
                    .insert(format!("{shown}: {}", given.join(", ")), why);
            }
            return;
        }
        None => {}
    }
    let known_below = |p: &str| {
        table.iter().any(|(t, _)| {
            t.strip_prefix(p)
                .is_some_and(|r| r.starts_with('.') || r.starts_with("[]"))
        })
    };
    match value {
        Value::Object(fields) if pattern.is_empty() || known_below(pattern) => {
            for (key, v) in fields {
                let pattern = if pattern.is_empty() {
                    key.clone()
                } else {
                    format!("{pattern}.{key}")
                };
                walk(v, &pattern, &format!("{shown}.{key}"), table, named, found);
            }
        }
        Value::Array(items) if known_below(pattern) => {
            for (i, v) in items.iter().enumerate() {
                let index = match v.get("name").and_then(Value::as_str) {
                    Some(name) if pattern == named => name.to_owned(),
                    _ => i.to_string(),
                };
                walk(
                    v,
                    &format!("{pattern}[]"),
                    &format!("{shown}[{index}]"),
                    table,
                    named,
                    found,
                );
            }
        }
        other if in_use(other) => {
            found.refused.insert(shown.to_owned(), UNKNOWN);
        }
        _ => {}
    }
}

/// False for what means the same as leaving the field out.
fn in_use(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(in_use),
    }
}
