//! Columns of `kubectl get`: each answers the question that a person has when typing the command.
//!
//! The column NAME comes from kubectl. Columns marked `wide` are shown by `-o wide` only.

use serde_json::{Value, json};

/// One column.
struct Column {
    name: &'static str,
    type_: &'static str,
    path: &'static str,
    wide: bool,
}

const fn text(name: &'static str, path: &'static str) -> Column {
    Column {
        name,
        type_: "string",
        path,
        wide: false,
    }
}

const fn number(name: &'static str, path: &'static str) -> Column {
    Column {
        name,
        type_: "integer",
        path,
        wide: false,
    }
}

const fn decimal(name: &'static str, path: &'static str) -> Column {
    Column {
        name,
        type_: "number",
        path,
        wide: false,
    }
}

const fn truth(name: &'static str, path: &'static str) -> Column {
    Column {
        name,
        type_: "boolean",
        path,
        wide: false,
    }
}

const fn age(name: &'static str, path: &'static str) -> Column {
    Column {
        name,
        type_: "date",
        path,
        wide: false,
    }
}

const fn wide(column: Column) -> Column {
    Column {
        wide: true,
        ..column
    }
}

const AGE: Column = age("Age", ".metadata.creationTimestamp");
const READY: Column = text("Ready", ".status.conditions[?(@.type==\"Ready\")].status");
const REASON: Column = text("Reason", ".status.conditions[?(@.type==\"Ready\")].reason");
const MESSAGE: Column = wide(text(
    "Message",
    ".status.conditions[?(@.type==\"Ready\")].message",
));

const CLUSTER: &[Column] = &[
    number("Instances", ".status.registeredContainerInstancesCount"),
    number("Services", ".status.activeServicesCount"),
    number("Running", ".status.runningTasksCount"),
    number("Pending", ".status.pendingTasksCount"),
    READY,
    AGE,
];

const CONTAINER_INSTANCE: &[Column] = &[
    text("Cluster", ".spec.cluster"),
    text("Status", ".status.status"),
    truth("Agent", ".status.agentConnected"),
    text("CPU Free", ".status.cpuFree"),
    text("Memory Free", ".status.memoryFree"),
    number("Tasks", ".status.runningTasksCount"),
    text("Engine", ".status.host.engine"),
    text("Agent Version", ".status.host.agentVersion"),
    AGE,
    wide(number("Pending", ".status.pendingTasksCount")),
    wide(text("Address", ".status.host.address")),
];

const HOST_JOIN: &[Column] = &[
    text("Host", ".status.request.containerInstance"),
    text("Accept", ".spec.accept"),
    READY,
    REASON,
    AGE,
    wide(text("Key", ".status.keyFingerprint")),
    MESSAGE,
];

const HOST_PLAN: &[Column] = &[
    number("Generation", ".spec.generation"),
    number("Epoch", ".spec.leaderEpoch"),
    AGE,
];

const RUN_TASK: &[Column] = &[
    text("Cluster", ".spec.cluster"),
    text("Task Definition", ".spec.taskDefinition"),
    number("Count", ".spec.count"),
    number("Active", ".status.active"),
    number("Succeeded", ".status.succeeded"),
    number("Failed", ".status.failed"),
    text("Status", ".status.message"),
    AGE,
    wide(READY),
    MESSAGE,
];

const SCHEDULED_TASK: &[Column] = &[
    text("Schedule", ".spec.scheduleExpression"),
    text("Time Zone", ".spec.scheduleExpressionTimezone"),
    truth("Suspend", ".spec.suspend"),
    age("Last", ".status.lastScheduleTime"),
    text("Next", ".status.nextScheduleTime"),
    READY,
    text("Last Result", ".status.lastResult"),
    AGE,
    wide(text("Active", ".status.active")),
    wide(number("Missed", ".status.missedRuns")),
    MESSAGE,
];

const SERVICE: &[Column] = &[
    text("Cluster", ".spec.cluster"),
    text("Task Definition", ".status.taskDefinition"),
    number("Desired", ".status.desiredCount"),
    number("Running", ".status.runningCount"),
    number("Pending", ".status.pendingCount"),
    READY,
    text("Status", ".status.message"),
    AGE,
];

/// HOST finds the one field of that name in an object: a task that was placed when it was made has it in its spec, a user's
/// own task, placed later, in its status.
const TASK: &[Column] = &[
    text("Cluster", ".spec.cluster"),
    text("Group", ".spec.group"),
    text("Task Definition", ".spec.taskDefinition"),
    text("Last Status", ".status.lastStatus"),
    text("Desired", ".spec.desiredStatus"),
    text("Host", "..containerInstance"),
    text("Health", ".status.healthStatus"),
    text("Ports", ".status.ports"),
    AGE,
    wide(text("Reason", ".status.stoppedReason")),
];

const TASK_DEFINITION: &[Column] = &[
    text("Family", ".status.family"),
    text("Latest", ".status.latest"),
    READY,
    REASON,
    AGE,
    MESSAGE,
];

const TASK_DEFINITION_REVISION: &[Column] = &[
    text("Family", ".spec.family"),
    number("Revision", ".spec.revision"),
    text("Status", ".status.status"),
    AGE,
];

const TASK_SET: &[Column] = &[
    text("Service", ".spec.service"),
    text("Task Definition", ".status.taskDefinition"),
    decimal("Scale", ".spec.scale.value"),
    number("Desired", ".status.computedDesiredCount"),
    number("Running", ".status.runningCount"),
    number("Pending", ".status.pendingCount"),
    text("State", ".status.status"),
    text("Stability", ".status.stabilityStatus"),
    text("Status", ".status.message"),
    AGE,
    wide(READY),
    wide(text("Id", ".status.id")),
];

/// Columns of a kind, as `additionalPrinterColumns` wants them.
pub(super) fn of(kind: &str) -> Vec<Value> {
    let columns = match kind {
        "Cluster" => CLUSTER,
        "ContainerInstance" => CONTAINER_INSTANCE,
        "HostJoin" => HOST_JOIN,
        "HostPlan" => HOST_PLAN,
        "RunTask" => RUN_TASK,
        "ScheduledTask" => SCHEDULED_TASK,
        "Service" => SERVICE,
        "Task" => TASK,
        "TaskSet" => TASK_SET,
        "TaskDefinition" => TASK_DEFINITION,
        "TaskDefinitionRevision" => TASK_DEFINITION_REVISION,
        _ => &[AGE],
    };
    columns
        .iter()
        .map(|column| {
            let mut value =
                json!({ "name": column.name, "type": column.type_, "jsonPath": column.path });
            if column.wide {
                value["priority"] = 1.into();
            }
            value
        })
        .collect()
}
