//! Which plan counts, what it changes, and what it says of containers that it does not have.

use crate::rig;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::rig::{Rig, container, door, plan};
use jiff::Timestamp;
use serde_json::json;
use tallyman_agent_core::{Desired, Host, Plan, Refusal, TaskBody, TaskMachine, TaskUid};
use tallyman_crds::{DesiredStatus, HostPlanSpec, LastStatus, PlannedTask};

fn fenced(epoch: i64, generation: i64) -> HostPlanSpec {
    HostPlanSpec {
        leader_epoch: epoch,
        generation,
        ..plan(vec![container("app", true)])
    }
}

fn offer(host: &mut Host, spec: HostPlanSpec) -> Result<tallyman_agent_core::Offer, Refusal> {
    host.offer(Plan::from(spec), true)
}

#[test]
fn an_older_plan_is_refused_and_says_why() {
    let mut host = Host::new(door());
    offer(&mut host, fenced(3, 10)).unwrap();
    for (epoch, generation, refused) in [
        (3, 9, true),
        (2, 99, true),
        (3, 10, false),
        (3, 11, false),
        (4, 1, false),
    ] {
        let mut host = host.clone();
        let result = offer(&mut host, fenced(epoch, generation));
        assert_eq!(result.is_err(), refused, "{epoch}/{generation}");
        if let Err(refusal) = result {
            assert!(refusal.to_string().starts_with("refused "), "{refusal}");
            assert_eq!(host.applied().generation, 10);
        }
    }
}

#[test]
fn a_plan_tells_what_changed_and_nothing_else() {
    let mut host = Host::new(door());
    assert_eq!(offer(&mut host, fenced(1, 1)).unwrap().assigned.len(), 1);
    assert_eq!(
        offer(&mut host, fenced(1, 2)).unwrap(),
        tallyman_agent_core::Offer::default()
    );
    let mut stop = fenced(1, 3);
    stop.tasks[0].desired_status = DesiredStatus::Stopped;
    assert_eq!(offer(&mut host, stop).unwrap().assigned.len(), 1);
    let mut empty = fenced(1, 4);
    empty.tasks.clear();
    let change = offer(&mut host, empty).unwrap();
    assert_eq!(change.unplanned, [TaskUid::new(rig::UID)]);
    assert!(change.assigned.is_empty());
}

#[test]
fn a_host_that_was_registered_anew_begins_anew() {
    let mut host = Host::new(door());
    offer(&mut host, fenced(5, 50)).unwrap();
    let mut other = fenced(1, 1);
    other.container_instance_uid = "another".to_owned();
    let change = offer(&mut host, other).unwrap();
    assert!(change.other_identity);
    assert_eq!(host.container_instance_uid(), Some("another"));
}

#[test]
fn entries_are_read_one_by_one() {
    let spec = json!({
        "generation": 4, "leaderEpoch": 2, "cluster": "default", "containerInstanceUid": "ci",
        "definitions": {
            "good-1": { "family": "good", "revision": 1, "definition": {
                "containerDefinitions": [{ "name": "app", "image": "app:1" }] } },
            "odd-1": { "family": "odd", "revision": 1, "definition": { "networkMode": "quantum",
                "containerDefinitions": [] } },
        },
        "tasks": [
            { "name": "a", "uid": "ua", "definition": "good-1" },
            { "name": "b", "uid": "ub", "definition": "odd-1" },
            { "name": "c", "uid": "uc", "definition": "good-1", "stopCode": "NewReason",
              "desiredStatus": "STOPPED", "remove": true },
            { "uid": "ud" },
            { "name": "e", "uid": "ue", "definition": "good-1", "someday": { "new": true } },
        ],
    });
    let assignment =
        tallyman_agent_core::Assignment::parse(Plan::from_json(&spec).unwrap(), &door());
    let task = |uid: &str| &assignment.tasks[&TaskUid::new(uid)];
    assert!(matches!(task("ua").body, TaskBody::Runnable(_)));
    let TaskBody::Refused(why) = &task("ub").body else {
        panic!("not refused")
    };
    assert!(why.contains("`odd-1`") && why.contains("quantum"), "{why}");
    assert!(matches!(task("uc").body, TaskBody::Refused(_)));
    assert!(matches!(task("uc").desired, Desired::Stop { .. }));
    assert!(task("uc").remove);
    assert!(
        matches!(task("ue").body, TaskBody::Runnable(_)),
        "unknown fields are left alone"
    );
    assert_eq!(assignment.tasks.len(), 4);
    assert_eq!(assignment.complaints.len(), 1);
    for bad in [json!({}), json!({ "generation": "1" }), json!(null)] {
        assert!(Plan::from_json(&bad).is_err());
    }
}

#[test]
fn desired_only_goes_forward() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_stop(tallyman_crds::StopCode::UserInitiated, "enough");
    rig.spec.tasks[0].desired_status = DesiredStatus::Running;
    rig.machine.assign(rig::assigned(rig.spec.clone()));
    rig.run(Duration::from_secs(20));
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn a_container_without_a_plan_goes_after_two_plans_and_a_grace_and_others_never() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    let mut foreign = rig.engine.spec(&rig.name("app")).unwrap();
    foreign.name = "of-another-host".to_owned();
    foreign.labels.insert(
        "tallyman.dev/container-instance-uid".to_owned(),
        "another".to_owned(),
    );
    rig.engine.run_outside(&foreign).unwrap();
    let everything = rig.engine.containers();
    assert_eq!(everything.len(), 2);

    let without = |generation| {
        let mut spec = fenced(1, generation);
        spec.tasks.clear();
        spec
    };
    let none = BTreeSet::new();
    let mut host = Host::new(door());
    // From disk only: nothing is ever condemned.
    host.offer(Plan::from(without(1)), false).unwrap();
    assert!(host.strays(&everything, &none, &none, at(0)).is_empty());
    host.offer(Plan::from(without(2)), false).unwrap();
    assert!(host.strays(&everything, &none, &none, at(4000)).is_empty());

    offer(&mut host, without(3)).unwrap();
    assert!(host.strays(&everything, &none, &none, at(5000)).is_empty());
    assert!(
        host.strays(&everything, &none, &none, at(9000)).is_empty(),
        "one plan is not enough"
    );
    offer(&mut host, without(4)).unwrap();
    let ended: BTreeSet<TaskUid> = [TaskUid::new(rig::UID)].into();
    assert!(
        host.clone()
            .strays(&everything, &ended, &none, at(9001))
            .is_empty(),
        "cleanup owns it"
    );
    let condemned = host.strays(&everything, &none, &none, at(9001));
    assert_eq!(condemned.len(), 1);
    assert_eq!(condemned[0].name, rig.name("app"));

    // A plan that has it again saves it.
    let mut host = host.clone();
    offer(&mut host, fenced(1, 5)).unwrap();
    assert!(
        host.strays(&everything, &none, &none, at(99_000))
            .is_empty()
    );
}

#[test]
fn what_only_the_record_knows_is_watched_and_cleaned_up_after() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.engine.exit(&rig.name("app"), 0);
    rig.run(Duration::from_secs(20));
    let record = rig.machine.record().clone();
    assert!(record.end_acknowledged);
    let mut host = Host::new(door());
    let mut empty = fenced(1, 9);
    empty.tasks.clear();
    offer(&mut host, empty).unwrap();
    let task = host.remembered(&record);
    let list = rig.list();
    rig.machine = TaskMachine::begin(task, Some(record), &list);
    let told = rig.told.len();
    rig.run(Duration::from_secs(3600));
    assert_eq!(rig.engine.containers().len(), 1);
    rig.run(Duration::from_secs(3 * 3600));
    assert!(rig.engine.containers().is_empty());
    assert_eq!(rig.told.len(), told);
    let now = rig.now();
    assert!(rig.machine.step(&rig.host, now).finished);
}

#[test]
fn one_bad_entry_leaves_the_others_alone() {
    let mut spec = fenced(1, 1);
    spec.tasks.push(PlannedTask {
        name: "bad".to_owned(),
        uid: "bad".to_owned(),
        definition: "none".to_owned(),
        ..PlannedTask::default()
    });
    let mut host = Host::new(door());
    let offer = offer(&mut host, spec).unwrap();
    let refused = offer
        .assigned
        .iter()
        .filter(|task| matches!(task.body, TaskBody::Refused(_)))
        .count();
    assert_eq!((offer.assigned.len(), refused), (2, 1));
}

fn gone(epoch: i64, generation: i64) -> HostPlanSpec {
    let mut spec = fenced(epoch, generation);
    spec.tasks.clear();
    spec
}

#[test]
fn an_api_server_that_went_back_is_told_everything_again_once() {
    let mut host = Host::new(door());
    offer(&mut host, fenced(7, 20)).unwrap();
    assert_eq!(host.tells_again(), None);
    // From disk, older ones mean nothing.
    assert!(host.offer(Plan::from(fenced(3, 5)), false).is_err());
    assert_eq!(host.tells_again(), None);
    offer(&mut host, fenced(3, 5)).unwrap_err();
    assert_eq!(host.tells_again().unwrap().len(), 1);
    assert_eq!(host.tells_again(), None);
    // What a leader writes there whose number is too low still is no news.
    offer(&mut host, fenced(3, 6)).unwrap_err();
    assert_eq!(host.tells_again(), None);
    // It went back further.
    offer(&mut host, fenced(2, 4)).unwrap_err();
    assert_eq!(host.tells_again().unwrap().len(), 1);
    offer(&mut host, fenced(8, 21)).unwrap();
    assert_eq!(host.tells_again(), None);
    offer(&mut host, fenced(3, 5)).unwrap_err();
    assert_eq!(host.tells_again().unwrap().len(), 1);
}

/// Offers plans of the API to a host whose task runs, as an agent does; `records` are what outlives the agent.
struct Held {
    host: Host,
    rig: Rig,
}

impl Held {
    fn new() -> Self {
        let mut rig = Rig::new(vec![container("app", true)]);
        rig.settle_down();
        let mut held = Self {
            host: Host::new(door()),
            rig,
        };
        held.offer(versioned(fenced(7, 20), 500));
        held
    }

    fn offer(&mut self, plan: Plan) {
        let offer = self.host.offer(plan, true);
        if let Some(to_run) = self.host.tells_again() {
            let to_run = to_run.contains(&TaskUid::new(rig::UID));
            self.rig.machine.api_went_back(to_run);
        }
        let Ok(offer) = offer else { return };
        for uid in offer.unplanned {
            assert_eq!(uid, TaskUid::new(rig::UID));
            self.rig.machine.unplanned();
        }
        for task in offer.assigned {
            self.rig.machine.assign(task);
        }
    }

    fn is_forgotten(&self) -> bool {
        let forgotten = self.host.forgotten([self.rig.machine.record()]);
        forgotten.contains_key(&TaskUid::new(rig::UID))
    }

    fn condemned(&mut self, seconds: i64) -> usize {
        let forgotten = self.host.forgotten([self.rig.machine.record()]);
        let (none, forgotten) = (BTreeSet::new(), forgotten.into_keys().collect());
        let everything = self.rig.engine.containers();
        let condemned = self
            .host
            .strays(&everything, &none, &forgotten, at(seconds));
        condemned.len()
    }
}

/// A plan as it is read from the API server.
fn versioned(spec: HostPlanSpec, version: u64) -> Plan {
    let mut spec = serde_json::to_value(spec).unwrap();
    spec[Plan::VERSION] = version.to_string().into();
    Plan::from_json(&spec).unwrap()
}

#[test]
fn a_task_is_forgotten_only_by_an_api_server_that_went_back() {
    let after = |plans: &[Plan]| {
        let mut held = Held::new();
        for plan in plans {
            held.offer(plan.clone());
        }
        held.is_forgotten()
    };
    let stays = [
        vec![versioned(gone(7, 21), 501)],
        vec![versioned(gone(8, 21), 501)],
        // The plan that comes after an older one has it.
        vec![Plan::from(gone(3, 5)), versioned(fenced(8, 21), 410)],
        vec![
            Plan::from(gone(3, 5)),
            versioned(fenced(8, 21), 410),
            versioned(gone(8, 22), 420),
        ],
    ];
    for (n, plans) in stays.iter().enumerate() {
        assert!(!after(plans), "{n}");
    }
    let goes = [
        // An older plan was seen, and refused.
        vec![Plan::from(gone(3, 5)), versioned(gone(8, 21), 510)],
        // Generations began anew, up to the one at hand.
        vec![versioned(gone(8, 6), 510)],
        vec![versioned(gone(8, 20), 510)],
        // Versions did.
        vec![versioned(gone(8, 21), 410)],
    ];
    for (n, plans) in goes.iter().enumerate() {
        assert!(after(plans), "{n}");
    }
    // It was seen otherwise, and the plan had to be made anew.
    let mut held = Held::new();
    held.host.api_went_back();
    held.offer(versioned(gone(8, 21), 510));
    assert!(held.is_forgotten());
    // One that was to stop is not forgotten: it was not to run.
    let mut stop = fenced(7, 21);
    stop.tasks[0].desired_status = DesiredStatus::Stopped;
    let plans = [
        Plan::from(stop),
        Plan::from(gone(3, 5)),
        Plan::from(gone(8, 22)),
    ];
    assert!(!after(&plans));
}

#[test]
fn an_agent_that_is_killed_before_the_next_plan_remembers_that_the_api_server_went_back() {
    let mut held = Held::new();
    held.offer(Plan::from(gone(3, 5)));
    let record = serde_json::to_value(held.rig.machine.record()).unwrap();
    let record = serde_json::from_value(record).unwrap();
    // The next one begins with the plan and the record from disk.
    let mut host = Host::new(door());
    host.offer(versioned(fenced(7, 20), 500), false).unwrap();
    assert!(host.forgotten([&record]).is_empty());
    offer(&mut host, gone(8, 22)).unwrap();
    assert_eq!(host.forgotten([&record]).len(), 1);
}

#[test]
fn a_plan_after_the_api_server_went_back_is_given_to_every_task() {
    let assigned = |host: &mut Host, epoch, generation| {
        let offer = offer(host, fenced(epoch, generation)).unwrap();
        offer.assigned.len()
    };
    let mut host = Host::new(door());
    assert_eq!(assigned(&mut host, 7, 20), 1);
    assert_eq!(assigned(&mut host, 7, 21), 0);
    host.api_went_back();
    assert_eq!(assigned(&mut host, 8, 22), 1);
    assert_eq!(assigned(&mut host, 8, 23), 0);
}

#[test]
fn what_was_forgotten_is_left_alone_until_the_plan_says_otherwise() {
    let mut held = Held::new();
    held.offer(Plan::from(gone(3, 5)));
    for generation in 21..40 {
        held.offer(Plan::from(gone(8, generation)));
        assert_eq!(held.condemned(generation * 600), 0);
    }
    let mut decided = gone(8, 40);
    decided.stop_forgotten = true;
    held.offer(Plan::from(decided));
    assert_eq!(held.condemned(40 * 600), 1);
}

#[test]
fn a_task_that_ended_is_told_again() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_stop(tallyman_crds::StopCode::UserInitiated, "enough");
    rig.run(Duration::from_secs(60));
    assert!(rig.machine.record().end_acknowledged);
    let told = rig.told.len();
    rig.run(Duration::from_secs(600));
    assert_eq!(rig.told.len(), told);
    rig.machine.api_went_back(false);
    rig.run(Duration::from_secs(600));
    assert_eq!(rig.told.len(), told + 1, "once");
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert!(rig.machine.record().end_acknowledged);
}
