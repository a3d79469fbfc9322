//! Attributes by which a host says what its agent can do, named as ECS names them: operator and agent must use one word.

/// Environment variables from secrets.
pub const SECRETS: &str = "ecs.capability.secrets.asm.environment-variables";
/// Options of log drivers from secrets.
pub const LOG_SECRETS: &str = "ecs.capability.secrets.asm.bootstrap.log-driver";
/// Files of environment variables.
pub const ENVIRONMENT_FILES: &str = "ecs.capability.env-files.s3";
/// Files of environment variables that are the host's own. Not in ECS' list.
pub const HOST_ENVIRONMENT_FILES: &str = "ecs.capability.env-files.file";
/// Environment variables from secrets that ECS has in Parameter Store: here they are Secrets, too.
pub const PARAMETERS: &str = "ecs.capability.secrets.ssm.environment-variables";
/// The same for options of log drivers.
pub const LOG_PARAMETERS: &str = "ecs.capability.secrets.ssm.bootstrap.log-driver";
/// Credentials of a task for its registry.
pub const PRIVATE_REGISTRY: &str = "ecs.capability.private-registry-authentication.secretsmanager";
/// Credentials of a role for the task.
pub const TASK_ROLE: &str = "com.amazonaws.ecs.capability.task-iam-role";
/// The same in network mode `host`.
pub const TASK_ROLE_NETWORK_HOST: &str = "com.amazonaws.ecs.capability.task-iam-role-network-host";
/// Health checks of containers.
pub const HEALTH_CHECK: &str = "ecs.capability.container-health-check";
/// Limits of a task as a whole.
pub const TASK_LIMITS: &str = "ecs.capability.task-cpu-mem-limit";
/// An address of its own for a task (`awsvpc`).
pub const TASK_ADDRESS: &str = "ecs.capability.task-eni";
/// Processes and memory segments shared by the containers of a task, or with the host.
pub const SHARED_NAMESPACES: &str = "ecs.capability.pid-ipc-namespace-sharing";
/// Ranges of ports in port mappings.
pub const PORT_RANGES: &str = "ecs.capability.network.container-port-range";

/// Containers that wait for others of their task (`dependsOn`).
pub const ORDERING: &str = "ecs.capability.container-ordering";
/// Containers that are started again in place (`restartPolicy`).
pub const RESTARTS: &str = "ecs.capability.container-restart-policy";
/// Tasks that stop by themselves on a host that is cut off (`disconnect.stopAfter` of a Service). Not in ECS' list.
pub const STOP_AFTER: &str = "ecs.capability.stop-after";
/// Tasks of more than 10 vCPU.
pub const MANY_CPUS: &str = "ecs.capability.increased-task-cpu-limit";
/// The host is outside AWS.
pub const EXTERNAL: &str = "ecs.capability.external";
/// Volumes of EFS; the host knows at least one file system.
pub const FILE_SYSTEMS: &str = "ecs.capability.efs";

/// Parts of GPUs, by NVIDIA's MPS.
pub const GPU_SHARING: &str = "ecs.capability.gpu-sharing-mps";

/// Faults in the networks of tasks.
pub const FAULT_INJECTION: &str = "ecs.capability.fault-injection";
/// Among them late and lost packets, for which the kernel must have netem. Not in ECS' list, where hosts without it have none.
pub const FAULT_INJECTION_NETEM: &str = "ecs.capability.fault-injection.netem";

/// Log routers that are Fluentd.
pub const FIRELENS_FLUENTD: &str = "ecs.capability.firelens.fluentd";
/// Log routers that are Fluent Bit.
pub const FIRELENS_FLUENTBIT: &str = "ecs.capability.firelens.fluentbit";
/// Configuration of log routers from files of their images.
pub const FIRELENS_CONFIG_FILE: &str = "ecs.capability.firelens.options.config.file";
/// Configuration of log routers from ConfigMaps, which ECS keeps in S3.
pub const FIRELENS_CONFIG_S3: &str = "ecs.capability.firelens.options.config.s3";
/// The log driver `awsfirelens`.
pub const FIRELENS_DRIVER: &str = "com.amazonaws.ecs.capability.logging-driver.awsfirelens";
/// Its option `log-driver-buffer-limit`.
pub const FIRELENS_BUFFER_LIMIT: &str =
    "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit";

/// Only the agent can know this attribute of its host, whatever a user writes.
pub fn is_agents_own(name: &str) -> bool {
    name.starts_with("ecs.capability.")
        || name.starts_with("com.amazonaws.ecs.")
        || ["ecs.os-type", "ecs.os-family", "ecs.cpu-architecture"].contains(&name)
}

/// The driver of the host's GPUs, by its version.
pub fn nvidia_driver(version: &str) -> String {
    format!("ecs.capability.nvidia-driver-version.{version}")
}

/// The capability to use volumes of a driver: its name without a tag, as ECS and engines have it.
pub fn docker_plugin(driver: &str) -> String {
    let name = driver.split(':').next().unwrap_or(driver);
    format!("ecs.capability.docker-plugin.{name}")
}

/// The file system of EFS that the host knows by this id. Not in ECS' list, where each host reaches all of them.
pub fn file_system(id: &str) -> String {
    format!("{FILE_SYSTEMS}.{id}")
}
