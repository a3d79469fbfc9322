//! Derived names. Doing a thing twice meets "already exists".

/// Name of the cluster that is used when none is given.
pub const DEFAULT_CLUSTER: &str = "default";

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

/// The number in a task name of `service`, if it is one.
pub fn service_task_number(service: &str, task: &str) -> Option<i64> {
    let digits = task.strip_prefix(service)?.strip_prefix('-')?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// Name of a host's ServiceAccount, Role, RoleBinding, Secret and Lease. Its HostPlan is named like the host itself.
pub fn host_identity(container_instance: &str) -> String {
    format!("tallyman-host-{container_instance}")
}

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
        assert_eq!(
            host_user("prod", "a"),
            "system:serviceaccount:prod:tallyman-host-a"
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
            ("web", "web-99999999999999999999"),
            ("web", "web-x-000042"),
        ] {
            assert_eq!(service_task_number(service, task), None, "{task}");
        }
    }

    proptest! {
        #[test]
        fn a_tasks_number_is_read_back(service in "[a-z]([-a-z0-9]{0,50}[a-z0-9])?", number in 0i64..) {
            prop_assert_eq!(service_task_number(&service, &service_task(&service, number)), Some(number));
        }

        #[test]
        fn longest_names_fit_a_label(service in "[a-z]{52}", number in 0i64..10_000_000_000) {
            prop_assert!(service_task(&service, number).len() <= 63);
        }
    }
}
