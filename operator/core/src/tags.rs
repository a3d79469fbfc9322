//! ECS tags of tasks: their own, those of what they were made from, and those that ECS manages.

use std::collections::BTreeMap;

use tallyman_crds::ecs::{PropagateTags, Tag};

use crate::problem::Problem;

/// Prefix of the keys that ECS manages.
const MANAGED: &str = "aws:";

/// What is wrong with the tags at `field` that a user wrote.
pub fn problems(field: &str, tags: &[Tag]) -> Vec<Problem> {
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for (i, tag) in tags.iter().enumerate() {
        let key = tag.key.as_deref().unwrap_or_default();
        let at = format!("{field}[{i}].key");
        if key.is_empty() {
            found.push(Problem::new(&at, "must not be empty".to_owned()));
        } else if key.to_ascii_lowercase().starts_with(MANAGED) {
            let text =
                format!("must not begin with `{MANAGED}`, as `{key}` does: such keys are reserved");
            found.push(Problem::new(&at, text));
        } else if let Some(first) = seen.insert(key, i) {
            let text = format!("must not be that of `{field}[{first}]`, `{key}`, once more");
            found.push(Problem::new(&at, text));
        }
    }
    found
}

/// Where the tags of a new task come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// Its own, of `RunTask`; they win.
    pub own: &'a [Tag],
    /// Whose are handed on.
    pub propagate: Option<PropagateTags>,
    /// Those of its task definition.
    pub definition: &'a [Tag],
    /// Those of its service.
    pub service: &'a [Tag],
    /// Cluster, and service if it is of one, as tags that ECS manages (`enableECSManagedTags`).
    pub managed: Option<(&'a str, Option<&'a str>)>,
}

/// Tags of a new task, sorted by key.
pub fn of_task(origin: Origin<'_>) -> Vec<Tag> {
    let handed_on = match origin.propagate {
        None | Some(PropagateTags::None) => &[],
        Some(PropagateTags::TaskDefinition) => origin.definition,
        Some(PropagateTags::Service) => origin.service,
    };
    let mut tags: BTreeMap<String, Option<String>> = BTreeMap::new();
    for tag in handed_on.iter().chain(origin.own) {
        if let Some(key) = &tag.key {
            tags.insert(key.clone(), tag.value.clone());
        }
    }
    if let Some((cluster, service)) = origin.managed {
        tags.insert("aws:ecs:clusterName".to_owned(), Some(cluster.to_owned()));
        if let Some(service) = service {
            tags.insert("aws:ecs:serviceName".to_owned(), Some(service.to_owned()));
        }
    }
    let tag = |(key, value)| Tag {
        key: Some(key),
        value,
    };
    tags.into_iter().map(tag).collect()
}

/// Tags as a host is told them, by key.
pub fn by_key(tags: &[Tag]) -> BTreeMap<String, String> {
    let told = |tag: &Tag| Some((tag.key.clone()?, tag.value.clone().unwrap_or_default()));
    tags.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &[(&str, &str)]) -> Vec<Tag> {
        let tag = |(key, value): &(&str, &str)| Tag {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        list.iter().map(tag).collect()
    }

    #[test]
    fn a_task_gets_the_tags_of_what_it_was_made_from() {
        let (definition, service) = (
            tags(&[("a", "definition")]),
            tags(&[("a", "service"), ("b", "2")]),
        );
        let own = tags(&[("b", "own")]);
        let of = |propagate, own, managed| {
            of_task(Origin {
                own,
                propagate,
                definition: &definition,
                service: &service,
                managed,
            })
        };
        assert_eq!(of(None, &[], None), []);
        assert_eq!(of(Some(PropagateTags::None), &own, None), own);
        assert_eq!(
            of(Some(PropagateTags::TaskDefinition), &[], None),
            definition
        );
        assert_eq!(of(Some(PropagateTags::Service), &[], None), service);
        assert_eq!(
            of(Some(PropagateTags::Service), &own, None),
            tags(&[("a", "service"), ("b", "own")])
        );
        assert_eq!(
            of(None, &[], Some(("default", Some("web")))),
            tags(&[
                ("aws:ecs:clusterName", "default"),
                ("aws:ecs:serviceName", "web")
            ])
        );
    }

    #[test]
    fn reserved_and_repeated_keys_are_named() {
        let found = problems(
            "spec.tags",
            &tags(&[("a", ""), ("AWS:x", ""), ("a", ""), ("", "")]),
        );
        let fields: Vec<_> = found.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.tags[1].key", "spec.tags[2].key", "spec.tags[3].key"]
        );
    }
}
