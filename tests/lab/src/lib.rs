//! The lab: a Kubernetes control plane, Docker hosts, the operator and agents, all real and all on one Linux machine.
//!
//! It exists because nothing about Tallyman can be believed that was not seen on a real API server and real engines, and nobody
//! should need a cluster for that. Tests use it as a library, people use it through the `lab` command and `make up`.
//!
//! | what | is |
//! |---|---|
//! | control plane | etcd, kube-apiserver and kube-controller-manager as plain processes ([`ControlPlane`]) |
//! | a host | a network namespace on a bridge with its own containerd and dockerd ([`Host`]) |
//! | a node | a namespace with a containerd and a kubelet, for the operator as a pod ([`Node`]) |
//! | operator, agents | processes with their own service accounts, never an administrator's rights ([`Lab`]) |
//!
//! Everything that a run makes on the machine is written to its [`Ledger`] before or as it is made, and is taken away from there: at the
//! end, after a failure, after Ctrl-C, and by the next run when this one was killed.
//!
//! The lab never asks what the system under test decided; it only builds the world around it and breaks parts of that world on request.

pub mod audit;
pub mod certificates;
pub mod clock;
mod cluster_changes;
pub mod command;
pub mod components;
pub mod control_plane;
mod control_plane_parts;
pub mod engine;
pub mod firewall;
mod given;
pub mod host;
pub mod http;
pub mod image;
pub mod interrupt;
pub mod join;
pub mod kubectl;
pub mod lab;
pub mod local_engine;
pub mod mounts;
pub mod network;
pub mod node;
pub mod paths;
pub mod process;
pub mod procfs;
pub mod progress;
pub mod quickstart;
pub mod state;
pub mod teardown;
pub mod trace;
pub mod wait;
pub mod with;

pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use engine::EngineGeneration;
pub use host::{Host, HostOptions};
pub use kubectl::Kubectl;
pub use lab::{Lab, LabBuilder, LabHost};
pub use local_engine::LocalEngine;
pub use network::Network;
pub use node::Node;
pub use process::{CommandSpec, Process, Signal};
pub use state::Ledger;
pub use wait::{wait_until, wait_until_async};
