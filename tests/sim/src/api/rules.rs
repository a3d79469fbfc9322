//! What the CRDs' rules refuse, as far as it matters for histories (`crds/src/rules.rs` has the CEL).

use serde_json::Value;
use tallyman_crds::LastStatus;
use tallyman_operator_core::Kind;

fn status(value: &Value) -> LastStatus {
    serde_json::from_value(value["status"]["lastStatus"].clone()).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> i64 {
    value["spec"][field].as_i64().unwrap_or(0)
}

/// Checks an update; the answer is what the API server would say.
pub(super) fn check(kind: Kind, old: &Value, new: &Value) -> Result<(), String> {
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
            for field in [
                "taskDefinition",
                "cluster",
                "group",
                "startedBy",
                "overrides",
            ] {
                if old["spec"][field] != new["spec"][field] {
                    return Err(format!("{field} must not change"));
                }
            }
            if !old["spec"]["containerInstance"].is_null()
                && old["spec"]["containerInstance"] != new["spec"]["containerInstance"]
            {
                return Err("containerInstance must not change once it is set".to_owned());
            }
        }
        Kind::HostPlan => {
            for field in ["generation", "leaderEpoch"] {
                if number(new, field) < number(old, field) {
                    return Err(format!("{field} must not fall"));
                }
            }
        }
        Kind::RunTask if old["spec"] != new["spec"] => {
            return Err("a run must not change".to_owned());
        }
        Kind::TaskDefinitionRevision if old["spec"] != new["spec"] => {
            return Err("a revision must not change".to_owned());
        }
        Kind::Secret
        | Kind::Cluster
        | Kind::TaskDefinition
        | Kind::TaskDefinitionRevision
        | Kind::Service
        | Kind::RunTask
        | Kind::ScheduledTask
        | Kind::TaskSet
        | Kind::ContainerInstance => {}
    }
    Ok(())
}
