//! What ECS calls a failure (ECS stopped task error codes). `docs/stopped-tasks.md` has all of its names.

use tallyman_agent_engine::Verb;

/// What ECS calls it that the engine fails to do this.
pub fn error_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Prepare => "CannotPullContainerError",
        Verb::Create => "CannotCreateContainerError",
        Verb::Start => "CannotStartContainerError",
        Verb::Stop => "CannotStopContainerError",
        Verb::Inspect => "CannotInspectContainerError",
        Verb::Remove => "CannotRemoveContainerError",
        Verb::List | Verb::ListAll => "CannotListContainersError",
        Verb::Describe => "CannotGetDockerClientVersionError",
        Verb::CreateVolume => "CannotCreateVolumeError",
        Verb::InspectVolume => "CannotInspectVolumeError",
        Verb::RemoveVolume => "CannotRemoveVolumeError",
        Verb::EnsureImage => "ResourceInitializationError",
        Verb::EnsureNetwork | Verb::Attach => "ContainerNetworkingError",
        Verb::Watch
        | Verb::ListVolumes
        | Verb::ProvideGroup
        | Verb::RemoveGroup
        | Verb::ListGroups
        | Verb::ListImages
        | Verb::RemoveImage
        | Verb::Stats => "DockerStateError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_the_name_that_ecs_has_for_its_failure() {
        for (verb, name) in [
            (Verb::Prepare, "CannotPullContainerError"),
            (Verb::Stop, "CannotStopContainerError"),
            (Verb::List, "CannotListContainersError"),
            (Verb::Describe, "CannotGetDockerClientVersionError"),
            (Verb::EnsureNetwork, "ContainerNetworkingError"),
        ] {
            assert_eq!(error_name(verb), name);
        }
    }
}
