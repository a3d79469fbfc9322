//! Versions of objects (`metadata.resourceVersion`): numbers that rise with every write, as etcd counts.

/// `version` is of an earlier write than `than`. What is no number says nothing.
///
/// ```
/// # use tallyman_crds::versions::is_older;
/// assert!(is_older("999", "1000"), "by number and not by letters");
/// assert!(!is_older("1000", "999") && !is_older("1000", "1000"));
/// assert!(!is_older("a", "b") && !is_older("", "1"));
/// ```
pub fn is_older(version: &str, than: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(version)
        .zip(number(than))
        .is_some_and(|(version, than)| version < than)
}
