//! What is attacked: a task with secrets, and who stands beside it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::network::Place;
use tallyman_lab::{Lab, wait_until};

use crate::attack::thief;
use crate::inside::{Inside, container, definition};
use crate::scenarios::secrets::kept;
use crate::user::{PATIENCE, User, service};

/// The service whose only task is attacked: on the bridge, with a password, a role and a page that nobody else is to read.
const VAULT: &str = "vault";
/// A task on the host's network with the same password.
const VAULT_HOST: &str = "vault-host";
/// Secrets of the namespace.
const SECRETS: [&str; 2] = ["vault-password", "vault-role"];
/// A namespace that is nobody's here, and a Secret in it.
pub const ELSEWHERE: (&str, &str) = ("kube-system", "vault-elsewhere");
/// Number in the lab's network of who stands beside the hosts; hosts count from 0.
const PLACE: usize = 200;
/// Where the page of the attacked task is; the port is not published.
pub const PAGE_PORT: u16 = 8080;

/// A container from which somebody tries.
pub struct Foothold<'a> {
    /// Network mode.
    pub mode: &'static str,
    /// It.
    pub inside: Inside<'a>,
    /// Its task.
    pub task: String,
}

/// What is attacked, and from where.
pub struct Scene<'a> {
    /// The lab's administrator.
    pub user: User<'a>,
    /// The attacked container.
    pub vault: Inside<'a>,
    /// Its task.
    pub vault_task: String,
    /// The attacked container on the host's network.
    pub vault_host: Inside<'a>,
    /// Containers of somebody else on the same host: bridge, awsvpc and host, in this order.
    pub footholds: Vec<Foothold<'a>>,
    /// A machine beside the hosts.
    pub neighbour: Place,
    /// The token of a host that no machine is behind.
    pub token: String,
    /// What must not be read anywhere: what it is, and the text.
    canaries: Vec<(&'static str, String)>,
    /// The agent of the attacked host as it was at the beginning.
    agent: Option<u32>,
}

/// Modes of footholds, and names of their tasks.
const THIEVES: [(&str, &str); 3] = [
    ("bridge", "thief-bridge"),
    ("awsvpc", "thief-awsvpc"),
    ("host", "thief-host"),
];

impl<'a> Scene<'a> {
    /// Brings about what is attacked.
    ///
    /// # Errors
    /// It does not come up.
    pub fn set(lab: &'a Lab) -> Result<Self> {
        let user = User::new(lab);
        let word = |what: &str| format!("canary-{what}-{:016x}", fastrand::u64(..));
        let [password, key, session, page, elsewhere] =
            ["password", "key", "session", "page", "elsewhere"].map(word);
        kept(&user, "Secret", SECRETS[0], json!({ "password": password }))?;
        let role =
            json!({ "AccessKeyId": "AKIA", "SecretAccessKey": key, "SessionToken": session });
        kept(&user, "Secret", SECRETS[1], role)?;
        let foreign = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": ELSEWHERE.1, "namespace": ELSEWHERE.0 },
            "stringData": { "password": elsewhere },
        });
        user.kubectl().apply(&foreign.to_string())?;
        vaults(&user, &page)?;
        user.wait_steady(VAULT, 1)?;
        let vault = Inside::find(&user, VAULT)?;
        let host = vault.host.name().to_owned();
        thieves(&user, &host)?;
        let footholds = THIEVES.map(|(mode, task)| {
            running(&user, task)?;
            let inside = Inside::of_task(&user, task, "thief")?;
            let task = task.to_owned();
            anyhow::Ok(Foothold { mode, inside, task })
        });
        running(&user, VAULT_HOST)?;
        let vault_host = Inside::of_task(&user, VAULT_HOST, VAULT_HOST)?;
        let host_token = thief::of_host(vault.host)?;
        let canaries = vec![
            ("the password of another task", password),
            ("the secret key of another task's role", key),
            ("the session token of another task's role", session),
            ("the page of another task", page),
            ("a Secret of another namespace", elsewhere),
            ("the host's token", host_token),
        ];
        let agent = vault.host.agent().pid();
        Ok(Scene {
            token: thief::steal(lab)?,
            vault_task: vault.label("tallyman.dev/task")?,
            vault,
            vault_host,
            footholds: footholds.into_iter().collect::<Result<_>>()?,
            neighbour: lab.network().place(PLACE, "neighbour")?,
            canaries,
            agent,
            user,
        })
    }

    /// What of all that must not be read is in a text, as it is or as Secrets spell it.
    pub fn found(&self, text: &str) -> Option<&'static str> {
        let mut canaries = self.canaries.iter();
        let known =
            |value: &str| text.contains(value) || text.contains(&BASE64_STANDARD.encode(value));
        canaries
            .find(|(_, value)| known(value))
            .map(|(what, _)| *what)
    }

    /// The id of a container in the paths of the metadata endpoint.
    ///
    /// # Errors
    /// It was not told one.
    pub fn id_of(&self, inside: &Inside<'_>) -> Result<String> {
        let all = inside.inspect("{{json .Config.Env}}")?;
        let all: Vec<String> = serde_json::from_str(&all)?;
        let uri = all
            .iter()
            .find_map(|one| one.strip_prefix("ECS_CONTAINER_METADATA_URI_V4="));
        let id = uri.and_then(|uri| uri.rsplit('/').next());
        Ok(id.context("the container was told no URI")?.to_owned())
    }

    /// Its address.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self) -> Result<Ipv4Addr> {
        let text = self
            .vault
            .inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
        text.trim().parse().with_context(|| text.clone())
    }

    /// The addresses by which containers of a bridge reach their host.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn gateways(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for network in ["bridge", "tallyman"] {
            let format = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}";
            let text = self
                .vault
                .host
                .docker_ok(["network", "inspect", "--format", format, network])?;
            let gateway = text.split_whitespace().nth(1);
            all.push(gateway.with_context(|| text.clone())?.to_owned());
        }
        Ok(all)
    }

    /// The shell of a machine beside the hosts.
    pub fn neighbours_shell(&self) -> Tool {
        self.beside("busybox").arg("sh")
    }

    /// A command on that machine.
    pub fn beside(&self, program: &str) -> Tool {
        let network = format!("--net=/run/netns/{}", self.neighbour.namespace);
        Tool::new("nsenter").args([network.as_str(), "--", program])
    }

    /// Fails when whoever attacked broke something: the agent runs as before, and answers the attacked task.
    ///
    /// # Errors
    /// It does not.
    pub fn unharmed(&self) -> Result<()> {
        let agent = self.vault.host.agent().pid();
        ensure!(agent == self.agent, "the agent of the host died");
        wait_until("the attacked task to be answered", PATIENCE, || {
            let own = self.vault.get("$ECS_CONTAINER_METADATA_URI_V4")?;
            Ok(own["DockerId"] == self.vault.id.as_str())
        })?;
        let task = self.user.get("tasks", &self.vault_task)?;
        ensure!(
            task["status"]["lastStatus"] == "RUNNING",
            "{}",
            task["status"]
        );
        Ok(())
    }

    /// Takes everything away.
    ///
    /// # Errors
    /// It does not go.
    pub fn leave(self) -> Result<()> {
        let user = &self.user;
        let mut args = vec!["delete", "tasks.tallyman.dev", VAULT_HOST, "--timeout=60s"];
        args.extend(THIEVES.iter().map(|(_, task)| *task));
        user.k(&args)?;
        user.delete(&[VAULT, VAULT_HOST])?;
        for (_, task) in THIEVES {
            user.delete(&[task])?;
        }
        user.k(&["delete", "secret", SECRETS[0], SECRETS[1]])?;
        let elsewhere = ["delete", "secret", ELSEWHERE.1, "-n", ELSEWHERE.0];
        user.kubectl().ok(elsewhere)?;
        thief::forget(user)
    }
}

impl Inside<'_> {
    /// A shell in it that reads commands from its standard input.
    pub(super) fn stdin_shell(&self) -> Tool {
        let docker = self.host.engine().docker();
        docker.args(["exec", "-i", &self.id, "sh"])
    }
}

fn vaults(user: &User<'_>, page: &str) -> Result<()> {
    let password = json!([{ "name": "PASSWORD", "valueFrom": "vault-password:password" }]);
    let script = format!(
        "mkdir -p /page && echo {page} > /page/index.html && httpd -p {PAGE_PORT} -h /page; exec sleep 3600"
    );
    let mut vault = container(VAULT);
    vault["secrets"] = password.clone();
    vault["command"] = json!([script]);
    let mut vault = definition(VAULT, &json!([vault]));
    vault["spec"]["taskRoleArn"] = json!("arn:aws:iam::123456789012:role/vault-role");
    let mut on_host = container(VAULT_HOST);
    on_host["secrets"] = password;
    let mut on_host = definition(VAULT_HOST, &json!([on_host]));
    on_host["spec"]["networkMode"] = json!("host");
    user.apply(&[vault, service(VAULT, 1), on_host])?;
    Ok(())
}

fn thieves(user: &User<'_>, host: &str) -> Result<()> {
    let on = |task: &str, definition: &str| -> Value {
        json!({ "kind": "Task", "metadata": { "name": task },
                "spec": { "taskDefinition": definition, "containerInstance": host } })
    };
    let mut objects = vec![on(VAULT_HOST, VAULT_HOST)];
    for (mode, task) in THIEVES {
        let mut thief = container("thief");
        thief["memory"] = json!(64);
        let mut thief = definition(task, &json!([thief]));
        thief["spec"]["networkMode"] = json!(mode);
        objects.extend([thief, on(task, task)]);
    }
    user.apply(&objects)?;
    Ok(())
}

fn running(user: &User<'_>, task: &str) -> Result<()> {
    wait_until(format!("{task} to run"), PATIENCE, || {
        let status = user.get("tasks", task)?["status"].clone();
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })
}
