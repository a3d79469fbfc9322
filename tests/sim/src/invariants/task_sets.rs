//! What S3 and S4 ask of task sets: each is bounded by itself, by what its scale makes of the service's desired count.

use serde_json::Value;
use tallyman_operator_core::Kind;
use tallyman_operator_core::deployments::Bounds;
use tallyman_operator_core::task_sets::Percent;

use super::bounds;
use crate::api::{Cache, Object, Server};

/// Bounds of a task set, for every service and every task set that the operator or the server knows by these names: an
/// operator may have seen the change of one and not yet of the other.
pub(super) fn of_set(server: &Server, cache: &Cache, set: &str, service: &str) -> Vec<Bounds> {
    let desired: Vec<i64> = both(server, cache, Kind::Service, service)
        .iter()
        .filter_map(|o| match o {
            Object::Service(s) => Some(bounds(s).desired),
            _ => None,
        })
        .collect();
    let scales = both(server, cache, Kind::TaskSet, set);
    let scales = scales.iter().filter_map(|o| match o {
        Object::TaskSet(s) => s.spec.scale.as_ref().map_or(Some(0.0), |scale| scale.value),
        _ => None,
    });
    scales
        .filter_map(Percent::of)
        .flat_map(|scale| desired.iter().map(move |d| scale.of_desired(*d)))
        .map(|computed| Bounds::new(computed, 100, 200))
        .collect()
}

fn both(server: &Server, cache: &Cache, kind: Kind, name: &str) -> Vec<Object> {
    let live = server.get(kind, name);
    let live = live.and_then(|value| Object::parse(kind, value).ok());
    live.into_iter()
        .chain(cache.get(kind, name).cloned())
        .collect()
}

/// A task set, or its service, is being deleted, or is gone.
pub(super) fn leaves(server: &Server, kind: Kind, name: &str) -> bool {
    let gone = |o: &Value| !o["metadata"]["deletionTimestamp"].is_null();
    server.get(kind, name).is_none_or(gone)
}
