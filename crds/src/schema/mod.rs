//! From the types of this crate to the CustomResourceDefinitions that are applied.
//!
//! `kube`'s derive gives the skeleton of a definition (names, subresources); the schema is made here, because
//! a structural schema wants less than what a JSON Schema generator says by default: no `null`, no formats that the API
//! server does not know, no defaults in a status, a list type on every list. [`crds`] is what `crdgen` writes and what
//! tests compare with; nothing else in the project should use a kind's own `crd()`.
//!
//! This module must never know a field by name: what is true of one field is said by an attribute at that field.

pub mod charts;
mod columns;
mod structural;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, Resource};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

pub use structural::{checked, of, opaque};

use crate::rules;

/// One definition: the file it lives in and its content.
pub struct Crd {
    /// Kind, such as `Service`.
    pub kind: String,
    /// File name below `crds/generated/`, such as `services.yaml`.
    pub file: String,
    /// The definition as JSON, keys sorted.
    pub json: Value,
}

impl Crd {
    /// The definition as a YAML document, with a first line that says where it comes from.
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        Ok(format!(
            "# Written by crdgen from the types in crds/src; do not edit.\n{}",
            serde_saphyr::to_string(&self.json)?
        ))
    }
}

/// Every kind of the product, in alphabetical order of plural.
pub fn crds() -> Vec<Crd> {
    vec![
        crd::<crate::Cluster, crate::ClusterSpec, crate::ClusterStatus>(),
        crd::<crate::ContainerInstance, crate::ContainerInstanceSpec, crate::ContainerInstanceStatus>(
        ),
        crd::<crate::HostJoin, crate::HostJoinSpec, crate::HostJoinStatus>(),
        crd::<crate::HostPlan, crate::HostPlanSpec, ()>(),
        crd::<crate::RunTask, crate::RunTaskSpec, crate::RunTaskStatus>(),
        crd::<crate::ScheduledTask, crate::ScheduledTaskSpec, crate::ScheduledTaskStatus>(),
        crd::<crate::Service, crate::ServiceSpec, crate::ServiceStatus>(),
        crd::<crate::TaskDefinition, crate::TaskDefinitionSpec, crate::TaskDefinitionStatus>(),
        crd::<
            crate::TaskDefinitionRevision,
            crate::TaskDefinitionRevisionSpec,
            crate::TaskDefinitionRevisionStatus,
        >(),
        crd::<crate::Task, crate::TaskSpec, crate::TaskStatus>(),
        crd::<crate::TaskSet, crate::TaskSetSpec, crate::TaskSetStatus>(),
    ]
}

fn crd<K, Spec, Status>() -> Crd
where
    K: CustomResourceExt + Resource<DynamicType = ()>,
    Spec: JsonSchema,
    Status: JsonSchema,
{
    let mut crd: CustomResourceDefinition = K::crd();
    let kind = K::kind(&()).into_owned();
    let file = format!("{}.yaml", K::plural(&()));
    // The derive's schema is replaced, not corrected: see the head of this module.
    for version in &mut crd.spec.versions {
        version.schema = None;
    }
    let mut json = serde_json::to_value(&crd).expect("a CustomResourceDefinition is plain data");
    let has_status = crd.spec.versions.iter().any(|v| {
        v.subresources
            .as_ref()
            .is_some_and(|subresources| subresources.status.is_some())
    });
    let schema = root::<Spec, Status>(&kind, has_status);
    if let Some(versions) = json
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            version["schema"] = json!({ "openAPIV3Schema": schema });
            version["additionalPrinterColumns"] = columns::of(&kind).into();
        }
    }
    structural::sort(&mut json);
    Crd { kind, file, json }
}

/// Schema of a whole object: `spec`, `status`, and the rules that need `metadata.name`.
fn root<Spec: JsonSchema, Status: JsonSchema>(kind: &str, has_status: bool) -> Value {
    let spec = of::<Spec>();
    let mut root = Map::new();
    root.insert("type".into(), "object".into());
    root.insert(
        "description".into(),
        spec.get("description").cloned().unwrap_or_default(),
    );
    root.insert("required".into(), json!(["spec"]));
    let mut properties = Map::new();
    properties.insert("spec".into(), spec);
    if has_status {
        let mut status = of::<Status>();
        structural::strip_defaults(&mut status, &["observedGeneration", "lastStatus"]);
        // Read back before any controller has written a status, the object must not look up to date.
        status["default"] = json!({ "observedGeneration": crate::conditions::UNOBSERVED });
        properties.insert("status".into(), status);
    }
    root.insert("properties".into(), properties.into());
    let rules = rules::on(&format!("{kind}/object"));
    if !rules.is_empty() {
        root.insert("x-kubernetes-validations".into(), rules.into());
    }
    root.into()
}
