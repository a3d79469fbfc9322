//! Just enough HTTP to fetch a page and to knock at an engine's door.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// `GET path` over TCP.
///
/// # Errors
/// When nothing answers within `timeout` at each step, or the answer is no HTTP.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Response> {
    let stream = TcpStream::connect_timeout(&address, timeout)
        .with_context(|| format!("nothing answers at {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    exchange(stream, &address.to_string(), path)
        .with_context(|| format!("GET http://{address}{path}"))
}

/// `GET path` over a Unix socket.
///
/// # Errors
/// As [`get`].
pub fn get_unix(socket: &Path, path: &str, timeout: Duration) -> Result<Response> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("nothing listens on {}", socket.display()))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    exchange(stream, "localhost", path)
        .with_context(|| format!("GET {path} on {}", socket.display()))
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Response> {
    // HTTP/1.0: the reply is neither chunked nor kept open.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Response> {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the reply has no end of headers")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the reply has no status")?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let reply = parse("HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nno\r\n\r\nsuch").unwrap();
        assert_eq!(
            reply,
            Response {
                status: 404,
                body: "no\r\n\r\nsuch".into()
            }
        );
    }

    #[test]
    fn a_torn_reply_is_an_error() {
        assert!(parse("HTTP/1.0 200").is_err());
        assert!(parse("").is_err());
    }
}
