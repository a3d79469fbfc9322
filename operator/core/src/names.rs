//! Names as types, so that a task is never looked up by a host's name.

use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Object name of a Service.
    ServiceName
);
name!(
    /// Object name of a Task.
    TaskName
);
name!(
    /// Object name of a ContainerInstance, and of its HostPlan.
    InstanceName
);
name!(
    /// Object name of a TaskDefinitionRevision, `<task definition>-<n>`.
    RevisionName
);
name!(
    /// Object name of a RunTask.
    RunTaskName
);
name!(
    /// Object name of a ScheduledTask.
    ScheduledTaskName
);
name!(
    /// Object name of a TaskSet.
    TaskSetName
);
name!(
    /// A task definition family.
    Family
);
name!(
    /// Number of a deployment or of a task set, the part after `ecs-svc/`.
    DeploymentId
);

name!(
    /// A task group: what placement counts together and `task:group` asks for (ECS API reference, Task).
    Group
);

impl Group {
    /// The group of a service's tasks.
    pub fn of_service(service: &ServiceName) -> Group {
        Group(format!("service:{service}"))
    }

    /// The group of a standalone task that names none.
    pub fn of_family(family: &Family) -> Group {
        Group(format!("family:{family}"))
    }
}

impl DeploymentId {
    /// As ECS writes it.
    pub fn ecs(&self) -> String {
        format!("ecs-svc/{self}")
    }

    /// Of the id that ECS writes.
    pub fn of_ecs(id: &str) -> Option<DeploymentId> {
        id.strip_prefix("ecs-svc/").map(DeploymentId::from)
    }
}
