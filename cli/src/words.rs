//! How ages, counts and times are written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tallyman_crds::readable::Unread;

/// A span as kubectl writes it: `45s`, `4m10s`, `25m`, `3h20m`, `30h`, `5d`.
pub fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86_400);
    let two = |n: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{n}{unit}"),
        rest => format!("{n}{unit}{rest}{small}"),
    };
    match s {
        ..120 => format!("{s}s"),
        120..600 => two(minutes, "m", s % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// How long ago something was.
pub fn age(at: Option<&Time>, now: Timestamp) -> String {
    at.map_or_else(String::new, |at| span(now.duration_since(at.0).as_secs()))
}

/// How old an object is.
pub fn age_of(meta: &ObjectMeta, now: Timestamp) -> String {
    age(meta.creation_timestamp.as_ref(), now)
}

/// Of one object of several that cannot be read.
pub fn left_out(kind: &str, unread: &Unread) -> String {
    format!("{}; it is left out here", unreadable(kind, unread))
}

/// Of the object that was asked for and cannot be read.
pub fn unreadable(kind: &str, unread: &Unread) -> String {
    let (meta, problem) = (&unread.metadata, unread.problem());
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    format!(
        "{kind} {namespace}/{} is stored in a way that this version cannot read: {problem}",
        name(meta)
    )
}

/// `1 task`, `2 tasks`.
pub fn count(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What `kubectl -o name` prints and kubectl takes: `service.tallyman.dev/web`, and `configmap/web` of the group that has no name.
pub fn resource(group: &str, kind: &str, name: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{name}", kind.to_ascii_lowercase())
}

/// That of one of our objects.
pub fn ours<K: kube::Resource<DynamicType = ()>>(of: &K) -> String {
    resource(&K::group(&()), &K::kind(&()), name(of.meta()))
}

/// Name of an object.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// A label of an object.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// A word of ECS' as its JSON has it, such as `IN_PROGRESS`.
pub fn word(of: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(of).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_kubectl_writes_them() {
        for (seconds, text) in [
            (-3, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (250, "4m10s"),
            (601, "10m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (30_000, "8h"),
            (180_000, "2d2h"),
            (800_000, "9d"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn resources_are_named_as_kubectl_takes_them() {
        let web = tallyman_crds::Service::new("web", tallyman_crds::ServiceSpec::default());
        assert_eq!(ours(&web), "service.tallyman.dev/web");
        assert_eq!(resource("", "ConfigMap", "web"), "configmap/web");
    }

    #[test]
    fn lists_read_as_sentences() {
        let names = |n: usize| {
            ["a", "b", "c"][..n]
                .iter()
                .map(|s| (*s).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(list(&names(0)), "");
        assert_eq!(list(&names(1)), "a");
        assert_eq!(list(&names(2)), "a and b");
        assert_eq!(list(&names(3)), "a, b and c");
        assert_eq!(count(1, "task"), "1 task");
        assert_eq!(count(0, "task"), "0 tasks");
    }
}
