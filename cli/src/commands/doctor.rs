//! `doctor`: looks at everything that must be there.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};

use super::print;
use crate::args::{Connection, Doctor, FindingForm, Form};
use crate::checks::{self, Finding, Level, PERMISSIONS};
use crate::outcome;
use crate::session::Session;
use crate::table::{Paint, data};

/// Name of the operator's Lease.
const LEASE: &str = "tallyman-operator";

pub(super) async fn doctor(connection: &Connection, args: &Doctor) -> Result<u8> {
    let findings = look(connection, args).await;
    print(&match args.output {
        FindingForm::Json => data(&serde_json::to_value(&findings)?, Form::Json),
        FindingForm::Yaml => data(&serde_json::to_value(&findings)?, Form::Yaml),
        FindingForm::Table => {
            let text = checks::text(&findings, Paint::of_stdout());
            format!("{text}{}\n", checks::summary(&findings))
        }
    })?;
    let wrong = findings.iter().any(|f| f.level == Level::Wrong);
    Ok(if wrong {
        outcome::FAILED
    } else {
        outcome::DONE
    })
}

async fn look(connection: &Connection, args: &Doctor) -> Vec<Finding> {
    let session = match Session::open(connection).await {
        Ok(session) => session,
        Err(error) => {
            return vec![Finding::wrong(
                format!("{error:#}"),
                "`kubectl cluster-info` must work first",
            )];
        }
    };
    let server = &session.server;
    let mut findings = Vec::new();
    match session.client.apiserver_version().await {
        Ok(version) => {
            let minor: String = version
                .minor
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            findings.push(checks::server(
                minor.parse().ok(),
                &version.git_version,
                server,
            ));
        }
        Err(error) => {
            let advice = "is it up, is the address right, are the credentials still good? `kubectl cluster-info` says more";
            findings.push(Finding::wrong(
                format!("API server {server} does not answer: {error}"),
                advice,
            ));
            return findings;
        }
    }
    findings.extend(definitions(&session).await);
    findings.push(operator(&session, &args.system_namespace).await);
    findings.extend(permissions(&session).await);
    match session.objects_in_silence().await {
        Ok(objects) => {
            let instances: Vec<_> = objects.instances.iter().map(|i| &**i).collect();
            findings.extend(checks::hosts(&instances, env!("CARGO_PKG_VERSION")));
            findings.extend(checks::stalled(&objects));
            findings.extend(checks::unreadable(&objects));
        }
        Err(error) => findings.push(Finding::wrong(
            format!("objects cannot be listed: {error:#}"),
            "mend what is said above first",
        )),
    }
    findings
}

async fn definitions(session: &Session) -> Vec<Finding> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = Api::all_with(session.client.clone(), &resource);
    match api.list(&ListParams::default()).await {
        Ok(list) => {
            let all = list.items.into_iter();
            let installed: BTreeMap<_, _> = all
                .map(|d| (d.metadata.name.clone().unwrap_or_default(), d.data))
                .collect();
            checks::definitions(&installed)
        }
        Err(error) => vec![Finding::warning(
            format!("resource definitions cannot be looked at: {error}"),
            "ask somebody who may list customresourcedefinitions, should kinds be missing",
        )],
    }
}

async fn operator(session: &Session, namespace: &str) -> Finding {
    let api: Api<Lease> = Api::namespaced(session.client.clone(), namespace);
    match api.get_opt(LEASE).await {
        Ok(lease) => checks::operator(lease.as_ref(), namespace, Timestamp::now()),
        Err(error) => Finding::warning(
            format!("the operator's Lease {namespace}/{LEASE} cannot be read: {error}"),
            "ask somebody who may; --system-namespace says where it is",
        ),
    }
}

async fn permissions(session: &Session) -> Vec<Finding> {
    let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let mut refused = Vec::new();
    for permission in PERMISSIONS {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(tallyman_crds::GROUP.to_owned()),
                    resource: Some(permission.resource.to_owned()),
                    verb: Some(permission.verb.to_owned()),
                    namespace: Some(session.namespace.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|s| s.allowed) => {}
            Ok(_) => refused.push(permission),
            Err(error) => {
                return vec![Finding::warning(
                    format!("the API server does not say what you may do: {error}"),
                    "`kubectl auth can-i --list` may say more",
                )];
            }
        }
    }
    checks::permissions(&refused, &session.namespace)
}
