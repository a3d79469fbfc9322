//! What the API server's answers say of this host's clock; what that means is `tallyman_agent_core::clock`'s to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Context as _;
use axum::http::header::DATE;
use axum::http::{Request, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tallyman_agent_core::clock::HostClock;
use tower::layer::layer_fn;
use tower::{BoxError, Service};

/// What is known of it, for whoever tells people.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<HostClock>>);

impl Clock {
    /// What is wrong with it.
    pub fn complaint(&self) -> Option<String> {
        self.with(|clock| clock.complaint())
    }

    /// A client whose answers are looked at.
    ///
    /// # Errors
    /// Certificates or token cannot be read.
    pub fn client(&self, config: Config) -> anyhow::Result<Client> {
        let clock = self.clone();
        let looks = layer_fn(move |inner| Looks {
            inner,
            clock: clock.clone(),
        });
        let builder = ClientBuilder::try_from(config).context("cannot set up the client")?;
        Ok(builder.with_layer(&looks).build())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HostClock) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes requests on, and looks at what time the answers say it is.
struct Looks<S> {
    inner: S,
    clock: Clock,
}

impl<S, B> Service<Request<Body>> for Looks<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clock = self.clock.clone();
        let sent = Timestamp::now();
        let answer = self.inner.call(request);
        answer
            .inspect(move |answer| {
                if let Ok(response) = answer
                    && let Some(date) = date(response)
                {
                    clock.with(|clock| clock.answered(date, sent, Timestamp::now()));
                }
            })
            .boxed()
    }
}

fn date<B>(response: &Response<B>) -> Option<Timestamp> {
    let text = response.headers().get(DATE)?.to_str().ok()?;
    Some(rfc2822::parse(text).ok()?.timestamp())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_servers_write_it() {
        let said = |text: &str| {
            let response = Response::builder().header(DATE, text).body(()).unwrap();
            date(&response).map(|date| date.as_second())
        };
        assert_eq!(said("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(said("yesterday"), None);
        assert_eq!(date(&Response::new(())), None);
    }
}
