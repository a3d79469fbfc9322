//! Which number a leader takes, and when it must take a higher one.
//!
//! Hosts refuse the plans of a lower number than that of the plan they hold, so that a leader that does not know that it is
//! deposed has no say. After an API server went back to an older state (its etcd was restored from a backup), the Lease and
//! every plan there have lower numbers than hosts hold. Each host says which number it holds; a new leader begins above all of
//! them, and one that leads and hears of a higher number takes the next one.
//!
//! A host that is damaged or in wrong hands may say any number. So what hosts say moves the number only so far:
//!
//! - a number more than [`LEAP`] above what Lease and plans say, or above [`CEILING`], is not believed;
//! - of each host a leader believes one number: once it has gone above it, an honest host holds the leader's own.
//!
//! So one host costs each leader one new list of everything, and nothing that hosts say uses the numbers up: from
//! [`CEILING`] to the highest that a Lease takes are as many as there are below it. What goes no further is a host's own loss:
//! it alone refuses its plans.

use std::collections::BTreeSet;

/// Furthest that hosts are believed above what the API server says. A number is used up when another leads, so this is
/// how many changes of leaders a backup may be old.
pub const LEAP: i64 = 10_000;

/// No higher number of a host is believed.
pub const CEILING: i64 = 1 << 30;

/// The number of a new leader: above that in the Lease, those in plans, and those of hosts that are believed.
pub fn next(
    lease: i64,
    plans: impl IntoIterator<Item = i64>,
    hosts: impl IntoIterator<Item = i64>,
) -> i64 {
    let known = plans.into_iter().fold(lease.max(0), i64::max);
    let believed = hosts.into_iter().filter(|held| believable(known, *held));
    believed.fold(known, i64::max).saturating_add(1)
}

fn believable(known: i64, held: i64) -> bool {
    held > known && held <= known.saturating_add(LEAP).min(CEILING)
}

/// What a leader heard of higher numbers than its own. It outlives the leader's change to another number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hearing {
    heard: BTreeSet<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The leader has to take a number above this one.
    pub above: Option<i64>,
    /// For the log: hosts whose number is above the leader's and is not believed. Each is told of once.
    pub complaints: Vec<String>,
}

impl Hearing {
    /// Hears what hosts hold: their names, unique over all namespaces, and numbers.
    pub fn hear<'h>(&mut self, own: i64, hosts: impl IntoIterator<Item = (&'h str, i64)>) -> Heard {
        let mut told = Heard::default();
        for (host, held) in hosts {
            if held <= own || !self.heard.insert(host.to_owned()) {
                continue;
            }
            if believable(own, held) {
                told.above = told.above.max(Some(held));
            } else {
                told.complaints.push(format!(
                    "host {host} says that it holds a plan of leader {held}, and this is leader {own}: it is not believed \
                     and refuses its plans; if leaders did count that far, raise `leaseTransitions` of the operator's Lease \
                     above it"
                ));
            }
        }
        told
    }
}
