//! Faults that containers ask for, carried out by programs of this host.

use std::sync::PoisonError;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tallyman_agent_core::fault_injection::{
    self, Abilities, Ability, Act, Answer as Said, Kind, Place, Request, perform,
};
use tallyman_agent_core::pause;
use tallyman_agent_engine::Engine;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::metadata::answers::{Answer, Asker, Endpoint};
use crate::metadata::tools::HostTools;

/// Tries what this host can do, told in the log.
pub async fn find() -> Abilities {
    let tried = spawn_blocking(|| Abilities::tried(&HostTools::now())).await;
    let (abilities, reasons) = tried.unwrap_or_else(|error| {
        warn!(%error, "what this host can do of fault injection was not found out");
        Default::default()
    });
    for (ability, why) in reasons {
        match ability {
            Ability::BlackHolePort => info!(
                why,
                "no fault injection: tasks with enableFaultInjection are placed on other hosts"
            ),
            Ability::Impairment => info!(
                why,
                "this host cannot delay and lose packets: network-latency and network-packet-loss are refused"
            ),
        }
    }
    abilities
}

impl From<Said> for Answer {
    fn from(said: Said) -> Self {
        let status = StatusCode::from_u16(said.code());
        Self::with(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            &said.body(),
        )
    }
}

impl Answer {
    /// What is said of an id that is unknown or somebody else's, as answers about faults have it.
    fn into_error(mut self) -> Self {
        if let Value::String(words) = &self.body {
            self.body = json!({ "Error": words });
        }
        self
    }
}

impl<E: Engine> Endpoint<E> {
    /// Answers about a fault in the network of the task that asks.
    pub(super) async fn fault(
        &self,
        asker: Result<Asker, Answer>,
        kind: Kind,
        act: Act,
        body: &Bytes,
    ) -> Answer {
        let asker = match asker {
            Ok(asker) => asker,
            Err(refusal) => return refusal.into_error(),
        };
        let Asker {
            mut sight,
            container,
        } = asker;
        let (task, now) = (sight.task.name.clone(), self.since.elapsed());
        let throttled = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.refuses(&sight.task.uid, &container, (kind, act), now)
        };
        if let Some(throttled) = throttled {
            return throttled.into();
        }
        let request = match Request::read(kind, act, body) {
            Ok(request) => request,
            Err(words) => return Said::Invalid(words).into(),
        };
        if let Some(refused) = fault_injection::refused(&sight, &self.place, &container) {
            return refused.into();
        }
        if sight.planned(pause::NAME).is_some() {
            self.look(&mut sight, pause::NAME).await;
        }
        let asked = fault_injection::asked(act, kind);
        let Some(place) = Place::of(&sight, &container) else {
            let words = format!("{asked}: the network of the task is not there");
            return Said::Failed(words).into();
        };
        // Who waits for a turn waits here: a thread that may be blocked is one of two, and the ledger needs one.
        let turn = self.faults.clone().lock_owned().await;
        // What was begun is finished, or taken back, though nobody waits for the answer any more.
        let done = spawn_blocking(move || {
            let answer = perform(act, &request, &place, &HostTools::now());
            drop(turn);
            answer
        });
        let said = done.await.unwrap_or_else(|error| {
            let words = format!("{asked}: {error}");
            Said::Failed(words)
        });
        info!(task, container, asked, answer = ?said, "fault injection");
        said.into()
    }
}
