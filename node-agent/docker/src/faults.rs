//! What Docker's refusals mean.
//!
//! Docker tells the class of an error by HTTP status, and where the status is 500 for everything, by
//! its sentences. The sentences below were taken from Docker 20.10 and the current engine.

use std::error::Error as _;
use std::sync::Arc;

use bollard::errors::Error;

use tallyman_agent_engine::{EngineError, PullFault, Verb};

/// Why a call gave no good answer.
pub(crate) enum Trouble {
    /// From bollard, not yet understood.
    Raw(Error),
    /// Already in the port's words.
    Known(EngineError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Raw(error)
    }
}

/// Docker's answer, as far as it matters which one it was.
pub(crate) enum Answer {
    /// An HTTP status of 400 and above, with Docker's sentence.
    Status(u16, String),
    /// A mistake in the middle of a stream that had begun well.
    InStream(String),
    /// No answer, or none that can be understood.
    None(EngineError),
}

/// Takes an error apart. `verb` is what was asked.
pub(crate) fn answer(verb: Verb, trouble: Trouble) -> Answer {
    let error = match trouble {
        Trouble::Known(error) => return Answer::None(error),
        Trouble::Raw(error) => error,
    };
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => Answer::Status(status_code, message),
        Error::DockerStreamError { error } => Answer::InStream(error),
        Error::SocketNotFoundError(_) => Answer::None(unreachable(error)),
        Error::HyperLegacyError { ref err } if err.is_connect() => Answer::None(unreachable(error)),
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. } => Answer::None(EngineError::Interrupted {
            verb,
            source: Arc::new(error),
        }),
        other => Answer::None(EngineError::Engine {
            verb,
            status: 0,
            message: chain(&other),
        }),
    }
}

/// An answer that the verb has no special reading for.
pub(crate) fn plain(verb: Verb, answer: Answer) -> EngineError {
    match answer {
        Answer::Status(_, message) | Answer::InStream(message) if is_no_space(&message) => {
            EngineError::NoSpace { message }
        }
        Answer::Status(status, message) => EngineError::Engine {
            verb,
            status,
            message,
        },
        Answer::InStream(message) => EngineError::Engine {
            verb,
            status: 500,
            message,
        },
        Answer::None(error) => error,
    }
}

pub(crate) fn unreachable(error: Error) -> EngineError {
    EngineError::Unreachable {
        source: Arc::new(error),
    }
}

/// How a refused create reads; name collisions are the verb's own business.
pub(crate) fn create(image: &str, answer: Answer) -> EngineError {
    match answer {
        Answer::Status(_, message) if is_network_missing(&message) => {
            EngineError::NetworkNotFound { message }
        }
        Answer::Status(404, message) => EngineError::ImageNotFound {
            image: image.to_owned(),
            message,
        },
        Answer::Status(400 | 422, message) => EngineError::InvalidSpec { message },
        // 20.10 answers 500 to some settings that it does not like.
        Answer::Status(500, message) if says(&message, &["invalid", "unknown log driver"]) => {
            EngineError::InvalidSpec { message }
        }
        other => plain(Verb::Create, other),
    }
}

/// How a refused create of a volume reads.
pub(crate) fn create_volume(name: &str, answer: Answer) -> EngineError {
    match answer {
        // A volume of this name and another driver.
        Answer::Status(409, message) => EngineError::VolumeTaken {
            name: name.to_owned(),
            message,
        },
        Answer::Status(400 | 404 | 422, message) => EngineError::InvalidSpec { message },
        // 20.10 answers 500 to options that it does not like.
        Answer::Status(500, message) if says(&message, &["invalid", "missing"]) => {
            EngineError::InvalidSpec { message }
        }
        other => plain(Verb::CreateVolume, other),
    }
}

/// How a refused start reads.
pub(crate) fn start(name: &str, answer: Answer) -> EngineError {
    match answer {
        // The same is said of a container whose namespaces it shares.
        Answer::Status(404, message)
            if says(&message, &["no such container"]) && message.trim().ends_with(name) =>
        {
            EngineError::NotFound {
                name: name.to_owned(),
            }
        }
        Answer::Status(_, message) if is_network_missing(&message) => {
            EngineError::NetworkNotFound { message }
        }
        // Before the others: a log server that does not answer sounds like an engine or a port.
        Answer::Status(_, message) if says(&message, &["failed to initialize logging driver"]) => {
            EngineError::CannotStart {
                name: name.to_owned(),
                message,
            }
        }
        Answer::Status(_, message) if says(&message, &["could not select device driver"]) => {
            EngineError::NoDeviceDriver { message }
        }
        Answer::Status(_, message) if is_port_taken(&message) => EngineError::PortTaken {
            port: port_in(&message),
            message,
        },
        Answer::Status(_, message) if is_no_space(&message) => EngineError::NoSpace { message },
        Answer::Status(500.., message) if is_engine_trouble(&message) => EngineError::Engine {
            verb: Verb::Start,
            status: 500,
            message,
        },
        Answer::Status(_, message) => EngineError::CannotStart {
            name: name.to_owned(),
            message,
        },
        other => plain(Verb::Start, other),
    }
}

/// How a refusal to put a container on a network reads.
pub(crate) fn attach(name: &str, answer: Answer) -> EngineError {
    match answer {
        Answer::Status(404, message) if is_network_missing(&message) => {
            EngineError::NetworkNotFound { message }
        }
        Answer::Status(404, _) => EngineError::NotFound {
            name: name.to_owned(),
        },
        other => plain(Verb::Attach, other),
    }
}

/// How a failed pull reads, told by status or in the stream.
pub(crate) fn pull(image: &str, answer: Answer) -> EngineError {
    let message = match answer {
        Answer::Status(400, message) if says(&message, &["invalid reference", "invalid tag"]) => {
            return EngineError::InvalidSpec { message };
        }
        Answer::Status(_, message) | Answer::InStream(message) => message,
        Answer::None(error) => return error,
    };
    if is_no_space(&message) {
        return EngineError::NoSpace { message };
    }
    let image = image.to_owned();
    match pull_fault(&message) {
        Some(why) => EngineError::PullFailed {
            image,
            why,
            message,
        },
        None => EngineError::ImageNotFound { image, message },
    }
}

/// First match wins; `None` is a plain "there is no such image".
fn pull_fault(message: &str) -> Option<PullFault> {
    let classes: [(Option<PullFault>, &[&str]); 5] = [
        (
            Some(PullFault::RateLimited),
            &["toomanyrequests", "too many requests"],
        ),
        // Docker Hub says "access denied, repository does not exist or may require docker login" of
        // both; credentials are the likelier cure.
        (
            Some(PullFault::Denied),
            &["denied", "unauthorized", "no basic auth", "forbidden"],
        ),
        (
            Some(PullFault::Platform),
            &["no matching manifest", "no match for platform"],
        ),
        (
            Some(PullFault::RegistryUnreachable),
            &[
                "dial tcp",
                "no such host",
                "i/o timeout",
                "connection refused",
                "connection reset",
                "no route to host",
                "network is unreachable",
                "tls handshake timeout",
                "server misbehaving",
                "client.timeout",
                "deadline exceeded",
                "http response to https client",
                ": eof",
            ],
        ),
        (
            None,
            &[
                "manifest unknown",
                "not found",
                "name unknown",
                "does not exist",
            ],
        ),
    ];
    classes
        .into_iter()
        .find(|(_, words)| says(message, words))
        .map_or(Some(PullFault::Other), |(class, _)| class)
}

fn is_port_taken(message: &str) -> bool {
    says(
        message,
        &[
            "port is already allocated",
            "address already in use",
            "all ports are allocated",
        ],
    )
}

/// `network lan not found`
fn is_network_missing(message: &str) -> bool {
    says(message, &["network "]) && says(message, &[" not found"])
}

fn is_no_space(message: &str) -> bool {
    says(message, &["no space left on device", "disk quota exceeded"])
}

/// The engine's own parts failed, not the container's program.
fn is_engine_trouble(message: &str) -> bool {
    says(
        message,
        &[
            "context deadline exceeded",
            "context canceled",
            "transport is closing",
            "containerd.sock",
            "connection error",
            "ttrpc: closed",
            "unavailable",
        ],
    )
}

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// The port in `Bind for 0.0.0.0:8080 failed: ...`, `listen tcp4 0.0.0.0:8080: bind: ...` or
/// `failed to bind host port 0.0.0.0:8080/tcp: ...`: the last one, since endpoint names come first.
fn port_in(message: &str) -> Option<u16> {
    message
        .split([' ', ',', '/'])
        .map(|word| word.trim_end_matches(':'))
        .filter_map(|word| word.rsplit_once(':'))
        .filter_map(|(_, port)| port.parse().ok())
        .next_back()
}

/// An error and its causes in one line.
fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyman_agent_engine::{Fault, Retry};

    const ENDPOINT: &str =
        "driver failed programming external connectivity on endpoint a4 (1a5d): ";

    #[test]
    fn taken_ports_of_both_generations_are_read() {
        for (words, wanted) in [
            (
                "Bind for 0.0.0.0:8080 failed: port is already allocated",
                8080,
            ),
            (
                "Error starting userland proxy: listen tcp4 0.0.0.0:8081: bind: address already in use",
                8081,
            ),
            (
                "failed to bind host port 0.0.0.0:8082/udp: address already in use",
                8082,
            ),
            ("Bind for :::8083 failed: port is already allocated", 8083),
        ] {
            let error = start("a4", Answer::Status(500, format!("{ENDPOINT}{words}")));
            assert!(
                matches!(error, EngineError::PortTaken { port: Some(port), .. } if port == wanted),
                "{error:?}"
            );
            assert_eq!(error.retry(), Retry::Later);
            assert_eq!(error.fault(), Fault::Host);
        }
    }

    #[test]
    fn failed_pulls_are_classed() {
        for (words, wanted) in [
            (
                "dial tcp: lookup registry-1.docker.io on 10.0.0.53:53: i/o timeout",
                PullFault::RegistryUnreachable,
            ),
            (
                "Get \"http://localhost/v2/\": dial tcp 127.0.0.1:80: connect: connection refused",
                PullFault::RegistryUnreachable,
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                PullFault::Denied,
            ),
            (
                "toomanyrequests: You have reached your pull rate limit.",
                PullFault::RateLimited,
            ),
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                PullFault::Platform,
            ),
            (
                "filesystem layer verification failed for digest sha256:1",
                PullFault::Other,
            ),
        ] {
            let error = pull("x", Answer::InStream(words.to_owned()));
            assert!(
                matches!(error, EngineError::PullFailed { why, .. } if why == wanted),
                "{words}: {error:?}"
            );
        }
        let error = pull(
            "x",
            Answer::Status(
                404,
                "manifest for x:1 not found: manifest unknown".to_owned(),
            ),
        );
        assert!(
            matches!(error, EngineError::ImageNotFound { .. }),
            "{error:?}"
        );
        let error = pull(
            "x",
            Answer::InStream("write /var/x: no space left on device".to_owned()),
        );
        assert!(matches!(error, EngineError::NoSpace { .. }), "{error:?}");
        let error = pull(
            "X",
            Answer::Status(
                400,
                "invalid reference format: repository name must be lowercase".to_owned(),
            ),
        );
        assert!(
            matches!(error, EngineError::InvalidSpec { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_log_server_that_does_not_answer_is_not_the_engines_trouble() {
        for words in [
            "dial tcp 127.0.0.1:24224: connect: connection refused",
            "failed to create Cloudwatch log stream: no EC2 IMDS role found: context deadline exceeded",
            "dial udp 127.0.0.1:514: bind: address already in use",
        ] {
            let words = format!("failed to initialize logging driver: {words}");
            let error = start("a", Answer::Status(500, words));
            assert_eq!((error.fault(), error.retry()), (Fault::User, Retry::Never));
        }
    }

    #[test]
    fn starts_that_fail_for_the_engine_are_not_the_users_fault() {
        let error = start(
            "a",
            Answer::Status(
                500,
                "failed to create task: context deadline exceeded".to_owned(),
            ),
        );
        assert_eq!(
            (error.fault(), error.retry()),
            (Fault::Engine, Retry::Unknown)
        );
        let error = start(
            "a",
            Answer::Status(
                500,
                "unable to find user nobody9: no matching entries in passwd file".to_owned(),
            ),
        );
        assert_eq!((error.fault(), error.retry()), (Fault::User, Retry::Never));
        let error = start("a", Answer::Status(404, "No such container: a".to_owned()));
        assert!(matches!(error, EngineError::NotFound { .. }), "{error:?}");
    }
}
