//! The tournament of one question, as if its group had no task anywhere.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::super::check::{crowded, lacks_room, outside};
use super::super::ledger::Hosts;
use super::super::query::Query;
use super::super::request::{Request, Rules};
use super::super::strategy::{Field, Preference, Resource};
use super::super::unplaceable::Refusals;
use super::Screen;
use super::seats::Seats;
use super::view::View;
use crate::definition::Demand;

/// How a match ended, or how a host comes to its first: it plays, or fails a check.
pub(super) type Outcome = Option<Best>;

/// The best of the hosts below a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    /// Where it sits.
    pub seat: usize,
    /// How many are as good, itself included; more than one only when the strategy draws.
    pub equals: NonZeroUsize,
}

/// Tasks of the group that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Counts<'a> {
    /// By host.
    pub on_host: &'a BTreeMap<usize, i64>,
    /// By value, for each attribute that the strategy spreads over.
    pub of_value: &'a [BTreeMap<usize, i64>],
}

impl Counts<'_> {
    fn on_host(&self, host: usize) -> i64 {
        self.on_host.get(&host).copied().unwrap_or(0)
    }

    fn of_value(&self, attribute: usize, value: usize) -> i64 {
        let counts = self.of_value.get(attribute);
        counts.and_then(|c| c.get(&value)).copied().unwrap_or(0)
    }
}

static NOBODY: BTreeMap<usize, i64> = BTreeMap::new();
/// No task anywhere.
const NONE: Counts<'static> = Counts {
    on_host: &NOBODY,
    of_value: &[],
};

/// What is asked, without the group.
#[derive(Clone, Debug)]
pub(super) struct Question {
    demand: Demand,
    rules: Rules,
    screen: Screen,
    pub seats: Arc<Seats>,
}

/// All matches of one question. Match `n` is between the winners of `2n` and `2n + 1`; the last row are the seats.
#[derive(Clone, Debug)]
pub(super) struct Tournament {
    question: Question,
    matches: Vec<Outcome>,
    /// How many changes of the hosts it has seen.
    seen: usize,
    /// Groups for which some matches end differently.
    views: BTreeMap<usize, View>,
    refused: Option<Refused>,
}

/// Why no host took the last task that none took.
#[derive(Clone, Debug)]
struct Refused {
    /// After how many changes of the hosts.
    after: usize,
    group: usize,
    by: Refusals,
}

impl Question {
    /// How the host in `seat` comes to its first match.
    pub fn enter(&self, hosts: &Hosts, seat: usize, counts: Counts<'_>) -> Outcome {
        let host = *self.seats.host.get(seat)?;
        let room = &hosts.rooms[host];
        let constraints = &self.rules.constraints;
        let plays = self.screen[host]
            && lacks_room(room, &self.demand).is_none()
            && crowded(constraints, counts.on_host(host)).is_none()
            && outside(
                &room.facts(&hosts.names[host]),
                &constraints.member_of,
                Query::asks_of_tasks,
            )
            .is_none();
        plays.then_some(Best {
            seat,
            equals: NonZeroUsize::MIN,
        })
    }

    /// One match.
    pub fn play(&self, hosts: &Hosts, one: Outcome, two: Outcome, counts: Counts<'_>) -> Outcome {
        let (Some(a), Some(b)) = (one, two) else {
            return one.or(two);
        };
        Some(match self.compare(hosts, a.seat, b.seat, counts) {
            Ordering::Less => a,
            Ordering::Greater => b,
            Ordering::Equal => Best {
                seat: a.seat,
                equals: a.equals.saturating_add(b.equals.get()),
            },
        })
    }

    /// The better host is less: the steps of the strategy in turn, and the order that settles what they leave equal.
    pub fn compare(&self, hosts: &Hosts, one: usize, two: usize, counts: Counts<'_>) -> Ordering {
        let (one, two) = (self.seats.host[one], self.seats.host[two]);
        let (a, b) = (&hosts.rooms[one], &hosts.rooms[two]);
        let mut attribute = 0;
        for step in &self.rules.strategy.steps {
            let ordering = match step {
                Preference::Spread(Field::Instance) => {
                    counts.on_host(one).cmp(&counts.on_host(two))
                }
                Preference::Spread(Field::Attribute(_)) => {
                    let values = &self.seats.values[attribute].of_host;
                    let count = |host: usize| counts.of_value(attribute, values[host]);
                    let ordering = count(one).cmp(&count(two));
                    attribute += 1;
                    ordering
                }
                Preference::Binpack(Resource::Cpu) => a.cpu.cmp(&b.cpu),
                Preference::Binpack(Resource::Memory) => a.memory.cmp(&b.memory),
            };
            if ordering.is_ne() {
                return ordering;
            }
        }
        if self.rules.strategy.lot {
            return Ordering::Equal;
        }
        (a.tasks, -a.memory, one).cmp(&(b.tasks, -b.memory, two))
    }

    /// The answer depends on whose task it is.
    fn counts_group(&self) -> bool {
        self.rules.constraints.distinct_instance || self.rules.strategy.counts()
    }
}

impl Tournament {
    /// Plays every match once.
    pub fn new(hosts: &Hosts, request: &Request, seats: Arc<Seats>, screen: Screen) -> Tournament {
        let question = Question {
            demand: request.demand.clone(),
            rules: request.rules.clone(),
            screen,
            seats,
        };
        let mut new = Tournament {
            question,
            matches: Vec::new(),
            seen: 0,
            views: BTreeMap::new(),
            refused: None,
        };
        new.play_all(hosts);
        new
    }

    /// It is about this question.
    pub fn answers(&self, request: &Request) -> bool {
        self.question.demand == request.demand && self.question.rules == request.rules
    }

    fn play_all(&mut self, hosts: &Hosts) {
        let row = hosts.rooms.len().next_power_of_two();
        self.matches = vec![None; 2 * row];
        for seat in 0..hosts.rooms.len() {
            self.matches[row + seat] = self.question.enter(hosts, seat, NONE);
        }
        for n in (1..row).rev() {
            let (one, two) = (self.matches[2 * n], self.matches[2 * n + 1]);
            self.matches[n] = self.question.play(hosts, one, two, NONE);
        }
        self.views.clear();
        self.seen = hosts.changes.len();
    }

    /// Plays again what changed since, up to the first match that ends as before with a winner that did not change: nobody
    /// above it sees anything of the change.
    fn catch_up(&mut self, hosts: &Hosts) {
        let row = self.matches.len() / 2;
        if hosts.changes.len() - self.seen > row {
            return self.play_all(hosts);
        }
        for change in &hosts.changes[self.seen..] {
            let seat = self.question.seats.seat[change.host];
            let mut n = row + seat;
            self.matches[n] = self.question.enter(hosts, seat, NONE);
            while n > 1 {
                n /= 2;
                let (one, two) = (self.matches[2 * n], self.matches[2 * n + 1]);
                let outcome = self.question.play(hosts, one, two, NONE);
                let before = std::mem::replace(&mut self.matches[n], outcome);
                if outcome == before && outcome.is_none_or(|best| best.seat != seat) {
                    break;
                }
            }
        }
        self.seen = hosts.changes.len();
    }

    /// The number of the host that wins for a task of `group`, by `lot` among equals.
    pub fn winner(&mut self, hosts: &Hosts, group: usize, lot: u64) -> Option<usize> {
        self.catch_up(hosts);
        let Tournament {
            question,
            matches,
            views,
            ..
        } = self;
        let row = matches.len() / 2;
        let seat = if question.counts_group() {
            let view = views
                .entry(group)
                .or_insert_with(|| View::new(question, hosts, matches, group));
            view.catch_up(question, hosts, matches, group);
            let counts = view.counts(hosts, group);
            let outcome = |n: usize| view.outcome(matches, n);
            draw(question, hosts, row, &outcome, counts, lot)
        } else {
            let outcome = |n: usize| matches[n];
            draw(question, hosts, row, &outcome, NONE, lot)
        };
        seat.map(|seat| self.question.seats.host[seat])
    }

    /// Why no host takes a task of `group`; asked again only after something changed.
    pub fn refused(
        &mut self,
        hosts: &Hosts,
        group: usize,
        scan: impl FnOnce() -> Refusals,
    ) -> Refusals {
        let after = hosts.changes.len();
        // Only `distinctInstance` refuses by group.
        let by_group = self.question.rules.constraints.distinct_instance;
        match &self.refused {
            Some(known) if known.after == after && (!by_group || known.group == group) => {
                known.by.clone()
            }
            Some(_) | None => {
                let by = scan();
                self.refused = Some(Refused {
                    after,
                    group,
                    by: by.clone(),
                });
                by
            }
        }
    }
}

/// Goes down from the final to one of those that are as good as its winner: the one whose turn `lot` says it is.
fn draw(
    question: &Question,
    hosts: &Hosts,
    row: usize,
    outcome: &impl Fn(usize) -> Outcome,
    counts: Counts<'_>,
    lot: u64,
) -> Option<usize> {
    let best = outcome(1)?;
    let equals = u64::try_from(best.equals.get()).unwrap_or(u64::MAX);
    let mut turn = usize::try_from(lot % equals).unwrap_or(0);
    let mut n = 1;
    while n < row && best.equals.get() > 1 {
        let as_good = outcome(2 * n).filter(|left| {
            question
                .compare(hosts, left.seat, best.seat, counts)
                .is_eq()
        });
        let left = as_good.map_or(0, |left| left.equals.get());
        n = if turn < left {
            2 * n
        } else {
            turn -= left;
            2 * n + 1
        };
    }
    outcome(n).map(|best| best.seat)
}
