//! Objects of all namespaces, apart by namespace: names are those of one namespace alone, and so is whatever is decided on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;
use tallyman_operator_core::Objects;

use crate::session::heard_of;

/// The objects of each namespace that has any.
pub fn apart(objects: Objects) -> BTreeMap<String, Objects> {
    // What this program does not read is of no namespace here.
    let Objects {
        clusters,
        task_definitions,
        revisions,
        services,
        tasks,
        instances,
        plans: _,
        run_tasks,
        scheduled_tasks,
        task_sets,
        sources: _,
        host_secrets: _,
        silence: _,
        unreadable,
    } = objects;
    let mut parts: BTreeMap<String, Objects> = BTreeMap::new();
    deal(&mut parts, clusters, |o| &mut o.clusters);
    deal(&mut parts, task_definitions, |o| &mut o.task_definitions);
    deal(&mut parts, revisions, |o| &mut o.revisions);
    deal(&mut parts, services, |o| &mut o.services);
    deal(&mut parts, tasks, |o| &mut o.tasks);
    deal(&mut parts, instances, |o| &mut o.instances);
    deal(&mut parts, run_tasks, |o| &mut o.run_tasks);
    deal(&mut parts, scheduled_tasks, |o| &mut o.scheduled_tasks);
    deal(&mut parts, task_sets, |o| &mut o.task_sets);
    for object in unreadable {
        let namespace = object.unread.metadata.namespace.clone().unwrap_or_default();
        parts.entry(namespace).or_default().unreadable.push(object);
    }
    for part in parts.values_mut() {
        part.silence = heard_of(part);
    }
    parts
}

/// Puts each object into the list of its namespace.
fn deal<K: Resource>(
    parts: &mut BTreeMap<String, Objects>,
    objects: Vec<Arc<K>>,
    list: fn(&mut Objects) -> &mut Vec<Arc<K>>,
) {
    for object in objects {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        list(parts.entry(namespace).or_default()).push(object);
    }
}
