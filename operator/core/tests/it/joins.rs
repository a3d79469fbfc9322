//! Who may join, as what, and why not: a row for each rule, and whole joins step by step.
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use proptest::prelude::*;
use serde_json::json;
use tallyman_crds::{
    Acceptance, ContainerInstance, ContainerInstanceStatus, HostJoin, HostJoinSpec, HostReport,
    JoinRequest, conditions, labels,
};
use tallyman_operator_core::joins::{self, Decision, SEALED_STAYS, Seen, Step};

const MINE: &str = "sha256:mine";

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A join and what there is of its host, in memory: carries steps out as the shell does.
struct Bench {
    join: HostJoin,
    instance: Option<ContainerInstance>,
    secret: Option<ObjectMeta>,
    plan: Option<ObjectMeta>,
    now: Timestamp,
    sealed_for: Vec<String>,
    opened: bool,
}

fn spec() -> HostJoinSpec {
    HostJoinSpec {
        accept: Acceptance::Automatic,
        ..HostJoinSpec::default()
    }
}

fn named(name: &str) -> HostJoinSpec {
    HostJoinSpec {
        container_instance: Some(name.to_owned()),
        ..spec()
    }
}

fn owned(uid: &str) -> ObjectMeta {
    ObjectMeta {
        owner_references: Some(vec![OwnerReference {
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

impl Bench {
    fn new(spec: HostJoinSpec) -> Self {
        let mut join = HostJoin::new("rack-7", spec);
        join.metadata.namespace = Some("prod".to_owned());
        join.metadata.uid = Some("join-uid".to_owned());
        join.metadata.generation = Some(1);
        join.metadata.creation_timestamp = Some(Time(start()));
        Self {
            join,
            instance: None,
            secret: None,
            plan: None,
            now: start(),
            sealed_for: Vec::new(),
            opened: false,
        }
    }

    /// A host asks to be `name` with a key whose text is `key`; its fingerprint is [`MINE`].
    fn ask(&mut self, name: &str, key: &str) {
        let mut status = self.join.status.clone().unwrap_or_default();
        status.request = Some(JoinRequest {
            id: format!("{name}-{key}"),
            public_key: key.to_owned(),
            container_instance: name.to_owned(),
        });
        self.join.status = Some(status);
    }

    fn has_instance(&mut self, uid: &str, registered: bool) {
        let mut instance = ContainerInstance::new("a", Default::default());
        instance.metadata.uid = Some(uid.to_owned());
        instance.status = Some(ContainerInstanceStatus {
            host: registered.then(HostReport::default),
            ..ContainerInstanceStatus::default()
        });
        self.instance = Some(instance);
    }

    fn has_secret(&mut self, owner: &str, key: Option<&str>) {
        let mut secret = owned(owner);
        let key = key.map(|key| (labels::HOST_KEY.to_owned(), key.to_owned()));
        secret.annotations = Some(key.into_iter().collect());
        self.secret = Some(secret);
        self.plan = Some(owned(owner));
    }

    fn decide(&self) -> Decision {
        let seen = Seen {
            join: &self.join,
            key: Some(MINE),
            instance: self.instance.as_ref(),
            secret: self.secret.as_ref(),
            plan: self.plan.as_ref(),
        };
        joins::decide(&seen, self.now)
    }

    /// Carries one decision out.
    fn step(&mut self) {
        let Decision { step, status, .. } = self.decide();
        let before = self.join.status.replace(status).unwrap_or_default();
        assert!(
            before.container_instance.is_none()
                || before.container_instance
                    == self.join.status.as_ref().unwrap().container_instance,
            "the CRD refuses another name"
        );
        match step {
            None => {
                // The operator's pass, meanwhile. What is there already it leaves as it is, and while that is a namesake's, it
                // makes nothing after it.
                if let (Some(instance), None) = (&self.instance, &self.plan) {
                    let uid = instance.metadata.uid.clone().unwrap();
                    let secret = self.secret.get_or_insert_with(|| owned(&uid));
                    if secret.owner_references == owned(&uid).owner_references {
                        self.plan = Some(owned(&uid));
                    }
                }
            }
            Some(Step::Open) => self.opened = true,
            Some(Step::Register(instance)) => {
                assert!(self.instance.is_none());
                let mut instance = *instance;
                instance.metadata.uid = Some("made".to_owned());
                self.instance = Some(instance);
            }
            Some(Step::Restore { .. }) => {
                assert!(self.secret.is_none());
                let uid = self.instance.as_ref().unwrap().metadata.uid.clone();
                let key = self.join.status.as_ref().unwrap().request.clone().unwrap();
                self.has_secret(&uid.unwrap(), Some(&key.public_key));
            }
            Some(Step::Bind { .. }) => {
                let key = self.join.status.as_ref().unwrap().request.clone().unwrap();
                let secret = self.secret.as_mut().unwrap();
                let annotations = secret.annotations.get_or_insert_default();
                annotations.insert(labels::HOST_KEY.to_owned(), key.public_key);
            }
            Some(Step::Answer { container_instance }) => {
                let status = self.join.status.as_mut().unwrap();
                let key = &status.request.as_ref().unwrap().public_key;
                self.sealed_for.push(format!("{container_instance} {key}"));
                status.sealed_token = Some("sealed".to_owned());
            }
            Some(Step::Forget) => self.join.status.as_mut().unwrap().sealed_token = None,
        }
    }

    fn all(&self) -> serde_json::Value {
        json!([self.join, self.instance, self.secret])
    }

    /// Until nothing changes any more.
    fn settle(&mut self) -> (String, String) {
        for _ in 0..12 {
            let before = self.all();
            self.step();
            if before == self.all() {
                return self.says();
            }
        }
        panic!("it does not come to rest: {:?}", self.join.status);
    }

    fn says(&self) -> (String, String) {
        let status = self.join.status.as_ref().unwrap();
        let ready = &status.conditions[0];
        assert_eq!(ready.type_, conditions::READY);
        (ready.reason.clone(), ready.message.clone())
    }

    fn refused(mut self, reason: &str, words: &str) {
        let (said, message) = self.settle();
        assert_eq!(said, reason, "{message}");
        assert!(message.contains(words), "{message}");
        assert!(self.sealed_for.is_empty());
        let status = self.join.status.unwrap();
        assert_eq!(status.container_instance, None);
        assert_eq!(status.conditions[1].type_, conditions::STALLED);
    }
}

#[test]
fn a_new_host_joins_and_the_answer_is_forgotten() {
    let mut bench = Bench::new(spec());
    let (reason, message) = bench.settle();
    assert!(bench.opened);
    assert_eq!(reason, "WaitingForHost");
    assert!(
        message.contains("kubectl create token tallyman-join-rack-7 -n prod"),
        "{message}"
    );
    assert_eq!(
        bench.decide().wake,
        Some(start() + SignedDuration::from_hours(1))
    );
    bench.ask("a", "k1");
    let (reason, message) = bench.settle();
    assert_eq!(reason, "Joined", "{message}");
    assert!(
        message.contains("delete Secret tallyman-host-a"),
        "{message}"
    );
    assert_eq!(bench.sealed_for, ["a k1"]);
    let instance = bench.instance.as_ref().unwrap();
    assert_eq!(
        instance.metadata.annotations.as_ref().unwrap()[labels::JOINED_BY],
        "join-uid"
    );
    assert!(!joins::at_rest(&bench.join));
    bench.now += SEALED_STAYS;
    bench.settle();
    assert_eq!(bench.join.status.as_ref().unwrap().sealed_token, None);
    assert!(joins::at_rest(&bench.join));
    // Long after the end of the join it is still joined.
    bench.now += SignedDuration::from_hours(48);
    assert_eq!(bench.settle().0, "Joined");
    assert_eq!(bench.sealed_for.len(), 1);
}

#[test]
fn by_default_somebody_compares_keys_first() {
    let mut bench = Bench::new(HostJoinSpec::default());
    bench.ask("a", "k1");
    let (reason, message) = bench.settle();
    assert_eq!(reason, "AwaitingAcceptance");
    let command = "kubectl patch hostjoins.tallyman.dev rack-7 -n prod --type merge -p \
                   '{\"spec\":{\"acceptedKey\":\"sha256:mine\"}}'";
    assert!(message.contains(command), "{message}");
    assert!(bench.instance.is_none() && bench.sealed_for.is_empty());
    bench.join.spec.accepted_key = Some(MINE.to_owned());
    assert_eq!(bench.settle().0, "Joined");
}

#[test]
fn another_key_than_the_accepted_one_is_refused_whatever_the_policy() {
    for accept in [Acceptance::Manual, Acceptance::Automatic] {
        let mut bench = Bench::new(HostJoinSpec {
            accept,
            accepted_key: Some("sha256:other".to_owned()),
            ..HostJoinSpec::default()
        });
        bench.ask("a", "k1");
        bench.refused("KeyNotAccepted", "`spec.acceptedKey` is sha256:other");
    }
}

#[test]
fn an_instance_from_git_is_joined_by_the_join_that_names_it() {
    let mut bench = Bench::new(named("a"));
    bench.has_instance("git", false);
    bench.has_secret("git", None);
    bench.ask("a", "k1");
    assert_eq!(bench.settle().0, "Joined");
    assert_eq!(bench.sealed_for, ["a k1"]);
}

#[test]
fn an_instance_from_git_is_not_joined_by_any_other_host() {
    let mut bench = Bench::new(spec());
    bench.has_instance("git", false);
    bench.has_secret("git", None);
    bench.ask("a", "k1");
    bench.refused("NameTaken", "whose host has yet to join");
}

#[test]
fn a_name_that_a_host_has_is_taken_even_if_the_join_names_it() {
    for spec in [spec(), named("a")] {
        let mut bench = Bench::new(spec.clone());
        bench.has_instance("i", true);
        bench.has_secret("i", Some("k2"));
        bench.ask("a", "k1");
        bench.refused("NameTaken", "delete Secret tallyman-host-a");
        let mut bench = Bench::new(spec);
        bench.has_instance("i", true);
        bench.has_secret("i", None);
        bench.ask("a", "k1");
        bench.refused("NameTaken", "was given its token by hand");
    }
}

#[test]
fn a_host_comes_back_with_its_own_key() {
    let mut bench = Bench::new(spec());
    bench.has_instance("i", true);
    bench.has_secret("i", Some("k1"));
    bench.ask("a", "k1");
    assert_eq!(bench.settle().0, "Joined");
    assert_eq!(bench.sealed_for, ["a k1"]);
}

#[test]
fn a_host_that_was_locked_out_comes_back_when_somebody_names_it() {
    let locked_out = |spec| {
        let mut bench = Bench::new(spec);
        bench.has_instance("i", true);
        bench.plan = Some(owned("i"));
        bench.ask("a", "k2");
        bench
    };
    let mut bench = locked_out(named("a"));
    assert_eq!(bench.settle().0, "Joined");
    assert_eq!(bench.sealed_for, ["a k2"]);
    locked_out(spec()).refused("NameTaken", "locked out");
}

#[test]
fn what_a_deregistered_namesake_left_is_not_used() {
    let mut bench = Bench::new(spec());
    bench.has_secret("old", Some("k9"));
    bench.ask("a", "k1");
    for _ in 0..6 {
        bench.step();
    }
    assert!(
        bench.sealed_for.is_empty(),
        "it waits for the old Secret to go"
    );
    assert_eq!(bench.says().0, "Admitting");
    (bench.secret, bench.plan) = (None, None);
    assert_eq!(bench.settle().0, "Joined");
}

#[test]
fn the_name_of_the_join_is_meant() {
    let mut bench = Bench::new(named("b"));
    bench.ask("a", "k1");
    bench.refused("NameMismatch", "--name b");
}

#[test]
fn an_instance_that_leaves_is_waited_for() {
    let mut bench = Bench::new(named("a"));
    bench.has_instance("i", true);
    bench.instance.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(start()));
    bench.ask("a", "k1");
    assert_eq!(bench.settle().0, "Deregistering");
    (bench.instance, bench.secret, bench.plan) = (None, None, None);
    assert_eq!(bench.settle().0, "Joined");
}

#[test]
fn nobody_joins_after_the_end() {
    let mut bench = Bench::new(HostJoinSpec {
        expires_after_seconds: Some(60),
        ..spec()
    });
    bench.settle();
    bench.now = start() + SignedDuration::from_secs(60);
    bench.ask("a", "k1");
    assert!(!joins::at_rest(&bench.join));
    bench.step();
    assert!(joins::at_rest(&bench.join));
    bench.refused("Expired", "`spec.expiresAfterSeconds`");
}

#[test]
fn who_is_admitted_in_time_joins_after_the_end() {
    let mut bench = Bench::new(spec());
    bench.ask("a", "k1");
    bench.step();
    assert!(
        bench
            .join
            .status
            .as_ref()
            .unwrap()
            .container_instance
            .is_some()
    );
    bench.now = start() + SignedDuration::from_hours(2);
    assert_eq!(bench.settle().0, "Joined");
}

#[test]
fn no_key_is_refused() {
    let mut bench = Bench::new(spec());
    bench.ask("a", "k1");
    let seen = Seen {
        join: &bench.join,
        key: None,
        instance: None,
        secret: None,
        plan: None,
    };
    let decision = joins::decide(&seen, start());
    assert_eq!(decision.status.conditions[0].reason, "InvalidKey");
    assert!(decision.step.is_none() && decision.status.container_instance.is_none());
}

#[test]
fn an_answer_says_which_request_it_answers() {
    let mut bench = Bench::new(HostJoinSpec::default());
    bench.ask("a", "k1");
    bench.step();
    let answered = |bench: &Bench| bench.join.status.as_ref().unwrap().answered.clone();
    assert_eq!(answered(&bench).as_deref(), Some("a-k1"));
    bench.ask("b", "k1");
    assert_eq!(answered(&bench).as_deref(), Some("a-k1"));
    bench.step();
    assert_eq!(answered(&bench).as_deref(), Some("b-k1"));
}

proptest! {
    /// Whatever there is: a token is sealed only to the key that the host's Secret carries, one that belongs to another
    /// key is never taken over, and what is decided twice is decided the same.
    #[test]
    fn nobody_takes_over_a_host(
        join_names_it: bool, accept_all: bool, instance in 0..3u8, bound in 0..3u8, plan: bool, asks_twice: bool,
    ) {
        let mut bench = Bench::new(HostJoinSpec {
            container_instance: join_names_it.then(|| "a".to_owned()),
            accept: if accept_all { Acceptance::Automatic } else { Acceptance::Manual },
            ..HostJoinSpec::default()
        });
        if instance > 0 {
            bench.has_instance("i", instance > 1);
        }
        match bound {
            1 => bench.has_secret("i", None),
            2 => bench.has_secret("i", Some("k2")),
            _ => {}
        }
        bench.plan = bench.plan.filter(|_| plan);
        let before = bench.secret.clone();
        bench.ask("a", "k1");
        for round in 0..10 {
            if asks_twice && round == 1 && bench.join.status.as_ref().unwrap().container_instance.is_none() {
                bench.ask("a", "k3");
            }
            bench.step();
        }
        let request = bench.join.status.as_ref().unwrap().request.clone().unwrap();
        if !bench.sealed_for.is_empty() {
            prop_assert!(accept_all);
            let key = bench.secret.as_ref().unwrap().annotations.as_ref().unwrap()[labels::HOST_KEY].clone();
            prop_assert_eq!(&bench.sealed_for, &[format!("a {key}")]);
            prop_assert_eq!(&key, &request.public_key);
        }
        if bound == 2 && instance > 0 {
            prop_assert!(bench.sealed_for.is_empty());
            prop_assert_eq!(bench.secret, before);
        }
    }
}
