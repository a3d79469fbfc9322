//! Everything that can go wrong once, at every write, call, event and moment of every life.

use tallyman_sim::plans;

/// So many plans of so many are told here; `make soak` tells all of them. The second is odd, because plans of two kinds take turns.
const SHARE: (usize, usize) = (2, 13);
/// The least that is told.
const LEAST: usize = 5_000;

#[test]
fn nothing_that_goes_wrong_once_goes_wrong_for_good() {
    let told = plans::tell(SHARE);
    println!("{}", told.table());
    let all = std::env::var("TALLYMAN_SIM_PLAN").is_err();
    if all {
        let total = told.total();
        assert!(total >= LEAST, "only {total} plans were told");
        for (class, n) in plans::Told::classes().zip(told.by_class) {
            assert!(n > 0, "no plan was told in which the {class}");
        }
    }
}
