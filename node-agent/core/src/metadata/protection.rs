//! Protection of a task from scale-in and deployments, asked for by its own containers (ECS `task-protection/v1/state`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::assignment::AssignedTask;
use crate::metadata::Place;

/// ECS: what protection lasts when nothing else is said.
const DEFAULT_MINUTES: i64 = 120;
/// ECS: at most two days.
const MINUTES: std::ops::RangeInclusive<i64> = 1..=2880;

/// What a container asks for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Request {
    protection_enabled: bool,
    #[serde(default)]
    expires_in_minutes: Option<i64>,
}

/// What it is answered, as ECS' agent spells it: one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// How the task is protected.
    #[serde(rename_all = "PascalCase")]
    Protection {
        /// The task.
        task_arn: String,
        /// It is protected now.
        protection_enabled: bool,
        /// Until then.
        #[serde(skip_serializing_if = "Option::is_none")]
        expiration_date: Option<Timestamp>,
    },
    /// The task cannot be protected.
    #[serde(rename_all = "PascalCase")]
    Failure {
        /// The task.
        arn: String,
        /// ECS' word for it.
        reason: &'static str,
        /// Why.
        detail: String,
    },
    /// The request failed.
    #[serde(rename_all = "PascalCase")]
    Error {
        /// The task.
        arn: String,
        /// ECS' word for it.
        code: Code,
        /// What is wrong.
        message: String,
    },
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Code {
    /// It is not as it must be.
    InvalidParameterException,
    /// Nobody took it within the time that there is.
    RequestCanceled,
}

/// Reads a request: until when the task is to be protected, or `None` when it is not to be any more.
///
/// # Errors
/// What it must be, in a sentence.
pub fn read(body: &[u8], now: Timestamp) -> Result<Option<Timestamp>, String> {
    let request: Request = serde_json::from_slice(body).map_err(|error| {
        format!(
            "The body must be a JSON object with the field 'ProtectionEnabled' (true or false) and perhaps 'ExpiresInMinutes': {error}"
        )
    })?;
    let minutes = request.expires_in_minutes.unwrap_or(DEFAULT_MINUTES);
    if !MINUTES.contains(&minutes) {
        return Err(format!(
            "'ExpiresInMinutes' must be 1 to 2880, not {minutes}"
        ));
    }
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let until = whole.saturating_add(SignedDuration::from_mins(minutes));
    Ok(until.ok().filter(|_| request.protection_enabled))
}

/// Why the task cannot be protected: only tasks of services are scaled in or replaced by deployments (ECS).
pub fn refused(task: &AssignedTask, place: &Place) -> Option<Answer> {
    let of_service = task.group.as_ref();
    let of_service = of_service.is_some_and(|group| group.starts_with("service:"));
    (!of_service).then(|| Answer::Failure {
        arn: arn(task, place),
        reason: "TASK_NOT_VALID",
        detail: "The task is not of a service.".to_owned(),
    })
}

/// Why the task cannot be protected now, though it may be at another time: protected tasks already hold its service up, and it
/// is none of them (ECS). Who is protected may ask again, so that nobody loses what it is in the middle of.
pub fn blocked(
    task: &AssignedTask,
    place: &Place,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Option<Answer> {
    let is_protected = until.is_some_and(|until| until > now);
    (task.deployment_blocked && !is_protected).then(|| Answer::Failure {
        arn: arn(task, place),
        reason: "DEPLOYMENT_BLOCKED",
        detail: format!(
            "Protected tasks already keep {} from what is wanted of it. Ask again once one of them has ended, was taken back \
             or has expired, or the desired count is higher.",
            task.group.as_deref().unwrap_or("the service")
        ),
    })
}

/// How the task is protected, given until when it is.
pub fn state(
    task: &AssignedTask,
    place: &Place,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Answer {
    let until = until.filter(|until| *until > now);
    Answer::Protection {
        task_arn: arn(task, place),
        protection_enabled: until.is_some(),
        expiration_date: until,
    }
}

/// The request failed.
pub fn failed(task: &AssignedTask, place: &Place, code: Code, message: String) -> Answer {
    Answer::Error {
        arn: arn(task, place),
        code,
        message,
    }
}

fn arn(task: &AssignedTask, place: &Place) -> String {
    place.arns().task(&task.cluster, &task.name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Step 9.1 of `docs/ecs-rules.md`.
    #[test]
    fn requests_are_those_of_ecs() {
        let now = Timestamp::from_millisecond(1_000_000_500).unwrap();
        let after = |minutes: i64| Some(Timestamp::from_second(1_000_000 + minutes * 60).unwrap());
        for (body, wanted) in [
            (r#"{"ProtectionEnabled":true}"#, after(120)),
            (
                r#"{"ProtectionEnabled":true,"ExpiresInMinutes":1}"#,
                after(1),
            ),
            (
                r#"{"ProtectionEnabled":true,"ExpiresInMinutes":2880}"#,
                after(2880),
            ),
            (r#"{"ProtectionEnabled":false}"#, None),
        ] {
            assert_eq!(read(body.as_bytes(), now), Ok(wanted), "{body}");
        }
        for (body, wanted) in [
            ("", "'ProtectionEnabled'"),
            ("{}", "'ProtectionEnabled'"),
            (r#"{"ProtectionEnabled":"true"}"#, "'ProtectionEnabled'"),
            (
                r#"{"ProtectionEnabled":true,"For":1}"#,
                "unknown field `For`",
            ),
            (
                r#"{"ProtectionEnabled":true,"ExpiresInMinutes":0}"#,
                "1 to 2880, not 0",
            ),
            (
                r#"{"ProtectionEnabled":true,"ExpiresInMinutes":2881}"#,
                "1 to 2880, not 2881",
            ),
        ] {
            let error = read(body.as_bytes(), now).unwrap_err();
            assert!(error.contains(wanted), "{body}: {error}");
        }
    }
}
