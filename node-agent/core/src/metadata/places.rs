//! How many connections each address may hold at once: who opens many and sends nothing keeps nobody else from asking.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who holds how many.
#[derive(Clone, Debug)]
pub struct Places {
    /// Most of one address.
    most: usize,
    held: BTreeMap<IpAddr, usize>,
}

impl Places {
    /// Nobody holds any; each address may hold `most`.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: BTreeMap::new(),
        }
    }

    /// Takes a place for `peer`; false when it holds as many as it may.
    pub fn take(&mut self, peer: IpAddr) -> bool {
        let held = self.held.entry(peer).or_default();
        let free = *held < self.most;
        *held += usize::from(free);
        free
    }

    /// Gives back a place that `peer` took.
    pub fn leave(&mut self, peer: IpAddr) {
        if let Some(held) = self.held.get_mut(&peer) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_many_takes_none_from_others() {
        let [first, second] = [2, 3].map(|last| IpAddr::from([172, 17, 0, last]));
        let mut places = Places::new(3);
        let taken = (0..10).filter(|_| places.take(first)).count();
        assert_eq!(taken, 3);
        assert!(places.take(second));
        places.leave(first);
        assert!(places.take(first));
        assert!(!places.take(first));
    }

    #[test]
    fn who_holds_none_is_not_remembered() {
        let mut places = Places::new(1);
        for last in 0..=255 {
            let peer = IpAddr::from([172, 17, 0, last]);
            assert!(places.take(peer));
            places.leave(peer);
            // Once more than it took.
            places.leave(peer);
        }
        assert!(places.held.is_empty());
        assert!(!Places::new(0).take([172, 17, 0, 2].into()));
    }
}
