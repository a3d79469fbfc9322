//! CEL rules: what the API server refuses by itself, with the sentence it says.
//!
//! A rule stands at a type (`on`), sees a value of it as `self`, and holds wherever the type is used. A rule may only say
//! what is wrong whatever else is in the cluster: input that ECS takes is never refused here. What needs a second object,
//! a search (cycles) or arithmetic over texts (`.5 vCPU`) is judged by the operator, which answers with a condition.
//!
//! Every rule has an id, and `tests/cases` holds what it must accept and refuse: a rule without cases fails the tests.

mod containers;
mod hosts;
mod runs;
mod services;
mod task_definitions;
mod task_sets;

use serde_json::{Value, json};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable name, unique among all rules; test cases refer to it.
    pub id: String,
    /// Rust name of the type it stands at, or `Kind/object` where it needs `metadata.name`.
    pub on: &'static str,
    /// CEL expression, true when all is well.
    pub expression: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Field that the refusal is filed under, relative to the type, such as `.memory`; empty for `metadata.name`. Refusals of
    /// frozen fields are filed under the type, and name the field in their sentence.
    pub field: String,
    /// It says of one field of many that it never changes; those of a place are asked together ([`unchanged`]).
    pub frozen: bool,
}

/// The rules of one place, as `x-kubernetes-validations` wants them.
pub fn on(place: &str) -> Vec<Value> {
    let here = all().into_iter().filter(|rule| rule.on == place);
    let (frozen, others): (Vec<Rule>, Vec<Rule>) = here.partition(|rule| rule.frozen);
    let others = others.into_iter().map(|rule| {
        let mut value = json!({ "rule": rule.expression, "message": rule.message });
        if !rule.field.is_empty() {
            value["fieldPath"] = rule.field.into();
        }
        value
    });
    others.chain(unchanged(&frozen)).collect()
}

/// One question instead of many: most writes are of a status, and of those one comparison says that no field changed. The API server
/// asks every rule of an object at every write, a rule a field was a tenth of what a report of a task cost it.
fn unchanged(frozen: &[Rule]) -> Option<Value> {
    let holds: Vec<String> = frozen
        .iter()
        .map(|r| format!("({})", r.expression))
        .collect();
    let says = frozen.iter().zip(&holds);
    let says: String = says
        .map(|(rule, holds)| format!("!{holds} ? '{}' : ", rule.message))
        .collect();
    (!frozen.is_empty()).then(|| {
        json!({
            "rule": format!("self == oldSelf || ({})", holds.join(" && ")),
            "messageExpression": format!("{says}''"),
        })
    })
}

/// Every rule.
pub fn all() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [
        containers::RULES,
        task_definitions::RULES,
        services::RULES,
        task_sets::RULES,
        runs::RULES,
        hosts::RULES,
    ]
    .into_iter()
    .flatten()
    .map(|&(id, on, field, expression, message)| Rule {
        id: id.to_owned(),
        on,
        expression: one_line(expression),
        message: one_line(message),
        field: field.to_owned(),
        frozen: false,
    })
    .collect();
    let of_task = |field: &&str| {
        frozen(
            "task",
            "TaskSpec",
            field,
            "stop this task and start another",
        )
    };
    rules.extend(runs::TASK_FIELDS.iter().map(of_task));
    let of_set = |field: &&str| {
        let instead = "make another TaskSet and delete this one";
        frozen("task-set", "TaskSetSpec", field, instead)
    };
    rules.extend(task_sets::FIELDS.iter().map(of_set));
    rules.extend(
        NAME_LENGTHS
            .iter()
            .map(|&(place, longest, why)| name_length(place, longest, why)),
    );
    rules
}

/// A field that is neither set, nor changed, nor taken away after creation.
fn frozen(id: &str, on: &'static str, field: &str, instead: &str) -> Rule {
    Rule {
        id: format!("{id}-{field}-immutable"),
        on,
        expression: format!(
            "has(self.{field}) ? (has(oldSelf.{field}) && self.{field} == oldSelf.{field}) : !has(oldSelf.{field})"
        ),
        message: format!("`{field}` must not change: {instead}"),
        field: format!(".{field}"),
        frozen: true,
    }
}

/// Source lines are wrapped; a rule and its message are one line each.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Id, place, field, expression, message.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Longest names, so that the names and labels made from them fit the 63 characters of a label value.
const NAME_LENGTHS: &[(&str, u32, &str)] = &[
    (
        "Cluster/object",
        63,
        "it is a label value on tasks and hosts",
    ),
    (
        "ContainerInstance/object",
        40,
        "the host's account, role and lease are named after it",
    ),
    (
        "HostJoin/object",
        40,
        "its account and role are named after it",
    ),
    ("RunTask/object", 52, "its tasks are named after it"),
    ("ScheduledTask/object", 40, "its runs are named after it"),
    ("Service/object", 52, "its tasks are named after it"),
    (
        "TaskDefinition/object",
        52,
        "its revisions are named after it",
    ),
    ("TaskSet/object", 63, "it is a label value on its tasks"),
];

fn name_length(place: &'static str, longest: u32, why: &str) -> Rule {
    let kind = place.split('/').next().unwrap_or(place).to_lowercase();
    Rule {
        id: format!("{kind}-name-length"),
        on: place,
        expression: format!("self.metadata.name.size() <= {longest}"),
        message: format!("`metadata.name` must be at most {longest} characters long: {why}"),
        field: String::new(),
        frozen: false,
    }
}
