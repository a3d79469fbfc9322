//! How tasks and their containers are run and cleaned up.

use std::time::Duration;

use super::group::settings;
use super::values::{at_least, number, some};

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
             "most processes of each container, 1 to 4194304 (default: no limit)"],
            some(number(1, MOST_PIDS, "processes"));
    }
}
