//! What a host that asks to join does next, by what its HostJoin says.
//!
//! The token of a HostJoin serves one host once; several may have it. Who it served is in the status: the host that was admitted
//! is known by the key that its request shows.

use std::time::Duration;

use tallyman_crds::conditions::{READY, STALLED};
use tallyman_crds::{ConditionStatus, HostJoinStatus, names};

/// How long a 403 is not believed: the API server's authorizer hears of a Role a little after whoever made it did, later on a
/// busy machine.
const NEW_RIGHTS: Duration = Duration::from_secs(30);
/// How long an API server may be away or overloaded: it restarts in less.
const OUTAGE: Duration = Duration::from_secs(60);

/// How long an answer with the HTTP status `code`, or none, is not believed: until then it is asked again.
pub fn patience(code: Option<u16>) -> Duration {
    match code {
        Some(403) => NEW_RIGHTS,
        None | Some(429 | 500..) => OUTAGE,
        Some(_) => Duration::ZERO,
    }
}

/// The host's own public key.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// As its request shows it.
    pub public_key: &'a str,
    /// As people compare it.
    pub fingerprint: &'a str,
}

/// What the host does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write its request.
    Ask,
    /// Open its token and be the ContainerInstance `host`.
    Take {
        /// Name of the ContainerInstance.
        host: String,
        /// The token, sealed to the host's key.
        sealed: String,
    },
    /// Look again later; how the request stands, if it was answered.
    Wait(Option<String>),
}

/// Why it does not go on: waiting would not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// Another host was admitted by the token.
    #[error(
        "the token was used already: by it a host with key {key} joined as {host}, and this host has key {own}. If that was not \
         you, delete Secret {secret}; this host needs a HostJoin of its own"
    )]
    UsedByAnother {
        /// Fingerprint of the other's key.
        key: String,
        /// The ContainerInstance that it is.
        host: String,
        /// Fingerprint of this host's key.
        own: String,
        /// What locks the other out when it is deleted.
        secret: String,
    },
    /// This host was admitted by it, and the answer was taken away since.
    #[error(
        "the token was used already: this host joined by it as {host}, and its answer is not kept longer than some minutes; make \
         another HostJoin to join again"
    )]
    Used {
        /// The ContainerInstance that it is.
        host: String,
    },
    /// Another host's request took the place of this host's.
    #[error(
        "another host asks with the same token; make a HostJoin for each host, and compare keys: this one's is {own}"
    )]
    Shared {
        /// Fingerprint of this host's key.
        own: String,
    },
    /// The operator refuses, and will go on refusing.
    #[error("refused ({reason}): {message}")]
    Refused {
        /// Reason of the condition.
        reason: String,
        /// Its sentence.
        message: String,
    },
}

/// What a host with key `own` does next. `asked` is the id of the request that it wrote, if it did.
///
/// # Errors
/// Waiting would not help.
pub fn next(status: &HostJoinStatus, own: Own<'_>, asked: Option<&str>) -> Result<Step, GiveUp> {
    let request = status.request.as_ref();
    let mine = request.is_some_and(|r| r.public_key == own.public_key);
    if let Some(host) = &status.container_instance {
        return admitted(status, host, mine, own);
    }
    match asked {
        None => Ok(Step::Ask),
        Some(_) if !mine => Err(GiveUp::Shared {
            own: own.fingerprint.to_owned(),
        }),
        Some(_) if status.answered.as_deref() == asked => answered(status),
        Some(_) => Ok(Step::Wait(None)),
    }
}

fn admitted(status: &HostJoinStatus, host: &str, mine: bool, own: Own<'_>) -> Result<Step, GiveUp> {
    let host = host.to_owned();
    if !mine {
        return Err(GiveUp::UsedByAnother {
            key: status.key_fingerprint.clone().unwrap_or_default(),
            own: own.fingerprint.to_owned(),
            secret: names::host_identity(&host),
            host,
        });
    }
    let is_ready = |c: &tallyman_crds::conditions::Condition| {
        c.type_ == READY && c.status == ConditionStatus::True
    };
    match &status.sealed_token {
        Some(sealed) => Ok(Step::Take {
            host,
            sealed: sealed.clone(),
        }),
        None if status.conditions.iter().any(is_ready) => Err(GiveUp::Used { host }),
        None => Ok(Step::Wait(None)),
    }
}

fn answered(status: &HostJoinStatus) -> Result<Step, GiveUp> {
    let mut all = status.conditions.iter();
    match all.find(|c| c.type_ == STALLED && c.status == ConditionStatus::True) {
        Some(refusal) => Err(GiveUp::Refused {
            reason: refusal.reason.clone(),
            message: refusal.message.clone(),
        }),
        None => Ok(Step::Wait(
            status.conditions.first().map(|c| c.message.clone()),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OWN: Own<'_> = Own {
        public_key: "mine",
        fingerprint: "sha256:mine",
    };

    fn status(fields: Value) -> HostJoinStatus {
        serde_json::from_value(fields).unwrap()
    }

    fn condition(type_: &str, message: &str) -> Value {
        json!([{ "type": type_, "status": "True", "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z" }])
    }

    fn request(key: &str) -> Value {
        json!({ "id": "1", "publicKey": key, "containerInstance": "a" })
    }

    #[test]
    fn rights_come_a_little_later_outages_pass_and_what_is_wrong_stays_wrong() {
        let seconds = |code| patience(code).as_secs();
        assert_eq!(seconds(Some(403)), 30);
        assert_eq!(
            [None, Some(429), Some(500), Some(503)].map(seconds),
            [60; 4]
        );
        assert_eq!([400, 401, 404, 409, 422].map(|c| seconds(Some(c))), [0; 5]);
    }

    #[test]
    fn a_host_asks_once_and_waits_for_the_answer_to_what_it_asked() {
        assert_eq!(next(&status(json!({})), OWN, None), Ok(Step::Ask));
        // What is there from before is asked anew: its answer may be one to another request.
        let before = json!({ "request": request("mine"), "answered": "0", "conditions": condition(STALLED, "Taken.") });
        assert_eq!(next(&status(before.clone()), OWN, None), Ok(Step::Ask));
        assert_eq!(next(&status(before), OWN, Some("1")), Ok(Step::Wait(None)));
        let told = json!({ "request": request("mine"), "answered": "1", "conditions": condition("Reconciling", "Wait.") });
        let wait = Step::Wait(Some("Wait.".to_owned()));
        assert_eq!(next(&status(told), OWN, Some("1")), Ok(wait));
    }

    #[test]
    fn what_will_not_mend_itself_ends_the_wait() {
        let refused = json!({ "request": request("mine"), "answered": "1", "conditions": condition(STALLED, "Taken.") });
        let why = next(&status(refused), OWN, Some("1")).unwrap_err();
        assert_eq!(why.to_string(), "refused (R): Taken.");
        let theirs = json!({ "request": request("theirs") });
        let why = next(&status(theirs), OWN, Some("1")).unwrap_err();
        assert!(why.to_string().contains("sha256:mine"), "{why}");
    }

    #[test]
    fn an_answer_is_for_the_host_whose_key_asked() {
        let answer = |key: &str| {
            json!({ "request": request(key), "containerInstance": "a", "keyFingerprint": "sha256:theirs",
                "sealedToken": "c2VhbGVk" })
        };
        let take = Step::Take {
            host: "a".to_owned(),
            sealed: "c2VhbGVk".to_owned(),
        };
        // Whether it asked just now or was interrupted.
        for asked in [None, Some("1")] {
            assert_eq!(next(&status(answer("mine")), OWN, asked), Ok(take.clone()));
            let why = next(&status(answer("theirs")), OWN, asked).unwrap_err();
            let words = why.to_string();
            assert!(
                words.contains("sha256:theirs") && words.contains("tallyman-host-a"),
                "{words}"
            );
        }
    }

    #[test]
    fn an_answer_that_was_taken_away_is_waited_for_only_until_the_host_has_joined() {
        let mut given = json!({ "request": request("mine"), "containerInstance": "a" });
        assert_eq!(
            next(&status(given.clone()), OWN, Some("1")),
            Ok(Step::Wait(None))
        );
        given["conditions"] = condition(READY, "Joined.");
        let why = next(&status(given), OWN, Some("1")).unwrap_err();
        assert_eq!(
            why,
            GiveUp::Used {
                host: "a".to_owned()
            }
        );
    }
}
