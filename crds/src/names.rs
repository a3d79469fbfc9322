//! Derived names. Doing a thing twice meets "already exists".

/// Name of the cluster that is used when none is given.
pub const DEFAULT_CLUSTER: &str = "default";

/// Whether an object may be called so: parts of small letters, digits and hyphens, apart by dots (RFC 1123 subdomain).
pub fn is_object_name(text: &str) -> bool {
    let part = |part: &str| {
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(inside)
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Object name of a task definition revision.
pub fn revision(task_definition: &str, revision: i64) -> String {
    format!("{task_definition}-{revision}")
}

/// `family:revision`, as ECS writes it.
pub fn family_revision(family: &str, revision: i64) -> String {
    format!("{family}:{revision}")
}

/// Name of a service's task: six digits, more when needed.
pub fn service_task(service: &str, number: i64) -> String {
    format!("{service}-{number:06}")
}

/// Digits of the highest task number: what the longest name of a service leaves of a label value.
const MOST_DIGITS: usize = 10;

/// The number in a task name of `service`, if it is one. A user may make a Task of any name; with more digits than a number of ours
/// can have it is none, so that there is always a next one.
pub fn service_task_number(service: &str, task: &str) -> Option<i64> {
    let digits = task.strip_prefix(service)?.strip_prefix('-')?;
    ((6..=MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// Name of a task of a run. Number `n` is try `(n - 1) / count + 1` of copy `(n - 1) % count + 1`, so that whoever tries
/// the same copy for the same time means the same name: of three copies, `job-1`, `job-2` and `job-3`, and copy 2 anew is
/// `job-5`.
pub fn run_task(run: &str, number: u32) -> String {
    format!("{run}-{number}")
}

/// The highest number of a task of a run: the copies of that try, and those of the next, have one, too.
const MOST_OF_RUN: u32 = 999_999_999;

/// The number in a task name of `run`, if it is one.
pub fn run_task_number(run: &str, task: &str) -> Option<u32> {
    let digits = task.strip_prefix(run)?.strip_prefix('-')?;
    let number = digits
        .parse()
        .ok()
        .filter(|n| (1..=MOST_OF_RUN).contains(n))?;
    (run_task(run, number) == task).then_some(number)
}

/// Name of the RunTask of a schedule that was due so many minutes after 1970 (UTC).
pub fn scheduled_run(scheduled_task: &str, minutes: i64) -> String {
    format!("{scheduled_task}-{minutes}")
}

/// Longest life of a host's token, in seconds: that of its first one. The agent renews it when a fifth is left, and an admission
/// policy refuses a longer one, so that who has copied a token makes nothing of it that outlives this.
pub const HOST_TOKEN_SECONDS: i64 = 30 * 24 * 3600;

/// Name of a host's ServiceAccount, Role, RoleBinding, Secret and Lease. Its HostPlan is named like the host itself.
pub fn host_identity(container_instance: &str) -> String {
    format!("{HOST_IDENTITY}{container_instance}")
}

/// The ContainerInstance of an object that has the name of its host's identity.
pub fn host_of_identity(name: &str) -> Option<&str> {
    name.strip_prefix(HOST_IDENTITY)
}

/// Name of the ServiceAccount, Role and RoleBinding of a HostJoin.
pub fn join_identity(host_join: &str) -> String {
    format!("{JOIN_IDENTITY}{host_join}")
}

/// The HostJoin of an object that has the name of its identity.
pub fn join_of_identity(name: &str) -> Option<&str> {
    name.strip_prefix(JOIN_IDENTITY)
}

/// User name of the ServiceAccount of a HostJoin as the API server sees it.
pub fn join_user(namespace: &str, host_join: &str) -> String {
    format!(
        "system:serviceaccount:{namespace}:{}",
        join_identity(host_join)
    )
}

const JOIN_IDENTITY: &str = "tallyman-join-";

const HOST_IDENTITY: &str = "tallyman-host-";

/// User name of a host's ServiceAccount as the API server sees it.
pub fn host_user(namespace: &str, container_instance: &str) -> String {
    format!(
        "system:serviceaccount:{namespace}:{}",
        host_identity(container_instance)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_what_people_see() {
        assert_eq!(revision("web", 7), "web-7");
        assert_eq!(family_revision("web", 7), "web:7");
        assert_eq!(service_task("web", 42), "web-000042");
        assert_eq!(service_task("web", 1_234_567), "web-1234567");
        assert_eq!(host_identity("a"), "tallyman-host-a");
        assert_eq!(host_of_identity("tallyman-host-a"), Some("a"));
        assert_eq!(host_of_identity("db"), None);
        assert_eq!(
            host_user("prod", "a"),
            "system:serviceaccount:prod:tallyman-host-a"
        );
    }

    #[test]
    fn what_is_no_name_of_an_object_is_told() {
        for name in ["default", "a", "0.b-c"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            "Prod",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "a.",
            "é",
            &"a".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn a_joins_identity_is_no_hosts_identity() {
        assert_eq!(join_identity("a"), "tallyman-join-a");
        assert_eq!(join_of_identity("tallyman-join-a"), Some("a"));
        assert_eq!(join_of_identity(&host_identity("a")), None);
        assert_eq!(host_of_identity(&join_identity("a")), None);
        assert_eq!(
            join_user("prod", "a"),
            "system:serviceaccount:prod:tallyman-join-a"
        );
    }

    #[test]
    fn a_number_is_not_read_from_another_name() {
        for (service, task) in [
            ("web", "web-42"),
            ("web", "web-00004a"),
            ("web", "webs-000042"),
            ("web", "web000042"),
            ("web", "web--00042"),
            ("web", "api-000042"),
            ("web", "web-"),
            ("web", "web-9223372036854775807"),
            ("web", "web-99999999999999999999"),
            ("web", "web-x-000042"),
        ] {
            assert_eq!(service_task_number(service, task), None, "{task}");
        }
    }

    #[test]
    fn a_runs_number_is_not_read_from_another_name() {
        assert_eq!(run_task("job", 5), "job-5");
        assert_eq!(scheduled_run("nightly", 29_454_721), "nightly-29454721");
        for task in [
            "job-0",
            "job-05",
            "job-x",
            "job-",
            "job5",
            "jobs-5",
            "job-+5",
            "job-5-1",
            "job-4294967295",
        ] {
            assert_eq!(run_task_number("job", task), None, "{task}");
        }
    }

    proptest! {
        #[test]
        fn a_run_tasks_number_is_read_back(run in "[a-z]([-a-z0-9]{0,50}[a-z0-9])?", number in 1..=super::MOST_OF_RUN) {
            prop_assert_eq!(run_task_number(&run, &run_task(&run, number)), Some(number));
        }

        #[test]
        fn a_tasks_number_is_read_back(service in "[a-z]([-a-z0-9]{0,50}[a-z0-9])?", number in 0i64..10_000_000_000) {
            prop_assert_eq!(service_task_number(&service, &service_task(&service, number)), Some(number));
        }

        #[test]
        fn longest_names_fit_a_label(service in "[a-z]{52}", number in 0i64..10_000_000_000) {
            prop_assert!(service_task(&service, number).len() <= 63);
        }
    }
}
