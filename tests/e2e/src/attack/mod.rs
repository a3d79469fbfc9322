//! `make attack`: whoever tries to break in from inside a container, from another host and with a stolen host token, gets nothing
//! that is not theirs.
//!
//! A [`Row`] is one way to try. What comes back of every try is counted in a [`Haul`] and searched for what belongs to somebody
//! else; whatever is found is *got*, and the row is not held. `tallyman-attack` runs all rows on a lab of its own and writes
//! docs/security.md; the end-to-end tests run the cheap ones on theirs.

mod api;
mod ask;
mod confinement;
mod flood;
mod hold;
mod metadata;
mod neighbour;
pub mod report;
mod scene;
mod thief;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use tallyman_lab::Lab;

use crate::suite::binary;

pub use api::relay;
pub use hold::hold;
pub use scene::Scene;

/// From where somebody tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A shell in an ordinary container of a task, as root there: network modes bridge, awsvpc and host.
    Container,
    /// Root on a machine that stands beside the hosts on their network, and has no token.
    Neighbour,
    /// With the kubeconfig of a host.
    Token,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            From::Container => "inside a container",
            From::Neighbour => "another host",
            From::Token => "a stolen host token",
        }
    }
}

/// One way to try.
pub struct Row {
    /// Number in the table of docs/security.md.
    pub number: &'static str,
    /// Where it is tried.
    pub from: From,
    /// What is tried, for the table.
    pub tried: &'static str,
    /// Cheap enough for `make test`, and not shown by another scenario already.
    pub reduced: bool,
    /// Tries it.
    pub run: fn(&Scene<'_>, &mut Haul) -> Result<()>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Haul {
    /// How often each answer came, in a word or two.
    pub answers: BTreeMap<String, u64>,
    /// What was got that belongs to somebody else.
    pub got: BTreeSet<String>,
    /// Why the row could not be seen through.
    pub failure: Option<String>,
}

impl Haul {
    /// Counts an answer to one try.
    pub fn note(&mut self, answer: impl Into<String>) {
        *self.answers.entry(answer.into()).or_default() += 1;
    }

    /// Something was got.
    pub fn got(&mut self, what: impl Into<String>) {
        self.got.insert(what.into());
    }

    /// How often something was tried.
    pub fn tries(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Nothing was got, and everything was tried.
    pub fn held(&self) -> bool {
        self.got.is_empty() && self.failure.is_none() && self.tries() > 0
    }

    /// All that is wrong, in sentences.
    pub fn complaints(&self) -> Vec<String> {
        let untried = (self.tries() == 0).then(|| "nothing was tried".to_owned());
        let got = self.got.iter().map(|what| format!("got {what}"));
        let failure = self.failure.iter().cloned();
        got.chain(failure).chain(untried).collect()
    }
}

/// The program that does parts of an attack where they are to come from: this one, or the one that was built beside the tests.
fn program() -> Result<PathBuf> {
    const NAME: &str = "tallyman-attack";
    let own = std::env::current_exe()?;
    match own.file_name() {
        Some(name) if name == NAME => Ok(own),
        _ => binary(NAME),
    }
}

/// Every row, in the order in which they are run.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        metadata::ROWS,
        flood::ROWS,
        confinement::ROWS,
        neighbour::ROWS,
        token::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Runs rows on a lab, and hands each haul over as it is known.
///
/// # Errors
/// What is attacked does not come up or does not go.
pub fn run(
    lab: &Lab,
    rows: &[&'static Row],
    told: &mut dyn FnMut(&'static Row, &Haul),
) -> Result<()> {
    let scene = Scene::set(lab)?;
    for row in rows {
        let started = Instant::now();
        let mut haul = Haul::default();
        let result = (row.run)(&scene, &mut haul).and_then(|()| scene.unharmed());
        haul.failure = result.err().map(|error| format!("{error:#}"));
        println!(
            "    {}, from {}: {} tries ... {} ({:.1} s)",
            row.number,
            row.from.name(),
            haul.tries(),
            if haul.held() { "held" } else { "NOT HELD" },
            started.elapsed().as_secs_f64()
        );
        for complaint in haul.complaints() {
            println!("      {complaint}");
        }
        told(row, &haul);
    }
    scene.leave()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_number_of_its_own_and_every_place_is_tried() {
        let numbers: BTreeSet<_> = rows().map(|row| row.number).collect();
        assert_eq!(numbers.len(), rows().count());
        for from in [From::Container, From::Neighbour, From::Token] {
            assert!(rows().any(|row| row.from == from), "{from:?}");
            assert!(rows().any(|row| row.from == from && row.reduced));
        }
    }

    #[test]
    fn what_was_not_tried_is_not_held() {
        let mut haul = Haul::default();
        assert!(!haul.held());
        haul.note("403");
        assert!(haul.held());
        haul.got("the password");
        assert!(!haul.held());
        assert_eq!(haul.complaints(), ["got the password"]);
    }
}
