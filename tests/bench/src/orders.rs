//! Orders to the API server, and its answers, through one connection: what the engine is driven through, too. A process for
//! each order would measure how long kubectl takes to start.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tallyman_crds::{ConditionStatus, Service};
use tallyman_lab::Lab;

/// Of an administrator.
pub struct Orders {
    runtime: tokio::runtime::Runtime,
    services: Api<Service>,
}

impl Orders {
    /// Through a connection of its own, which is open when this returns.
    pub fn open(lab: &Lab) -> Result<Orders> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let services = runtime.block_on(async {
            let config = Kubeconfig::read_from(lab.control_plane().admin_kubeconfig())?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(config, &options).await?;
            let client = Client::try_from(config)?;
            client.apiserver_version().await?;
            anyhow::Ok(Api::namespaced(client, lab.namespace()))
        })?;
        Ok(Orders { runtime, services })
    }

    /// Scales a service to `n`; returns once its status says that it is steady there. Nothing is polled: one watch is held.
    pub fn scale(&self, name: &str, n: usize, patience: Duration) -> Result<()> {
        self.runtime.block_on(async {
            tokio::time::timeout(patience, self.scaled(name, n))
                .await
                .with_context(|| format!("service {name} is not steady at {n} tasks"))?
        })
    }

    async fn scaled(&self, name: &str, n: usize) -> Result<()> {
        let n = i32::try_from(n)?;
        let body = Patch::Merge(json!({ "spec": { "desiredCount": n } }));
        let ordered = self
            .services
            .patch(name, &PatchParams::default(), &body)
            .await?;
        let from = ordered.resource_version().context("no resourceVersion")?;
        let one = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut news = Box::pin(self.services.watch(&one, &from).await?);
        while let Some(event) = news.try_next().await? {
            if let WatchEvent::Modified(service) = event
                && is_steady(&service, n)
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch of service {name} ended")
    }
}

fn is_steady(service: &Service, n: i32) -> bool {
    let Some(status) = &service.status else {
        return false;
    };
    let ready = status
        .conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == ConditionStatus::True);
    ready
        && status.running_count == n
        && Some(status.observed_generation) == service.metadata.generation
}
