//! A host's identity and mailbox: ServiceAccount, Secret, Role, RoleBinding, Lease, and last its HostPlan.
//!
//! A token for the ServiceAccount is bound to the Secret: whoever deletes the Secret locks the host out. All are owned
//! by the ContainerInstance and go with it. None is made again by itself: the HostPlan, made last, says that they were.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::{Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tallyman_crds::{HostJoin, HostPlan, HostPlanSpec, labels, names};
use tallyman_operator_core::Target;

use crate::apply::created_by_us;

/// Makes what is missing. Returns the resourceVersion of the HostPlan.
///
/// # Errors
/// The first write that fails. "Already exists" is success when the object is this host's.
pub async fn prepare(
    client: &Client,
    namespace: &str,
    instance: &Target,
    plan: HostPlanSpec,
) -> Result<u64, Error> {
    let host = instance.name.as_str();
    let identity = names::host_identity(host);
    let account = ServiceAccount {
        metadata: metadata_of_host(namespace, instance),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    create(client, namespace, &account).await?;
    restore(client, namespace, instance, None).await?;
    create(
        client,
        namespace,
        &Role {
            metadata: metadata_of_host(namespace, instance),
            rules: Some(rules(host)),
        },
    )
    .await?;
    let binding = binding(metadata_of_host(namespace, instance), namespace, &identity);
    create(client, namespace, &binding).await?;
    let lease = Lease {
        metadata: metadata_of_host(namespace, instance),
        spec: Some(LeaseSpec::default()),
    };
    create(client, namespace, &lease).await?;
    let mut object = HostPlan::new(host, plan);
    object.metadata = ObjectMeta {
        name: Some(host.to_owned()),
        ..metadata_of_host(namespace, instance)
    };
    let version = create(client, namespace, &object).await?;
    tracing::info!(namespace, host, "host prepared");
    Ok(version)
}

/// Makes the Secret of a host, with the public key that it joins with. After it was deleted, no token that was bound to the old one is good again.
///
/// # Errors
/// The write failed.
pub async fn restore(
    client: &Client,
    namespace: &str,
    instance: &Target,
    key: Option<&str>,
) -> Result<(), Error> {
    let key = key.map(|key| BTreeMap::from([(labels::HOST_KEY.to_owned(), key.to_owned())]));
    let secret = Secret {
        metadata: ObjectMeta {
            annotations: key,
            ..metadata_of_host(namespace, instance)
        },
        type_: Some("tallyman.dev/host".to_owned()),
        ..Secret::default()
    };
    create(client, namespace, &secret).await.map(drop)
}

/// Makes what a host asks to join with: an account that reads one HostJoin and writes its request.
///
/// # Errors
/// The first write that fails.
pub async fn open(client: &Client, namespace: &str, join: &HostJoin) -> Result<(), Error> {
    let name = join.name_any();
    let identity = names::join_identity(&name);
    let metadata = ObjectMeta {
        name: Some(identity.clone()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(
            labels::MANAGED_BY.to_owned(),
            labels::MANAGER.to_owned(),
        )])),
        owner_references: join.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata: metadata.clone(),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    create(client, namespace, &account).await?;
    let ours = tallyman_crds::GROUP;
    let role = Role {
        metadata: metadata.clone(),
        rules: Some(vec![
            rule(ours, "hostjoins", Some(&name), &["get"]),
            rule(ours, "hostjoins/status", Some(&name), &["get", "patch"]),
        ]),
    };
    create(client, namespace, &role).await?;
    let binding = binding(metadata, namespace, &identity);
    create(client, namespace, &binding).await?;
    tracing::info!(namespace, join = name, "join opened");
    Ok(())
}

fn metadata_of_host(namespace: &str, instance: &Target) -> ObjectMeta {
    let host = instance.name.as_str();
    ObjectMeta {
        name: Some(names::host_identity(host)),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([
            (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
            (labels::CONTAINER_INSTANCE.to_owned(), host.to_owned()),
        ])),
        owner_references: Some(vec![instance.as_owner()]),
        ..ObjectMeta::default()
    }
}

/// Gives the Role of a name to the ServiceAccount of the same name.
fn binding(metadata: ObjectMeta, namespace: &str, identity: &str) -> RoleBinding {
    RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: identity.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: identity.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    }
}

fn rule(group: &str, resource: &str, name: Option<&str>, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: name.map(|n| vec![n.to_owned()]),
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// What a host may do: read its own plan and secret, renew its own Lease, report on itself and on tasks (which tasks, the
/// admission policy says), and ask for a new token. It creates and deletes nothing.
fn rules(host: &str) -> Vec<PolicyRule> {
    let identity = names::host_identity(host);
    let ours = tallyman_crds::GROUP;
    vec![
        rule(ours, "hostplans", Some(host), &["get", "list", "watch"]),
        rule(ours, "containerinstances", Some(host), &["get"]),
        rule(
            ours,
            "containerinstances/status",
            Some(host),
            &["get", "patch"],
        ),
        rule(ours, "tasks/status", None, &["patch"]),
        rule(
            "coordination.k8s.io",
            "leases",
            Some(&identity),
            &["get", "patch"],
        ),
        rule("", "secrets", Some(&identity), &["get", "list", "watch"]),
        rule("", "serviceaccounts/token", Some(&identity), &["create"]),
    ]
}

async fn create<K>(client: &Client, namespace: &str, object: &K) -> Result<u64, Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = created_by_us();
    let created = match api.create(&params, object).await {
        Ok(created) => created,
        Err(Error::Api(s)) if s.is_already_exists() => {
            let found = api.get(&object.name_any()).await?;
            if found.owner_references() != object.owner_references() {
                // It belongs to a host of the same name that was deregistered, and is about to go with it.
                return Err(Error::Api(s));
            }
            found
        }
        Err(e) => return Err(e),
    };
    Ok(created
        .resource_version()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0))
}
