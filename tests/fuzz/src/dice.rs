//! Where choices come from: bytes of a fuzzer as long as there are any, then numbers of a seed.

/// Chooses. The same bytes or the same seed choose the same.
#[derive(Clone, Debug)]
pub struct Dice<'b> {
    bytes: &'b [u8],
    rng: fastrand::Rng,
}

impl Dice<'static> {
    /// Choices of a seed.
    pub fn seeded(seed: u64) -> Dice<'static> {
        Dice {
            bytes: &[],
            rng: fastrand::Rng::with_seed(seed),
        }
    }
}

impl<'b> Dice<'b> {
    /// Choices of `bytes`, so that a fuzzer that changes one byte changes few of them.
    pub fn of(bytes: &'b [u8]) -> Dice<'b> {
        Dice {
            bytes,
            rng: fastrand::Rng::with_seed(0),
        }
    }

    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => self.rng.u8(..),
        }
    }

    /// A number below `n`, which counts as 1 when it is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1);
        let mut value = usize::from(self.byte());
        if n > 256 {
            value = (value << 8) | usize::from(self.byte());
        }
        value % n
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `all`; `None` when there is none.
    pub fn one<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        all.get(self.below(all.len()))
    }
}
