//! Who may join, as what, and why not.
//!
//! A join is decided on alone: nothing of it depends on other services, tasks or hosts, so it is no part of a pass. The shell
//! reads what [`Seen`] holds live, asks, carries the one [`Step`] out with the versions that were read, and asks again. Each
//! step can be repeated, so that an operator that dies in between leaves nothing half done.
//!
//! The rules, in order; the first that applies is the answer: joined; out of time; nobody asked; no key; another name than
//! the join's; the name is leaving, or taken; not accepted. What is left is admitted.
//!
//! Never: a token or a private key comes here, and nothing is sealed here.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tallyman_crds::conditions::{self, READY};
use tallyman_crds::{
    Acceptance, ConditionStatus, ContainerInstance, ContainerInstanceSpec, HostJoin,
    HostJoinStatus, labels, names,
};

use crate::status::{Standing, statements};

/// For how long the sealed token of a host that has joined stays, should the host have to read it again.
pub const SEALED_STAYS: SignedDuration = SignedDuration::from_mins(10);

/// How long to wait for the identity of a host that is being made.
const SOON: SignedDuration = SignedDuration::from_millis(300);

/// How long to wait before looking at a name again that the host cannot have.
const LATER: SignedDuration = SignedDuration::from_secs(5);

/// Default of `expiresAfterSeconds`.
const EXPIRES_AFTER: i32 = 3600;

/// What is read for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The join.
    pub join: &'a HostJoin,
    /// Fingerprint of the key in its request; `None` when that is no key.
    pub key: Option<&'a str>,
    /// The ContainerInstance of the name that is asked for, read live.
    pub instance: Option<&'a ContainerInstance>,
    /// Metadata of that host's Secret, read live.
    pub secret: Option<&'a ObjectMeta>,
    /// Metadata of its HostPlan, read live. It is made last: where it is, the whole identity was made once.
    pub plan: Option<&'a ObjectMeta>,
}

impl<'a> Seen<'a> {
    /// The Secret, unless it is that of a namesake which was deregistered and goes with it.
    fn own_secret(&self) -> Option<&'a ObjectMeta> {
        self.secret.filter(|secret| self.owns(secret))
    }

    fn prepared(&self) -> bool {
        self.plan.is_some_and(|plan| self.owns(plan))
    }

    fn owns(&self, object: &ObjectMeta) -> bool {
        let uid = self.instance.and_then(|i| i.metadata.uid.as_ref());
        let mut owners = object.owner_references.iter().flatten();
        uid.is_some_and(|uid| owners.any(|owner| owner.uid == *uid))
    }
}

/// What is to be done next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Make the ServiceAccount, Role and RoleBinding of the join. Its token lets a host ask.
    Open,
    /// Make the ContainerInstance.
    Register(Box<ContainerInstance>),
    /// Make the Secret of the host anew, with the public key of the request: it was deleted, which locked the host out.
    Restore {
        /// The host.
        container_instance: String,
    },
    /// Write the public key of the request onto the host's Secret.
    Bind {
        /// The host.
        container_instance: String,
    },
    /// Take a token for the host, seal it to the key of the request, and put it into the status.
    Answer {
        /// The host.
        container_instance: String,
    },
    /// Take the sealed token away.
    Forget,
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do; it goes before the status.
    pub step: Option<Step>,
    /// The status but for `sealedToken`, which stays as it is.
    pub status: HostJoinStatus,
    /// When to ask again, if nothing changes before.
    pub wake: Option<Timestamp>,
}

/// Name of the ContainerInstance that the join is about; `None` while nobody asks.
pub fn wanted(join: &HostJoin) -> Option<&str> {
    let request = join.status.as_ref()?.request.as_ref()?;
    let named = join.spec.container_instance.as_deref();
    Some(named.unwrap_or(&request.container_instance))
}

/// Nothing will be done about it any more: it is joined and forgotten, or out of time and told so.
pub fn at_rest(join: &HostJoin) -> bool {
    let Some(status) = &join.status else {
        return false;
    };
    let seen = Some(status.observed_generation) == join.metadata.generation;
    let reason = |reason| {
        let mut all = status.conditions.iter();
        all.any(|c| c.type_ == READY && c.reason == reason)
    };
    join.metadata.deletion_timestamp.is_some()
        || (seen && reason("Joined") && status.sealed_token.is_none())
        || (seen && reason("Expired"))
}

/// What to say and to do.
struct Verdict {
    standing: Standing,
    reason: &'static str,
    message: String,
    step: Option<Step>,
    admitted: Option<String>,
    wake: Option<Timestamp>,
}

impl Verdict {
    fn new(standing: Standing, reason: &'static str, message: String) -> Self {
        Self {
            standing,
            reason,
            message,
            step: None,
            admitted: None,
            wake: None,
        }
    }

    fn stalled(reason: &'static str, message: String) -> Self {
        Self::new(Standing::Stalled, reason, message)
    }

    fn waits(reason: &'static str, message: String) -> Self {
        Self::new(Standing::Reconciling, reason, message)
    }
}

/// Decides on one join.
pub fn decide(seen: &Seen<'_>, now: Timestamp) -> Decision {
    let join = seen.join;
    let before = join.status.clone().unwrap_or_default();
    let verdict = verdict(seen, &before, now);
    let generation = join.metadata.generation.unwrap_or(0);
    let said = statements(&verdict.standing, verdict.reason, &verdict.message, None);
    let status = HostJoinStatus {
        observed_generation: generation,
        conditions: conditions::merge(&before.conditions, &said, generation, &Time(now)),
        answered: before.request.as_ref().map(|request| request.id.clone()),
        key_fingerprint: seen.key.map(str::to_owned),
        container_instance: verdict.admitted.or(before.container_instance),
        request: before.request,
        sealed_token: before.sealed_token,
    };
    Decision {
        step: verdict.step,
        status,
        wake: verdict.wake,
    }
}

fn verdict(seen: &Seen<'_>, before: &HostJoinStatus, now: Timestamp) -> Verdict {
    let join = seen.join;
    if let Some(joined) = joined(before) {
        return rests(before, joined, now);
    }
    let expires = expires(join);
    let admitted = before.container_instance.is_some();
    if now >= expires && !admitted {
        return Verdict::stalled(
            "Expired",
            format!(
                "The join ended at {expires} and no host was admitted. Make another HostJoin; `spec.expiresAfterSeconds` \
                 says how long it lasts."
            ),
        );
    }
    let mut verdict = match (&before.request, seen.key) {
        (None, _) => nobody_asked(join, expires),
        (Some(_), None) => Verdict::stalled(
            "InvalidKey",
            "`status.request.publicKey` is no X25519 public key in base64: `tallyman-agent join` makes one.".to_owned(),
        ),
        (Some(request), Some(key)) => {
            let wanted = wanted(join).unwrap_or(&request.container_instance);
            if wanted == request.container_instance {
                asked(seen, before, wanted, key)
            } else {
                Verdict::stalled(
                    "NameMismatch",
                    format!(
                        "The host asks to be {}, and this join is for {wanted} (`spec.containerInstance`). Give the host \
                         `--name {wanted}`, or make a HostJoin for {}.",
                        request.container_instance, request.container_instance
                    ),
                )
            }
        }
    };
    // What it waits for is not watched: an identity that is being made, a name that somebody sets free.
    let again = match verdict.reason {
        "Admitting" => Some(SOON),
        _ => before.request.as_ref().map(|_| LATER),
    };
    let again = again.and_then(|after| now.checked_add(after).ok());
    let expires = Some(expires).filter(|_| !admitted);
    verdict.wake = again.into_iter().chain(expires).min();
    verdict
}

/// Since when the host has joined.
fn joined(status: &HostJoinStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter();
    let ready = conditions.find(|c| c.type_ == READY && c.status == ConditionStatus::True)?;
    Some(ready.last_transition_time.0)
}

fn rests(before: &HostJoinStatus, joined: Timestamp, now: Timestamp) -> Verdict {
    let (name, key) = (
        before.container_instance.clone().unwrap_or_default(),
        before.key_fingerprint.clone().unwrap_or_default(),
    );
    let mut verdict = Verdict::new(
        Standing::Ready,
        "Joined",
        format!(
            "The host with key {key} joined as {name}. The token of this join is used up; to lock the host out, delete Secret {}.",
            names::host_identity(&name)
        ),
    );
    if before.sealed_token.is_some() {
        let until = joined.checked_add(SEALED_STAYS).unwrap_or(joined);
        if now >= until {
            verdict.step = Some(Step::Forget);
        } else {
            verdict.wake = Some(until);
        }
    }
    verdict
}

/// When nobody can join by it any more.
pub fn expires(join: &HostJoin) -> Timestamp {
    let created = join.metadata.creation_timestamp.as_ref();
    let created = created.map_or(Timestamp::MIN, |time| time.0);
    let after = join.spec.expires_after_seconds.unwrap_or(EXPIRES_AFTER);
    created
        .checked_add(SignedDuration::from_secs(i64::from(after)))
        .unwrap_or(Timestamp::MAX)
}

fn nobody_asked(join: &HostJoin, expires: Timestamp) -> Verdict {
    let name = join.metadata.name.as_deref().unwrap_or_default();
    let namespace = join.metadata.namespace.as_deref().unwrap_or_default();
    let identity = names::join_identity(name);
    let mut verdict = Verdict::waits(
        "WaitingForHost",
        format!(
            "No host has asked yet. Until {expires}, run `tallyman-agent join` on it with a token that `kubectl create token \
             {identity} -n {namespace} --duration 1h` prints."
        ),
    );
    let seen = join.status.as_ref().map(|s| s.observed_generation);
    if seen.unwrap_or(conditions::UNOBSERVED) == conditions::UNOBSERVED {
        verdict.step = Some(Step::Open);
    }
    verdict
}

/// A host with a key asks for a name that this join may give.
fn asked(seen: &Seen<'_>, before: &HostJoinStatus, name: &str, key: &str) -> Verdict {
    let join = seen.join;
    if let Some(verdict) = unavailable(seen, name) {
        return verdict;
    }
    if let Some(verdict) = not_accepted(join, name, key) {
        return verdict;
    }
    let container_instance = name.to_owned();
    let mut verdict = Verdict::waits(
        "Admitting",
        format!(
            "The host with key {key} is accepted; its identity as {name} is made, and its token sealed to its key."
        ),
    );
    // From here on the request stands: the status that says so goes out before anything is done.
    verdict.admitted = Some(container_instance.clone());
    if before.container_instance.is_none() {
        return verdict;
    }
    let secret = seen.own_secret();
    let bound = secret.and_then(key_of);
    let request = before.request.as_ref();
    verdict.step = match (seen.instance, secret) {
        (None, _) => Some(Step::Register(Box::new(registered(join, name)))),
        // The pass makes the identity of a new ContainerInstance.
        (Some(_), None) if !seen.prepared() => None,
        (Some(_), None) => Some(Step::Restore { container_instance }),
        (Some(_), Some(_)) if bound != request.map(|r| r.public_key.as_str()) => {
            Some(Step::Bind { container_instance })
        }
        (Some(_), Some(_)) if before.sealed_token.is_none() => {
            Some(Step::Answer { container_instance })
        }
        (Some(_), Some(_)) => {
            return Verdict::new(
                Standing::Ready,
                "Joined",
                format!("The host with key {key} joined as {name}."),
            );
        }
    };
    verdict
}

/// The key that a host joined with.
fn key_of(secret: &ObjectMeta) -> Option<&str> {
    let annotations = secret.annotations.as_ref()?;
    annotations.get(labels::HOST_KEY).map(String::as_str)
}

/// Why the host cannot have the name.
fn unavailable(seen: &Seen<'_>, name: &str) -> Option<Verdict> {
    let join = seen.join;
    let instance = seen.instance?;
    if instance.metadata.deletion_timestamp.is_some() {
        return Some(Verdict::waits(
            "Deregistering",
            format!("ContainerInstance {name} is being deleted. The join goes on when it is gone."),
        ));
    }
    let named = join.spec.container_instance.is_some();
    let annotations = instance.metadata.annotations.as_ref();
    let maker = annotations.and_then(|a| a.get(labels::JOINED_BY));
    let made_here = maker.is_some() && maker == join.metadata.uid.as_ref();
    let request = join.status.as_ref().and_then(|s| s.request.as_ref());
    let shown = request.map(|request| request.public_key.as_str());
    let registered = instance.status.as_ref().is_some_and(|s| s.host.is_some());
    let identity = names::host_identity(name);
    let taken = |why: String| Some(Verdict::stalled("NameTaken", why));
    match seen.own_secret().map(key_of) {
        // The same host again: it proves that by opening what is sealed to its key.
        Some(Some(bound)) if Some(bound) == shown => None,
        Some(Some(_)) => taken(format!(
            "The name {name} is taken by a host that joined with another key. Choose another name (`tallyman-agent join \
             --name`), or, if it is the same machine set up anew, delete Secret {identity}, which locks the old one out, and \
             make a HostJoin with `spec.containerInstance: {name}`."
        )),
        Some(None) if registered => taken(format!(
            "The name {name} is taken by a host that was given its token by hand. Choose another name (`tallyman-agent \
             join --name`), or, if it is the same machine, delete Secret {identity}, which ends that token, and make a \
             HostJoin with `spec.containerInstance: {name}`."
        )),
        Some(None) | None if named || made_here => None,
        None if seen.prepared() => taken(format!(
            "The name {name} is that of a host that was locked out. A HostJoin with `spec.containerInstance: {name}` lets it \
             join again; any other host chooses another name (`tallyman-agent join --name`)."
        )),
        Some(None) | None => taken(format!(
            "The name {name} is that of a ContainerInstance whose host has yet to join. A HostJoin with \
             `spec.containerInstance: {name}` is for that host; any other chooses another name (`tallyman-agent join --name`)."
        )),
    }
}

/// Why the host is not let in yet.
fn not_accepted(join: &HostJoin, name: &str, key: &str) -> Option<Verdict> {
    let object = join.metadata.name.as_deref().unwrap_or_default();
    let accept = format!(
        "kubectl patch hostjoins.tallyman.dev {object} -n {} --type merge -p '{{\"spec\":{{\"acceptedKey\":\"{key}\"}}}}'",
        join.metadata.namespace.as_deref().unwrap_or_default()
    );
    match (&join.spec.accepted_key, join.spec.accept) {
        (Some(accepted), _) if accepted == key => None,
        (Some(accepted), _) => Some(Verdict::stalled(
            "KeyNotAccepted",
            format!(
                "The host that asks to be {name} shows key {key}; `spec.acceptedKey` is {accepted}. If it is the right host, \
                 accept its key: {accept}"
            ),
        )),
        (None, Acceptance::Automatic) => None,
        (None, Acceptance::Manual) => Some(Verdict::waits(
            "AwaitingAcceptance",
            format!(
                "A host asks to be {name} with key {key}. If the host prints the same key, accept it: {accept}"
            ),
        )),
    }
}

fn registered(join: &HostJoin, name: &str) -> ContainerInstance {
    let mut instance = ContainerInstance::new(
        name,
        ContainerInstanceSpec {
            cluster: join.spec.cluster.clone(),
            ..ContainerInstanceSpec::default()
        },
    );
    instance
        .metadata
        .namespace
        .clone_from(&join.metadata.namespace);
    let uid = join.metadata.uid.clone().unwrap_or_default();
    instance.metadata.annotations = Some(BTreeMap::from([(labels::JOINED_BY.to_owned(), uid)]));
    instance
}
