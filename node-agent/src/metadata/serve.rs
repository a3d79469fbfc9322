//! Requests within bounds: who may connect, for how long, how much is read, how often.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tallyman_agent_core::metadata::places::Places;
use tallyman_agent_engine::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::metadata::answers::{Answer, Endpoint, Question};

/// ECS: what a request and an answer may take each.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const BODY: usize = 4096;
/// Connections at once; more wait.
const CONNECTIONS: usize = 512;
/// Of one address; more are closed. As many as it may ask at once (ECS_TASK_METADATA_RPS_LIMIT), and some.
const OF_ONE: usize = 64;
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped.
pub async fn serve<E: Engine>(listener: TcpListener, endpoint: Arc<Endpoint<E>>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let places = Arc::new(Mutex::new(Places::new(OF_ONE)));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection to the metadata endpoint was not taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let peer = peer.ip();
        let Some(place) = Place::take(&places, peer, permit) else {
            debug!(%peer, "a connection was closed: too many of this address are open");
            continue;
        };
        let endpoint = Arc::clone(&endpoint);
        tokio::spawn(async move {
            let talk = talk(stream, peer, endpoint);
            match tokio::time::timeout(PATIENCE * 2, talk).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%peer, %error, "a request was not answered"),
                Err(_) => debug!(%peer, "a connection took too long"),
            }
            drop(place);
        });
    }
}

/// A connection's place among all and among those of its address, until it is dropped.
struct Place {
    places: Arc<Mutex<Places>>,
    peer: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(
        places: &Arc<Mutex<Places>>,
        peer: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<Self> {
        locked(places).take(peer).then(|| Self {
            places: Arc::clone(places),
            peer,
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.places).leave(self.peer);
    }
}

fn locked(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request and its answer: who wants to know more connects again, so nobody keeps a connection.
async fn talk<E: Engine>(
    stream: TcpStream,
    peer: IpAddr,
    endpoint: Arc<Endpoint<E>>,
) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let endpoint = Arc::clone(&endpoint);
        async move { respond(request, peer, &endpoint).await }
    });
    http1::Builder::new()
        .keep_alive(false)
        // A shell with `nc` ends its side after the request.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// A peer that is nobody's gets no answer at all: its connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("a stranger asks")]
struct Stranger;

async fn respond<E: Engine>(
    request: Request<Incoming>,
    peer: IpAddr,
    endpoint: &Endpoint<E>,
) -> Result<Response<Full<Bytes>>, Stranger> {
    if !endpoint.admits(peer) {
        let words = "Too many requests; see ECS_TASK_METADATA_RPS_LIMIT of the host.";
        return Ok(reply(Answer::said(StatusCode::TOO_MANY_REQUESTS, words)));
    }
    let answer = if request.headers().contains_key("x-forwarded-for") {
        let words = "Requests that somebody passes on for another one are not answered.";
        Answer::said(StatusCode::FORBIDDEN, words)
    } else {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let body = Limited::new(request.into_body(), BODY).collect();
        match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => {
                let body = body.to_bytes();
                let question = Question {
                    method,
                    path,
                    body,
                    peer,
                };
                endpoint.answer(question).await
            }
            Ok(Err(_)) | Err(_) => {
                let words = "The body is longer than 4096 bytes, or does not come.";
                Answer::said(StatusCode::BAD_REQUEST, words)
            }
        }
    };
    if !answer.status.is_success() && !endpoint.is_ready() {
        // Whoever it is: SDKs ask again after this answer, and after no other.
        let words = "The agent has just started, and does not know its tasks yet.";
        return Ok(reply(Answer::said(StatusCode::SERVICE_UNAVAILABLE, words)));
    }
    if !answer.status.is_success() && !endpoint.knows(peer).await {
        return Err(Stranger);
    }
    Ok(reply(answer))
}

fn reply(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
