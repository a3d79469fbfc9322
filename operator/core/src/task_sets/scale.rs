//! How much of a service's desired count a task set runs.

/// Percent, to six decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(i64);

/// Parts of one percent.
const PARTS: i64 = 1_000_000;

impl Percent {
    /// `value` percent, if it is 0 to 100. Read by its decimals: 1.1 is 11 tenths, and not the binary number beside it.
    pub fn of(value: f64) -> Option<Percent> {
        let digits = format!("{value:.6}").replace('.', "");
        let parts = digits.parse().ok()?;
        (0..=100 * PARTS).contains(&parts).then_some(Percent(parts))
    }

    /// That much of `desired`, rounded up (ECS `computedDesiredCount`).
    ///
    /// ```
    /// # use tallyman_operator_core::task_sets::Percent;
    /// let of = |percent, desired| Percent::of(percent).map(|p| p.of_desired(desired));
    /// assert_eq!(of(50.0, 3), Some(2));
    /// assert_eq!(of(1.1, 3000), Some(33));
    /// assert_eq!(of(0.0, 3), Some(0));
    /// assert_eq!(of(100.5, 3), None);
    /// ```
    pub fn of_desired(self, desired: i64) -> i64 {
        let whole = 100 * PARTS;
        (desired
            .max(0)
            .saturating_mul(self.0)
            .saturating_add(whole - 1))
            / whole
    }
}
