//! What is different between two versions of an object, field by field, named as refusals name fields.

use std::collections::BTreeSet;

use serde_json::Value;

/// One field that is different.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Path, such as `spec.containerDefinitions[web].memory`.
    pub field: String,
    /// Value before; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Value after; absent when it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl Difference {
    /// `~ spec.desiredCount: 2 -> 5`, with `+` for what is new and `-` for what goes.
    pub fn text(&self) -> String {
        let field = &self.field;
        match (&self.before, &self.after) {
            (None, Some(after)) => format!("+ {field}: {after}"),
            (Some(before), None) => format!("- {field}: {before}"),
            (Some(before), Some(after)) => format!("~ {field}: {before} -> {after}"),
            (None, None) => format!("  {field}"),
        }
    }
}

/// Parts of an object that the server writes by itself.
const NOT_OURS: [&str; 9] = [
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.finalizers",
    "metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
    "status",
];

/// What of an object is different, without what the server writes by itself.
pub fn of_objects(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    between("", Some(before), Some(after), &mut found);
    found
}

fn between(at: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after || NOT_OURS.contains(&at) {
        return;
    }
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                between(&at, a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if named(a) && named(b) => {
            let names: BTreeSet<&str> = a.iter().chain(b).filter_map(name).collect();
            for one in names {
                let of = |list: &'_ [Value]| list.iter().find(|v| name(v) == Some(one)).cloned();
                between(
                    &format!("{at}[{one}]"),
                    of(a).as_ref(),
                    of(b).as_ref(),
                    found,
                );
            }
        }
        (before, after) => found.push(Difference {
            field: at.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// A list of things with a name each, all different.
fn named(list: &[Value]) -> bool {
    let names: BTreeSet<&str> = list.iter().filter_map(name).collect();
    names.len() == list.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(before: Value, after: Value) -> Vec<String> {
        of_objects(&before, &after)
            .iter()
            .map(Difference::text)
            .collect()
    }

    #[test]
    fn fields_are_named_as_in_refusals() {
        let object = |memory: i32, count: i32| {
            json!({ "spec": { "desiredCount": count, "containerDefinitions": [
                { "name": "web", "memory": memory }, { "name": "log", "memory": 8 }] } })
        };
        assert_eq!(
            lines(object(32, 1), object(64, 2)),
            [
                "~ spec.containerDefinitions[web].memory: 32 -> 64",
                "~ spec.desiredCount: 1 -> 2"
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_shown_whole() {
        let before = json!({ "spec": { "command": ["a"], "cpu": 1 } });
        let after = json!({ "spec": { "command": ["b", "c"], "links": ["db"] } });
        assert_eq!(
            lines(before, after),
            [
                "~ spec.command: [\"a\"] -> [\"b\",\"c\"]",
                "- spec.cpu: 1",
                "+ spec.links: [\"db\"]"
            ]
        );
    }

    #[test]
    fn what_the_server_writes_is_no_difference() {
        let before = json!({ "metadata": { "generation": 1, "resourceVersion": "5" }, "status": { "a": 1 } });
        let after = json!({ "metadata": { "generation": 2, "resourceVersion": "6" }, "status": { "a": 2 } });
        assert!(lines(before, after).is_empty());
    }
}
