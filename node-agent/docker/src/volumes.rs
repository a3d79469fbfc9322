//! The verbs of the port that are about volumes.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use tallyman_agent_engine::{EngineError, Label, Verb, VolumeSpec, VolumeState};

use crate::faults::{self, Answer, answer, plain};
use crate::verbs::carries;
use crate::{DockerEngine, Failure, events};

impl DockerEngine {
    /// Docker hands out the volume that has the name, whatever its labels and options; so the labels of
    /// the answer are looked at.
    pub(crate) async fn make_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        let request = request(spec);
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.create_volume(request).await?)
        };
        let verb = Verb::CreateVolume;
        let made = match self.within(verb, self.settings.create, call).await {
            Ok(made) => state(made),
            Err(Failure::Overdue(error)) => return Err(error),
            Err(Failure::Answered(trouble)) => {
                return Err(faults::create_volume(&spec.name, answer(verb, trouble)));
            }
        };
        if carries(&made.labels, &spec.labels) {
            Ok(())
        } else {
            Err(EngineError::VolumeTaken {
                name: spec.name.clone(),
                message: format!(
                    "the name {} is taken by a volume that does not carry our labels",
                    spec.name
                ),
            })
        }
    }

    pub(crate) async fn look_at_volume(
        &self,
        verb: Verb,
        name: &str,
    ) -> Result<Option<VolumeState>, EngineError> {
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.inspect_volume(name).await?)
        };
        match self.within(verb, self.settings.look, call).await {
            Ok(found) => Ok(Some(state(found))),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(verb, trouble) {
                Answer::Status(404, _) => Ok(None),
                other => Err(plain(verb, other)),
            },
        }
    }

    /// Two calls: Docker removes by name alone, and the name may be somebody else's.
    pub(crate) async fn unmake_volume(
        &self,
        name: &str,
        (key, value): Label<'_>,
    ) -> Result<(), EngineError> {
        let verb = Verb::RemoveVolume;
        let found = self.look_at_volume(verb, name).await?;
        let ours = found.is_some_and(|volume| volume.labels.get(key).is_some_and(|v| v == value));
        if !ours {
            return Ok(());
        }
        let call = async {
            let client = self.connection.client().await?;
            let options = None::<RemoveVolumeOptions>;
            Ok(client.remove_volume(name, options).await?)
        };
        match self.within(verb, self.settings.remove, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(verb, trouble) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(409, message) => Err(EngineError::VolumeInUse {
                    name: name.to_owned(),
                    message,
                }),
                other => Err(plain(verb, other)),
            },
        }
    }

    pub(crate) async fn volumes(&self, scope: Label<'_>) -> Result<Vec<VolumeState>, EngineError> {
        let options = ListVolumesOptions {
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![events::filter(scope)],
            )])),
        };
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.list_volumes(Some(options)).await?)
        };
        let answered = self
            .within(Verb::ListVolumes, self.settings.list, call)
            .await;
        let listed = answered.map_err(|failure| failure.plainly(Verb::ListVolumes))?;
        let listed = listed.volumes.unwrap_or_default();
        let mut volumes: Vec<VolumeState> = listed.into_iter().map(state).collect();
        volumes.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(volumes)
    }
}

/// The body of a create call. Destructures without `..`: a new field of the spec must be spelled here.
fn request(spec: &VolumeSpec) -> VolumeCreateRequest {
    let VolumeSpec {
        name,
        driver,
        options,
        labels,
    } = spec;
    VolumeCreateRequest {
        name: Some(name.clone()),
        driver: Some(driver.clone()),
        driver_opts: Some(options.clone().into_iter().collect()),
        labels: Some(labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    }
}

fn state(volume: Volume) -> VolumeState {
    let sorted = |map: HashMap<String, String>| map.into_iter().collect::<BTreeMap<_, _>>();
    VolumeState {
        name: volume.name,
        driver: volume.driver,
        options: sorted(volume.options),
        labels: sorted(volume.labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_asked_for_with_driver_options_and_labels() {
        let mut spec = VolumeSpec::new("ecs-web-7-data-550e8400e2");
        for (key, value) in [
            ("type", "nfs"),
            ("o", "addr=10.0.0.9,nfsvers=4.1,rw"),
            ("device", ":/exports/data"),
        ] {
            spec.options.insert(key.to_owned(), value.to_owned());
        }
        spec.labels.insert("x".to_owned(), "y".to_owned());
        let told = serde_json::to_value(request(&spec)).unwrap_or_default();
        assert_eq!(
            told,
            serde_json::json!({
                "Name": "ecs-web-7-data-550e8400e2",
                "Driver": "local",
                "DriverOpts": {
                    "type": "nfs",
                    "o": "addr=10.0.0.9,nfsvers=4.1,rw",
                    "device": ":/exports/data",
                },
                "Labels": { "x": "y" },
            })
        );
    }
}
