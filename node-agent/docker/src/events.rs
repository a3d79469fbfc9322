//! Docker's events as hints.

use std::collections::HashMap;
use std::time::SystemTime;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures::future::{Either, ready};
use futures::stream::{BoxStream, Stream, StreamExt, once};

use tallyman_agent_engine::{Hint, Label};

use crate::connection::Connection;
use crate::faults::Trouble;

/// Hints of what happens after this call, however late the stream is polled: the engine keeps its last events. Ends with
/// [`Hint::Lost`].
pub(crate) fn hints(
    connection: std::sync::Arc<Connection>,
    scope: Label<'_>,
) -> BoxStream<'static, Hint> {
    let options = EventsOptions {
        since: Some(now()),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![filter(scope)]),
        ])),
    };
    once(async move { subscribe(&connection, options).await })
        .flat_map(|subscribed| match subscribed {
            Ok(hints) => Either::Left(hints),
            Err(_) => Either::Right(futures::stream::empty()),
        })
        .chain(once(ready(Hint::Lost)))
        .boxed()
}

/// The time in Docker's spelling: seconds and nanoseconds since 1970.
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// A label filter in Docker's spelling.
pub(crate) fn filter((key, value): Label<'_>) -> String {
    format!("{key}={value}")
}

async fn subscribe(
    connection: &Connection,
    options: EventsOptions,
) -> Result<impl Stream<Item = Hint> + use<>, Trouble> {
    let events = connection.client().await?.events(Some(options));
    Ok(events
        .take_while(|event| ready(event.is_ok()))
        .filter_map(|event| ready(event.ok().and_then(hint))))
}

fn hint(event: EventMessage) -> Option<Hint> {
    let make = match event.action?.as_str() {
        "start" => Hint::Started,
        "die" => Hint::Died,
        "destroy" => Hint::Destroyed,
        // `health_status: healthy`
        action if action.starts_with("health_status") => Hint::HealthChanged,
        _ => return None,
    };
    let name = event.actor?.attributes?.remove("name")?;
    Some(make(name))
}
