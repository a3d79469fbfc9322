//! Faults that a task asks for in its own network (ECS fault injection): a port whose packets are dropped, packets that are
//! late, packets that are lost.
//!
//! Why: who wants to know what a task does when its network is bad asks the agent for a bad one. What is asked is read and
//! refused here, and every command line is composed here; so all of it is shown without a kernel that can do it.
//!
//! Where: the metadata endpoint of the shell (`node-agent/src/metadata/fault_injection.rs`) knows who asks and where the
//! task's network is, runs the commands as [`Tools`], and answers with what [`perform`] returns.
//!
//! Never: a command is run in a network that was not seen to be the task's.

mod abilities;
mod black_hole;
mod impairment;
mod pace;
mod place;
mod request;
mod tools;

use serde::Serialize;

pub use abilities::{Abilities, Ability};
pub use pace::Pace;
pub use place::{Place, refused};
pub use request::{Direction, Request, Source};
pub use tools::{Command, NotRun, Ran, Tools};

use crate::fault_injection::place::Network;
use crate::fault_injection::tools::Shell;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Packets of a port are dropped.
    BlackHolePort,
    /// Packets are late.
    Latency,
    /// Packets are lost.
    PacketLoss,
}

impl Kind {
    /// As paths have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlackHolePort => "network-blackhole-port",
            Self::Latency => "network-latency",
            Self::PacketLoss => "network-packet-loss",
        }
    }

    /// The kind that a path names.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::BlackHolePort, Self::Latency, Self::PacketLoss];
        all.into_iter().find(|one| one.as_str() == name)
    }
}

/// What is asked of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It is to begin.
    Start,
    /// It is to end.
    Stop,
    /// Whether it is there.
    Status,
}

impl Act {
    /// As paths have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
        }
    }

    /// The act that a path names.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Start, Self::Stop, Self::Status];
        all.into_iter().find(|one| one.as_str() == name)
    }
}

/// What was asked, for people (ECS' own words).
pub fn asked(act: Act, kind: Kind) -> String {
    let act = match act {
        Act::Start => "start",
        Act::Stop => "stop",
        Act::Status => "check status",
    };
    format!("{act} {}", kind.as_str())
}

/// How a request ended, with the status code that ECS has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Done(Status),
    /// 400: the request, or the task, is not as it must be.
    Invalid(String),
    /// 409: another fault of the kind that there is one of.
    Conflict(String),
    /// 429: asked too often.
    Throttled(String),
    /// 500: the host could not do it.
    Failed(String),
}

/// How a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is there.
    Running,
    /// It was there, or not, and is not any more.
    Stopped,
    /// It is not there.
    NotRunning,
}

/// The body of an answer: one of the two, as ECS spells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Body {
    /// How the fault is.
    Status(Status),
    /// Why there is no answer.
    Error(String),
}

impl Answer {
    /// Its status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Done(_) => 200,
            Self::Invalid(_) => 400,
            Self::Conflict(_) => 409,
            Self::Throttled(_) => 429,
            Self::Failed(_) => 500,
        }
    }

    /// Its body.
    pub fn body(&self) -> Body {
        match self {
            Self::Done(status) => Body::Status(*status),
            Self::Invalid(words)
            | Self::Conflict(words)
            | Self::Throttled(words)
            | Self::Failed(words) => Body::Error(words.clone()),
        }
    }
}

/// Carries out a request in the network of a task.
pub fn perform(act: Act, request: &Request, place: &Place, tools: &impl Tools) -> Answer {
    let asked = asked(act, request.kind());
    let done = || {
        let network = Network::find(place, request.needs_interface(), tools)?;
        let shell = Shell::new(tools, &network);
        match request {
            Request::BlackHole(hole) => black_hole::perform(act, hole, &shell),
            Request::Latency(_) | Request::PacketLoss(_) => {
                impairment::perform(act, request, &shell)
            }
        }
    };
    match done() {
        Ok(answer) => answer,
        Err(Trouble::TimedOut) => Answer::Failed(format!("{asked}: request timed out")),
        Err(Trouble::Refused(words)) => Answer::Failed(format!("{asked}: {words}")),
    }
}

/// Why a request could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// The tools took too long.
    TimedOut,
    /// What they said, or that they are not there.
    Refused(String),
}
