//! Which container of a task waits for which, and until when: the one reading of `dependsOn`, `links` and `volumesFrom`, so
//! that the operator refuses exactly what an agent could not carry out.
//!
//! Facts of the definition only. Whether a condition holds at the moment is the agent's to see.

use std::collections::BTreeSet;

use crate::ecs::{ContainerCondition, ContainerDefinition};

/// One container waits for another one of its task (ECS agent dependency graph).
///
/// At the end the edge holds the other way round: the container that is waited for stops last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which container is waited for.
    pub on: String,
    /// Until when.
    pub until: Until,
}

/// What must have become of a container that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// It was created (`volumesFrom`).
    Created,
    /// It was started, now or before (`dependsOn` START, `links`).
    Started,
    /// It exited, with whatever code (`dependsOn` COMPLETE).
    Complete,
    /// It exited with code 0 (`dependsOn` SUCCESS).
    Success,
    /// It passes its health check (`dependsOn` HEALTHY).
    Healthy,
}

impl Until {
    /// As a part of "it waits for container `a` ...".
    pub fn words(self) -> &'static str {
        match self {
            Self::Created => "to be created",
            Self::Started => "to start",
            Self::Complete => "to complete",
            Self::Success => "to exit with code 0",
            Self::Healthy => "to become healthy",
        }
    }
}

impl From<ContainerCondition> for Until {
    fn from(condition: ContainerCondition) -> Self {
        match condition {
            ContainerCondition::Start => Self::Started,
            ContainerCondition::Complete => Self::Complete,
            ContainerCondition::Success => Self::Success,
            ContainerCondition::Healthy => Self::Healthy,
        }
    }
}

/// What a container waits for, each edge once.
pub fn edges(definition: &ContainerDefinition) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    for (_, edge) in edges_by_field(definition) {
        if !edges.contains(&edge) {
            edges.push(edge);
        }
    }
    edges
}

/// The edges of a container with the field that each is from.
fn edges_by_field(definition: &ContainerDefinition) -> impl Iterator<Item = (&'static str, Edge)> {
    let edge = |field, on: &str, until| {
        let on = on.to_owned();
        (field, Edge { on, until })
    };
    let depends_on = definition.depends_on.iter();
    let links = definition.links.iter().filter_map(|text| link(text));
    let mounts = definition.volumes_from.iter();
    let mounts = mounts.map(|from| from.source_container.as_deref().unwrap_or_default());
    depends_on
        .map(move |one| edge("dependsOn", &one.container_name, one.condition.into()))
        .chain(links.map(move |(on, _)| edge("links", on, Until::Started)))
        .chain(mounts.map(move |on| edge("volumesFrom", on, Until::Created)))
}

/// `container` or `container:alias` as container and alias; without an alias the container's name is the alias
/// (ECS agent). `None` when it is spelled otherwise.
pub fn link(text: &str) -> Option<(&str, &str)> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let fine = !container.is_empty() && !alias.is_empty() && !alias.contains(':');
    fine.then_some((container, alias))
}

/// Why the containers of a task cannot all be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tangle {
    /// The container whose field is wrong.
    pub container: String,
    /// Which field: `dependsOn`, `links` or `volumesFrom`.
    pub field: &'static str,
    /// What would be right, starting with a verb: "must name ...".
    pub message: String,
}

/// Everything that makes the order of a task's containers impossible; empty when each can be started (ECS
/// TaskDependencyError).
pub fn tangles(containers: &[ContainerDefinition]) -> Vec<Tangle> {
    let mut tangles = Vec::new();
    for definition in containers {
        let tangle = |field, message| Tangle {
            container: definition.name.clone(),
            field,
            message,
        };
        for text in &definition.links {
            if link(text).is_none() {
                let message = format!("must be `container` or `container:alias`, not `{text}`");
                tangles.push(tangle("links", message));
            }
        }
        for (field, edge) in edges_by_field(definition) {
            let found = containers.iter().find(|other| other.name == edge.on);
            let wrong = match found {
                None => Some(format!(
                    "must name a container of the task, and `{}` is none",
                    edge.on
                )),
                Some(other) => unfit(other, edge.until),
            };
            tangles.extend(wrong.map(|message| tangle(field, message)));
        }
    }
    if tangles.is_empty() {
        tangles.extend(circle(containers));
    }
    tangles
}

/// Why nobody can wait for `other` until then.
fn unfit(other: &ContainerDefinition, until: Until) -> Option<String> {
    match until {
        Until::Created | Until::Started => None,
        Until::Complete | Until::Success => other.essential.unwrap_or(true).then(|| {
            format!(
                "must name a container with `essential: false` where the condition is COMPLETE or SUCCESS: the end of \
                 `{}` ends the task",
                other.name
            )
        }),
        Until::Healthy => {
            let check = other.health_check.as_ref();
            let checked = check.is_some_and(|check| {
                check.command.first().is_some_and(|word| word != "NONE")
            });
            (!checked).then(|| {
                format!(
                    "must name a container with a `healthCheck` where the condition is HEALTHY, and `{}` has none",
                    other.name
                )
            })
        }
    }
}

/// Containers that wait for each other in a circle, if any do.
fn circle(containers: &[ContainerDefinition]) -> Option<Tangle> {
    let mut left: Vec<&ContainerDefinition> = containers.iter().collect();
    loop {
        let names: BTreeSet<&str> = left.iter().map(|one| one.name.as_str()).collect();
        let waits = |one: &&ContainerDefinition| {
            edges_by_field(one).any(|(_, edge)| names.contains(edge.on.as_str()))
        };
        let waiting: Vec<&ContainerDefinition> = left.iter().copied().filter(waits).collect();
        if waiting.len() == left.len() {
            break;
        }
        left = waiting;
    }
    // Every container that is left waits for one that is left: following them leads into the circle.
    let next = |one: &ContainerDefinition| {
        edges_by_field(one).find_map(|(field, edge)| {
            let other = left.iter().find(|other| other.name == edge.on)?;
            Some((field, *other))
        })
    };
    let mut path: Vec<&str> = Vec::new();
    let mut here = *left.first()?;
    while !path.contains(&here.name.as_str()) {
        path.push(&here.name);
        here = next(here)?.1;
    }
    let begin = path.iter().position(|name| *name == here.name)?;
    let (field, _) = next(here)?;
    let mut way = String::new();
    for name in path.iter().skip(begin + 1).chain([&here.name.as_str()]) {
        let word = if way.is_empty() {
            " waits for"
        } else {
            ", which waits for"
        };
        way.push_str(&format!("{word} `{name}`"));
    }
    Some(Tangle {
        container: here.name.clone(),
        field,
        message: format!("must not close a circle: `{}`{way}", here.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn definitions(list: Value) -> Vec<ContainerDefinition> {
        serde_json::from_value(list).unwrap_or_default()
    }

    fn told(list: Value) -> Vec<String> {
        let containers = definitions(list);
        assert!(
            !containers.is_empty(),
            "the test's JSON is no list of containers"
        );
        tangles(&containers)
            .into_iter()
            .map(|t| format!("{} {} {}", t.container, t.field, t.message))
            .collect()
    }

    #[test]
    fn links_are_edges_beside_depends_on_and_none_is_doubled() {
        let all = definitions(json!([{
            "name": "web", "image": "web",
            "links": ["db:store", "db", "cache"],
            "dependsOn": [
                { "containerName": "db", "condition": "HEALTHY" },
                { "containerName": "cache", "condition": "START" },
            ],
        }]));
        let told: Vec<(String, Until)> = edges(&all[0])
            .into_iter()
            .map(|edge| (edge.on, edge.until))
            .collect();
        let edge = |on: &str, until| (on.to_owned(), until);
        assert_eq!(
            told,
            [
                edge("db", Until::Healthy),
                edge("cache", Until::Started),
                edge("db", Until::Started)
            ]
        );
    }

    #[test]
    fn a_link_without_alias_is_its_own() {
        for (text, parts) in [
            ("db", Some(("db", "db"))),
            ("db:store", Some(("db", "store"))),
            ("db:a:b", None),
            (":a", None),
            ("db:", None),
            ("", None),
        ] {
            assert_eq!(link(text), parts, "{text}");
        }
    }

    #[test]
    fn what_can_never_be_met_is_told_with_the_field() {
        let of = |fields: Value| {
            let mut web = json!({ "name": "web", "image": "web" });
            if let (Some(web), Some(fields)) = (web.as_object_mut(), fields.as_object()) {
                web.extend(fields.clone());
            }
            told(json!([web, { "name": "db", "image": "db" }]))
        };
        let wait = |on: &str, condition: &str| {
            of(json!({ "dependsOn": [{ "containerName": on, "condition": condition }] }))
        };
        assert_eq!(wait("db", "START"), Vec::<String>::new());
        assert_eq!(
            wait("nobody", "START"),
            ["web dependsOn must name a container of the task, and `nobody` is none"]
        );
        for condition in ["COMPLETE", "SUCCESS"] {
            let told = wait("db", condition).join("");
            assert!(
                told.contains("`essential: false`") && told.contains("`db`"),
                "{told}"
            );
        }
        let told = wait("db", "HEALTHY").join("");
        assert!(
            told.contains("`healthCheck`") && told.contains("`db`"),
            "{told}"
        );
        assert_eq!(
            of(json!({ "links": ["nobody:x"] })),
            ["web links must name a container of the task, and `nobody` is none"]
        );
        assert_eq!(
            of(json!({ "links": ["db:a:b"] })),
            ["web links must be `container` or `container:alias`, not `db:a:b`"]
        );
    }

    #[test]
    fn a_circle_is_told_with_its_way() {
        let after = |name: &str, on: &str| json!({ "name": name, "image": "i", "dependsOn": [{ "containerName": on, "condition": "START" }] });
        assert_eq!(
            told(json!([after("a", "a")])),
            ["a dependsOn must not close a circle: `a` waits for `a`"]
        );
        let linked = json!({ "name": "c", "image": "i", "links": ["b:x"] });
        assert_eq!(
            told(json!([after("a", "b"), after("b", "c"), linked, { "name": "d", "image": "i" }])),
            ["b dependsOn must not close a circle: `b` waits for `c`, which waits for `b`"]
        );
    }
}
