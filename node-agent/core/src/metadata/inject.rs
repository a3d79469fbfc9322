//! Variables that every container gets from its agent (ECS agent, `AWS_EXECUTION_ENV` and the metadata URIs).

use std::net::Ipv4Addr;

use crate::ids::TaskUid;
use crate::metadata::key::MetadataKey;

/// Address at which containers reach the metadata endpoint; SDKs have it built in.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// Its port. ECS' agent listens there, too, and the firewall of its host leads port 80 to it. Here clients are told the
/// port: who listens on port 80 of one address keeps Docker from publishing it on all.
pub const PORT: u16 = 51_679;
/// Folder inside a container under which its metadata file is.
const FILE_FOLDER: &str = "/opt/ecs/metadata";
/// Name of the metadata file.
pub const FILE_NAME: &str = "ecs-container-metadata.json";

/// What containers are told of their agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// Region that the host is in.
    pub region: Option<String>,
    /// Makes the ids of containers; `None` when the metadata endpoint is not served.
    pub key: Option<MetadataKey>,
    /// How containers of a task with a role reach its credentials; `None` when this host hands out none.
    pub roles: Option<Roles>,
    /// Folder of the host with a folder for each task's metadata files; `None` when there are none.
    pub files: Option<String>,
}

/// Credentials for the roles of tasks (ECS `ECS_ENABLE_TASK_IAM_ROLE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Also in network mode `host` (`ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST`).
    pub network_host: bool,
    /// Port 80 of [`ADDRESS`] leads to the endpoint, so that every SDK, and every script that follows the guide, finds
    /// it where it is built in. Without that, only SDKs that follow a whole URI do.
    pub port_80: bool,
}

impl Injection {
    /// Region in ARNs.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or_default()
    }

    /// Adds the variables of a container to those of its definition. What says where the agent is goes
    /// before the definition; what says where the host is does not.
    pub(crate) fn add(
        &self,
        uid: &TaskUid,
        container: &str,
        has_role: bool,
        variables: &mut Vec<(String, String)>,
    ) {
        if let Some(key) = &self.key {
            let id = key.id(uid, container);
            let uri = |api: &str| format!("http://{ADDRESS}:{PORT}/{api}/{id}");
            set(variables, "ECS_CONTAINER_METADATA_URI", uri("v3"));
            set(variables, "ECS_CONTAINER_METADATA_URI_V4", uri("v4"));
            set(variables, "ECS_AGENT_URI", uri("api"));
            match self.roles.filter(|_| has_role) {
                None => {}
                Some(Roles { port_80: true, .. }) => {
                    let path = format!("/v2/credentials/{id}");
                    set(variables, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path);
                }
                Some(Roles { port_80: false, .. }) => {
                    let whole = uri("v2/credentials");
                    set(variables, "AWS_CONTAINER_CREDENTIALS_FULL_URI", whole);
                }
            }
        }
        if self.files.is_some() {
            let path = format!("{}/{FILE_NAME}", self.inner_folder(uid, container));
            set(variables, "ECS_CONTAINER_METADATA_FILE", path);
        }
        offer(variables, "AWS_EXECUTION_ENV", "AWS_ECS_EC2");
        if let Some(region) = &self.region {
            offer(variables, "AWS_REGION", region);
            offer(variables, "AWS_DEFAULT_REGION", region);
        }
    }

    /// Folder of the host for the metadata file of a container, and where it is inside.
    pub(crate) fn file_folder(&self, uid: &TaskUid, container: &str) -> Option<(String, String)> {
        let files = self.files.as_ref()?;
        let folder = format!("{files}/{uid}/{container}");
        Some((folder, self.inner_folder(uid, container)))
    }

    /// Its own for each container, so that `volumesFrom` brings no second mount to one path.
    fn inner_folder(&self, uid: &TaskUid, container: &str) -> String {
        format!("{FILE_FOLDER}/{uid}/{container}")
    }
}

/// Sets a variable, whoever set it before.
pub(crate) fn set(variables: &mut Vec<(String, String)>, name: &str, value: String) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some(known) => known.1 = value,
        None => variables.push((name.to_owned(), value)),
    }
}

fn offer(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    if !variables.iter().any(|(known, _)| known == name) {
        variables.push((name.to_owned(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = variables.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn added(injection: &Injection, defined: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut variables = pairs(defined);
        injection.add(&TaskUid::new("uid"), "app", true, &mut variables);
        variables
    }

    #[test]
    fn a_host_that_knows_nothing_tells_where_it_runs() {
        let variables = added(&Injection::default(), &[("A", "1")]);
        assert_eq!(
            variables,
            pairs(&[("A", "1"), ("AWS_EXECUTION_ENV", "AWS_ECS_EC2")])
        );
    }

    #[test]
    fn the_agents_uris_go_before_the_definition_and_its_region_after() {
        let injection = Injection {
            region: Some("eu-north-1".to_owned()),
            key: Some(MetadataKey::new([1; 32])),
            roles: Some(Roles {
                network_host: true,
                port_80: true,
            }),
            files: Some("/var/lib/tallyman/metadata".to_owned()),
        };
        let variables = added(
            &injection,
            &[
                ("ECS_CONTAINER_METADATA_URI_V4", "http://elsewhere"),
                ("AWS_REGION", "mars-1"),
            ],
        );
        let value = |name: &str| {
            let found: Vec<_> = variables.iter().filter(|(has, _)| has == name).collect();
            assert_eq!(found.len(), 1, "{name}: {variables:?}");
            found[0].1.as_str()
        };
        let id = value("ECS_AGENT_URI")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let uri = |version: &str| format!("http://169.254.170.2:51679/{version}/{id}");
        assert_eq!(value("ECS_AGENT_URI"), uri("api"));
        assert_eq!(value("ECS_CONTAINER_METADATA_URI"), uri("v3"));
        assert_eq!(value("ECS_CONTAINER_METADATA_URI_V4"), uri("v4"));
        assert_eq!(
            value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            format!("/v2/credentials/{id}")
        );
        assert_eq!(value("AWS_REGION"), "mars-1");
        assert_eq!(value("AWS_DEFAULT_REGION"), "eu-north-1");
        assert_eq!(
            value("ECS_CONTAINER_METADATA_FILE"),
            "/opt/ecs/metadata/uid/app/ecs-container-metadata.json"
        );
    }
}
