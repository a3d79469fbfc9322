//! A registry that lies.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

/// Repositories, and how each lies about its manifest.
const LIES: [(&str, Lie); 8] = [
    ("missing", Lie::Status("404 Not Found")),
    ("forbidden", Lie::Status("401 Unauthorized")),
    ("failing", Lie::Status("500 Internal Server Error")),
    ("circle", Lie::Circle),
    ("torn", Lie::Torn),
    ("garbage", Lie::Body("this is no manifest")),
    ("huge", Lie::Huge),
    ("other", Lie::Body(OTHER)),
];

/// A manifest, but not the one that was asked for.
const OTHER: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}"#;
/// MiB; engines take four.
const HUGE: usize = 8;

/// How a connection begins that is to be encrypted.
const TLS: u8 = 0x16;

#[derive(Clone, Copy)]
enum Lie {
    /// No manifest at all.
    Status(&'static str),
    /// It is where it was looked for.
    Circle,
    /// It ends before its length.
    Torn,
    /// It is this.
    Body(&'static str),
    /// It is longer than anybody takes.
    Huge,
}

/// Answers until dropped.
pub struct Registry {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// At an address that hosts reach.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub fn open(address: Ipv4Addr) -> Result<Registry> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // One that breaks off is the engine's to complain of.
                let _ = connection.and_then(answer);
            }
        });
        Ok(Registry {
            address,
            done,
            thread: Some(thread),
        })
    }

    /// An image for each lie.
    pub fn images(&self) -> Vec<String> {
        let address = self.address;
        let of = |(name, lie): &(&str, Lie)| match lie {
            Lie::Body(OTHER) => format!("{address}/{name}@sha256:{}", "0".repeat(64)),
            _ => format!("{address}/{name}:1"),
        };
        LIES.iter().map(of).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte)?;
        if head.is_empty() && byte == [TLS] {
            // It is asked so first.
            return Ok(());
        }
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let repository = path
        .strip_prefix("/v2/")
        .and_then(|p| p.split_once("/manifests/"));
    let lie = repository.and_then(|(name, _)| LIES.iter().find(|(of, _)| *of == name));
    let say = |status: &str, more: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.distribution.manifest.v2+json\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let mut tell = |head: String, body: &[u8]| {
        connection.write_all(head.as_bytes())?;
        connection.write_all(body)
    };
    match lie.map(|(_, lie)| *lie) {
        None => tell(say("200 OK", "", 2), b"{}"),
        Some(Lie::Status(status)) => tell(say(status, "", 2), b"{}"),
        Some(Lie::Circle) => tell(
            say(
                "307 Temporary Redirect",
                &format!("Location: {path}\r\n"),
                0,
            ),
            b"",
        ),
        Some(Lie::Torn) => tell(say("200 OK", "", OTHER.len()), &OTHER.as_bytes()[..40]),
        Some(Lie::Body(body)) => tell(say("200 OK", "", body.len()), body.as_bytes()),
        Some(Lie::Huge) => {
            let body = vec![b' '; HUGE << 20];
            tell(say("200 OK", "", body.len()), &body)
        }
    }
}
