//! Chance, for spreading calls in time. Nothing that matters is decided with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `span`, give or take a tenth.
pub fn about(span: Duration) -> Duration {
    span.mul_f64(0.9 + 0.2 * chance())
}

/// A number from 0 to 1, from the clock's fine digits and the process.
fn chance() -> f64 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let mixed = (u64::from(nanos) ^ (u64::from(std::process::id()) << 20))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 40;
    f64::from(u32::try_from(mixed).unwrap_or(0)) / f64::from(1u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_either_way() {
        for _ in 0..1000 {
            let span = about(Duration::from_secs(10)).as_secs_f64();
            assert!((9.0..=11.0).contains(&span), "{span}");
        }
    }
}
