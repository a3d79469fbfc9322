//! Which ports of the host a container gets that does not name them (ECS agent, host port choice).
//!
//! The agent chooses, not the engine: only so a range of ports gets neighbours, and only so the operator of a host can
//! say from where (`ECS_DYNAMIC_HOST_PORT_RANGE`). What was chosen is in the container and read back from there;
//! nothing of it is remembered, and a choice that somebody else was quicker to take is made anew.

use std::collections::BTreeSet;
use std::fmt;

use tallyman_agent_engine::{EngineError, PortSpec, Protocol};

use crate::ports::PortSpan;

/// The ports that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// What ECS takes when neither a setting nor the kernel says anything.
    pub const FALLBACK: Self = Self {
        first: 49_153,
        last: 65_535,
    };

    /// Two numbers, the first not above the second, apart by a dash (the setting) or blanks (the kernel's
    /// `ip_local_port_range`).
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text
            .split(|c: char| c == '-' || c.is_whitespace())
            .filter(|word| !word.is_empty());
        let range = Self {
            first: words.next()?.parse().ok()?,
            last: words.next()?.parse().ok()?,
        };
        (words.next().is_none() && range.first > 0 && range.first <= range.last).then_some(range)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.first, self.last)
    }
}

/// Where the free ports of a host come from: [`DynamicPorts`], and a probe that looks at the host.
pub trait PortSource: Send + Sync {
    /// A free port of the host for every port that is wished for, a range in a row.
    ///
    /// # Errors
    /// [`EngineError::PortTaken`]: there are not as many.
    fn choose(&self, wishes: &[PortSpan]) -> Result<Vec<PortSpec>, EngineError>;
}

/// The choice: goes round the range, so that a port just released is not at once somebody else's.
#[derive(Clone, Debug)]
pub struct DynamicPorts {
    range: PortRange,
    last: u16,
    spared: BTreeSet<(u16, Protocol)>,
}

impl DynamicPorts {
    /// Chooses from `range`, from its first port on.
    pub fn new(range: PortRange) -> Self {
        Self {
            range,
            last: range.last,
            spared: BTreeSet::new(),
        }
    }

    /// Ports that are not chosen though they may be free: a task of the plan names them, or they are reserved.
    pub fn spare(&mut self, ports: BTreeSet<(u16, Protocol)>) {
        self.spared = ports;
    }

    /// A port for every port that is wished for. `is_free`: nobody on the host has it at this moment.
    ///
    /// # Errors
    /// [`EngineError::PortTaken`]: the range has no such ports in a row.
    pub fn choose(
        &mut self,
        wishes: &[PortSpan],
        is_free: impl Fn(u16, Protocol) -> bool,
    ) -> Result<Vec<PortSpec>, EngineError> {
        let mut chosen: Vec<PortSpec> = Vec::new();
        let mut last = self.last;
        for wish in wishes {
            let count = usize::from(wish.last - wish.first) + 1;
            let free = |port: u16| {
                !self.spared.contains(&(port, wish.protocol))
                    && !chosen
                        .iter()
                        .any(|one| one.host_port == Some(port) && one.protocol == wish.protocol)
                    && is_free(port, wish.protocol)
            };
            let Some(block) = self.block(last, count, free) else {
                return Err(none_left(count, wish.protocol, self.range));
            };
            last = block.last().copied().unwrap_or(last);
            let pairs = wish.ports().zip(block);
            chosen.extend(pairs.map(|(container_port, host_port)| PortSpec {
                container_port,
                host_port: Some(host_port),
                protocol: wish.protocol,
                host_ip: None,
            }));
        }
        self.last = last;
        Ok(chosen)
    }

    /// The first `count` free ports in a row after `after`, going round once.
    fn block(&self, after: u16, count: usize, free: impl Fn(u16) -> bool) -> Option<Vec<u16>> {
        let PortRange { first, last } = self.range;
        let begin = after
            .checked_add(1)
            .filter(|port| (first..=last).contains(port));
        let begin = begin.unwrap_or(first);
        // A block may begin before where the round began and end behind it.
        let second = (first..=last).take(usize::from(begin - first) + count - 1);
        let mut row: Vec<u16> = Vec::new();
        for port in (begin..=last).chain(second) {
            if row
                .last()
                .is_some_and(|before| before.checked_add(1) != Some(port))
            {
                row.clear();
            }
            if free(port) {
                row.push(port);
            } else {
                row.clear();
            }
            if row.len() == count {
                return Some(row);
            }
        }
        None
    }
}

fn none_left(count: usize, protocol: Protocol, range: PortRange) -> EngineError {
    let what = match count {
        1 => format!("no free {protocol} port"),
        count => format!("no {count} free {protocol} ports in a row"),
    };
    EngineError::PortTaken {
        port: None,
        message: format!("the host has {what} in {range} (ECS_DYNAMIC_HOST_PORT_RANGE)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(first: u16, last: u16) -> PortSpan {
        PortSpan {
            first,
            last,
            protocol: Protocol::Tcp,
        }
    }

    fn outer(chosen: &[PortSpec]) -> Vec<u16> {
        chosen.iter().filter_map(|one| one.host_port).collect()
    }

    fn small() -> DynamicPorts {
        DynamicPorts::new(PortRange {
            first: 100,
            last: 104,
        })
    }

    #[test]
    fn ranges_of_setting_and_kernel_are_read() {
        let range = |first, last| Some(PortRange { first, last });
        assert_eq!(PortRange::parse("40000-40010"), range(40_000, 40_010));
        assert_eq!(PortRange::parse("32768\t60999\n"), range(32_768, 60_999));
        for bad in ["", "1", "2-1", "0-5", "1-2-3", "a-b", "1-70000"] {
            assert_eq!(PortRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_next_free_one_is_taken_and_the_round_goes_on() {
        let mut ports = small();
        let mut next = |free: &dyn Fn(u16) -> bool| {
            ports
                .choose(&[span(80, 80)], |port, _| free(port))
                .map(|chosen| outer(&chosen)[0])
                .ok()
        };
        assert_eq!(next(&|_| true), Some(100));
        assert_eq!(next(&|port| port != 101), Some(102));
        assert_eq!(next(&|_| true), Some(103));
        assert_eq!(next(&|_| true), Some(104));
        assert_eq!(next(&|_| true), Some(100));
        assert_eq!(next(&|_| false), None);
    }

    #[test]
    fn a_range_gets_neighbours_even_across_where_the_round_began() {
        let mut ports = small();
        assert_eq!(
            outer(&ports.choose(&[span(1, 3)], |_, _| true).unwrap_or_default()),
            [100, 101, 102]
        );
        // 103 and 104 are no three; the block begins before the round did.
        assert_eq!(
            outer(
                &ports
                    .choose(&[span(1, 3)], |port, _| port != 100)
                    .unwrap_or_default()
            ),
            [101, 102, 103]
        );
        let error = ports.choose(&[span(1, 3)], |port, _| port != 102);
        let error = error.map_or_else(|error| error.to_string(), |found| format!("{found:?}"));
        assert!(
            error.contains("no 3 free tcp ports in a row in 100-104"),
            "{error}"
        );
    }

    #[test]
    fn what_is_spared_is_not_chosen_and_protocols_are_apart() {
        let mut ports = small();
        ports.spare([(100, Protocol::Tcp)].into());
        let udp = PortSpan::single(53, Protocol::Udp);
        let chosen = ports.choose(&[span(80, 80), udp], |_, _| true);
        assert_eq!(outer(&chosen.unwrap_or_default()), [101, 102]);
        let mut ports = small();
        ports.spare([(100, Protocol::Tcp)].into());
        let chosen = ports.choose(&[udp], |_, _| true).unwrap_or_default();
        assert_eq!(outer(&chosen), [100]);
    }

    proptest! {
        /// Every wish gets as many ports in a row, all free, none twice; and a wish is refused only when there is no
        /// such row.
        #[test]
        fn what_is_chosen_is_free_in_a_row_and_never_twice(
            taken in proptest::collection::btree_set(200..230_u16, 0..28),
            sizes in proptest::collection::vec(1..5_u16, 1..4),
            before in 200..230_u16,
        ) {
            let mut ports = DynamicPorts::new(PortRange { first: 200, last: 229 });
            ports.last = before;
            let wishes: Vec<PortSpan> = sizes.iter().map(|size| span(1, *size)).collect();
            let free = |port: u16, _: Protocol| !taken.contains(&port);
            match ports.choose(&wishes, free) {
                Ok(chosen) => {
                    let mut all = outer(&chosen);
                    let mut rest = all.as_slice();
                    for size in &sizes {
                        let (row, after) = rest.split_at(usize::from(*size));
                        rest = after;
                        prop_assert!(row.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    }
                    prop_assert!(all.iter().all(|port| free(*port, Protocol::Tcp)));
                    let count = all.len();
                    all.sort_unstable();
                    all.dedup();
                    prop_assert_eq!(all.len(), count);
                }
                Err(_) if sizes.len() == 1 => {
                    let size = sizes[0];
                    let row = |begin: u16| (begin..begin + size).all(|p| p < 230 && free(p, Protocol::Tcp));
                    prop_assert!(!(200..230).any(row), "{:?} has a row of {size}", taken);
                }
                Err(_) => {}
            }
        }
    }
}
