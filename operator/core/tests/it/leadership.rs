//! Which number a leader takes, also when hosts say what is not true.
use proptest::prelude::*;
use tallyman_operator_core::leadership::{CEILING, Hearing, LEAP, next};

#[test]
fn a_new_leader_is_above_lease_plans_and_hosts() {
    assert_eq!(next(0, [], []), 1);
    assert_eq!(next(7, [3, 5], [6]), 8);
    assert_eq!(next(3, [9, 5], [6]), 10, "the Lease was deleted");
    assert_eq!(
        next(3, [3, 2], [7, 5]),
        8,
        "everything came back from a backup"
    );
}

#[test]
fn a_host_moves_the_number_only_so_far() {
    assert_eq!(next(3, [], [3 + LEAP]), 4 + LEAP);
    for (hosts, expected) in [([4 + LEAP, 5], 6), ([i64::MAX, 5], 6), ([i64::MIN, -1], 4)] {
        assert_eq!(next(3, [], hosts), expected, "{hosts:?}");
    }
    assert_eq!(next(CEILING, [], [CEILING + 1]), CEILING + 1);
    assert_eq!(
        next(CEILING + 5, [], [CEILING + 9]),
        CEILING + 6,
        "and leaders count on"
    );
}

#[test]
fn a_leader_goes_above_the_highest_of_all_hosts_at_once() {
    let mut hearing = Hearing::default();
    assert_eq!(hearing.hear(3, [("a", 3), ("b", 2), ("c", 0)]).above, None);
    assert_eq!(
        hearing.hear(3, [("a", 5), ("b", 7), ("c", 6)]).above,
        Some(7)
    );
    // They still say so, until their plans have come.
    assert_eq!(hearing.hear(8, [("a", 5), ("b", 7), ("c", 6)]).above, None);
}

#[test]
fn a_host_is_believed_once() {
    let mut hearing = Hearing::default();
    let mut own = 3;
    let mut raised = 0;
    for _ in 0..1_000 {
        if let Some(above) = hearing.hear(own, [("rogue", own + 1), ("good", own)]).above {
            own = next(above, [], []);
            raised += 1;
        }
    }
    assert_eq!((raised, own), (1, 5));
    // Another that comes late with an honest number is believed all the same.
    assert_eq!(
        hearing.hear(own, [("rogue", own + 9), ("late", 9)]).above,
        Some(9)
    );
}

#[test]
fn what_is_not_believed_is_told_once_and_with_what_to_do() {
    let mut hearing = Hearing::default();
    let heard = hearing.hear(3, [("sim/rogue", i64::MAX)]);
    assert_eq!(heard.above, None);
    assert_eq!(heard.complaints.len(), 1);
    for word in ["sim/rogue", "leader 3", "leaseTransitions"] {
        assert!(
            heard.complaints[0].contains(word),
            "{}",
            heard.complaints[0]
        );
    }
    assert_eq!(
        hearing.hear(3, [("sim/rogue", i64::MAX)]).complaints.len(),
        0
    );
}

proptest! {
    #[test]
    fn hosts_never_use_the_numbers_up(
        said in proptest::collection::vec((0..20usize, any::<i64>()), 0..200),
    ) {
        let names: Vec<String> = (0..20).map(|n| format!("host-{n}")).collect();
        let mut hearing = Hearing::default();
        let mut own = next(0, [], []);
        let mut raised = 0;
        for (host, number) in said {
            if let Some(above) = hearing.hear(own, [(names[host].as_str(), number)]).above {
                prop_assert!(above > own && above <= CEILING && above - own <= LEAP);
                own = next(above, [], []);
                raised += 1;
            }
        }
        prop_assert!(raised <= 20);
        prop_assert!(own <= CEILING + 1);
    }
}
