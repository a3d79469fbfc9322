//! What the CRDs' rules refuse, as far as it matters for histories (`crds/src/rules.rs` has the CEL).

use std::sync::LazyLock;

use serde_json::Value;
use tallyman_crds::{LastStatus, rules};
use tallyman_operator_core::Kind;

/// Fields of the specs of Tasks and of TaskSets that never change.
static FROZEN: LazyLock<[Vec<String>; 2]> = LazyLock::new(|| {
    ["TaskSpec", "TaskSetSpec"].map(|on| {
        let all = rules::all().into_iter();
        all.filter(|rule| rule.on == on && rule.frozen)
            .map(|rule| rule.field.trim_start_matches('.').to_owned())
            .collect()
    })
});

fn status(value: &Value) -> LastStatus {
    serde_json::from_value(value["status"]["lastStatus"].clone()).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> i64 {
    value["spec"][field].as_i64().unwrap_or(0)
}

fn keep<'f>(
    old: &Value,
    new: &Value,
    fields: impl IntoIterator<Item = &'f str>,
) -> Result<(), String> {
    let changed = |field: &&str| old["spec"][field] != new["spec"][field];
    match fields.into_iter().find(changed) {
        Some(field) => Err(format!("{field} must not change")),
        None => Ok(()),
    }
}

/// Checks an object as it is to be, beside what it was; the answer is what the API server would say.
pub(super) fn check(kind: Kind, old: Option<&Value>, new: &Value) -> Result<(), String> {
    if kind == Kind::Task {
        let spec = &new["spec"];
        let says_why = !spec["stopCode"].is_null() || !spec["stoppedReason"].is_null();
        if says_why && spec["desiredStatus"] != "STOPPED" {
            return Err("stopCode and stoppedReason are of a task that is to stop".to_owned());
        }
    }
    let Some(old) = old else { return Ok(()) };
    match kind {
        Kind::Task => {
            let (before, after) = (status(old), status(new));
            if !before.may_become(after) {
                return Err(format!(
                    "lastStatus must not go back from {} to {}",
                    before.as_str(),
                    after.as_str()
                ));
            }
            if old["spec"]["desiredStatus"] == "STOPPED"
                && new["spec"]["desiredStatus"] != "STOPPED"
            {
                return Err("desiredStatus must not go back from STOPPED".to_owned());
            }
            if !old["spec"]["containerInstance"].is_null()
                && old["spec"]["containerInstance"] != new["spec"]["containerInstance"]
            {
                return Err("containerInstance must not change once it is set".to_owned());
            }
            keep(old, new, FROZEN[0].iter().map(String::as_str))
        }
        Kind::TaskSet => keep(old, new, FROZEN[1].iter().map(String::as_str)),
        Kind::Service => keep(old, new, ["cluster", "schedulingStrategy"]),
        Kind::ContainerInstance => keep(old, new, ["cluster"]),
        Kind::TaskDefinition => keep(old, new, ["family"]),
        Kind::HostPlan => {
            for field in ["generation", "leaderEpoch"] {
                if number(new, field) < number(old, field) {
                    return Err(format!("{field} must not fall"));
                }
            }
            Ok(())
        }
        Kind::RunTask | Kind::TaskDefinitionRevision if old["spec"] != new["spec"] => {
            Err("it must not change".to_owned())
        }
        Kind::Secret
        | Kind::Cluster
        | Kind::TaskDefinitionRevision
        | Kind::RunTask
        | Kind::ScheduledTask => Ok(()),
    }
}
