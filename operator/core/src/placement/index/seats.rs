//! Who sits where: hosts sorted by the attributes that a strategy spreads over, so that those that are counted together sit
//! together.

use std::collections::BTreeMap;

use super::super::ledger::Hosts;

/// An order of the hosts, for one list of attributes.
#[derive(Debug)]
pub(super) struct Seats {
    /// Number of the host in each seat.
    pub host: Vec<usize>,
    /// Seat of each host.
    pub seat: Vec<usize>,
    /// For each attribute of the list.
    pub values: Vec<Values>,
}

/// The values of one attribute, by number. Hosts that lack the attribute have one value together.
#[derive(Debug)]
pub(super) struct Values {
    /// Number of the value of each host.
    pub of_host: Vec<usize>,
    /// First and last seat of each run of neighbours with the same value, by number of the value.
    pub runs: Vec<Vec<(usize, usize)>>,
}

impl Seats {
    /// Seats the hosts by `attributes`, then by name.
    pub fn of(hosts: &Hosts, attributes: &[String]) -> Seats {
        let of_host: Vec<Vec<usize>> = attributes.iter().map(|a| numbers(hosts, a)).collect();
        let mut host: Vec<usize> = (0..hosts.rooms.len()).collect();
        // The sort is stable: hosts are numbered in order of name.
        host.sort_by_cached_key(|h| of_host.iter().map(|v| v[*h]).collect::<Vec<_>>());
        let mut seat = vec![0; host.len()];
        for (at, h) in host.iter().enumerate() {
            seat[*h] = at;
        }
        let values = of_host.into_iter().map(|v| Values::of(v, &host)).collect();
        Seats { host, seat, values }
    }
}

/// Number of the value that each host has, in order of the values.
fn numbers(hosts: &Hosts, attribute: &str) -> Vec<usize> {
    let value = |at: usize| hosts.rooms[at].attributes.get(attribute);
    let mut known: BTreeMap<_, usize> = (0..hosts.rooms.len()).map(|at| (value(at), 0)).collect();
    for (number, place) in known.values_mut().enumerate() {
        *place = number;
    }
    (0..hosts.rooms.len()).map(|at| known[&value(at)]).collect()
}

impl Values {
    fn of(of_host: Vec<usize>, seated: &[usize]) -> Values {
        let count = of_host.iter().max().map_or(0, |most| most + 1);
        let mut runs: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
        for (seat, host) in seated.iter().enumerate() {
            let runs = &mut runs[of_host[*host]];
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == seat => *last = seat,
                Some(_) | None => runs.push((seat, seat)),
            }
        }
        Values { of_host, runs }
    }
}
