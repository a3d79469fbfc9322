//! A host whose token is stolen, and the token at work.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::names::host_identity;
use tallyman_lab::{Lab, LabHost};

use crate::attack::Haul;
use crate::attack::api::{JSON, judge, request, send_all, sending, with};
use crate::attack::scene::Scene;
use crate::user::User;

/// Name of the host whose token is stolen. No machine is behind it.
pub const STOLEN: &str = "stolen";

/// Joins as a host whose token is stolen then.
///
/// # Errors
/// It is not admitted.
pub fn steal(lab: &Lab) -> Result<String> {
    let spec = json!({ "containerInstance": STOLEN, "accept": "Automatic" });
    let token = lab.permit_join(STOLEN, &spec)?;
    let folder = lab.ledger().folder(STOLEN)?;
    lab.join_command(lab.host(0), &token, STOLEN, &folder)?
        .check()?;
    read(&folder.join("token"))
}

/// The token of a host of the lab.
///
/// # Errors
/// It has none.
pub fn of_host(host: &LabHost) -> Result<String> {
    read(&host.agent_kubeconfig().with_file_name("token"))
}

fn read(file: &Path) -> Result<String> {
    let token = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(token.trim().to_owned())
}

/// Takes that host away.
///
/// # Errors
/// It does not go.
pub fn forget(user: &User<'_>) -> Result<()> {
    for kind in ["containerinstances", "hostjoins"] {
        let kind = format!("{kind}.tallyman.dev");
        user.k(&["delete", &kind, STOLEN, "--timeout=60s"])?;
    }
    Ok(())
}

/// The stolen token at work.
pub struct Thief<'a, 'b> {
    pub scene: &'a Scene<'b>,
    /// As `/api/v1/namespaces/...` of the host's namespace.
    pub core: String,
    /// The same of our kinds.
    pub ours: String,
    pub leases: String,
    /// Name of the stolen host's objects, and of the attacked one's.
    pub own: String,
    pub other: String,
}

impl<'a, 'b> Thief<'a, 'b> {
    pub fn new(scene: &'a Scene<'b>) -> Self {
        let namespace = scene.user.namespace();
        Thief {
            scene,
            core: format!("/api/v1/namespaces/{namespace}"),
            ours: format!("/apis/tallyman.dev/v1alpha1/namespaces/{namespace}"),
            leases: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            own: host_identity(STOLEN),
            other: host_identity(scene.vault.host.name()),
        }
    }

    pub fn send_as(&self, token: &str, requests: &[Value]) -> Result<Vec<(u16, String)>> {
        let signed: Vec<Value> = requests
            .iter()
            .map(|one| with(one.clone(), "Authorization", &format!("Bearer {token}")))
            .collect();
        let server = self.scene.user.lab.control_plane().server_for_hosts();
        send_all(server, &signed)
    }

    /// Tries all; after the last, its own object is still read.
    pub fn try_all(&self, haul: &mut Haul, requests: &[Value]) -> Result<()> {
        let mut all = requests.to_vec();
        all.push(self.its_own());
        let mut answers = self.send_as(&self.scene.token, &all)?;
        let own = answers.pop().context("no answer")?;
        ensure!(own.0 == 200, "it does not read its own object: {own:?}");
        for (request, answer) in requests.iter().zip(&answers) {
            judge(self.scene, haul, request, answer, false);
        }
        Ok(())
    }

    pub fn its_own(&self) -> Value {
        let path = format!("{}/containerinstances/{STOLEN}", self.ours);
        request("GET", &path)
    }

    pub fn token(&self, account: &str, body: &Value) -> Value {
        let path = format!("{}/serviceaccounts/{account}/token", self.core);
        sending(request("POST", &path), JSON, body)
    }
}
