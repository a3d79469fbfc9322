//! What a stolen host key can do: every verb on every kind and subresource that the API server lists, with names that are the
//! host's own, that only begin like them, and that are another's.
//!
//! The cells come from the API server's discovery, so a kind that is added is covered that day. What a host may do stands
//! in [`permitted`]; every other cell has to be answered 403. Whatever would change something is asked as a dry run, which
//! the API server authorizes and admits like any other.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tallyman_crds::names::{HOST_TOKEN_SECONDS, host_identity};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a stolen host key opens what the host needs and nothing else, whatever it tries",
    run: matrix,
}];

/// Fewer cells than these mean that discovery was not read.
const LEAST: usize = 2000;
const AT_ONCE: usize = 16;
/// A namespace where the host has nothing.
const ELSEWHERE: &str = "kube-system";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Resource {
    group: String,
    version: String,
    /// `tasks`, or `tasks/status`.
    name: String,
    kind: String,
    namespaced: bool,
}

#[derive(Clone, Debug)]
struct Cell {
    verb: &'static str,
    resource: Resource,
    namespace: Option<String>,
    name: Option<String>,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cell {
            verb,
            resource,
            namespace,
            name,
        } = self;
        let [namespace, name] = [namespace, name].map(|s| s.as_deref().unwrap_or("-"));
        write!(
            out,
            "{verb} {}.{} {namespace} {name}",
            resource.name, resource.group
        )
    }
}

/// Names that the test tries.
struct Names {
    namespace: String,
    host: String,
    others: Vec<String>,
    /// By the host that they are placed on.
    tasks: BTreeMap<String, String>,
}

/// What a host may do; nothing else is.
fn permitted(cell: &Cell, names: &Names) -> bool {
    let Cell {
        verb,
        resource,
        namespace,
        name,
    } = cell;
    let what = (resource.group.as_str(), resource.name.as_str());
    // Everybody may ask who he is and what he may, and read the certificate authority.
    let of_everybody = [
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ];
    if of_everybody.contains(&what) {
        return *verb == "create";
    }
    if namespace.as_deref() != Some(&names.namespace) {
        return false;
    }
    let identity = host_identity(&names.host);
    let is = |wanted: &str| name.as_deref() == Some(wanted);
    let reads = ["get", "list by name", "watch by name"].contains(verb);
    match what {
        ("tallyman.dev", "hostplans") => reads && is(&names.host),
        ("", "secrets") => reads && is(&identity),
        ("tallyman.dev", "containerinstances") => *verb == "get" && is(&names.host),
        ("tallyman.dev", "containerinstances/status") => {
            ["get", "patch"].contains(verb) && is(&names.host)
        }
        ("tallyman.dev", "tasks/status") => *verb == "patch" && is(&names.tasks[&names.host]),
        ("coordination.k8s.io", "leases") => ["get", "patch"].contains(verb) && is(&identity),
        // Only one whose life hangs on the host's Secret.
        ("", "serviceaccounts/token") => *verb == "create bound" && is(&identity),
        _ => false,
    }
}

/// What came of trying every cell.
pub(crate) struct Tried {
    pub(crate) cells: usize,
    /// How many of them a host may do.
    pub(crate) open: usize,
    /// What was answered otherwise than it has to be.
    pub(crate) wrong: Vec<String>,
}

fn matrix(user: &User<'_>) -> Result<()> {
    let started = Instant::now();
    let Tried { cells, open, wrong } = tried(user)?;
    println!(
        "    {cells} cells, {open} of them permitted, in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    ensure!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// Tries every cell with the key of the first host.
pub(crate) fn tried(user: &User<'_>) -> Result<Tried> {
    let names = prepare(user)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let host = user.lab.host(0).agent_kubeconfig().to_owned();
    let admin = user.kubectl().kubeconfig().to_owned();
    let (cells, wrong) = runtime.block_on(async {
        let admin = client(&admin).await?;
        let cells = cells(&discovered(&admin).await?, &names);
        let host = client(&host).await?;
        let wrong: Vec<String> = futures::stream::iter(&cells)
            .map(|cell| verdict(&host, cell, &names))
            .buffer_unordered(AT_ONCE)
            .filter_map(|wrong| futures::future::ready(wrong.transpose()))
            .collect::<Vec<Result<String>>>()
            .await
            .into_iter()
            .collect::<Result<Vec<String>>>()?;
        anyhow::Ok((cells, wrong))
    })?;
    let open = cells.iter().filter(|cell| permitted(cell, &names)).count();
    ensure!(cells.len() >= LEAST, "only {} cells", cells.len());
    // Every line of the table is one that the host needs, so each was met.
    ensure!(open >= 15, "only {open} permitted cells were tried");
    for task in names.tasks.values() {
        user.k(&["delete", "tasks.tallyman.dev", task, "--timeout=60s"])?;
    }
    for other in &names.others[..1] {
        user.k(&[
            "delete",
            "containerinstances.tallyman.dev",
            other,
            "--timeout=60s",
        ])?;
    }
    Ok(Tried {
        cells: cells.len(),
        open,
        wrong,
    })
}

/// Makes a host whose name begins like the first one's, and a Task on each of the two and on a third.
fn prepare(user: &User<'_>) -> Result<Names> {
    let host = user.lab.host(0).name().to_owned();
    let near = format!("{host}-b");
    let other = user.lab.host(1).name().to_owned();
    user.apply(&[
        json!({ "kind": "ContainerInstance", "metadata": { "name": near }, "spec": {} }),
    ])?;
    let identity = host_identity(&near);
    wait_until("the identity of the host of a like name", PATIENCE, || {
        user.k(&["get", "secret", &identity])?;
        Ok(true)
    })?;
    let mut tasks = BTreeMap::new();
    for on in [&host, &near, &other] {
        let name = format!("rogue-{on}");
        // Of nothing that exists: they never run.
        user.apply(&[json!({
            "kind": "Task", "metadata": { "name": name },
            "spec": { "taskDefinition": "rogue:1", "containerInstance": on },
        })])?;
        tasks.insert(on.clone(), name);
    }
    Ok(Names {
        namespace: user.namespace().to_owned(),
        host,
        others: vec![near, other],
        tasks,
    })
}

async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(client.request(request).await?)
}

/// Every resource and subresource that the API server serves, in its preferred versions.
async fn discovered(admin: &Client) -> Result<Vec<Resource>> {
    let groups = get(admin, "/apis").await?;
    let groups = groups["groups"].as_array().context("no groups")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut versions = vec![(String::new(), "v1".to_owned(), "/api/v1".to_owned())];
    for group in groups {
        let version = text(&group["preferredVersion"]["version"]);
        let name = text(&group["name"]);
        let path = format!("/apis/{name}/{version}");
        versions.push((name, version, path));
    }
    let mut found = Vec::new();
    for (group, version, path) in versions {
        let list = get(admin, &path).await?;
        for resource in list["resources"].as_array().context("no resources")? {
            found.push(Resource {
                group: group.clone(),
                version: version.clone(),
                name: text(&resource["name"]),
                kind: text(&resource["kind"]),
                namespaced: resource["namespaced"] == true,
            });
        }
    }
    Ok(found)
}

fn cells(resources: &[Resource], names: &Names) -> Vec<Cell> {
    let hosts = std::iter::once(&names.host).chain(&names.others);
    let of_hosts: Vec<String> = hosts
        .flat_map(|host| [host.clone(), host_identity(host)])
        .collect();
    let mut cells = Vec::new();
    for resource in resources {
        let places = match resource.namespaced {
            true => vec![Some(names.namespace.clone()), Some(ELSEWHERE.to_owned())],
            false => vec![None],
        };
        let of_tasks = resource.name == "tasks" || resource.name.starts_with("tasks/");
        let objects: Vec<String> = match of_tasks {
            true => names.tasks.values().cloned().collect(),
            false => of_hosts.clone(),
        };
        for namespace in places {
            let mut cell = |verb, name: Option<&String>| {
                cells.push(Cell {
                    verb,
                    resource: resource.clone(),
                    namespace: namespace.clone(),
                    name: name.cloned(),
                });
            };
            let below = resource.name.contains('/');
            if !below {
                for verb in ["list", "watch", "create", "deletecollection"] {
                    cell(verb, None);
                }
            }
            for name in &objects {
                let verbs: &[&str] = match below {
                    true => &["get", "create", "update", "patch", "delete"],
                    false => &[
                        "get",
                        "update",
                        "patch",
                        "delete",
                        "list by name",
                        "watch by name",
                    ],
                };
                for verb in verbs {
                    cell(verb, Some(name));
                }
                if resource.name == "serviceaccounts/token" {
                    cell("create bound", Some(name));
                    cell("create bound to another", Some(name));
                    cell("create bound, for long", Some(name));
                }
            }
        }
    }
    cells
}

/// What is wrong with the answer to a cell, if anything.
async fn verdict(host: &Client, cell: &Cell, names: &Names) -> Result<Option<String>> {
    let request = request(cell, names)?;
    // Of a watch the first line is the answer, and it may never come.
    let answer = host.send(request.map(kube::client::Body::from)).await;
    let answer = answer.with_context(|| cell.to_string())?;
    let code = answer.status().as_u16();
    let right = match permitted(cell, names) {
        true => (200..300).contains(&code),
        false => code == 403,
    };
    Ok((!right).then(|| format!("{cell}: {code}")))
}

fn request(cell: &Cell, names: &Names) -> Result<http::Request<Vec<u8>>> {
    let Cell {
        verb,
        resource,
        namespace,
        name,
    } = cell;
    let Resource {
        group,
        version,
        name: plural,
        kind,
        ..
    } = resource;
    let mut path = match group.as_str() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    if let Some(namespace) = namespace {
        path = format!("{path}/namespaces/{namespace}");
    }
    let (plural, below) = plural.split_once('/').unwrap_or((plural, ""));
    path = format!("{path}/{plural}");
    let object = name.as_deref().unwrap_or("rogue");
    let by_name = format!("fieldSelector=metadata.name%3D{object}");
    let dry = "dryRun=All";
    let (method, query) = match *verb {
        "list" => ("GET", "limit=1".to_owned()),
        "watch" => ("GET", "watch=1&timeoutSeconds=1".to_owned()),
        "list by name" => ("GET", by_name),
        "watch by name" => ("GET", format!("watch=1&timeoutSeconds=1&{by_name}")),
        "get" => ("GET", String::new()),
        "update" => ("PUT", dry.to_owned()),
        "patch" => ("PATCH", dry.to_owned()),
        "delete" | "deletecollection" => ("DELETE", dry.to_owned()),
        _ => ("POST", dry.to_owned()),
    };
    if name.is_some() && !verb.ends_with("by name") {
        path = format!("{path}/{object}");
    }
    if !below.is_empty() {
        path = format!("{path}/{below}");
    }
    let api_version = match group.as_str() {
        "" => version.clone(),
        group => format!("{group}/{version}"),
    };
    let mut body = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": object, "namespace": namespace },
    });
    if kind.starts_with("SelfSubject") {
        body["metadata"] = json!({});
        body["spec"] = json!({ "namespace": names.namespace, "nonResourceAttributes": { "path": "/", "verb": "get" } });
        if kind == "SelfSubjectRulesReview" {
            body["spec"] = json!({ "namespace": names.namespace });
        }
    }
    if plural == "serviceaccounts" && below == "token" {
        let bound = match *verb {
            "create bound" | "create bound, for long" => Some(object.to_owned()),
            "create bound to another" => Some(host_identity(&names.others[1])),
            _ => None,
        };
        let life = match *verb {
            "create bound, for long" => HOST_TOKEN_SECONDS + 1,
            _ => 600,
        };
        body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "expirationSeconds": life,
            "boundObjectRef": bound.map(|name| json!({ "kind": "Secret", "apiVersion": "v1", "name": name })),
        }});
    }
    if *verb == "patch" {
        body = match (plural, below) {
            ("tasks", "status") => json!({ "status": { "healthStatus": "UNKNOWN" } }),
            _ => json!({ "metadata": { "annotations": null } }),
        };
    }
    let body = match method {
        "GET" => Vec::new(),
        "DELETE" => json!({ "apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"] })
            .to_string()
            .into_bytes(),
        _ => body.to_string().into_bytes(),
    };
    let content = match *verb {
        "patch" => "application/merge-patch+json",
        _ => "application/json",
    };
    let path = match query.is_empty() {
        true => path,
        false => format!("{path}?{query}"),
    };
    Ok(http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content)
        .body(body)?)
}
