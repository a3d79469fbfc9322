//! Statuses of objects that no controller has touched, and small helpers to compose statuses.

use serde::Serialize;
use serde_json::Value;
use tallyman_crds::conditions::{self, READY, RECONCILING, STALLED, Statement, UNSUPPORTED_FIELDS};
use tallyman_crds::{ConditionStatus, ServiceStatus};

/// Status of a service that no controller has touched.
pub fn untouched_service() -> ServiceStatus {
    ServiceStatus {
        observed_generation: conditions::UNOBSERVED,
        conditions: Vec::new(),
        status: None,
        desired_count: 0,
        running_count: 0,
        pending_count: 0,
        task_definition: None,
        selector: None,
        message: None,
        deployments: Vec::new(),
        task_sets: Vec::new(),
        last_completed_deployment: None,
        failed_deployment: None,
        rebalancing: None,
        events: Vec::new(),
        last_task_number: 0,
        consecutive_start_failures: 0,
        launch_not_before: None,
        steady_since: None,
    }
}

/// A status as JSON; types of ours always serialize.
pub(crate) fn json<T: Serialize>(status: &T) -> Value {
    serde_json::to_value(status).unwrap_or(Value::Null)
}

/// How an object stands, in the words of the status contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ready.
    Ready,
    /// On its way; Ready is False.
    Reconciling,
    /// Will not mend itself; Ready is False.
    Stalled,
}

/// Conditions of an object that stands so, for `reason`, said in `message`.
pub fn statements(
    standing: &Standing,
    reason: &'static str,
    message: &str,
    unsupported: Option<String>,
) -> Vec<Statement> {
    let statement = |type_, status, reason, message: &str| Statement {
        type_,
        status,
        reason,
        message: message.to_owned(),
    };
    let mut list = vec![statement(
        READY,
        if *standing == Standing::Ready {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason,
        message,
    )];
    match standing {
        Standing::Ready => {}
        Standing::Reconciling => list.push(statement(
            RECONCILING,
            ConditionStatus::True,
            reason,
            message,
        )),
        Standing::Stalled => list.push(statement(STALLED, ConditionStatus::True, reason, message)),
    }
    if let Some(text) = unsupported {
        list.push(statement(
            UNSUPPORTED_FIELDS,
            ConditionStatus::True,
            "NotSupportedYet",
            &text,
        ));
    }
    list
}
