//! Thousands of objects of every kind that are wrong in some place, against the real API server and the operator: each is refused
//! with a sentence that names the field, or stored and judged by the operator, while a service beside them keeps its pace.
//!
//! Kinds and fields come from the definitions (`tallyman_fuzz::objects`), the choices from a seed. `TALLYMAN_BAD_INPUTS` says how many.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use regex::Regex;
use serde_json::{Value, json};
use tallyman_crds::schema::Crd;
use tallyman_fuzz::Dice;
use tallyman_fuzz::objects::{self, CRDS, Setting};
use tallyman_lab::{paths, wait_until_async};

use crate::suite::Scenario;
use crate::user::{User, condition, hello, service, watched};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "bad input of every kind is refused or judged in a sentence, and a service beside it keeps its pace",
    run,
}];

/// Objects that are generated unless `TALLYMAN_BAD_INPUTS` says another number.
const USUAL: usize = 594;
/// Objects that are there at once.
const BATCH: usize = 297;
const AT_ONCE: usize = 16;
const SEED: u64 = 20_261_129;
/// Within this every object that is stored is judged, and every one that is deleted is gone.
const BOUND: Duration = Duration::from_secs(60);
/// Within this the service beside them has done a turn: it was scaled, or rolled, and is steady again.
const TURN: Duration = Duration::from_secs(30);
/// A line of the log that comes more often than this is a loop.
const MOST_LINES: usize = 30;
/// Kinds that no role of users may write.
const OPERATORS_OWN: [&str; 2] = ["HostPlan", "TaskDefinitionRevision"];
const CANARY: &str = "canary";
const PREFIX: &str = "bad";
/// Whoever writes the objects, with the roles that the chart gives users.
const WRITER: &str = "bad-input";
const BASE: &str = "/apis/tallyman.dev/v1alpha1/namespaces";

/// An object that was stored.
#[derive(Clone, Debug)]
struct Stored {
    crd: usize,
    name: String,
    uid: String,
    generation: i64,
}

/// What became of all.
#[derive(Debug, Default)]
struct Figures {
    refused: usize,
    stored: usize,
    /// Stored objects by kind and by what their Ready condition says.
    judged: BTreeMap<(String, String), usize>,
    /// What is wrong.
    wrong: Vec<String>,
}

fn run(user: &User<'_>) -> Result<()> {
    let count = match std::env::var("TALLYMAN_BAD_INPUTS") {
        Ok(text) => text.parse().context("TALLYMAN_BAD_INPUTS is a number")?,
        Err(_) => USUAL,
    };
    let before = processes(user);
    let log = std::fs::metadata(user.lab.operator().log_path())?.len();
    let bindings = allow(user)?;
    user.apply(&[hello(CANARY, "0"), service(CANARY, 1)])?;
    user.wait_steady(CANARY, 1)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let kubeconfig = user.kubectl().kubeconfig().to_owned();
    let mut figures = Figures::default();
    let started = Instant::now();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let next = || turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let turns = watched(
        || canary_turn(user, next()),
        || {
            runtime.block_on(async {
                let hands = Hands {
                    admin: client(&kubeconfig, None).await?,
                    writer: client(&kubeconfig, Some(WRITER)).await?,
                    namespace: user.namespace(),
                };
                hands.all(user, count, &mut figures).await
            })
        },
    )?;
    let longest = turns.iter().max().copied().unwrap_or_default();
    println!(
        "    {count} objects in {:.1} s: {} refused, {} stored; the service beside them did {} turns, the longest in {:.1} s",
        started.elapsed().as_secs_f64(),
        figures.refused,
        figures.stored,
        turns.len(),
        longest.as_secs_f64(),
    );
    for ((kind, says), n) in &figures.judged {
        println!("    {kind}: {says}: {n}");
    }
    user.delete(&[CANARY])?;
    for binding in bindings {
        user.k(&["delete", "rolebinding", &binding])?;
    }
    figures
        .wrong
        .extend(looped(user.lab.operator().log_path(), log)?);
    let wrong = &figures.wrong;
    ensure!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(60)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    ensure!(
        longest <= TURN,
        "a turn of the service took {:.1} s",
        longest.as_secs_f64()
    );
    ensure!(
        figures.refused > count / 10 && figures.stored > count / 10,
        "what was generated is too good or too bad to show anything"
    );
    ensure!(before == processes(user), "a process is another one now");
    Ok(())
}

/// Processes of the product: operator and agents.
fn processes(user: &User<'_>) -> Vec<Option<u32>> {
    let agents = user.lab.hosts().iter().map(|host| host.agent().pid());
    std::iter::once(user.lab.operator().pid())
        .chain(agents)
        .collect()
}

/// Gives the writer the roles that the chart has for users.
fn allow(user: &User<'_>) -> Result<Vec<String>> {
    let file = paths::source_root()?.join("deploy/install/operator.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let roles = ["tallyman-edit", "tallyman-admin"];
    let is_role = |part: &&str| {
        let names = |role: &&str| part.contains(&format!("\n  name: {role}\n"));
        part.contains("\nkind: ClusterRole\n") && roles.iter().any(names)
    };
    let parts: Vec<&str> = text.split("\n---\n").filter(is_role).collect();
    ensure!(
        parts.len() == roles.len(),
        "{} has no roles for users",
        file.display()
    );
    user.kubectl().apply(&parts.join("\n---\n"))?;
    let mut bindings = Vec::new();
    for role in roles {
        let binding = format!("bad-input-{role}");
        user.k(&[
            "create",
            "rolebinding",
            &binding,
            &format!("--clusterrole={role}"),
            &format!("--user={WRITER}"),
        ])?;
        bindings.push(binding);
    }
    Ok(bindings)
}

/// Scales the service up, down, or rolls it, and waits until it is steady: how long that took.
fn canary_turn(user: &User<'_>, turn: usize) -> Result<Duration> {
    let started = Instant::now();
    let target = format!("services.tallyman.dev/{CANARY}");
    let wanted = match turn % 3 {
        0 => 3,
        _ => 1,
    };
    match turn % 3 {
        2 => {
            user.apply(&[hello(CANARY, &turn.to_string())])?;
        }
        _ => {
            user.k(&["scale", &target, &format!("--replicas={wanted}")])?;
        }
    }
    user.wait_steady(CANARY, wanted)?;
    Ok(started.elapsed())
}

/// Lines of warnings and errors that came again and again, and panics, in what was logged since.
fn looped(log: &Path, since: u64) -> Result<Vec<String>> {
    let bytes = std::fs::read(log)?;
    let since = usize::try_from(since)?.min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[since..]);
    let text = Regex::new("\u{1b}\\[[0-9;]*m")?.replace_all(&text, "");
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        if line.contains("panicked at") {
            wrong.push(format!("operator: {line}"));
        }
        let without_time = line.split_once(' ').map_or(line, |(_, rest)| rest).trim();
        if without_time.starts_with("WARN") || without_time.starts_with("ERROR") {
            *found.entry(without_time).or_default() += 1;
        }
    }
    let often = found.into_iter().filter(|(_, n)| *n > MOST_LINES);
    wrong.extend(often.map(|(line, n)| format!("operator, {n} times: {line}")));
    Ok(wrong)
}

async fn client(kubeconfig: &Path, impersonate: Option<&str>) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = impersonate.map(str::to_owned);
    Ok(Client::try_from(config)?)
}

/// How the API server is asked.
struct Hands<'a> {
    admin: Client,
    writer: Client,
    namespace: &'a str,
}

impl Hands<'_> {
    async fn all(&self, user: &User<'_>, count: usize, figures: &mut Figures) -> Result<()> {
        let there = self.names().await?;
        let setting = Setting {
            prefix: PREFIX.to_owned(),
            victim: CANARY.to_owned(),
            host: user.lab.host(0).name().to_owned(),
        };
        for first in (0..count).step_by(BATCH) {
            let numbers: Vec<usize> = (first..count.min(first + BATCH)).collect();
            let stored = self.create(&setting, &numbers, figures).await;
            figures.stored += stored.len();
            self.judged(&stored, figures).await?;
            let changed = self.change(&setting, &stored, figures).await;
            self.judged(&changed, figures).await?;
            self.delete(&stored, &there, figures).await?;
        }
        Ok(())
    }

    /// Creates objects, a few at a time: those that are stored.
    async fn create(
        &self,
        setting: &Setting,
        numbers: &[usize],
        figures: &mut Figures,
    ) -> Vec<Stored> {
        let answers: Vec<_> = futures::stream::iter(numbers)
            .map(|number| async move {
                let dice = &mut Dice::seeded(SEED.wrapping_add(*number as u64));
                let (crd, object) = objects::object(setting, *number, dice);
                // kubectl asks for strict validation, other clients do not.
                let validation = if dice.chance(50) { "Strict" } else { "Ignore" };
                let path = format!("{}?fieldValidation={validation}", self.path(crd, None));
                let answer = self.send(&self.writer, "POST", &path, Some(&object)).await;
                (*number % CRDS.len(), object, answer)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        answers
            .into_iter()
            .filter_map(|(crd, object, answer)| figures.take(crd, &object, answer))
            .collect()
    }

    /// Writes another spec over every third: those whose change was stored.
    async fn change(
        &self,
        setting: &Setting,
        stored: &[Stored],
        figures: &mut Figures,
    ) -> Vec<Stored> {
        let chosen = stored.iter().enumerate().filter(|(n, _)| n % 3 == 0);
        let answers: Vec<_> = futures::stream::iter(chosen)
            .map(|(n, object)| async move {
                let dice = &mut Dice::seeded(SEED ^ (n as u64) ^ object.generation as u64);
                let number = object.crd + CRDS.len() * n;
                let (crd, new) = objects::object(setting, number, dice);
                let body = json!({ "spec": new["spec"] });
                let path = self.path(crd, Some(&object.name));
                let answer = self.send(&self.writer, "PATCH", &path, Some(&body)).await;
                (object.crd, body, answer)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        answers
            .into_iter()
            .filter_map(|(crd, object, answer)| figures.take(crd, &object, answer))
            .collect()
    }

    /// Waits until the operator has judged every one of `stored`, or it is gone.
    async fn judged(&self, stored: &[Stored], figures: &mut Figures) -> Result<()> {
        let mut open: Vec<&Stored> = stored.iter().collect();
        let judged = wait_until_async("every object to be judged", BOUND, async || {
            let there = self.objects().await?;
            open.retain(|s| {
                let crd = &CRDS[s.crd];
                let verdict = match there.get(&s.uid) {
                    None => Some("gone".to_owned()),
                    Some(_) if !objects::has_status(crd) => Some("has no status".to_owned()),
                    Some(object) => verdict(object, s.generation),
                };
                let Some(verdict) = verdict else { return true };
                *figures
                    .judged
                    .entry((crd.kind.clone(), verdict))
                    .or_default() += 1;
                false
            });
            let names: Vec<String> = open
                .iter()
                .take(20)
                .map(|s| {
                    let object = there.get(&s.uid).cloned().unwrap_or_default();
                    format!(
                        "{} {}\n  {}\n  {}",
                        CRDS[s.crd].kind, s.name, object["spec"], object["status"]
                    )
                })
                .collect();
            ensure!(
                open.is_empty(),
                "{} are open:\n{}",
                open.len(),
                names.join("\n")
            );
            Ok(true)
        });
        if let Err(error) = judged.await {
            figures.wrong.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// Deletes what was stored, and waits until it and all that came of it are gone.
    async fn delete(
        &self,
        stored: &[Stored],
        there: &BTreeSet<String>,
        figures: &mut Figures,
    ) -> Result<()> {
        // Clusters that the operator made because something named them.
        let made = self.objects().await?;
        let made = made.iter().filter(|(_, object)| {
            object["kind"] == "Cluster" && !there.contains(&full_name(object))
        });
        let made = made.map(|(uid, object)| Stored {
            crd: CRDS.iter().position(|c| c.kind == "Cluster").unwrap_or(0),
            name: object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            uid: uid.clone(),
            generation: 0,
        });
        let all: Vec<Stored> = stored.iter().cloned().chain(made).collect();
        let asked: Vec<_> = futures::stream::iter(&all)
            .map(|s| async move {
                let body = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": s.uid } });
                let path = self.path(&CRDS[s.crd], Some(&s.name));
                self.send(&self.admin, "DELETE", &path, Some(&body)).await
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for answer in asked {
            match answer {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let uids: BTreeSet<&String> = all.iter().map(|s| &s.uid).collect();
        let gone = wait_until_async("every object to be gone", BOUND, async || {
            let objects = self.objects().await?;
            let left: Vec<String> = objects
                .iter()
                .filter(|(uid, object)| {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    let known = there.contains(&full_name(object)) || name.starts_with(CANARY);
                    uids.contains(uid) || !known
                })
                .map(|(_, object)| {
                    format!("{} {}", full_name(object), object["metadata"]["finalizers"])
                })
                .collect();
            ensure!(
                left.is_empty(),
                "{} are left: {:?}",
                left.len(),
                &left[..left.len().min(20)]
            );
            Ok(true)
        });
        if let Err(error) = gone.await {
            figures.wrong.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// Kind and name of everything.
    async fn names(&self) -> Result<BTreeSet<String>> {
        Ok(self.objects().await?.values().map(full_name).collect())
    }

    /// Every object of every kind, by uid.
    async fn objects(&self) -> Result<BTreeMap<String, Value>> {
        let mut found = BTreeMap::new();
        for crd in CRDS.iter() {
            let path = format!("{}?resourceVersion=0", self.path(crd, None));
            let list = self.send(&self.admin, "GET", &path, None).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                let mut item = item.clone();
                item["kind"] = crd.kind.as_str().into();
                let uid = item["metadata"]["uid"].as_str().unwrap_or_default();
                found.insert(uid.to_owned(), item);
            }
        }
        Ok(found)
    }

    fn path(&self, crd: &Crd, name: Option<&str>) -> String {
        let plural = crd.json["spec"]["names"]["plural"].as_str();
        let path = format!("{BASE}/{}/{}", self.namespace, plural.unwrap_or_default());
        match name {
            None => path,
            Some(name) => format!("{path}/{name}"),
        }
    }

    async fn send(
        &self,
        client: &Client,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, kube::Error> {
        let content = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = body.map(|b| b.to_string().into_bytes());
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body.unwrap_or_default())
            .map_err(kube::Error::HttpError)?;
        client.request(request).await
    }
}

impl Figures {
    /// Counts an answer: the object, if it was stored.
    fn take(
        &mut self,
        crd: usize,
        sent: &Value,
        answer: Result<Value, kube::Error>,
    ) -> Option<Stored> {
        let shown: String = sent.to_string().chars().take(600).collect();
        let kind = &CRDS[crd].kind;
        match answer {
            Ok(object) => {
                let metadata = &object["metadata"];
                Some(Stored {
                    crd,
                    name: metadata["name"].as_str().unwrap_or_default().to_owned(),
                    uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
                    generation: metadata["generation"].as_i64().unwrap_or_default(),
                })
            }
            Err(kube::Error::Api(status)) => {
                self.refused += 1;
                let for_users = !OPERATORS_OWN.contains(&kind.as_str());
                let is_right = match for_users {
                    true => names_the_field(&status),
                    false => status.code == 403 && status.message.contains("cannot create"),
                };
                if !is_right {
                    self.wrong.push(format!(
                        "{kind}: {} {}\n  {shown}",
                        status.code, status.message
                    ));
                }
                None
            }
            Err(error) => {
                self.wrong.push(format!("{kind}: {error}\n  {shown}"));
                None
            }
        }
    }
}

/// A refusal that a person can act on.
fn names_the_field(status: &kube::core::Status) -> bool {
    let text = &status.message;
    let clear = !["internal error", "evaluation error", "no such", "panic"]
        .iter()
        .any(|word| text.contains(word));
    let causes = status.details.as_ref().map(|d| &d.causes);
    let named =
        causes.is_some_and(|all| !all.is_empty() && all.iter().all(|c| !c.field.is_empty()));
    let told = [
        "spec",
        "metadata",
        "ObjectMeta.",
        "API version",
        "unknown field \"",
        "kind",
        "name",
        "resourceVersion",
    ]
    .iter()
    .any(|word| text.contains(word));
    // That it must be absent the API server says as though it were to blame.
    let code = status.code;
    let refused = [400, 409, 422].contains(&code) || text.starts_with("resourceVersion ");
    // What was to be changed may have gone by itself: its owner is not there.
    code == 404 || (refused && clear && (named || told))
}

/// What the operator says of an object of `generation`, once it has.
fn verdict(object: &Value, generation: i64) -> Option<String> {
    let seen = object["status"]["observedGeneration"].as_i64()?;
    let (status, reason, message) = condition(object, "Ready");
    // Of a Task that somebody stopped the message is that person's.
    let said = !status.is_empty() && !reason.is_empty() && !message.is_empty();
    (seen >= generation && said).then(|| format!("Ready={status} {reason}"))
}

fn full_name(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    format!("{} {name}", object["kind"].as_str().unwrap_or_default())
}
