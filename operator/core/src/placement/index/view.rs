//! A tournament as one group sees it: the matches that its own tasks decide otherwise.

use std::collections::BTreeMap;

use super::super::ledger::Hosts;
use super::tournament::{Counts, Outcome, Question};

/// The matches of one group that may end otherwise than the shared ones: above each host with a task of the group, and above
/// both ends of each run of neighbours that are counted together.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    matches: BTreeMap<usize, Outcome>,
    /// Tasks by value, for each attribute that the strategy spreads over.
    of_value: Vec<BTreeMap<usize, i64>>,
    seen: usize,
}

impl View {
    /// The view of a group that has the tasks of its tally.
    pub fn new(question: &Question, hosts: &Hosts, shared: &[Outcome], group: usize) -> View {
        let seats = &question.seats;
        let mut view = View {
            matches: BTreeMap::new(),
            of_value: vec![BTreeMap::new(); seats.values.len()],
            seen: hosts.changes.len(),
        };
        let mut dirty = Vec::new();
        for (host, count) in hosts.tally(group) {
            dirty.push(seats.seat[*host]);
            for (values, counts) in seats.values.iter().zip(&mut view.of_value) {
                *counts.entry(values.of_host[*host]).or_default() += count;
            }
        }
        for (values, counts) in seats.values.iter().zip(&view.of_value) {
            let runs = counts.keys().flat_map(|value| &values.runs[*value]);
            dirty.extend(runs.flat_map(|(first, last)| [*first, *last]));
        }
        view.play(question, hosts, shared, group, &dirty);
        view
    }

    /// Plays again what changed since. The shared tournament has caught up before.
    pub fn catch_up(
        &mut self,
        question: &Question,
        hosts: &Hosts,
        shared: &[Outcome],
        group: usize,
    ) {
        if self.seen == hosts.changes.len() {
            return;
        }
        let seats = &question.seats;
        let mut dirty = Vec::new();
        for change in &hosts.changes[self.seen..] {
            dirty.push(seats.seat[change.host]);
            if change.group != group || change.by == 0 {
                continue;
            }
            for (values, counts) in seats.values.iter().zip(&mut self.of_value) {
                let value = values.of_host[change.host];
                *counts.entry(value).or_default() += change.by;
                dirty.extend(values.runs[value].iter().flat_map(|(a, b)| [*a, *b]));
            }
        }
        self.seen = hosts.changes.len();
        self.play(question, hosts, shared, group, &dirty);
    }

    /// How a match ends for this group.
    pub fn outcome(&self, shared: &[Outcome], n: usize) -> Outcome {
        match self.matches.get(&n) {
            Some(own) => *own,
            None => shared[n],
        }
    }

    /// Tasks of the group.
    pub fn counts<'a>(&'a self, hosts: &'a Hosts, group: usize) -> Counts<'a> {
        Counts {
            on_host: hosts.tally(group),
            of_value: &self.of_value,
        }
    }

    /// Plays the matches above these seats, row by row, so that each is played once however many seats are below it.
    fn play(
        &mut self,
        question: &Question,
        hosts: &Hosts,
        shared: &[Outcome],
        group: usize,
        seats: &[usize],
    ) {
        let row = shared.len() / 2;
        let mut round: Vec<usize> = seats.iter().map(|seat| row + seat).collect();
        round.sort_unstable();
        round.dedup();
        for n in &round {
            let outcome = question.enter(hosts, n - row, self.counts(hosts, group));
            self.matches.insert(*n, outcome);
        }
        while round.first().is_some_and(|n| *n > 1) {
            for n in &mut round {
                *n /= 2;
            }
            round.dedup();
            for n in &round {
                let (one, two) = (self.outcome(shared, 2 * n), self.outcome(shared, 2 * n + 1));
                let outcome = question.play(hosts, one, two, self.counts(hosts, group));
                self.matches.insert(*n, outcome);
            }
        }
    }
}
