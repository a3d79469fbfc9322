//! The agent's part of the ContainerInstance's status: `status.host`, and nothing else of it.

use serde_json::{Value, json};
use tallyman_agent_core::Delivery;
use tallyman_crds::HostReport;

use crate::api::Api;

/// Patches `status.host`.
///
/// # Errors
/// In words; it is tried again.
pub async fn send(api: &Api, report: &HostReport) -> Result<(), String> {
    let body = json!({ "status": { "host": host(report) } });
    match api.patch_instance(&body).await {
        Delivery::Accepted => Ok(()),
        Delivery::Gone => Err(format!(
            "there is no ContainerInstance {}/{}; apply one with this name",
            api.namespace, api.name
        )),
        Delivery::Refused(words) | Delivery::Failed(words) => Err(words),
    }
}

/// Every field, absent ones as null: a merge patch keeps what it does not name.
fn host(report: &HostReport) -> Value {
    let HostReport {
        agent_version,
        engine,
        engine_api_version,
        engine_reachable,
        registered_resources,
        attributes,
        address,
        boot_id,
        engine_id,
        applied_plan_generation,
        applied_plan_epoch,
        impairment,
        message,
    } = report;
    json!({
        "agentVersion": agent_version,
        "engine": engine,
        "engineApiVersion": engine_api_version,
        "engineReachable": engine_reachable,
        "registeredResources": {
            "cpu": registered_resources.cpu,
            "memory": registered_resources.memory,
            "ports": registered_resources.ports,
            "portsUdp": registered_resources.ports_udp,
            "gpu": registered_resources.gpu,
            "gpuMemory": registered_resources.gpu_memory,
        },
        "attributes": attributes,
        "address": address,
        "bootId": boot_id,
        "engineId": engine_id,
        "appliedPlanGeneration": applied_plan_generation,
        "appliedPlanEpoch": applied_plan_epoch,
        "impairment": impairment,
        "message": message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_spells_the_fields_as_the_type_does() {
        let report = HostReport {
            address: Some("10.0.0.5".to_owned()),
            boot_id: Some("b".to_owned()),
            engine_id: Some("e".to_owned()),
            impairment: Some(tallyman_crds::Impairment::DiskFull),
            message: Some("m".to_owned()),
            attributes: vec![tallyman_crds::Attribute {
                name: "a".to_owned(),
                value: None,
            }],
            registered_resources: tallyman_crds::Resources {
                cpu: 1,
                memory: 2,
                ports: vec![22],
                ports_udp: vec![53],
                gpu: vec!["GPU-1".to_owned()],
                gpu_memory: vec![tallyman_crds::GpuMemory {
                    gpu_id: "GPU-1".to_owned(),
                    memory: 4096,
                }],
            },
            ..HostReport::default()
        };
        assert_eq!(serde_json::to_value(&report).ok(), Some(host(&report)));
    }
}
