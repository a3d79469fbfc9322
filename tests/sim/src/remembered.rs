//! S21: the operator's passes over what changed, held against passes over everything.

use std::collections::BTreeSet;
use std::fmt::Debug;

use tallyman_operator_core::Plan;

/// What one of the plans of a pass over what changed has and a pass over everything has not, or the other way round.
pub fn difference(part: &[Plan], whole: &[Plan]) -> Option<String> {
    let (part_says, whole_says) = (said(part), said(whole));
    if let Some(missing) = whole_says.difference(&part_says).next() {
        return Some(format!("a pass over what changed does not say {missing}"));
    }
    if let Some(surplus) = part_says.difference(&whole_says).next() {
        return Some(format!("only a pass over what changed says {surplus}"));
    }
    // It may wake for what is settled meanwhile, and never too late.
    let wake = |plans: &[Plan]| plans.iter().filter_map(|p| p.wake_at).min();
    let (part, whole) = (wake(part), wake(whole));
    let late = whole.is_some_and(|at| part.is_none_or(|part| part > at));
    late.then(|| format!("it wakes at {part:?} instead of {whole:?}"))
}

fn said(plans: &[Plan]) -> BTreeSet<String> {
    fn text(thing: &impl Debug) -> String {
        format!("{thing:?}")
    }
    let mut all = BTreeSet::new();
    for plan in plans {
        all.extend(plan.actions.iter().map(text));
        all.extend(plan.publications.iter().map(text));
        all.extend(plan.notes.iter().map(text));
    }
    all
}
