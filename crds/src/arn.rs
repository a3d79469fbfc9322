//! ARNs: how ECS names its resources to programs.
//!
//! Programs take them apart at the colons, so the shape is ECS' own: `arn:aws:ecs:<region>:<account>:<kind>/...`. The
//! account is the namespace, which is to Tallyman what an account is to ECS; the region is what the host says it is in,
//! and empty when it says nothing.

/// What all ARNs of a namespace begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arns<'a> {
    /// Region, or nothing.
    pub region: &'a str,
    /// Namespace.
    pub namespace: &'a str,
}

impl Arns<'_> {
    fn of(self, kind: &str, path: &[&str]) -> String {
        let Self { region, namespace } = self;
        format!("arn:aws:ecs:{region}:{namespace}:{kind}/{}", path.join("/"))
    }

    /// Of a Task.
    pub fn task(self, cluster: &str, task: &str) -> String {
        self.of("task", &[cluster, task])
    }

    /// Of a container of a Task, by its name in the task definition.
    pub fn container(self, cluster: &str, task: &str, container: &str) -> String {
        self.of("container", &[cluster, task, container])
    }

    /// Of a ContainerInstance.
    pub fn container_instance(self, cluster: &str, name: &str) -> String {
        self.of("container-instance", &[cluster, name])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_have_the_parts_that_programs_take() {
        let arns = Arns {
            region: "eu-north-1",
            namespace: "shop",
        };
        let arn = arns.task("default", "web-000001");
        assert_eq!(arn, "arn:aws:ecs:eu-north-1:shop:task/default/web-000001");
        let nowhere = Arns { region: "", ..arns };
        let arn = nowhere.container("default", "web-000001", "app");
        assert_eq!(arn.split(':').count(), 6);
        assert!(arn.ends_with(":shop:container/default/web-000001/app"));
        let arn = nowhere.container_instance("default", "host-a");
        assert_eq!(arn, "arn:aws:ecs::shop:container-instance/default/host-a");
    }
}
