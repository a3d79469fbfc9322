//! What a path of the endpoint asks for.

use crate::fault_injection::{Act, Kind};
use crate::metadata::documents::Version;

/// What is asked about a container or its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The container.
    Container,
    /// Its task.
    Task {
        /// With the tags of task and host.
        tags: bool,
    },
    /// What the container uses.
    Stats,
    /// What each container of the task uses.
    TaskStats,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// v3 and v4: of the container that the id in the path is for.
    OfId {
        /// Version of the answer.
        version: Version,
        /// The id.
        id: &'a str,
        /// What of it.
        what: What,
    },
    /// Protection of the task of the container that the id in the path is for.
    Protection {
        /// The id.
        id: &'a str,
    },
    /// A fault in the network of the task of the container that the id in the path is for.
    Fault {
        /// The id.
        id: &'a str,
        /// Which fault.
        kind: Kind,
        /// What of it.
        act: Act,
    },
    /// Credentials of the task of the container that the id in the path is for.
    Credentials {
        /// The id.
        id: &'a str,
    },
    /// v2: of the container that asks, by its address, or of another one of its task.
    OfPeer {
        /// The engine's id of a container; without one it is about the task.
        docker_id: Option<&'a str>,
        /// Use instead of description.
        stats: bool,
    },
}

/// Reads a path; a slash at its end means nothing.
pub fn read(path: &str) -> Option<Route<'_>> {
    let path = path.strip_prefix('/')?;
    let parts: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let route = match *parts.as_slice() {
        ["v2", "metadata"] => Route::OfPeer {
            docker_id: None,
            stats: false,
        },
        ["v2", "metadata", id] => Route::OfPeer {
            docker_id: Some(id),
            stats: false,
        },
        ["v2", "stats"] => Route::OfPeer {
            docker_id: None,
            stats: true,
        },
        ["v2", "stats", id] => Route::OfPeer {
            docker_id: Some(id),
            stats: true,
        },
        ["v2", "credentials", id] => Route::Credentials { id },
        ["api", id, "task-protection", "v1", "state"] => Route::Protection { id },
        ["api", id, "fault", "v1", kind, act] => Route::Fault {
            id,
            kind: Kind::named(kind)?,
            act: Act::named(act)?,
        },
        ["v3", id, ref rest @ ..] => Route::OfId {
            version: Version::Three,
            id,
            what: what(rest)?,
        },
        ["v4", id, ref rest @ ..] => Route::OfId {
            version: Version::Four,
            id,
            what: what(rest)?,
        },
        _ => return None,
    };
    Some(route)
}

fn what(rest: &[&str]) -> Option<What> {
    match *rest {
        [] => Some(What::Container),
        ["task"] => Some(What::Task { tags: false }),
        ["taskWithTags"] => Some(What::Task { tags: true }),
        ["stats"] => Some(What::Stats),
        ["task", "stats"] => Some(What::TaskStats),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_ecs() {
        let of = |version, what| {
            Some(Route::OfId {
                version,
                id: "x",
                what,
            })
        };
        let peer = |docker_id, stats| Some(Route::OfPeer { docker_id, stats });
        for (path, wanted) in [
            ("/v4/x", of(Version::Four, What::Container)),
            ("/v4/x/", of(Version::Four, What::Container)),
            ("/v4/x/task", of(Version::Four, What::Task { tags: false })),
            (
                "/v4/x/taskWithTags",
                of(Version::Four, What::Task { tags: true }),
            ),
            ("/v4/x/stats", of(Version::Four, What::Stats)),
            ("/v4/x/task/stats", of(Version::Four, What::TaskStats)),
            ("/v3/x/task", of(Version::Three, What::Task { tags: false })),
            ("/v2/credentials/x", Some(Route::Credentials { id: "x" })),
            (
                "/api/x/task-protection/v1/state",
                Some(Route::Protection { id: "x" }),
            ),
            (
                "/api/x/fault/v1/network-packet-loss/status",
                Some(Route::Fault {
                    id: "x",
                    kind: Kind::PacketLoss,
                    act: Act::Status,
                }),
            ),
            ("/v2/metadata", peer(None, false)),
            ("/v2/metadata/", peer(None, false)),
            ("/v2/metadata/abc", peer(Some("abc"), false)),
            ("/v2/stats", peer(None, true)),
            ("/v2/stats/abc", peer(Some("abc"), true)),
        ] {
            assert_eq!(read(path), wanted, "{path}");
        }
        for path in [
            "",
            "/",
            "v4/x",
            "/v4",
            "/v4/x/y",
            "/v5/x",
            "/v4/x/task/x",
            "//",
            "/v2",
            "/v2/credentials",
            "/api/x/fault/v1/network-latency",
            "/api/x/fault/v1/network-latency/begin",
            "/api/x/fault/v1/network-jitter/start",
            "/v2/credentials/x/y",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}
