//! Kinds that exist and that nothing carries out yet: they say so, rather than being ignored in silence.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tallyman_crds::Condition;
use tallyman_crds::conditions;

use crate::plan::{Kind, Note, Plan, Target};
use crate::services::time;
use crate::status::{Standing, statements};
use crate::world::Objects;

/// States of every RunTask and ScheduledTask that it is not supported yet.
pub(crate) fn plan_all(objects: &Objects, now: Timestamp, plan: &mut Plan) {
    for r in &objects.run_tasks {
        let (list, observed) = r
            .status
            .as_ref()
            .map_or((&[][..], conditions::UNOBSERVED), |s| {
                (&s.conditions, s.observed_generation)
            });
        let instead = "apply a Task without `spec.containerInstance` to run one copy now";
        state(
            Kind::RunTask,
            &r.metadata,
            list,
            observed,
            instead,
            now,
            plan,
        );
    }
    for s in &objects.scheduled_tasks {
        let (list, observed) = s
            .status
            .as_ref()
            .map_or((&[][..], conditions::UNOBSERVED), |s| {
                (&s.conditions, s.observed_generation)
            });
        let instead = "no run of it is started";
        state(
            Kind::ScheduledTask,
            &s.metadata,
            list,
            observed,
            instead,
            now,
            plan,
        );
    }
}

fn state(
    kind: Kind,
    meta: &ObjectMeta,
    previous: &[Condition],
    observed: i64,
    instead: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let generation = meta.generation.unwrap_or_default();
    let target = Target::of(kind, meta);
    let message = format!("{} is not supported yet: {instead}.", kind.as_str());
    let list = statements(&Standing::Stalled, "NotSupportedYet", &message, None);
    let next = conditions::merge(previous, &list, generation, &time(now));
    let status = |conditions: &[Condition], observed: i64| -> Value {
        json!({ "observedGeneration": observed, "conditions": conditions })
    };
    if observed == conditions::UNOBSERVED {
        plan.notes.push(Note {
            target: target.clone(),
            warning: true,
            reason: "NotSupportedYet",
            message,
        });
    }
    plan.publish(
        target,
        &status(previous, observed),
        &status(&next, generation),
    );
}
