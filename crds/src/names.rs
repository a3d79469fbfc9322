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
