//! What may be wrong with an installation, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use tallyman_crds::conditions::STALLED;
use tallyman_crds::{Condition, ContainerInstance, schema};
use tallyman_operator_core::Objects;

use crate::standing::holds;
use crate::table::{Paint, Tone};
use crate::words::{self, count, list, name, span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Nothing stands still for it.
    Warning,
    /// Something does not work.
    Wrong,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What there is.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding {
            level: Level::Ok,
            what: what.into(),
            advice: None,
        }
    }

    /// Something should be looked at.
    pub fn warning(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            level: Level::Warning,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }

    /// Something does not work.
    pub fn wrong(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            level: Level::Wrong,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Findings for people.
pub fn text(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for f in findings {
        let (word, tone) = match f.level {
            Level::Ok => ("ok", Tone::Good),
            Level::Warning => ("warning", Tone::Moving),
            Level::Wrong => ("wrong", Tone::Bad),
        };
        let pad = " ".repeat(10 - word.len());
        text.push_str(&format!("{}{pad}{}\n", paint.paint(word, tone), f.what));
        if let Some(advice) = &f.advice {
            text.push_str(&format!("          -> {advice}\n"));
        }
    }
    text
}

const APPLY_CRDS: &str = "kubectl apply --server-side -f crds/generated/";

/// The resource definitions as they are installed, by name, against those of this version.
pub fn definitions(installed: &BTreeMap<String, Value>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut good = 0;
    for crd in schema::crds() {
        let full = crd.json["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let Some(found) = installed.get(&full) else {
            findings.push(Finding::wrong(
                format!("resource definition {full} is missing"),
                APPLY_CRDS,
            ));
            continue;
        };
        let conditions = found["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if !conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
        {
            findings.push(Finding::wrong(
                format!("resource definition {full} is not established"),
                format!("kubectl describe crd {full} says why"),
            ));
            continue;
        }
        let (ours, theirs) = (fields(&crd.json), fields(found));
        let missing: Vec<&String> = ours.difference(&theirs).collect();
        let surplus: Vec<&String> = theirs.difference(&ours).collect();
        match (missing.first(), surplus.first()) {
            (None, None) => good += 1,
            (Some(first), _) => findings.push(Finding::wrong(
                format!(
                    "resource definition {full} is of another version: it lacks {}, such as `{first}`",
                    count(missing.len(), "field")
                ),
                APPLY_CRDS,
            )),
            (None, Some(first)) => findings.push(Finding::warning(
                format!(
                    "resource definition {full} is newer than this program: it has {} more, such as `{first}`",
                    count(surplus.len(), "field")
                ),
                "use the kubectl-tally of the version that is installed",
            )),
        }
    }
    if good > 0 {
        findings.insert(
            0,
            Finding::ok(format!(
                "{} of this version",
                count(good, "resource definition")
            )),
        );
    }
    findings
}

/// Paths of all fields of a definition.
fn fields(crd: &Value) -> BTreeSet<String> {
    fn walk(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        for (field, below) in schema["properties"].as_object().into_iter().flatten() {
            let path = if at.is_empty() {
                field.clone()
            } else {
                format!("{at}.{field}")
            };
            walk(below, &path, found);
            found.insert(path);
        }
        for part in ["items", "additionalProperties"] {
            if schema[part].is_object() {
                walk(&schema[part], &format!("{at}[]"), found);
            }
        }
    }
    let mut found = BTreeSet::new();
    for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
        if version["name"] == tallyman_crds::VERSION {
            walk(&version["schema"]["openAPIV3Schema"], "", &mut found);
        }
    }
    found
}

/// The Lease by which an operator leads.
pub fn operator(lease: Option<&Lease>, namespace: &str, now: Timestamp) -> Finding {
    let start = "start tallyman-operator (README, \"Install on a cluster\"), and look at its log if it runs";
    let spec = lease.and_then(|l| l.spec.as_ref());
    let Some(spec) = spec else {
        return Finding::wrong(
            format!("no operator ever led: there is no Lease {namespace}/tallyman-operator"),
            start,
        );
    };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() {
        return Finding::wrong("no operator leads: the last one gave the lead back", start);
    }
    let duration = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(15)));
    let silent = spec.renew_time.as_ref().map(|t| now.duration_since(t.0));
    match silent {
        Some(silent) if silent <= duration * 2 => Finding::ok(format!("operator {holder} leads")),
        Some(silent) => Finding::wrong(
            format!(
                "operator {holder} has been silent for {}",
                span(silent.as_secs())
            ),
            start,
        ),
        None => Finding::wrong(format!("operator {holder} never renewed its Lease"), start),
    }
}

/// Hosts, and whether they take tasks.
pub fn hosts(instances: &[&ContainerInstance], version: &str) -> Vec<Finding> {
    if instances.is_empty() {
        return vec![Finding::warning(
            "there is no host in this namespace",
            "`kubectl tally join NAME` lets one join (docs/install.md, \"A host\")",
        )];
    }
    let mut findings = Vec::new();
    let mut good = 0;
    for i in instances {
        let host = name(&i.metadata);
        let Some(status) = i.status.as_ref().filter(|s| s.host.is_some()) else {
            findings.push(Finding::wrong(
                format!("host {host} has never registered"),
                format!("start tallyman-agent --name {host} on it; its log says what keeps it from registering"),
            ));
            continue;
        };
        let report = status.host.clone().unwrap_or_default();
        let said = report
            .message
            .as_deref()
            .map(|m| format!(": {m}"))
            .unwrap_or_default();
        if !status.agent_connected {
            findings.push(Finding::wrong(
                format!("host {host} is not connected: its agent was not heard of lately"),
                format!("on {host}: is it up, does `systemctl status tallyman-agent` show it running, does it reach the API server"),
            ));
        } else if !report.engine_reachable {
            findings.push(Finding::wrong(
                format!("host {host} does not reach its engine{said}"),
                format!("on {host}: `docker info`, `systemctl status docker`"),
            ));
        } else if let Some(impairment) = report.impairment {
            let advice = match impairment {
                tallyman_crds::Impairment::DiskFull => {
                    "make room on the disk of its engine (`docker system df`)"
                }
                tallyman_crds::Impairment::EngineFails => {
                    "look at its engine's log; the agent tries it again by itself"
                }
            };
            findings.push(Finding::wrong(
                format!("host {host} takes no tasks{said}"),
                advice,
            ));
        } else if report.agent_version != version {
            findings.push(Finding::warning(
                format!(
                    "host {host} has agent {}, this program is {version}",
                    report.agent_version
                ),
                "bring agents, operator and this program to one version",
            ));
        } else {
            good += 1;
        }
        if status.status == tallyman_crds::InstanceStatus::Draining {
            findings.push(Finding::warning(
                format!("host {host} is draining"),
                format!("kubectl tally undrain {host}, once it is to take tasks again"),
            ));
        }
    }
    if good > 0 {
        findings.insert(
            0,
            Finding::ok(format!(
                "{} connected, with their engines",
                count(good, "host")
            )),
        );
    }
    findings
}

/// Something that somebody must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Verb.
    pub verb: &'static str,
    /// Resource of our group.
    pub resource: &'static str,
    /// The commands that need it.
    pub needed_for: &'static str,
}

/// What the commands of this program need.
pub const PERMISSIONS: &[Permission] = &[
    Permission {
        verb: "list",
        resource: "services",
        needed_for: "get, status, plan, explain",
    },
    Permission {
        verb: "list",
        resource: "tasks",
        needed_for: "get, plan, explain",
    },
    Permission {
        verb: "list",
        resource: "taskdefinitionrevisions",
        needed_for: "history, undo, plan",
    },
    Permission {
        verb: "list",
        resource: "containerinstances",
        needed_for: "plan, explain, top, instances",
    },
    Permission {
        verb: "patch",
        resource: "services",
        needed_for: "plan, undo, restart",
    },
    Permission {
        verb: "create",
        resource: "runtasks",
        needed_for: "run",
    },
    Permission {
        verb: "patch",
        resource: "tasks",
        needed_for: "stop",
    },
    Permission {
        verb: "patch",
        resource: "containerinstances",
        needed_for: "drain, undrain",
    },
];

/// What whoever asks may not do.
pub fn permissions(refused: &[&Permission], namespace: &str) -> Vec<Finding> {
    if refused.is_empty() {
        return vec![Finding::ok(format!(
            "you may do all that this program does in namespace {namespace}"
        ))];
    }
    let each = refused.iter().map(|p| {
        Finding::warning(
            format!(
                "you may not {} {}.{} in namespace {namespace} (for {})",
                p.verb,
                p.resource,
                tallyman_crds::GROUP,
                p.needed_for
            ),
            "ask for a Role with it, if you need these commands",
        )
    });
    each.collect()
}

/// Objects that will not mend themselves.
pub fn stalled(objects: &Objects) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |kind: &str, meta: &ObjectMeta, conditions: &[Condition]| {
        if let Some(c) = holds(conditions, STALLED) {
            findings.push(Finding::wrong(
                format!(
                    "{kind} {} is Stalled ({}): {}",
                    name(meta),
                    c.reason,
                    c.message
                ),
                format!(
                    "change the {kind}; `kubectl describe {kind}.{} {}` has more",
                    tallyman_crds::GROUP,
                    name(meta)
                ),
            ));
        }
    };
    macro_rules! each {
        ($kind:literal, $list:expr) => {
            for o in $list {
                look(
                    $kind,
                    &o.metadata,
                    o.status.as_ref().map_or(&[][..], |s| &s.conditions),
                );
            }
        };
    }
    each!("taskdefinition", &objects.task_definitions);
    each!("service", &objects.services);
    each!("taskset", &objects.task_sets);
    // A run that has ended has failed, and nobody waits for it.
    let ended = |r: &&Arc<tallyman_crds::RunTask>| {
        r.status
            .as_ref()
            .is_some_and(|s| s.completion_time.is_some())
    };
    each!("runtask", objects.run_tasks.iter().filter(|r| !ended(r)));
    each!("containerinstance", &objects.instances);
    if findings.is_empty() {
        findings.push(Finding::ok("no object is Stalled"));
    }
    findings
}

/// Objects that cannot be read.
pub fn unreadable(objects: &Objects) -> Vec<Finding> {
    let each = objects.unreadable.iter().map(|object| {
        let kind = object.kind.as_str();
        Finding::wrong(
            words::unreadable(kind, &object.unread),
            format!(
                "put the field right, or delete the object; `kubectl describe {}.{} {}` says what waits for it",
                kind.to_lowercase(),
                tallyman_crds::GROUP,
                name(&object.unread.metadata)
            ),
        )
    });
    each.collect()
}

/// The version of the API server.
pub fn server(minor: Option<u32>, text: &str, address: &str) -> Finding {
    match minor {
        Some(33..=37) | None => {
            Finding::ok(format!("API server {address} answers: Kubernetes {text}"))
        }
        Some(_) => Finding::warning(
            format!("API server {address} is Kubernetes {text}"),
            "Tallyman is tested with Kubernetes 1.33 to 1.37",
        ),
    }
}

/// One line that says it all.
pub fn summary(findings: &[Finding]) -> String {
    let n = |level: Level| findings.iter().filter(|f| f.level == level).count();
    let (wrong, warnings) = (n(Level::Wrong), n(Level::Warning));
    let mut parts = Vec::new();
    if wrong > 0 {
        parts.push(count(wrong, "thing") + " wrong");
    }
    if warnings > 0 {
        parts.push(count(warnings, "warning"));
    }
    if parts.is_empty() {
        "Nothing is wrong.".to_owned()
    } else {
        format!("{}.", list(&parts))
    }
}
