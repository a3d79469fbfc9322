//! Whether another machine works under this host's name, by the host's Lease.
//!
//! A machine that was copied, disk and all, comes up with the identity of its original: it would run every task of the original's
//! plan a second time, and the two would report over each other. Who works as the host is therefore written into its Lease: the
//! machine, and the start of the agent on it. An agent that finds the Lease with its own machine goes to work at once (its folder is
//! locked, so whoever wrote that has ended). With another machine's (after a boot, on other hardware, or on a copy) it watches first.
//! What is still for [`QUIET`] was left behind, and is taken; what is renewed meanwhile has a living owner, and this one is the copy:
//! it leaves a sign and [yields](Step::Yield), having touched nothing.
//!
//! Every write is on top of the version that was read, so of two agents that write, one finds the other. Who took the Lease later
//! has the higher number (`leaseTransitions`); the other one takes it back, and the later one finds it renewed by a machine that is
//! not its own, with a lower number. A Lease that goes back to an older state (etcd restored) or that somebody edits is renewed by
//! nobody else, and so drives nobody away.
//!
//! What it cannot see: a copy that comes up while the original is cut off from the API server, or while both are; and a copy of a
//! machine's memory, whose agent takes itself for the original.

use std::fmt;
use std::time::Duration;

/// A living agent renews about every ten seconds; after this time without a renewal nobody does.
pub const QUIET: Duration = Duration::from_secs(20);
/// How often a watched Lease is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Who found another machine in the Lease and then gets no answer any more goes to work after this time.
const UNANSWERED: Duration = Duration::from_secs(60);
/// So long after its last sign the other machine is spoken of.
const TOLD: Duration = Duration::from_secs(3600);

/// Who works as the host: `machine/start` in the Lease's `holderIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Differs between machines, between boots of one, and between two folders of agents' data on one.
    pub machine: String,
    /// Differs from start to start of the agent.
    pub start: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.machine, self.start)
    }
}

/// The Lease, as it was read or written last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// `holderIdentity`; empty when nobody has held it.
    pub holder: String,
    /// `leaseTransitions`.
    pub number: i32,
    /// `renewTime`, compared and never read: it is of another clock.
    pub renewed: String,
}

/// What is to be done with the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is written, with ourselves as its holder and this number.
    Renew {
        /// `leaseTransitions`.
        number: i32,
    },
    /// It is read again after this time, and not written.
    Look {
        /// From now.
        after: Duration,
    },
    /// This machine is a copy. The number alone is written, which is the sign; then the agent ends.
    Yield {
        /// `leaseTransitions`.
        number: i32,
        /// Why, for people.
        rival: Rival,
    },
}

/// This machine has the identity of another, which is at work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another machine works as this host: its agent, `{holder}`, renews the Lease. This one, `{own}`, seems to be a copy of it, \
     with its credentials; it runs nothing, so that no task runs twice. Empty the agent's data directory, and let this machine \
     join under a name of its own (`tallyman-agent join`)"
)]
pub struct Rival {
    /// Who holds the Lease.
    pub holder: String,
    /// Ourselves.
    pub own: String,
}

/// What one agent knows of the Lease.
#[derive(Clone, Debug)]
pub struct Tenure {
    own: Holder,
    /// Number with which it was written by us last.
    held: Option<i32>,
    /// Another's, that is watched: as it was then, and since when.
    watched: Option<(Lease, Duration)>,
    rival_seen: Option<Duration>,
}

impl Tenure {
    /// Of an agent that has not read the Lease.
    pub fn new(own: Holder) -> Self {
        Self {
            own,
            held: None,
            watched: None,
            rival_seen: None,
        }
    }

    /// Ourselves.
    pub fn own(&self) -> &Holder {
        &self.own
    }

    /// What is to be done with the Lease, which was read or written at `now`, a reading of a clock that does not go back.
    pub fn step(&mut self, lease: &Lease, now: Duration) -> Step {
        let machine = lease.holder.rsplit_once('/').map_or("", |(m, _)| m);
        if lease.holder.is_empty() || machine == self.own.machine {
            self.watched = None;
            if self.held.is_some_and(|held| held < lease.number) {
                self.rival_seen = Some(now);
            }
            return self.renew(lease);
        }
        if self.held.is_some_and(|held| held <= lease.number) {
            // It was taken from us, while we live.
            self.rival_seen = Some(now);
            return self.renew(lease);
        }
        match &self.watched {
            Some((before, _))
                if before.holder == lease.holder && before.renewed != lease.renewed =>
            {
                let rival = Rival {
                    holder: lease.holder.clone(),
                    own: self.own.to_string(),
                };
                Step::Yield {
                    number: lease.number.saturating_add(1),
                    rival,
                }
            }
            Some((before, since)) if before.holder == lease.holder => {
                let left = QUIET.saturating_sub(now.saturating_sub(*since));
                if left.is_zero() {
                    self.renew(lease)
                } else {
                    let after = left.min(LOOK);
                    Step::Look { after }
                }
            }
            _ => {
                self.watched = Some((lease.clone(), now));
                Step::Look { after: LOOK }
            }
        }
    }

    fn renew(&self, lease: &Lease) -> Step {
        let number = self.held.unwrap_or(lease.number.saturating_add(1));
        Step::Renew { number }
    }

    /// It was written so.
    pub fn wrote(&mut self, number: i32) {
        self.held = Some(number);
        self.watched = None;
    }

    /// Another machine's Lease is watched.
    pub fn watches(&self) -> bool {
        self.watched.is_some()
    }

    /// Whether the agent may go to work at `now` although the API server did not answer: a host goes on with what it knows. Who
    /// may be a copy waits for the answer, but not for ever.
    pub fn may_work_unanswered(&self, now: Duration) -> bool {
        self.watched
            .as_ref()
            .is_none_or(|(_, since)| now.saturating_sub(*since) >= UNANSWERED)
    }

    /// For people, while another machine was seen under this host's name within the last hour.
    pub fn complaint(&self, now: Duration) -> Option<String> {
        let seen = self.rival_seen?;
        (now.saturating_sub(seen) < TOLD).then(|| {
            "Another machine came up with this host's name and credentials, a copy of it perhaps. Its agent was turned away, \
             and this one goes on. Let the other machine join under a name of its own; if you do not know it, somebody has this \
             host's credentials: delete its Secret, and let the host join anew."
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn agent(machine: &str, start: &str) -> Tenure {
        Tenure::new(Holder {
            machine: machine.to_owned(),
            start: start.to_owned(),
        })
    }

    fn lease(holder: &str, number: i32, renewed: &str) -> Lease {
        Lease {
            holder: holder.to_owned(),
            number,
            renewed: renewed.to_owned(),
        }
    }

    #[test]
    fn a_new_host_and_a_restarted_agent_go_to_work_at_once() {
        let taken = agent("m", "1").step(&Lease::default(), seconds(0));
        assert_eq!(taken, Step::Renew { number: 1 });
        let taken = agent("m", "2").step(&lease("m/1", 1, "t"), seconds(0));
        assert_eq!(taken, Step::Renew { number: 2 });
    }

    #[test]
    fn a_host_that_booted_waits_until_it_is_sure_that_nobody_renews() {
        let mut booted = agent("m-2", "1");
        let left = lease("m-1/1", 7, "t");
        for now in 0..20 {
            let step = booted.step(&left, seconds(now));
            assert!(matches!(step, Step::Look { .. }), "{step:?} at {now}");
        }
        assert_eq!(booted.step(&left, seconds(20)), Step::Renew { number: 8 });
    }

    #[test]
    fn without_an_answer_a_host_goes_to_work_and_who_may_be_a_copy_waits_a_minute() {
        let mut host = agent("m-2", "1");
        assert!(host.may_work_unanswered(seconds(100)) && !host.watches());
        host.step(&lease("m-1/1", 7, "t"), seconds(100));
        assert!(host.watches() && !host.may_work_unanswered(seconds(159)));
        assert!(host.may_work_unanswered(seconds(160)));
        host.step(&lease("m-2/1", 7, "t"), seconds(101));
        assert!(host.may_work_unanswered(seconds(101)) && !host.watches());
    }

    #[test]
    fn a_copy_yields_at_the_first_renewal_and_its_original_says_so_for_an_hour() {
        let mut original = agent("m", "1");
        original.wrote(3);
        let mut copy = agent("copy", "9");
        let look = copy.step(&lease("m/1", 3, "t"), seconds(0));
        assert_eq!(look, Step::Look { after: LOOK });
        let step = copy.step(&lease("m/1", 3, "u"), seconds(8));
        let Step::Yield { number: 4, rival } = step else {
            panic!("{step:?}");
        };
        assert!(rival.to_string().contains("`m/1`"), "{rival}");
        assert_eq!(original.complaint(seconds(8)), None);
        let step = original.step(&lease("m/1", 4, "u"), seconds(9));
        assert_eq!(step, Step::Renew { number: 3 });
        assert!(original.complaint(seconds(3600)).is_some());
        assert_eq!(original.complaint(seconds(3609)), None);
    }

    #[test]
    fn who_was_there_first_takes_the_lease_back_and_the_later_one_yields() {
        let mut original = agent("m", "1");
        original.wrote(3);
        // It was cut off for long, and a copy took the Lease.
        let mut copy = agent("copy", "9");
        copy.wrote(4);
        let back = original.step(&lease("copy/9", 4, "u"), seconds(90));
        assert_eq!(back, Step::Renew { number: 3 });
        assert!(original.complaint(seconds(90)).is_some());
        let step = copy.step(&lease("m/1", 3, "v"), seconds(91));
        assert!(matches!(step, Step::Look { .. }), "{step:?}");
        let step = copy.step(&lease("m/1", 3, "w"), seconds(101));
        assert!(matches!(step, Step::Yield { .. }), "{step:?}");
    }

    #[test]
    fn a_lease_of_an_older_state_or_of_somebody_s_hand_drives_nobody_away() {
        let mut host = agent("m-2", "5");
        host.wrote(8);
        // As it was before the host booted.
        for now in [0, 5, 19] {
            let step = host.step(&lease("m-1/4", 7, "t"), seconds(now));
            assert!(matches!(step, Step::Look { .. }), "{step:?}");
        }
        let step = host.step(&lease("m-1/4", 7, "t"), seconds(20));
        assert_eq!(step, Step::Renew { number: 8 });
        assert_eq!(host.complaint(seconds(20)), None);
        // Of an earlier start on this machine.
        let step = host.step(&lease("m-2/1", 2, "t"), seconds(30));
        assert_eq!(step, Step::Renew { number: 8 });
        for edited in ["", "nobody", "nobody/at all"] {
            let step = host.step(&lease(edited, 8, "t"), seconds(40));
            assert_eq!(step, Step::Renew { number: 8 }, "{edited}");
        }
    }

    /// An agent on a machine of its own, with an API server that answers.
    #[derive(Debug)]
    struct One {
        tenure: Tenure,
        name: String,
        /// Its next call.
        next: u64,
        /// What it is about to write, and on top of which version.
        writing: Option<(Step, u64)>,
        works: bool,
        /// When.
        yielded: Option<u64>,
    }

    /// The Lease and its version, as it was before anybody here.
    struct Stored(Lease, u64);

    impl One {
        fn new(number: usize, comes: u64) -> One {
            One {
                tenure: agent(&format!("m{number}"), "1"),
                name: format!("m{number}/1"),
                next: comes,
                writing: None,
                works: false,
                yielded: None,
            }
        }

        /// Reads, or writes what it read for; a call takes up to `latency`.
        fn call(&mut self, stored: &mut Stored, now: u64, pace: u64, latency: u64) {
            let Some((step, version)) = self.writing.take() else {
                let step = self.tenure.step(&stored.0, Duration::from_millis(now));
                if let Step::Look { after } = step {
                    self.next = now + u64::try_from(after.as_millis()).unwrap();
                } else {
                    self.writing = Some((step, stored.1));
                    self.next = now + latency;
                }
                return;
            };
            if version != stored.1 {
                self.next = now + latency;
                return;
            }
            stored.1 += 1;
            match step {
                Step::Renew { number } => {
                    stored.0 = lease(&self.name, number, &now.to_string());
                    self.tenure.wrote(number);
                    self.works = true;
                    // It need not read what it wrote.
                    let next = self.tenure.step(&stored.0, Duration::from_millis(now));
                    self.writing = Some((next, stored.1));
                    self.next = now + pace;
                }
                Step::Yield { number, .. } => {
                    stored.0.number = number;
                    self.yielded = Some(now);
                    self.works = false;
                }
                Step::Look { .. } => {}
            }
        }
    }

    proptest! {
        /// However many copies come up, and whenever: the first works on, nobody works beside it, and every copy has ended within
        /// 30 s.
        #[test]
        fn copies_never_work_beside_their_original(
            comes in proptest::collection::vec(1_u64..100_000, 1..5),
            paces in proptest::collection::vec(9_000_u64..11_000, 40),
            latencies in proptest::collection::vec(1_u64..400, 40),
        ) {
            let all = [0].iter().chain(&comes).enumerate();
            let mut all: Vec<One> = all.map(|(i, at)| One::new(i, *at)).collect();
            // The original was there before.
            let mut stored = Stored(lease("m0/0", 1, "0"), 1);
            let (mut paces, mut latencies) = (paces.iter().cycle(), latencies.iter().cycle());
            for now in 0..140_000_u64 {
                for one in &mut all {
                    if one.next == now && one.yielded.is_none() {
                        let (pace, latency) = (paces.next().unwrap(), latencies.next().unwrap());
                        one.call(&mut stored, now, *pace, *latency);
                    }
                }
                let working = all.iter().filter(|one| one.works).count();
                prop_assert!(working <= 1 && all[1..].iter().all(|one| !one.works), "at {}", now);
            }
            prop_assert!(all[0].works && all[0].yielded.is_none());
            for (copy, at) in all[1..].iter().zip(&comes) {
                let within = copy.yielded.is_some_and(|yielded| yielded <= at + 30_000);
                prop_assert!(within, "{:?} came at {}", copy, at);
            }
            prop_assert!(all[0].tenure.complaint(Duration::from_millis(140_000)).is_some());
        }
    }
}
