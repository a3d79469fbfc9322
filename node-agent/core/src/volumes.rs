//! From the volumes of a task definition to what the engine is told (ECS Volume, MountPoint, VolumeFrom).
//!
//! A path of the host is only mounted. Everything else is a volume of the engine: made for the task and
//! removed with its containers (a volume without `sourcePath`, scope `task`, EFS), or shared by all tasks
//! of the host and never removed (scope `shared`).

use std::collections::BTreeMap;

use tallyman_agent_engine::{Mount, MountSource, VolumeSpec, VolumesFrom};
use tallyman_crds::ecs::{
    DockerVolumeConfiguration, EFSAuthorizationConfig, EFSAuthorizationConfigIAM,
    EFSTransitEncryption, EFSVolumeConfiguration, HostVolumeProperties, MountPoint, Scope as Reach,
    Volume, VolumeFrom,
};
use tallyman_crds::{PlannedDefinition, PlannedTask};

use crate::containers::{self, Scope, unreserved};
use crate::ids::TaskUid;
use crate::names;
use crate::refused::Refused;
use crate::settings::volumes::VolumeSettings;
use crate::task::TaskRecord;

/// A directory of an NFS server, written `server:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsExport {
    /// Name or address of the server.
    pub server: String,
    /// Absolute path on the server.
    pub path: String,
}

impl NfsExport {
    /// Reads `server:/path`; IPv6 addresses in brackets. `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, path) = text.split_once(":/")?;
        let server = server.trim_start_matches('[').trim_end_matches(']');
        let fine = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        let path = format!("/{path}");
        (!server.is_empty() && server.chars().all(fine) && !climbs(&path)).then(|| Self {
            server: server.to_owned(),
            path,
        })
    }
}

/// How long a volume of the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Made for the task, removed at its cleanup.
    Task,
    /// Outlives tasks; never removed.
    Shared {
        /// Made when it is missing; otherwise its absence fails the task.
        autoprovision: bool,
        /// One that is there must have the labels and options of the spec. Of no meaning without
        /// `autoprovision`, as in ECS.
        match_full: bool,
    },
}

/// A volume of the engine that a task needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVolume {
    /// Name in the task definition.
    pub name: String,
    /// What the engine is told.
    pub spec: VolumeSpec,
    /// How long it lives.
    pub life: Life,
}

/// What a volume of a task definition is.
enum Provided {
    Path(String),
    Engine(PlannedVolume),
}

/// The volumes of the engine that a task needs before its containers.
///
/// # Errors
/// [`Refused`] when a volume is of a kind that is not supported, or cannot be told to any engine.
pub fn plan(
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Result<Vec<PlannedVolume>, Refused> {
    let mut volumes = Vec::new();
    for volume in &planned.definition.volumes {
        // ECS makes a volume without a configuration for the mount points that name it.
        let plain = volume.docker_volume_configuration.is_none()
            && volume.efs_volume_configuration.is_none();
        let provided = provide(volume, planned, task, scope)?;
        if plain && !is_mounted(planned, volume) {
            continue;
        }
        if let Provided::Engine(volume) = provided {
            volumes.push(volume);
        }
    }
    Ok(volumes)
}

fn is_mounted(planned: &PlannedDefinition, volume: &Volume) -> bool {
    let containers = &planned.definition.container_definitions;
    containers
        .iter()
        .flat_map(|container| &container.mount_points)
        .any(|mount| mount.source_volume == volume.name)
}

/// What a container mounts by its `mountPoints`.
pub(crate) fn mounts(
    container: &str,
    mount_points: &[MountPoint],
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Result<Vec<Mount>, Refused> {
    let mut mounts = Vec::new();
    for point in mount_points {
        let MountPoint {
            source_volume,
            container_path,
            read_only,
        } = point;
        let refuse = |why: String| Refused::MountPoint {
            container: container.to_owned(),
            why,
        };
        let name = source_volume.as_deref().unwrap_or_default();
        let volume = planned
            .definition
            .volumes
            .iter()
            .find(|volume| !name.is_empty() && volume.name.as_deref() == Some(name))
            .ok_or_else(|| refuse(format!("`sourceVolume` `{name}` is none of `volumes`")))?;
        let path = container_path.as_deref().unwrap_or_default();
        if !path.starts_with('/') || path.contains(':') || path.trim_matches('/').is_empty() {
            let why =
                format!("`containerPath` `{path}` must be an absolute path below / without colons");
            return Err(refuse(why));
        }
        mounts.push(Mount {
            source: match provide(volume, planned, task, scope)? {
                Provided::Path(path) => MountSource::HostPath(path),
                Provided::Engine(volume) => MountSource::Volume(volume.spec.name),
            },
            path: path.to_owned(),
            read_only: read_only.unwrap_or(false),
        });
    }
    Ok(mounts)
}

/// The containers whose mounts a container takes over by its `volumesFrom`. What they may be, `order::tangles` says.
pub(crate) fn sources(
    volumes_from: &[VolumeFrom],
    planned: &PlannedDefinition,
    task: &PlannedTask,
) -> Vec<VolumesFrom> {
    let uid = TaskUid::new(task.uid.clone());
    let source = |from: &VolumeFrom| {
        let VolumeFrom {
            source_container,
            read_only,
        } = from;
        let source = source_container.as_deref().unwrap_or_default();
        VolumesFrom {
            container: names::container(&planned.family, planned.revision, source, &uid, 1),
            read_only: read_only.unwrap_or(false),
        }
    };
    volumes_from.iter().map(source).collect()
}

fn provide(
    volume: &Volume,
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Result<Provided, Refused> {
    let Volume {
        name,
        host,
        docker_volume_configuration,
        efs_volume_configuration,
        s3files_volume_configuration,
        fsx_windows_file_server_volume_configuration,
        configured_at_launch,
    } = volume;
    let name = name.as_deref().unwrap_or_default();
    let refuse = |why: &str| Refused::Volume {
        volume: name.to_owned(),
        why: why.to_owned(),
    };
    if name.is_empty() {
        return Err(refuse("`volumes` has an entry without a name"));
    }
    // The kinds that no Docker host can provide by itself.
    if s3files_volume_configuration.is_some() {
        return Err(refuse(
            "`s3filesVolumeConfiguration` is not supported: S3 Files is a file system of AWS",
        ));
    }
    if fsx_windows_file_server_volume_configuration.is_some() {
        return Err(refuse(
            "`fsxWindowsFileServerVolumeConfiguration` is not supported: it is for Windows containers",
        ));
    }
    if *configured_at_launch == Some(true) {
        return Err(refuse(
            "`configuredAtLaunch` is not supported: EBS volumes are block devices of AWS",
        ));
    }
    let of_task = |driver: &str, options: &BTreeMap<String, String>, wanted| {
        let uid = TaskUid::new(task.uid.clone());
        Provided::Engine(PlannedVolume {
            name: name.to_owned(),
            spec: VolumeSpec {
                name: names::volume(&planned.family, planned.revision, name, &uid),
                driver: driver.to_owned(),
                options: options.clone(),
                labels: unreserved(wanted)
                    .into_iter()
                    .chain(containers::of_task(task, scope))
                    .collect(),
            },
            life: Life::Task,
        })
    };
    if let Some(efs) = efs_volume_configuration {
        let options = nfs(efs, scope.volumes).map_err(|why| refuse(&why))?;
        return Ok(of_task(LOCAL, &options, &BTreeMap::new()));
    }
    if let Some(docker) = docker_volume_configuration {
        let DockerVolumeConfiguration {
            scope: reach,
            autoprovision,
            driver,
            driver_opts,
            labels,
        } = docker;
        let driver = driver.as_deref().filter(|driver| !driver.is_empty());
        let driver = driver.unwrap_or(LOCAL);
        return match reach {
            None | Some(Reach::Task) => Ok(of_task(driver, driver_opts, labels)),
            Some(Reach::Shared) if !is_volume_name(name) => Err(refuse(
                "with scope `shared` the name is the engine's, too: letters, digits, and - _ . inside",
            )),
            Some(Reach::Shared) => Ok(Provided::Engine(PlannedVolume {
                name: name.to_owned(),
                spec: VolumeSpec {
                    name: name.to_owned(),
                    driver: driver.to_owned(),
                    options: driver_opts.clone(),
                    labels: unreserved(labels),
                },
                life: Life::Shared {
                    autoprovision: autoprovision.unwrap_or(false),
                    match_full: scope.volumes.match_full_config,
                },
            })),
        };
    }
    let path = host.as_ref().and_then(|host| {
        let HostVolumeProperties { source_path } = host;
        source_path.as_deref().filter(|path| !path.is_empty())
    });
    match path {
        None => Ok(of_task(LOCAL, &BTreeMap::new(), &BTreeMap::new())),
        Some(path) if path.starts_with('/') && !path.contains(':') => {
            Ok(Provided::Path(path.to_owned()))
        }
        Some(path) => Err(refuse(&format!(
            "`host.sourcePath` `{path}` must be an absolute path without colons"
        ))),
    }
}

/// The engine's own driver, the default of ECS.
const LOCAL: &str = "local";

/// Docker's rule for names; it also keeps a name from being read as a path of the host.
fn is_volume_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether a path has a part `..`.
fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// An EFS file system as the options of a volume that mounts it by NFS, as the ECS agent does without
/// the mount helper of EFS.
fn nfs(
    efs: &EFSVolumeConfiguration,
    settings: &VolumeSettings,
) -> Result<BTreeMap<String, String>, String> {
    let EFSVolumeConfiguration {
        file_system_id,
        root_directory,
        transit_encryption,
        // Of no meaning without encryption.
        transit_encryption_port: _,
        authorization_config,
    } = efs;
    if *transit_encryption == Some(EFSTransitEncryption::Enabled) {
        return Err(
            "`efsVolumeConfiguration.transitEncryption` is not supported: it needs the mount helper of EFS"
                .to_owned(),
        );
    }
    if let Some(EFSAuthorizationConfig {
        access_point_id,
        iam,
    }) = authorization_config
        && (access_point_id.as_ref().is_some_and(|id| !id.is_empty())
            || *iam == Some(EFSAuthorizationConfigIAM::Enabled))
    {
        return Err(
            "`efsVolumeConfiguration.authorizationConfig` is not supported: access points and IAM are of AWS"
                .to_owned(),
        );
    }
    let export = settings.file_systems.get(file_system_id).ok_or_else(|| {
        format!(
            "the file system `{file_system_id}` of `efsVolumeConfiguration` has no server on this host; set \
             ECS_EFS_FILE_SYSTEMS, such as {{\"{file_system_id}\":\"nfs.example.com:/exports/data\"}}"
        )
    })?;
    let root = root_directory.as_deref().unwrap_or_default();
    if climbs(root) {
        return Err(format!(
            "`efsVolumeConfiguration.rootDirectory` `{root}` must not have a part `..`"
        ));
    }
    let folder = [export.path.trim_matches('/'), root.trim_matches('/')]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    let options = [
        ("type", "nfs".to_owned()),
        (
            "o",
            format!(
                "addr={},nfsvers=4.1,rw,hard,timeo=600,retrans=2",
                export.server
            ),
        ),
        ("device", format!(":/{folder}")),
    ];
    Ok(options.map(|(key, value)| (key.to_owned(), value)).into())
}

impl PlannedVolume {
    /// The volumes of a task that only its record knows: enough to clean up after it.
    pub(crate) fn remembered(record: &TaskRecord) -> Vec<Self> {
        let shared = Life::Shared {
            autoprovision: false,
            match_full: false,
        };
        record
            .volumes
            .iter()
            .map(|(name, known)| Self {
                name: name.clone(),
                spec: VolumeSpec::new(known.engine_name.clone()),
                life: if known.owned { Life::Task } else { shared },
            })
            .collect()
    }
}
