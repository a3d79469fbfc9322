//! Which fields of ECS are honoured, how far, and why not.
//!
//! A reason completes a sentence, and says what to use instead where there is something. `docs/task-definition.md` and
//! `docs/not-supported.md` have the same words.

use super::Support::{self, Full, Ignored, OneOf, Refused, Values};

const FARGATE: &str = "FARGATE and MANAGED_INSTANCES are machines of AWS; EC2 and EXTERNAL mean a Docker host of yours";
const PLATFORM_OF_FARGATE: &str = "of Fargate, whose machines are AWS'";
const DISK_OF_FARGATE: &str = "the disk of a machine of Fargate; containers here have their host's";
const ELASTIC_INFERENCE: &str =
    "Elastic Inference is a closed product of AWS; `resourceRequirements` asks for GPUs";
const EXECUTION_ROLE: &str = "no role is assumed: images are pulled with `repositoryCredentials`, values come from Secrets, and `awslogs` sends \
                              with the credentials that the host's engine has";
const EFS_ENCRYPTION: &str = "needs the mount helper of EFS; encrypt the network below instead";
const EBS: &str = "EBS is a service of AWS; `dockerVolumeConfiguration` of the task definition names a volume driver of the host";
const PORT_OF_A_MESH: &str =
    "for Service Connect and VPC Lattice, services of AWS; containers are reached at their ports";
const DEVICES_OF_AWS: &str = "InferenceAccelerator and NeuronDevice are hardware of AWS";
const SHIFTS_TRAFFIC: &str = "BLUE_GREEN, LINEAR and CANARY shift traffic at a load balancer, and there is none; TaskSets run two versions side by side";
const LOAD_BALANCERS: &str =
    "there is no load balancer; a Task's status says at which ports it is reached";
const CLOUD_MAP: &str =
    "Cloud Map is a service of AWS; a Task's status says at which ports it is reached";
const CAPACITY: &str = "capacity providers get machines from AWS; hosts here join, and `placementConstraints` choose between them";
const EXEC: &str =
    "ECS Exec goes by way of Systems Manager of AWS; `docker exec` does it on the task's host";
const NETWORK_OF_A_VPC: &str = "subnets, security groups and public addresses are of a VPC; where a task is on the network is its host's matter";

pub(super) const DEFINITION: &[(&str, Support)] = &[
    ("family", Full),
    ("networkMode", Full),
    (
        "requiresCompatibilities",
        OneOf(&["EC2", "EXTERNAL"], FARGATE),
    ),
    ("pidMode", Full),
    ("ipcMode", Full),
    ("runtimePlatform.cpuArchitecture", Full),
    (
        "runtimePlatform.operatingSystemFamily",
        Values(&["LINUX"], "there is no agent for Windows"),
    ),
    ("cpu", Full),
    ("memory", Full),
    ("tags", Full),
    ("taskRoleArn", Full),
    ("enableFaultInjection", Full),
    ("executionRoleArn", Ignored(EXECUTION_ROLE)),
    ("ephemeralStorage", Refused(DISK_OF_FARGATE)),
    ("inferenceAccelerators", Refused(ELASTIC_INFERENCE)),
    (
        "proxyConfiguration",
        Refused("of App Mesh, a service of AWS; a proxy of your own is a container of the task"),
    ),
    (
        "trustedExecutionConfiguration",
        Refused("needs Nitro hardware of AWS"),
    ),
    ("placementConstraints", Full),
    ("volumes[].name", Full),
    ("volumes[].host.sourcePath", Full),
    ("volumes[].dockerVolumeConfiguration", Full),
    ("volumes[].efsVolumeConfiguration.fileSystemId", Full),
    ("volumes[].efsVolumeConfiguration.rootDirectory", Full),
    (
        "volumes[].efsVolumeConfiguration.transitEncryption",
        Values(&["DISABLED"], EFS_ENCRYPTION),
    ),
    (
        "volumes[].efsVolumeConfiguration.transitEncryptionPort",
        Refused(EFS_ENCRYPTION),
    ),
    (
        "volumes[].efsVolumeConfiguration.authorizationConfig.iam",
        Values(
            &["DISABLED"],
            "there is no IAM here; who may mount, the NFS server says",
        ),
    ),
    (
        "volumes[].efsVolumeConfiguration.authorizationConfig.accessPointId",
        Refused("access points are EFS' own; `rootDirectory` names a folder"),
    ),
    (
        "volumes[].configuredAtLaunch",
        Refused(
            "EBS is a service of AWS; `dockerVolumeConfiguration` names a volume driver of the host",
        ),
    ),
    (
        "volumes[].fsxWindowsFileServerVolumeConfiguration",
        Refused("FSx for Windows File Server serves Windows hosts"),
    ),
    (
        "volumes[].s3filesVolumeConfiguration",
        Refused(
            "S3 Files is a service of AWS; `dockerVolumeConfiguration` names a volume driver of the host",
        ),
    ),
    ("containerDefinitions[].name", Full),
    ("containerDefinitions[].image", Full),
    ("containerDefinitions[].cpu", Full),
    ("containerDefinitions[].memory", Full),
    ("containerDefinitions[].memoryReservation", Full),
    ("containerDefinitions[].essential", Full),
    ("containerDefinitions[].entryPoint", Full),
    ("containerDefinitions[].command", Full),
    ("containerDefinitions[].environment", Full),
    ("containerDefinitions[].environmentFiles", Full),
    ("containerDefinitions[].secrets", Full),
    ("containerDefinitions[].repositoryCredentials", Full),
    ("containerDefinitions[].portMappings[].containerPort", Full),
    ("containerDefinitions[].portMappings[].hostPort", Full),
    (
        "containerDefinitions[].portMappings[].containerPortRange",
        Full,
    ),
    ("containerDefinitions[].portMappings[].protocol", Full),
    (
        "containerDefinitions[].portMappings[].name",
        Ignored(PORT_OF_A_MESH),
    ),
    (
        "containerDefinitions[].portMappings[].appProtocol",
        Ignored(PORT_OF_A_MESH),
    ),
    ("containerDefinitions[].versionConsistency", Full),
    ("containerDefinitions[].mountPoints", Full),
    ("containerDefinitions[].volumesFrom", Full),
    ("containerDefinitions[].dockerLabels", Full),
    ("containerDefinitions[].user", Full),
    ("containerDefinitions[].workingDirectory", Full),
    ("containerDefinitions[].dependsOn", Full),
    ("containerDefinitions[].links", Full),
    ("containerDefinitions[].startTimeout", Full),
    ("containerDefinitions[].restartPolicy", Full),
    ("containerDefinitions[].stopTimeout", Full),
    ("containerDefinitions[].healthCheck", Full),
    ("containerDefinitions[].linuxParameters", Full),
    (
        "containerDefinitions[].credentialSpecs",
        Refused("group managed service accounts are of Active Directory, a service of Windows"),
    ),
    (
        "containerDefinitions[].resourceRequirements[].type",
        Values(&["GPU"], DEVICES_OF_AWS),
    ),
    (
        "containerDefinitions[].resourceRequirements[].sharingStrategy",
        Full,
    ),
    ("containerDefinitions[].resourceRequirements[].value", Full),
    ("containerDefinitions[].ulimits", Full),
    ("containerDefinitions[].hostname", Full),
    ("containerDefinitions[].interactive", Full),
    ("containerDefinitions[].pseudoTerminal", Full),
    ("containerDefinitions[].readonlyRootFilesystem", Full),
    ("containerDefinitions[].dockerSecurityOptions", Full),
    ("containerDefinitions[].systemControls", Full),
    ("containerDefinitions[].privileged", Full),
    ("containerDefinitions[].extraHosts", Full),
    ("containerDefinitions[].dnsServers", Full),
    ("containerDefinitions[].dnsSearchDomains", Full),
    ("containerDefinitions[].disableNetworking", Full),
    ("containerDefinitions[].logConfiguration", Full),
    ("containerDefinitions[].firelensConfiguration", Full),
];

pub(super) const SERVICE: &[(&str, Support)] = &[
    ("cluster", Full),
    ("serviceName", Full),
    ("taskDefinition", Full),
    ("desiredCount", Full),
    ("clientToken", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"], FARGATE)),
    ("schedulingStrategy", Full),
    (
        "deploymentController.type",
        Values(
            &["ECS", "EXTERNAL"],
            "CodeDeploy is a service of AWS; EXTERNAL with TaskSets leaves deployments to you",
        ),
    ),
    ("deploymentConfiguration.minimumHealthyPercent", Full),
    ("deploymentConfiguration.maximumPercent", Full),
    (
        "deploymentConfiguration.strategy",
        Values(&["ROLLING"], SHIFTS_TRAFFIC),
    ),
    (
        "deploymentConfiguration.linearConfiguration",
        Refused(SHIFTS_TRAFFIC),
    ),
    (
        "deploymentConfiguration.canaryConfiguration",
        Refused(SHIFTS_TRAFFIC),
    ),
    (
        "deploymentConfiguration.lifecycleHooks",
        Refused("hooks are Lambda functions of AWS, called while a load balancer shifts traffic"),
    ),
    ("deploymentConfiguration.earlySuccessCriteria", Full),
    ("deploymentConfiguration.deploymentCircuitBreaker", Full),
    ("deploymentConfiguration.alarms", Full),
    ("deploymentConfiguration.bakeTimeInMinutes", Full),
    ("deploymentConfiguration.timeoutInMinutes", Full),
    ("paused", Full),
    ("disconnect", Full),
    ("primaryTaskSet", Full),
    ("availabilityZoneRebalancing", Full),
    ("healthCheckGracePeriodSeconds", Full),
    ("placementConstraints", Full),
    ("placementStrategy", Full),
    ("tags", Full),
    ("propagateTags", Full),
    ("enableECSManagedTags", Full),
    ("enableExecuteCommand", Ignored(EXEC)),
    (
        "monitoring",
        Ignored("of CloudWatch; Prometheus asks operator and agents as often as you want"),
    ),
    ("networkConfiguration", Ignored(NETWORK_OF_A_VPC)),
    ("platformVersion", Ignored(PLATFORM_OF_FARGATE)),
    (
        "role",
        Ignored("enters tasks in a load balancer, and there is none"),
    ),
    ("loadBalancers", Refused(LOAD_BALANCERS)),
    ("serviceRegistries", Refused(CLOUD_MAP)),
    ("capacityProviderStrategy", Refused(CAPACITY)),
    (
        "serviceConnectConfiguration",
        Refused(
            "Service Connect is a proxy of AWS beside each task, and shares load between tasks",
        ),
    ),
    (
        "vpcLatticeConfigurations",
        Refused("VPC Lattice is a load balancer of AWS"),
    ),
    (
        "gatewayConnectors",
        Refused("gateways are load balancers of AWS"),
    ),
    ("volumeConfigurations", Refused(EBS)),
];

pub(super) const TASK_SET: &[(&str, Support)] = &[
    ("service", Full),
    ("cluster", Full),
    ("externalId", Full),
    ("taskDefinition", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"], FARGATE)),
    ("scale", Full),
    ("clientToken", Full),
    ("tags", Full),
    ("networkConfiguration", Ignored(NETWORK_OF_A_VPC)),
    ("platformVersion", Ignored(PLATFORM_OF_FARGATE)),
    ("loadBalancers", Refused(LOAD_BALANCERS)),
    ("serviceRegistries", Refused(CLOUD_MAP)),
    ("capacityProviderStrategy", Refused(CAPACITY)),
];

pub(super) const TASK: &[(&str, Support)] = &[
    ("cluster", Full),
    ("taskDefinition", Full),
    ("containerInstance", Full),
    ("stopAfter", Full),
    ("desiredStatus", Full),
    ("stopCode", Full),
    ("stoppedReason", Full),
    ("group", Full),
    ("startedBy", Full),
    ("clientToken", Full),
    ("overrides.containerOverrides[].name", Full),
    ("overrides.containerOverrides[].command", Full),
    ("overrides.containerOverrides[].environment", Full),
    ("overrides.containerOverrides[].environmentFiles", Full),
    ("overrides.containerOverrides[].cpu", Full),
    ("overrides.containerOverrides[].memory", Full),
    ("overrides.containerOverrides[].memoryReservation", Full),
    (
        "overrides.containerOverrides[].resourceRequirements[].type",
        Values(&["GPU"], DEVICES_OF_AWS),
    ),
    (
        "overrides.containerOverrides[].resourceRequirements[].sharingStrategy",
        Full,
    ),
    (
        "overrides.containerOverrides[].resourceRequirements[].value",
        Full,
    ),
    ("overrides.cpu", Full),
    ("overrides.memory", Full),
    ("overrides.taskRoleArn", Full),
    ("overrides.executionRoleArn", Ignored(EXECUTION_ROLE)),
    ("overrides.ephemeralStorage", Refused(DISK_OF_FARGATE)),
    (
        "overrides.inferenceAcceleratorOverrides",
        Refused(ELASTIC_INFERENCE),
    ),
    ("containerImages", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"], FARGATE)),
    ("referenceId", Full),
    ("placementConstraints", Full),
    ("placementStrategy", Full),
    ("tags", Full),
    ("propagateTags", Full),
    ("enableECSManagedTags", Full),
    ("enableExecuteCommand", Ignored(EXEC)),
    ("platformVersion", Ignored(PLATFORM_OF_FARGATE)),
    ("networkConfiguration", Ignored(NETWORK_OF_A_VPC)),
    ("capacityProviderStrategy", Refused(CAPACITY)),
    ("volumeConfigurations", Refused(EBS)),
];

/// What a RunTask has beside or otherwise than a Task.
pub(super) const RUN_TASK: &[(&str, Support)] = &[
    ("containerInstances", Full),
    ("count", Full),
    ("waitForCapacity", Full),
    ("backoffLimit", Full),
    ("activeDeadlineSeconds", Full),
    ("ttlSecondsAfterFinished", Full),
];
