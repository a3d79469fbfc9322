//! Requests as bytes, sent by a shell at the place from where somebody tries.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::command::Tool;

/// Begins an answer in what the shell prints; no server says it.
const MARK: &str = "~~~tallyman-attack~~~";
/// What the shell may take for all of it.
const PATIENCE: Duration = Duration::from_secs(240);
/// Tries of a request that was refused for being one of too many.
const ROUNDS: usize = 40;
/// In which a container is allowed some more requests.
const REFILL: Duration = Duration::from_secs(1);
/// Requests at once.
const AT_ONCE: usize = 16;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What it tries, for people.
    pub what: String,
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// All that is sent.
    pub bytes: Vec<u8>,
}

/// Address of the metadata endpoint.
pub const ENDPOINT: &str = "169.254.170.2";
/// Its port.
pub const PORT: u16 = 51_679;

impl Ask {
    /// These bytes, to the metadata endpoint.
    pub fn bytes(what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Ask {
            what: what.into(),
            host: ENDPOINT.to_owned(),
            port: PORT,
            bytes: bytes.into(),
        }
    }

    /// `method path`, with more header lines, to the metadata endpoint.
    pub fn request(method: &str, path: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {ENDPOINT}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        Ask::bytes(format!("{method} {path} {}", headers.trim()), text)
    }

    /// `GET path` from the metadata endpoint.
    pub fn get(path: &str) -> Self {
        Ask::request("GET", path, "", "")
    }

    /// To somebody else.
    pub fn to(mut self, host: &str, port: u16) -> Self {
        host.clone_into(&mut self.host);
        self.port = port;
        self.what = format!("{host}:{port} {}", self.what);
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What was tried.
    pub what: String,
    /// All that was received.
    pub text: String,
}

impl Reply {
    /// HTTP's status, if it is an answer.
    pub fn status(&self) -> Option<u16> {
        let line = self.text.strip_prefix("HTTP/1.")?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// In a word or two.
    pub fn word(&self) -> String {
        match self.status() {
            Some(status) => status.to_string(),
            None if self.text.trim().is_empty() => "no answer".to_owned(),
            None => "no HTTP".to_owned(),
        }
    }
}

/// Sends each request and reads its answer. `shell` is a shell that reads commands from its standard input.
///
/// # Errors
/// The shell cannot be run, or answers are missing.
pub fn ask(shell: &Tool, asks: &[Ask]) -> Result<Vec<Reply>> {
    ask_after(shell, asks, Duration::ZERO)
}

fn ask_after(shell: &Tool, asks: &[Ask], before: Duration) -> Result<Vec<Reply>> {
    ensure!(!asks.is_empty(), "nothing is asked");
    // The reader of an answer must not close its side before the answer is there.
    let mut script = format!(
        "PATH=/bin:/usr/bin\nbusybox usleep {}\nd=$(busybox mktemp -d)\n\
         ask() {{ (printf \"$2\"; busybox usleep $3) | busybox timeout 5 busybox nc -w 3 $4 >$d/$1 2>/dev/null; }}\n",
        before.as_micros()
    );
    for (number, ask) in asks.iter().enumerate() {
        // What goes to the metadata endpoint may end its side; introspection takes that for the end.
        let wait = match ask.port {
            PORT | 80 => 0,
            _ => 1_000_000,
        };
        let (bytes, host, port) = (escaped(&ask.bytes), &ask.host, ask.port);
        writeln!(script, "ask {number} '{bytes}' {wait} '{host} {port}' &")?;
        if number % AT_ONCE == AT_ONCE - 1 {
            script.push_str("wait\n");
        }
    }
    writeln!(
        script,
        "wait\nfor i in $(busybox seq 0 {}); do echo; echo '{MARK}'; busybox cat $d/$i; done; busybox rm -r $d; echo; echo done",
        asks.len() - 1
    )?;
    let output = shell.clone().stdin(script).timeout(PATIENCE).run()?;
    let text = output.stdout.trim_end();
    let text = text
        .strip_suffix("done")
        .with_context(|| format!("the shell broke off: {}", output.stderr))?;
    let texts: Vec<&str> = text.split(MARK).skip(1).collect();
    ensure!(
        texts.len() == asks.len(),
        "{} answers to {} requests",
        texts.len(),
        asks.len()
    );
    let replies = asks.iter().zip(texts).map(|(ask, text)| Reply {
        what: ask.what.clone(),
        text: text.trim_matches('\n').to_owned(),
    });
    Ok(replies.collect())
}

/// [`ask`], and again what was refused for being one of too many: such an answer shows nothing.
///
/// # Errors
/// As of [`ask`], or it is refused so for ever.
pub fn ask_until_answered(shell: &Tool, asks: &[Ask]) -> Result<Vec<Reply>> {
    let mut replies = Vec::new();
    let mut left = asks.to_vec();
    for round in 0..ROUNDS {
        let mut again = Vec::new();
        let before = if round == 0 { Duration::ZERO } else { REFILL };
        for (one, reply) in left.iter().zip(ask_after(shell, &left, before)?) {
            match reply.status() {
                Some(429) => again.push(one.clone()),
                _ => replies.push(reply),
            }
        }
        left = again;
        if left.is_empty() {
            return Ok(replies);
        }
    }
    anyhow::bail!("{} requests are one of too many for ever", left.len())
}

/// As the shell's printf reads it, within single quotes.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'/' | b':' | b'.' | b'-' | b'_' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_as_they_are() {
        let bytes: Vec<u8> = (0..=255).chain(*b"%d\\n'$x").collect();
        let printed = Tool::new("busybox")
            .args(["sh", "-c", &format!("printf '{}'", escaped(&bytes))])
            .check_bytes()
            .unwrap();
        assert_eq!(printed, bytes);
    }

    #[test]
    fn an_answer_is_told_from_silence() {
        let word = |text: &str| {
            let text = text.to_owned();
            Reply {
                what: String::new(),
                text,
            }
            .word()
        };
        assert_eq!(word("HTTP/1.1 403 Forbidden\r\n\r\n"), "403");
        assert_eq!(word("HTTP/1.0 200 OK\r\n"), "200");
        assert_eq!(word("\n"), "no answer");
        assert_eq!(word("SSH-2.0"), "no HTTP");
    }
}
