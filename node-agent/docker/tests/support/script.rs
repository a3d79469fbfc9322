//! An engine that answers from a script: just enough HTTP over a unix socket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What the scripted engine does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status and body.
    Says(u16, String),
    /// Nothing, ever.
    Hangs,
    /// Closes the connection.
    BreaksOff,
    /// A stream: a line, then nothing more.
    BeginsAndHangs(String),
    /// Waits, then says.
    SaysAfter(Duration, u16, String),
}

type Play = dyn Fn(&str) -> Reply + Send + Sync;

/// A scripted engine on a socket of its own.
pub struct Scripted {
    path: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Scripted {
    /// Answers `/version` itself with API 1.41, and all else as `play` says to a line such as
    /// `POST /containers/a/start` (without version and query).
    pub fn new(play: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(&fresh_path(), play)
    }

    pub fn at(path: &Path, play: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let play: Arc<Play> = Arc::new(play);
        let seen = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&play), Arc::clone(&seen)));
            }
        });
        Self {
            path: path.to_owned(),
            requests,
            server,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Requests so far as they came, with version, without query.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

pub fn fresh_path() -> PathBuf {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tallyman-scripted-{}-{number}", std::process::id()))
}

async fn serve(stream: UnixStream, play: Arc<Play>, seen: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let Some(request) = receive(&mut stream).await else {
        return;
    };
    seen.lock().unwrap().push(request.clone());
    let unversioned = request.replace("/v1.41", "");
    let reply = match unversioned.as_str() {
        "GET /version" => match play("GET /version") {
            Reply::Says(404, _) => Reply::Says(200, r#"{"ApiVersion":"1.41"}"#.to_owned()),
            other => other,
        },
        other => play(other),
    };
    let (status, body) = match reply {
        Reply::Says(status, body) => (status, body),
        Reply::SaysAfter(span, status, body) => {
            tokio::time::sleep(span).await;
            (status, body)
        }
        Reply::BreaksOff => return,
        Reply::Hangs => std::future::pending().await,
        Reply::BeginsAndHangs(line) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
            let _ = stream.write_all(format!("{head}{line}\n").as_bytes()).await;
            let _ = stream.flush().await;
            std::future::pending().await
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.flush().await;
}

/// Method and path; the body is read and dropped.
async fn receive(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(told) = line.strip_prefix("content-length:") {
            length = told.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split('?').next()?;
    Some(format!("{method} {path}"))
}
