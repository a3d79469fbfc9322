//! How often each address may ask (ECS `ECS_TASK_METADATA_RPS_LIMIT`): a bucket of tokens each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::settings::metadata::Rate;

/// Most addresses that are remembered. More than that at once are no containers of one host.
const MOST: usize = 4096;

/// The buckets of all addresses.
#[derive(Clone, Debug)]
pub struct Limiter {
    rate: Rate,
    buckets: BTreeMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request.
    tokens: u64,
    filled_at: Duration,
}

impl Limiter {
    /// Full buckets for everybody.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: BTreeMap::new(),
        }
    }

    /// Whether `peer` may ask now. `now` is on any clock that does not go back.
    pub fn admits(&mut self, peer: IpAddr, now: Duration) -> bool {
        let full = u64::from(self.rate.burst) * 1000;
        let steady = u64::from(self.rate.steady);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_sub(bucket.filled_at).as_millis();
            let passed = u64::try_from(passed).unwrap_or(u64::MAX);
            let gained = passed.saturating_mul(steady);
            bucket.tokens.saturating_add(gained).min(full)
        };
        if self.buckets.len() >= MOST && !self.buckets.contains_key(&peer) {
            // A full bucket is as good as none.
            self.buckets.retain(|_, bucket| filled(bucket) < full);
            if self.buckets.len() >= MOST {
                return false;
            }
        }
        let tokens = self.buckets.get(&peer).map_or(full, filled);
        let (admitted, tokens) = match tokens.checked_sub(1000) {
            Some(left) => (true, left),
            None => (false, tokens),
        };
        let bucket = Bucket {
            tokens,
            filled_at: now,
        };
        self.buckets.insert(peer, bucket);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        steady: 40,
        burst: 60,
    };

    fn admitted(limiter: &mut Limiter, peer: u8, at: Duration, tries: u32) -> u32 {
        let peer = IpAddr::from([172, 17, 0, peer]);
        (0..tries).fold(0, |sum, _| sum + u32::from(limiter.admits(peer, at)))
    }

    #[test]
    fn a_burst_is_followed_by_the_steady_rate() {
        let mut limiter = Limiter::new(RATE);
        let second = Duration::from_secs(1);
        assert_eq!(admitted(&mut limiter, 2, Duration::ZERO, 100), 60);
        assert_eq!(admitted(&mut limiter, 2, second, 100), 40);
        assert_eq!(admitted(&mut limiter, 2, second * 60, 100), 60);
        assert_eq!(admitted(&mut limiter, 2, second, 1), 0);
    }

    #[test]
    fn one_container_does_not_use_up_what_another_one_has() {
        let mut limiter = Limiter::new(RATE);
        assert_eq!(admitted(&mut limiter, 2, Duration::ZERO, 100), 60);
        assert_eq!(admitted(&mut limiter, 3, Duration::ZERO, 100), 60);
    }

    #[test]
    fn addresses_without_number_are_not_remembered_without_end() {
        let mut limiter = Limiter::new(RATE);
        for number in 0..20_000_u32 {
            limiter.admits(IpAddr::V4(number.into()), Duration::ZERO);
        }
        assert!(limiter.buckets.len() <= MOST);
        assert!(limiter.admits([10, 0, 0, 1].into(), Duration::from_secs(5)));
    }
}
