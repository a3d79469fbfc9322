//! Containers of tasks, seen from inside: what a shell in them finds out.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::LabHost;

use crate::user::{Container, User};

/// Image with a shell.
pub const BUSYBOX: &str = "localhost/tallyman/busybox:1";
/// Region that the suite gives its hosts.
pub const REGION: &str = "eu-north-1";

/// A container that waits, as ECS JSON writes it.
pub fn container(name: &str) -> Value {
    json!({
        "name": name, "image": BUSYBOX, "cpu": 16, "memory": 24, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": ["exec sleep 3600"],
    })
}

/// A TaskDefinition of these containers.
pub fn definition(name: &str, containers: &Value) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name },
            "spec": { "containerDefinitions": containers } })
}

/// A running container of a service's only task, by its name in the task definition.
pub struct Inside<'a> {
    /// Its host.
    pub host: &'a LabHost,
    /// The engine's id of it.
    pub id: String,
}

impl<'a> Inside<'a> {
    /// The running container of this name.
    pub fn find(user: &User<'a>, name: &str) -> Result<Self> {
        let all = user.containers()?.into_iter();
        Self::named(user, all.filter(|c| c.state == "running"), name)
    }

    fn named(user: &User<'a>, among: impl Iterator<Item = Container>, name: &str) -> Result<Self> {
        for Container { id, host, .. } in among {
            let host = user.lab.host_named(&host)?;
            let inside = Inside { host, id };
            if inside.label("com.amazonaws.ecs.container-name")? == name {
                return Ok(inside);
            }
        }
        bail!("there is no such container: `{name}`")
    }

    /// A container of a task, whether it runs or not, by its name in the task definition.
    pub fn of_task(user: &User<'a>, task: &str, name: &str) -> Result<Self> {
        let all = user.containers()?.into_iter().filter(|c| c.task == task);
        Self::named(user, all, name)
    }

    /// What the engine says of it.
    pub fn inspect(&self, format: &str) -> Result<String> {
        self.host
            .docker_ok(["inspect", "--format", format, &self.id])
    }

    /// A label of it.
    pub fn label(&self, label: &str) -> Result<String> {
        self.inspect(&format!("{{{{index .Config.Labels \"{label}\"}}}}"))
    }

    /// What a shell in the container prints; on failure, what it says.
    pub fn shell(&self, line: &str) -> Result<std::result::Result<String, String>> {
        let out = self.host.docker(["exec", &self.id, "sh", "-c", line])?;
        let said = format!("{out:?}");
        Ok(if out.success {
            Ok(out.stdout)
        } else {
            Err(said)
        })
    }

    /// `GET` from inside, as JSON.
    pub fn get(&self, url: &str) -> Result<Value> {
        let (status, body) = self.ask(url, "")?;
        ensure!(status == 200, "{url}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("{url}: {body}"))
    }

    /// Status and body of a `GET` from inside, with more header lines.
    pub fn ask(&self, url: &str, headers: &str) -> Result<(u16, String)> {
        let said = self.shell(&fetch(url, headers))?;
        let said = said.map_err(|said| anyhow::anyhow!("{url}: {said}"))?;
        parse(&said).with_context(|| format!("{url}: {said}"))
    }

    /// Status and body of a `PUT` of JSON from inside.
    pub fn put(&self, url: &str, body: &Value) -> Result<(u16, String)> {
        self.send("PUT", url, body)
    }

    /// Status and body of a `POST` of JSON from inside.
    pub fn post(&self, url: &str, body: &Value) -> Result<(u16, String)> {
        self.send("POST", url, body)
    }

    fn send(&self, method: &str, url: &str, body: &Value) -> Result<(u16, String)> {
        let body = body.to_string();
        let said = self.shell(&request(method, url, "", &body))?;
        let said = said.map_err(|said| anyhow::anyhow!("{url}: {said}"))?;
        parse(&said).with_context(|| format!("{url}: {said}"))
    }

    /// What comes of a `GET` that must not be answered with a document.
    pub fn refused(&self, url: &str, headers: &str, wanted: u16) -> Result<()> {
        let (status, body) = self.ask(url, headers)?;
        ensure!(status == wanted, "{url} {headers}: {status} {body}");
        Ok(())
    }
}

/// A line of shell that prints the whole answer to a `GET`.
pub fn fetch(url: &str, headers: &str) -> String {
    request("GET", url, headers, "")
}

/// A line of shell that prints the whole answer to a request. Not wget: static busybox crashes in it.
fn request(method: &str, url: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "url={url}; rest=${{url#http://*/}}; place=${{url#http://}}; place=${{place%%/*}}; port=${{place#*:}}; \
         [ \"$port\" != \"$place\" ] || port=80; \
         printf '{method} /%s HTTP/1.1\\r\\nHost: 169.254.170.2\\r\\nContent-Length: {length}\\r\\n{headers}\\r\\n%s' \
         \"$rest\" '{body}' | nc -w 8 ${{place%%:*}} $port"
    )
}

/// Status and body of an answer.
pub fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
