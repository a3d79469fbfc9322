//! How the best host is found without asking every host for every task.
//!
//! One idea: **a tournament**. All hosts sit in a row, and for every distinct question (a demand and its rules) they play
//! in pairs, the winners in pairs again, up to one winner. When a host changes, only its own matches are played again:
//! log2(hosts) of them. A host that fails a check does not play.
//!
//! ```text
//!                 [c]                    a new task on c: the three matches on its way up
//!            /           \               are played again, nothing else
//!        [a]               [c]
//!      /     \           /     \
//!    a         b       c         d       seats, sorted by the attributes that the strategy spreads over
//! ```
//!
//! Two things depend on whose task it is, because `spread` and `distinctInstance` count tasks of its group, and both are kept
//! off the shared tournament, so that services of the same size and rules share one:
//!
//! - A group has tasks on few hosts. For all others the result of the shared tournament holds, which is played as if there
//!   were none of the group anywhere. A [`View`] of a group holds only the matches that end differently.
//! - A count over an attribute (all of a zone) changes for many hosts at once. But among hosts of one zone it is the same for
//!   both players and decides nothing; and as hosts sit sorted by it, the matches between a zone and others are those above
//!   the first and the last seat of the zone. They are played again, too.
//!
//! What it costs: the first task of a question asks every host once; each further one, of whatever group, replays
//! log2(hosts) matches for every change since. The result is exact, not an estimate: a scan over all hosts finds the same
//! host, and a property test holds the two against each other.

mod seats;
mod tournament;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::seats::Seats;
use self::tournament::Tournament;
use super::check::{lacks_attribute, outside, refuse};
use super::ledger::Hosts;
use super::query::Query;
use super::request::Request;
use super::unplaceable::Refusals;
use crate::names::InstanceName;
use crate::requirements::Requirements;

/// How many questions are remembered. More than that are rarely asked in turn, and each costs 32 to 64 bytes a host.
const REMEMBERED: usize = 32;

/// What the checks that never change say of every host, by its number.
type Screen = Arc<Vec<bool>>;

/// Tournaments, and what they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The one that was asked last stands last.
    tournaments: Vec<Tournament>,
    seats: BTreeMap<Vec<String>, Arc<Seats>>,
    screens: BTreeMap<(Requirements, Vec<Query>), Screen>,
}

impl Index {
    /// The number of the host that a task of `group` gets.
    ///
    /// # Errors
    /// No host takes it: every host with the first check that it fails.
    pub fn choose(
        &mut self,
        hosts: &Hosts,
        request: &Request,
        group: usize,
    ) -> Result<usize, Refusals> {
        let tournament = self.tournament(hosts, request);
        if let Some(host) = tournament.winner(hosts, group, request.seed) {
            return Ok(host);
        }
        Err(tournament.refused(hosts, group, || {
            let reasons = hosts.names.iter().zip(&hosts.rooms).enumerate();
            let reasons = reasons.filter_map(|(host, (name, room))| {
                let refusal = refuse(name, room, request, hosts.mine(group, host))?;
                Some((name.clone(), refusal))
            });
            Arc::new(reasons.collect())
        }))
    }

    fn tournament(&mut self, hosts: &Hosts, request: &Request) -> &mut Tournament {
        let known = self.tournaments.iter().rposition(|t| t.answers(request));
        let tournament = match known {
            Some(place) => self.tournaments.remove(place),
            None => {
                if self.tournaments.len() == REMEMBERED {
                    self.tournaments.remove(0);
                }
                let seats = self.seats(hosts, request);
                let screen = self.screen(hosts, request);
                Tournament::new(hosts, request, seats, screen)
            }
        };
        let last = self.tournaments.len();
        self.tournaments.push(tournament);
        &mut self.tournaments[last]
    }

    fn seats(&mut self, hosts: &Hosts, request: &Request) -> Arc<Seats> {
        let attributes = request.rules.strategy.attributes();
        let attributes = attributes.map(str::to_owned).collect();
        let seats = self
            .seats
            .entry(attributes)
            .or_insert_with_key(|attributes: &Vec<String>| Arc::new(Seats::of(hosts, attributes)));
        seats.clone()
    }

    fn screen(&mut self, hosts: &Hosts, request: &Request) -> Screen {
        let fixed = |query: &Query| !query.asks_of_tasks();
        let queries = &request.rules.constraints.member_of;
        let key = (
            request.demand.attributes.clone(),
            queries.iter().filter(|q| fixed(q)).cloned().collect(),
        );
        let screen = self.screens.entry(key).or_insert_with(|| {
            let passes = |(name, room): (&InstanceName, &super::room::Room)| {
                room.barred.is_none()
                    && lacks_attribute(room, &request.demand).is_none()
                    && outside(&room.facts(name), queries, fixed).is_none()
            };
            let all = hosts.names.iter().zip(&hosts.rooms);
            Arc::new(all.map(passes).collect())
        });
        screen.clone()
    }
}
