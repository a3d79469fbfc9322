//! Volumes, paths of the host, and mounts taken over from another container.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{
    ContainerSpec, Engine, EngineError, Mount, MountSource, Phase, VolumeSpec, VolumesFrom,
};

const WORD: &str = "hello";

impl<B: Bench> Ground<'_, B> {
    /// A volume of this case, not yet created.
    pub(super) fn volume(&self, role: &str) -> VolumeSpec {
        let mut volume = VolumeSpec::new(self.name(role));
        let (key, value) = self.scope();
        volume.labels.insert(key.to_owned(), value.to_owned());
        volume
    }

    pub(super) async fn create_volume(&self, volume: &VolumeSpec) -> Verdict {
        let created = self.engine().create_volume(volume).await;
        created.map_err(told("create volume"))
    }

    /// Creates a volume, which is then told back as it was meant.
    async fn is_made_as_told(&self, volume: &VolumeSpec) -> Verdict {
        self.create_volume(volume).await?;
        let found = self.engine().inspect_volume(&volume.name).await;
        let found = found
            .map_err(told("inspect volume"))?
            .ok_or("it is absent")?;
        let told_back = VolumeSpec {
            name: found.name,
            driver: found.driver,
            options: found.options,
            labels: found.labels,
        };
        ensure!(told_back == *volume, "{volume:?} became {told_back:?}");
        Ok(())
    }

    /// Whether the engine has the volume.
    async fn has(&self, volume: &VolumeSpec) -> Result<bool, String> {
        let found = self.engine().inspect_volume(&volume.name).await;
        Ok(found.map_err(told("inspect volume"))?.is_some())
    }

    fn writer(&self, role: &str, mounts: &[Mount]) -> ContainerSpec {
        let program = Program::Writes {
            path: "/data/word".to_owned(),
            text: WORD.to_owned(),
        };
        let mut spec = self.spec(role, &program);
        spec.mounts = mounts.to_vec();
        spec
    }

    fn reader(&self, role: &str, folder: &str) -> ContainerSpec {
        let program = Program::Reads {
            path: format!("{folder}/word"),
            text: WORD.to_owned(),
        };
        self.spec(role, &program)
    }

    /// Runs a container to its end, which must be of this code.
    async fn ends_with(&self, spec: &ContainerSpec, code: i64) -> Verdict {
        self.launch(spec).await?;
        let state = self.until_exited(&spec.name).await?;
        ensure!(
            matches!(state.phase, Phase::Exited { exit_code, .. } if exit_code == code),
            "{} did not end with {code}: {state:?}",
            spec.name
        );
        Ok(())
    }
}

fn at(path: &str, volume: &VolumeSpec) -> Mount {
    Mount {
        source: MountSource::Volume(volume.name.clone()),
        path: path.to_owned(),
        read_only: false,
    }
}

fn host(path: &str, folder: &str) -> Mount {
    Mount {
        source: MountSource::HostPath(folder.to_owned()),
        path: path.to_owned(),
        read_only: false,
    }
}

fn read_only(mount: Mount) -> Mount {
    Mount {
        read_only: true,
        ..mount
    }
}

pub(super) async fn two_containers_share_a_volume<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let volume = ground.volume("v");
    ground.create_volume(&volume).await?;
    let writer = ground.writer("writer", &[at("/data", &volume)]);
    ground.ends_with(&writer, 0).await?;
    let mut reader = ground.reader("reader", "/elsewhere");
    reader.mounts = vec![read_only(at("/elsewhere", &volume))];
    ground.ends_with(&reader, 0).await
}

pub(super) async fn read_only_volume_is_not_written<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let volume = ground.volume("v");
    ground.create_volume(&volume).await?;
    let writer = ground.writer("writer", &[read_only(at("/data", &volume))]);
    ground.ends_with(&writer, 1).await
}

pub(super) async fn host_path_is_made_and_reached<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let folder = ground.bench.host_folder();
    let writer = ground.writer("writer", &[host("/data", &folder)]);
    ground.ends_with(&writer, 0).await?;
    let stuck = ground.writer("stuck", &[read_only(host("/data", &folder))]);
    ground.ends_with(&stuck, 1).await?;
    ground.remove(&writer.name).await?;
    let mut reader = ground.reader("reader", "/there");
    reader.mounts = vec![host("/there", &folder)];
    ground.ends_with(&reader, 0).await?;
    let file = format!("{folder}/word");
    let found = ground.bench.host_file(&file);
    ensure!(
        found.as_deref() == Some(WORD),
        "{file} of the host holds {found:?}"
    );
    Ok(())
}

pub(super) async fn volumes_from_shows_the_mounts_of_another<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let volume = ground.volume("v");
    ground.create_volume(&volume).await?;
    let mut source = ground.spec("source", &Program::Runs);
    source.mounts = vec![at("/data", &volume)];
    // Created is enough; it never runs.
    ground.create(&source).await?;
    let from = |read_only| VolumesFrom {
        container: source.name.clone(),
        read_only,
    };
    let mut stuck = ground.writer("stuck", &[]);
    stuck.volumes_from = vec![from(true)];
    // Without the volume it would write to its own file system.
    ground.ends_with(&stuck, 1).await?;
    let mut writer = ground.writer("writer", &[]);
    writer.volumes_from = vec![from(false)];
    ground.ends_with(&writer, 0).await?;
    let mut reader = ground.reader("reader", "/data");
    reader.volumes_from = vec![from(true)];
    ground.ends_with(&reader, 0).await
}

pub(super) async fn volumes_from_nobody_are_refused<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.volumes_from = vec![VolumesFrom {
        container: ground.name("nobody"),
        read_only: false,
    }];
    match ground.engine().create(&spec).await {
        Err(EngineError::InvalidSpec { message }) if message.contains(&ground.name("nobody")) => {
            Ok(())
        }
        answer => Err(unexpected(&answer, "invalid spec")),
    }
}

pub(super) async fn two_mounts_at_one_path_are_refused<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let (one, other) = (ground.volume("one"), ground.volume("other"));
    ground.create_volume(&one).await?;
    ground.create_volume(&other).await?;
    let spec = ground.writer("a", &[at("/data", &one), at("/data", &other)]);
    match ground.engine().create(&spec).await {
        Err(EngineError::InvalidSpec { message }) if message.contains("/data") => Ok(()),
        answer => Err(unexpected(&answer, "invalid spec")),
    }
}

pub(super) async fn every_volume_verb_twice_is_fine<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut volume = ground.volume("v");
    volume
        .labels
        .insert("quotes".to_owned(), "\"'\\ {}[],ü".to_owned());
    for (key, value) in [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")] {
        volume.options.insert(key.to_owned(), value.to_owned());
    }
    ground.create_volume(&volume).await?;
    ground.is_made_as_told(&volume).await?;
    let writer = ground.writer("writer", &[at("/data", &volume)]);
    ground.ends_with(&writer, 0).await?;
    ground.remove(&writer.name).await?;
    for _ in 0..2 {
        let removed = ground.engine().remove_volume(&volume.name, ground.scope());
        removed.await.map_err(told("remove volume"))?;
        ensure!(!ground.has(&volume).await?, "it is still there");
    }
    Ok(())
}

/// Mounting it needs a server, and an NFS client in the kernel; that a container's start does.
pub(super) async fn a_volume_over_nfs_is_made_as_told<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut volume = ground.volume("v");
    for (key, value) in [
        ("type", "nfs"),
        (
            "o",
            "addr=192.0.2.1,nfsvers=4.1,rw,hard,timeo=600,retrans=2",
        ),
        ("device", ":/exports/data/shop/a b"),
    ] {
        volume.options.insert(key.to_owned(), value.to_owned());
    }
    ground.is_made_as_told(&volume).await
}

pub(super) async fn volume_outlives_containers_and_goes_when_told<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let volume = ground.volume("v");
    ground.create_volume(&volume).await?;
    let mut created = ground.spec("created", &Program::Runs);
    created.mounts = vec![at("/data", &volume)];
    let mut running = ground.spec("running", &Program::Runs);
    running.mounts = created.mounts.clone();
    ground.create(&created).await?;
    ground.launch(&running).await?;
    let remove = || ground.engine().remove_volume(&volume.name, ground.scope());
    for (name, grace) in [
        (&running.name, Duration::from_secs(5)),
        (&created.name, Duration::ZERO),
    ] {
        match remove().await {
            Err(EngineError::VolumeInUse { name, .. }) if name == volume.name => {}
            answer => return Err(unexpected(&answer, "volume in use")),
        }
        ground.stop(name, grace).await?;
        ground.remove(name).await?;
        ensure!(ground.has(&volume).await?, "it went with {name}");
    }
    remove().await.map_err(told("remove volume"))?;
    ensure!(!ground.has(&volume).await?, "it is still there");
    Ok(())
}

pub(super) async fn volume_of_somebody_else_is_refused_and_stays<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let mut theirs = ground.volume("v");
    theirs.labels.insert("uid".to_owned(), "theirs".to_owned());
    ground.create_volume(&theirs).await?;
    let mut ours = theirs.clone();
    ours.labels.insert("uid".to_owned(), "ours".to_owned());
    match ground.engine().create_volume(&ours).await {
        Err(EngineError::VolumeTaken { name, .. }) if name == ours.name => {}
        answer => return Err(unexpected(&answer, "volume taken")),
    }
    let removed = ground.engine().remove_volume(&ours.name, ("uid", "ours"));
    removed.await.map_err(told("remove volume"))?;
    ensure!(ground.has(&theirs).await?, "their volume is gone");
    let mut fewer = theirs.clone();
    fewer.labels.remove("uid");
    ground.create_volume(&fewer).await
}

pub(super) async fn volumes_are_listed_by_scope<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    for role in ["b", "a"] {
        ground.create_volume(&ground.volume(role)).await?;
    }
    let listed = ground.engine().list_volumes(ground.scope()).await;
    let listed = listed.map_err(told("list volumes"))?;
    let names: Vec<_> = listed.iter().map(|one| one.name.clone()).collect();
    ensure!(
        names == [ground.name("a"), ground.name("b")],
        "listed {names:?}"
    );
    let (key, value) = ground.scope();
    ensure!(
        listed.iter().all(|one| one.labels[key] == value),
        "labels are lost: {listed:?}"
    );
    let nobody = ground.engine().list_volumes((key, "nobody")).await;
    let nobody = nobody.map_err(told("list volumes"))?;
    ensure!(nobody.is_empty(), "another scope lists {nobody:?}");
    Ok(())
}

pub(super) async fn unknown_driver_and_option_are_invalid<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let mut driver = ground.volume("driver");
    driver.driver = "nobodys-plugin".to_owned();
    let mut option = ground.volume("option");
    option
        .options
        .insert("colour".to_owned(), "blue".to_owned());
    for (volume, word) in [(driver, "nobodys-plugin"), (option, "colour")] {
        match ground.engine().create_volume(&volume).await {
            Err(EngineError::InvalidSpec { message }) if message.contains(word) => {}
            answer => return Err(unexpected(&answer, "invalid spec")),
        }
    }
    Ok(())
}
