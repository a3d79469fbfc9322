//! Where one task goes (ECS task placement): checks that explain themselves, then strategies.
//!
//! [`Ledger`] counts what every task that is not STOPPED holds; a placement is entered at once, so that the next task of
//! the same pass sees it. A [`Request`] says what is to be placed: its demand must fit, its constraints must hold, and
//! of the hosts for which both are true each step of its strategy keeps those that it prefers. The first check that a
//! host fails is its [`Refusal`]; when every host has one, all of them are the [`Unplaceable`].
//!
//! The rule is a scan over all hosts; how the same answer is found without one is told in `index`.
//! `docs/scheduling.md` has the rules by number.

mod check;
mod explain;
mod index;
mod ledger;
mod query;
mod refusal;
mod request;
mod room;
mod scale_in;
mod strategy;
mod unplaceable;

pub use check::barred;
pub use ledger::Ledger;
pub(crate) use ledger::Reach;
pub use query::{Facts, Invalid, LONGEST, Query};
pub use refusal::Refusal;
pub use request::{Constraints, Request, Rules, member_of};
pub use scale_in::{Candidate, ScaleIn};
pub use strategy::{Field, Preference, Resource, Strategy, seed};
pub use unplaceable::{Refusals, Unplaceable};

/// `noun` or its plural.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}
