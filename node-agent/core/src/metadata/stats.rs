//! What a container uses, with rates.
//!
//! The engine gives one sample for each question. What is between two of them (processor time before, bytes a second)
//! comes from the sample that was taken when somebody asked before, so nothing is measured while nobody asks.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tallyman_agent_engine::Stats;

/// Two samples that are closer than this say nothing about a rate.
pub const SPAN: Duration = Duration::from_secs(1);
/// A sample that is older than this is not compared with any more.
const STALE: Duration = Duration::from_secs(300);

/// What is kept of a sample for the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    read: Value,
    at: Timestamp,
    cpu: Value,
    received: u64,
    sent: u64,
}

/// When a document can be made of the next sample of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is kept to compare it with: take one first ([`Samples::take`]) and ask again.
    First,
    /// The only one that is kept is too fresh.
    After(Duration),
    /// At once.
    Now,
}

/// Samples of containers that were asked for, by the engine's id.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, Kept>);

/// Of two that are far enough apart, one is always far enough from a fresh one.
#[derive(Clone, Debug)]
struct Kept {
    older: Option<Before>,
    newer: Before,
}

impl Kept {
    fn reference(&self, at: Timestamp) -> Option<&Before> {
        if apart(&self.newer, at) >= SPAN {
            Some(&self.newer)
        } else {
            self.older.as_ref()
        }
    }
}

fn apart(before: &Before, at: Timestamp) -> Duration {
    at.duration_since(before.at).unsigned_abs()
}

impl Samples {
    /// Whether there is something to compare a sample of `now` with.
    pub fn next(&self, id: &str, now: Timestamp) -> Next {
        match self.0.get(id) {
            Some(kept) if apart(&kept.newer, now) < STALE => match kept.reference(now) {
                Some(_) => Next::Now,
                None => Next::After(SPAN.saturating_sub(apart(&kept.newer, now))),
            },
            Some(_) | None => Next::First,
        }
    }

    /// Keeps a sample for the next ones, if it is far enough from the one before. What is too old goes: what
    /// has ended is not asked for again.
    pub fn take(&mut self, id: &str, stats: &Stats) {
        let Some(sample) = before(stats) else { return };
        let at = sample.at;
        self.0.retain(|_, kept| apart(&kept.newer, at) < STALE);
        let older = match self.0.remove(id) {
            Some(kept) if apart(&kept.newer, at) < SPAN => {
                self.0.insert(id.to_owned(), kept);
                return;
            }
            Some(kept) => Some(kept.newer),
            None => None,
        };
        let kept = Kept {
            older,
            newer: sample,
        };
        self.0.insert(id.to_owned(), kept);
    }

    /// The document of a sample: the engine's own, with what was before and, in v4, the `rates` since then. The
    /// sample is kept.
    pub fn document(&mut self, id: &str, sample: Stats, rates: bool) -> Stats {
        let mut document = sample.clone();
        let now = before(&sample);
        let reference = now
            .as_ref()
            .and_then(|now| Some((now, self.0.get(id)?.reference(now.at)?)));
        if let Some((now, before)) = reference {
            document.insert("preread".to_owned(), before.read.clone());
            document.insert("precpu_stats".to_owned(), before.cpu.clone());
            if rates && sample.contains_key("networks") {
                let seconds = apart(before, now.at).as_secs_f64();
                let rates = json!({
                    "rx_bytes_per_sec": rate(before.received, now.received, seconds),
                    "tx_bytes_per_sec": rate(before.sent, now.sent, seconds),
                });
                document.insert("network_rate_stats".to_owned(), rates);
            }
        }
        self.take(id, &sample);
        document
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes between two samples")]
fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}

fn read_at(stats: &Stats) -> Option<Timestamp> {
    stats.get("read")?.as_str()?.parse().ok()
}

fn before(stats: &Stats) -> Option<Before> {
    let networks = stats.get("networks").and_then(Value::as_object);
    let sum = |field: &str| {
        let all = networks.into_iter().flat_map(serde_json::Map::values);
        let bytes = all.filter_map(|one| one.get(field).and_then(Value::as_u64));
        bytes.fold(0, u64::saturating_add)
    };
    Some(Before {
        read: stats.get("read")?.clone(),
        at: read_at(stats)?,
        cpu: stats.get("cpu_stats").cloned().unwrap_or_default(),
        received: sum("rx_bytes"),
        sent: sum("tx_bytes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u32, bytes: u64) -> Stats {
        let value = json!({
            "read": format!("2026-11-21T10:00:{second:02}Z"),
            "cpu_stats": {"cpu_usage": {"total_usage": bytes}},
            "networks": {"eth0": {"rx_bytes": bytes, "tx_bytes": 1}, "eth1": {"rx_bytes": bytes}},
        });
        value.as_object().unwrap().clone()
    }

    #[test]
    fn rates_are_between_two_questions() {
        let mut samples = Samples::default();
        let first = samples.document("a", sample(0, 100), true);
        assert!(!first.contains_key("precpu_stats") && !first.contains_key("network_rate_stats"));
        let second = samples.document("a", sample(4, 300), true);
        assert_eq!(second["precpu_stats"]["cpu_usage"]["total_usage"], 100);
        assert_eq!(second["preread"], "2026-11-21T10:00:00Z");
        assert_eq!(second["network_rate_stats"]["rx_bytes_per_sec"], 100.0);
        assert_eq!(second["network_rate_stats"]["tx_bytes_per_sec"], 0.0);
        let other = samples.document("b", sample(4, 300), true);
        assert!(!other.contains_key("precpu_stats"));
    }

    #[test]
    fn who_asks_too_soon_is_compared_with_the_sample_before() {
        let mut samples = Samples::default();
        samples.document("a", sample(0, 0), true);
        samples.document("a", sample(10, 1000), true);
        let soon = samples.document("a", sample(10, 1000), true);
        assert_eq!(soon["network_rate_stats"]["rx_bytes_per_sec"], 200.0);
        let later = samples.document("a", sample(12, 1400), true);
        assert_eq!(later["network_rate_stats"]["rx_bytes_per_sec"], 400.0);
    }

    #[test]
    fn before_version_four_there_are_no_rates() {
        let mut samples = Samples::default();
        samples.document("a", sample(0, 0), false);
        let second = samples.document("a", sample(5, 10), false);
        assert!(second.contains_key("precpu_stats") && !second.contains_key("network_rate_stats"));
    }

    #[test]
    fn the_first_question_takes_two_samples() {
        let mut samples = Samples::default();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(samples.next("a", at("2026-11-21T10:00:00Z")), Next::First);
        samples.take("a", &sample(0, 0));
        for (now, wanted) in [
            (
                "2026-11-21T10:00:00.25Z",
                Next::After(Duration::from_millis(750)),
            ),
            ("2026-11-21T10:00:01Z", Next::Now),
            ("2026-11-21T10:04:59Z", Next::Now),
            ("2026-11-21T10:05:00Z", Next::First),
        ] {
            assert_eq!(samples.next("a", at(now)), wanted, "{now}");
        }
        assert_eq!(samples.next("b", at("2026-11-21T10:00:02Z")), Next::First);
        samples.take("a", &sample(1, 0));
        assert_eq!(samples.next("a", at("2026-11-21T10:00:01Z")), Next::Now);
    }

    #[test]
    fn samples_of_what_nobody_asks_for_any_more_go() {
        let mut samples = Samples::default();
        samples.take("a", &sample(0, 0));
        let mut late = sample(0, 0);
        late.insert("read".to_owned(), json!("2026-11-21T11:00:00Z"));
        samples.take("b", &late);
        assert_eq!(samples.0.len(), 1);
    }
}
