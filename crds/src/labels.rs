//! Labels, annotations and finalizers, on Kubernetes objects and on containers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On a Task: the service it belongs to.
pub const SERVICE: &str = "tallyman.dev/service";
/// On a Task: the TaskSet of its service that it belongs to.
pub const TASK_SET: &str = "tallyman.dev/task-set";
/// On a Task: the RunTask it belongs to.
pub const RUN_TASK: &str = "tallyman.dev/run-task";
/// On a RunTask: the ScheduledTask that it was made for.
pub const SCHEDULED_TASK: &str = "tallyman.dev/scheduled-task";
/// Annotation of a RunTask: when it was due, by the schedule that it was made for (RFC 3339).
pub const SCHEDULED_TIME: &str = "tallyman.dev/scheduled-time";
/// On a Task and on a host's objects: the cluster.
pub const CLUSTER: &str = "tallyman.dev/cluster";
/// On a Task, a RunTask and a TaskSet: the object name of its task definition revision, `<name>-<n>`.
pub const REVISION: &str = "tallyman.dev/revision";
/// On a Task: number of the deployment, or of the task set, that started it.
pub const DEPLOYMENT: &str = "tallyman.dev/deployment";
/// On a Task and on a host's Lease, Secret, ServiceAccount, Role: the container instance.
pub const CONTAINER_INSTANCE: &str = "tallyman.dev/container-instance";
/// On a TaskDefinitionRevision: the object that minted it.
pub const TASK_DEFINITION: &str = "tallyman.dev/task-definition";
/// On a host's Secret: what it was supplied with, and as of which versions ([`crate::sources::Receipt`]).
pub const SUPPLIED: &str = "tallyman.dev/supplied";
/// On a host's Secret, an annotation: the public key that the host joined with. Whatever goes into the Secret is sealed to it.
pub const HOST_KEY: &str = "tallyman.dev/host-key";
/// On a ContainerInstance that the operator made for a HostJoin, an annotation: the uid of that HostJoin.
pub const JOINED_BY: &str = "tallyman.dev/joined-by";
/// On a Service, an annotation: another value starts a new deployment of the same revision (ECS `forceNewDeployment`).
pub const RESTARTED_AT: &str = "tallyman.dev/restartedAt";
/// On a ContainerInstance, an annotation: `true` makes its deletion stop its tasks at once, whatever their services are left
/// with (ECS DeregisterContainerInstance with `force`).
pub const FORCE_DEREGISTRATION: &str = "tallyman.dev/forceDeregistration";
/// On a ContainerInstance, an annotation: `true` lets its host stop what still runs of tasks that the API server lost when it
/// was restored from a backup.
pub const STOP_FORGOTTEN: &str = "tallyman.dev/stopForgottenTasks";
/// On objects that the operator made.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "tallyman";

/// The operator made the object.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    let label = metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY));
    label.is_some_and(|manager| manager == MANAGER)
}

/// Finalizer of a Task: its containers are stopped and removed first.
pub const STOP_FINALIZER: &str = "tallyman.dev/stop";
/// Finalizer of a Service, a TaskSet or a RunTask: its tasks are stopped first.
pub const SERVICE_FINALIZER: &str = "tallyman.dev/stop-tasks";
/// Finalizer of a Cluster, ContainerInstance or TaskDefinitionRevision: kept while in use.
pub const IN_USE_FINALIZER: &str = "tallyman.dev/in-use";

/// On a container: uid of its Task. The scope by which an agent knows its own.
pub const CONTAINER_TASK_UID: &str = "tallyman.dev/task-uid";
/// On a container: name of its Task.
pub const CONTAINER_TASK: &str = "tallyman.dev/task";
/// On a container: namespace of its Task.
pub const CONTAINER_NAMESPACE: &str = "tallyman.dev/namespace";
/// On a container: uid of the ContainerInstance that it was started for.
pub const CONTAINER_INSTANCE_UID: &str = "tallyman.dev/container-instance-uid";
/// On a container: which attempt of the container it is, from 1.
pub const CONTAINER_ATTEMPT: &str = "tallyman.dev/attempt";
/// Seconds out of touch with the API server after which the agent stops the container, whoever knows its task; of tasks with
/// `stopAfter`.
pub const CONTAINER_STOP_AFTER: &str = "tallyman.dev/stop-after";
/// On a container: ids of the GPUs that it was given, apart by commas; `id=MiB` of one that it shares, with the memory of
/// which its whole task has a part.
pub const CONTAINER_GPUS: &str = "tallyman.dev/gpu-ids";

/// On an image: it is the agent's own, for pause containers; image clean-up leaves it alone.
pub const PAUSE_IMAGE: &str = "tallyman.dev/pause-image";
/// On a network: the agent made it, for tasks with an address of their own.
pub const TASK_NETWORK: &str = "tallyman.dev/task-network";

/// Engine labels as ECS sets them (ECS agent introspection).
pub mod ecs {
    /// The task, as [`crate::arn`] names it.
    pub const TASK_ARN: &str = "com.amazonaws.ecs.task-arn";
    /// Container name in the task definition.
    pub const CONTAINER_NAME: &str = "com.amazonaws.ecs.container-name";
    /// Family.
    pub const TASK_DEFINITION_FAMILY: &str = "com.amazonaws.ecs.task-definition-family";
    /// Revision number.
    pub const TASK_DEFINITION_VERSION: &str = "com.amazonaws.ecs.task-definition-version";
    /// Cluster name.
    pub const CLUSTER: &str = "com.amazonaws.ecs.cluster";
}
