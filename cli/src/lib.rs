//! `kubectl tally`: what kubectl cannot say of services on Docker hosts, and the verbs that it refuses for kinds that are not
//! its own.
//!
//! A shell around pure parts. [`commands`] reads objects, asks a pure part, prints and writes; every answer is composed by a
//! function over parsed objects ([`tree`], [`standing`], [`forecast`], [`explain`], [`convert`], ...). Where it says what the
//! operator would do, it asks the operator's own core in this process. It decides nothing about a cluster: what it
//! writes is what a user could write with kubectl.

pub mod args;
pub mod checks;
pub mod commands;
pub mod complete;
pub mod convert;
pub mod diff;
pub mod explain;
pub mod forecast;
pub mod foresight;
pub mod history;
pub mod invitation;
pub mod manifests;
pub mod namespaces;
pub mod outcome;
pub mod session;
pub mod standing;
pub mod subject;
pub mod table;
pub mod totals;
pub mod tree;
pub mod words;
