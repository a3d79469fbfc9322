//! How tasks and their containers are run and cleaned up.

use std::time::Duration;

use super::group::settings;
use super::values::{Wrong, at_least, between, flag, json, number, some, text};

/// The kernel's most processes on 64-bit machines, ECS's bound on `ECS_TASK_PIDS_LIMIT`.
const MOST_PIDS: i64 = 4_194_304;

settings! {
    /// How tasks are run and cleaned up.
    pub struct Tasks {
        stop_timeout: Duration = Duration::from_secs(30),
            ["ECS_CONTAINER_STOP_TIMEOUT", "DockerStopTimeout",
             "between SIGTERM and SIGKILL (default 30s, at least 1s)"],
            at_least(1);
        cleanup_wait: Duration = Duration::from_secs(3 * 60 * 60),
            ["ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "TaskCleanupWaitDuration",
             "how long containers of a stopped task are kept (default 3h, at least 1s)"],
            at_least(1);
        pids_limit: Option<i64> = None,
            ["ECS_TASK_PIDS_LIMIT", "TaskPidsLimit",
             "most processes of each task, of each container where tasks have no control group; 1 to 4194304 (default: 4096 of each container)"],
            some(number(1, MOST_PIDS, "processes"));
        cleanup_jitter: Duration = Duration::ZERO,
            ["ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", "TaskCleanupWaitDurationJitter",
             "up to so much is added to the wait, spread over tasks (default 0s)"],
            at_least(0);
        environment_file_folders: Vec<String> = Vec::new(),
            ["ECS_ENVIRONMENT_FILE_FOLDERS", "EnvironmentFileFolders",
             "folders of the host whose files `environmentFiles` of type `file` may name, JSON list like [\"/etc/app\"] (default [])"],
            folders;
        start_timeout: Duration = Duration::from_secs(3 * 60),
            ["ECS_CONTAINER_START_TIMEOUT", "ContainerStartTimeout",
             "what the engine may take to start a container (default 3m, at least 45s)"],
            at_least(45);
        create_timeout: Duration = Duration::from_secs(4 * 60),
            ["ECS_CONTAINER_CREATE_TIMEOUT", "ContainerCreateTimeout",
             "what the engine may take to create a container (default 4m, at least 1m)"],
            at_least(60);
        pull_upfront: bool = false,
            ["ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", "DependentContainersPullUpfront",
             "true: pull images of containers at once, before what they depend on is there (default false)"],
            flag;
        disable_health_check: bool = false,
            ["ECS_DISABLE_DOCKER_HEALTH_CHECK", "DisableDockerHealthCheck",
             "true: do not offer the capability for container health checks (default false)"],
            flag;
        exclude_ipv6_port_bindings: bool = true,
            ["ECS_EXCLUDE_IPV6_PORTBINDING", "ShouldExcludeIPv6PortBinding",
             "false: report host ports on IPv6 addresses, too (default true)"],
            flag;
        firelens_async: bool = true,
            ["ECS_ENABLE_FIRELENS_ASYNC", "FirelensAsyncEnabled",
             "false: a container with the log driver awsfirelens cannot start before its log router listens (default true)"],
            flag;
        cpu_mem_limit: bool = true,
            ["ECS_ENABLE_TASK_CPU_MEM_LIMIT", "TaskCPUMemLimit",
             "false: do not enforce `cpu` and `memory` of tasks, and do not offer the capability (default true)"],
            flag;
        cgroup_path: String = "/sys/fs/cgroup".to_owned(),
            ["ECS_CGROUP_PATH", "CgroupPath", "where control groups are (default /sys/fs/cgroup)"],
            text;
        cgroup_cpu_period: Duration = Duration::from_millis(100),
            ["ECS_CGROUP_CPU_PERIOD", "CgroupCPUPeriod",
             "period over which `cpu` of a task is counted (default 100ms, 8ms to 100ms)"],
            between(8, 100);
        propagate_memory: bool = false,
            ["ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2", "PropagateTaskMemoryLimitCgroupV2",
             "true: on cgroup v2 a container without `memory` gets that of its task (default false)"],
            flag;
    }
}

/// The root would allow every file.
fn folders(text: &str) -> Result<Vec<String>, Wrong> {
    let folders: Vec<String> = json("[\"/etc/app\"]")(text)?;
    let usable = |folder: &String| folder.starts_with('/') && folder.len() > 1;
    if folders.iter().all(usable) {
        Ok(folders)
    } else {
        Err(Wrong::wanted(
            "a JSON list of absolute paths below `/`, such as [\"/etc/app\"]",
        ))
    }
}
