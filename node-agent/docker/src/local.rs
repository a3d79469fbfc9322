//! What the agent brings to its engine itself: an image, and a network.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateImageOptions, InspectContainerOptions, InspectNetworkOptions,
};
use futures::stream::TryStreamExt;

use tallyman_agent_engine::{EngineError, LocalImage, NetworkSpec, Verb};

use crate::faults::{self, Answer, Trouble, answer, plain};
use crate::sight::attachments;
use crate::{DockerEngine, Failure, hosts_file};

/// Docker's name for the option that names the bridge of a network.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

impl DockerEngine {
    /// As `docker import` does; Docker makes another image of the same content each time, so it is looked for first.
    pub(crate) async fn bring_image(&self, image: &LocalImage) -> Result<(), EngineError> {
        let verb = Verb::EnsureImage;
        let _one_at_a_time = self.making.lock().await;
        let found = async {
            let client = self.connection.client().await?;
            is_there(client.inspect_image(&image.reference).await)
        };
        let there = self.within(verb, self.settings.look, found).await;
        if there.map_err(|failure| failure.plainly(verb))? {
            return Ok(());
        }
        let call = async {
            let client = self.connection.client().await?;
            let body = bollard::body_full(image.archive.0.into());
            let made = client.create_image(Some(import(image)), Some(body), None);
            let _progress: Vec<_> = made.try_collect().await?;
            Ok(())
        };
        let made = self.within(verb, self.settings.create, call).await;
        made.map_err(|failure| failure.plainly(verb))
    }

    /// Docker 20.10 makes a second network of the same name if it is asked to; so it is looked for first.
    pub(crate) async fn bring_network(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        let verb = Verb::EnsureNetwork;
        let _one_at_a_time = self.making.lock().await;
        let found = async {
            let client = self.connection.client().await?;
            let options = None::<InspectNetworkOptions>;
            is_there(client.inspect_network(&network.name, options).await)
        };
        let there = self.within(verb, self.settings.look, found).await;
        if there.map_err(|failure| failure.plainly(verb))? {
            return Ok(());
        }
        let call = async {
            let client = self.connection.client().await?;
            client.create_network(request(network)).await?;
            Ok(())
        };
        match self.within(verb, self.settings.create, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(verb, trouble) {
                // Somebody made it since we looked.
                Answer::Status(409, _) => Ok(()),
                other => Err(plain(verb, other)),
            },
        }
    }

    /// Docker answers differently when the container is on the network already; so it is looked at when Docker refuses.
    pub(crate) async fn put_on(&self, name: &str, network: &str) -> Result<(), EngineError> {
        let verb = Verb::Attach;
        let call = async {
            let client = self.connection.client().await?;
            let request = NetworkConnectRequest {
                container: name.to_owned(),
                endpoint_config: None,
            };
            Ok(client.connect_network(network, request).await?)
        };
        let refusal = match self.within(verb, self.settings.start, call).await {
            Ok(()) => None,
            Err(Failure::Overdue(error)) => return Err(error),
            Err(Failure::Answered(trouble)) => Some(answer(verb, trouble)),
        };
        let look = async {
            let client = self.connection.client().await?;
            let options = None::<InspectContainerOptions>;
            Ok(client.inspect_container(name, options).await?)
        };
        let found = match self.within(verb, self.settings.look, look).await {
            Ok(found) => found,
            Err(Failure::Overdue(error)) => return Err(error),
            Err(Failure::Answered(trouble)) => {
                return Err(faults::attach(name, answer(verb, trouble)));
            }
        };
        let networks = found.network_settings.and_then(|all| all.networks);
        let attachments = attachments(networks.unwrap_or_default());
        let on_it = attachments.iter().find(|one| one.network == network);
        match (on_it.and_then(|one| one.ipv4), refusal) {
            (Some((address, _)), _) => {
                hosts_file::forget(&found.hosts_path.unwrap_or_default(), address);
                Ok(())
            }
            (None, Some(refusal)) => Err(faults::attach(name, refusal)),
            // It ended meanwhile, and has no address at all.
            (None, None) => Err(EngineError::CannotStart {
                name: name.to_owned(),
                message: format!("it has no address on network {network}"),
            }),
        }
    }
}

/// Whether what was looked for exists: only a 404 says no.
fn is_there<T>(looked: Result<T, Error>) -> Result<bool, Trouble> {
    match looked {
        Ok(_) => Ok(true),
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Destructures without `..`: a new field of the image must be spelled here.
fn import(image: &LocalImage) -> CreateImageOptions {
    let LocalImage {
        reference,
        archive: _, // the body
        entrypoint,
        labels,
    } = image;
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    let words = serde_json::Value::from(entrypoint.clone());
    let labels = labels
        .iter()
        .map(|(key, value)| format!("LABEL {key}={value}"));
    CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository.to_owned()),
        tag: Some(tag.to_owned()),
        changes: std::iter::once(format!("ENTRYPOINT {words}"))
            .chain(labels)
            .collect(),
        ..CreateImageOptions::default()
    }
}

fn request(network: &NetworkSpec) -> NetworkCreateRequest {
    let NetworkSpec {
        name,
        bridge,
        labels,
        to_host,
    } = network;
    NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".to_owned()),
        // Docker makes nobody's default route of an internal network, whatever it is called and whenever it comes.
        internal: to_host.map(|_| true),
        ipam: to_host.map(|to_host| Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(to_host.subnet()),
                gateway: Some(to_host.address.to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([(BRIDGE_NAME.to_owned(), bridge.clone())])),
        labels: Some(labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use tallyman_agent_engine::{Archive, ToHost};

    #[test]
    fn a_network_to_the_host_is_internal_and_its_bridge_has_the_address() {
        let mut network = NetworkSpec {
            name: "ours".to_owned(),
            bridge: "ours0".to_owned(),
            labels: [].into(),
            to_host: None,
        };
        let plain = request(&network);
        assert_eq!((plain.internal, plain.ipam), (None, None));
        network.to_host = Some(ToHost {
            address: Ipv4Addr::new(169, 254, 170, 2),
            prefix: 23,
        });
        let spelled = serde_json::to_value(request(&network)).unwrap();
        assert_eq!(spelled["Internal"], true);
        let wanted =
            serde_json::json!([{ "Subnet": "169.254.170.0/23", "Gateway": "169.254.170.2" }]);
        assert_eq!(spelled["IPAM"]["Config"], wanted);
    }

    #[test]
    fn an_image_is_imported_with_entry_point_and_labels() {
        let options = import(&LocalImage {
            reference: "localhost/tallyman-pause:1f".to_owned(),
            archive: Archive(b""),
            entrypoint: vec!["/pause".to_owned()],
            labels: [("a/b".to_owned(), "true".to_owned())].into(),
        });
        assert_eq!(options.repo.as_deref(), Some("localhost/tallyman-pause"));
        assert_eq!(options.tag.as_deref(), Some("1f"));
        assert_eq!(
            options.changes,
            ["ENTRYPOINT [\"/pause\"]", "LABEL a/b=true"]
        );
    }
}
