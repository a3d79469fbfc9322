//! Faults in the network of a task: what is asked for, the commands that do it, and what is left when they fail.

mod network;

use crate::rig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::rig::Rig;
use network::{Fake, Net};
use serde_json::json;
use tallyman_agent_core::fault_injection::{
    Abilities, Ability, Act, Answer, Command, Kind, NotRun, Place, Ran, Request, Status, Tools,
    perform, refused,
};
use tallyman_agent_core::metadata::Place as HostPlace;
use tallyman_agent_core::metadata::documents::{self, Version};
use tallyman_agent_core::pause;

const PORT: &str = r#"{"Port":8080,"Protocol":"tcp","TrafficType":"ingress"}"#;
const LATE: &str = r#"{"DelayMilliseconds":200,"JitterMilliseconds":50,"Sources":["10.0.0.0/8","fd00::1"],
    "SourcesToFilter":["10.0.0.7"]}"#;
const LOST: &str = r#"{"LossPercent":30,"Sources":["0.0.0.0/0"]}"#;

fn own(addresses: &[&str]) -> Place {
    Place::Own {
        pid: 77,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

fn ask(fake: &Fake, place: &Place, kind: Kind, act: Act, body: &str) -> Answer {
    let request = Request::read(kind, act, body.as_bytes()).unwrap();
    perform(act, &request, place, fake)
}

const RUNNING: Answer = Answer::Done(Status::Running);
const STOPPED: Answer = Answer::Done(Status::Stopped);
const NOT_RUNNING: Answer = Answer::Done(Status::NotRunning);

#[test]
fn each_fault_comes_is_told_and_goes_without_a_trace() {
    for place in [own(&["172.18.0.5"]), Place::Host] {
        for (kind, body) in [
            (Kind::BlackHolePort, PORT),
            (Kind::Latency, LATE),
            (Kind::PacketLoss, LOST),
        ] {
            let fake = Fake::new();
            let told = |act| ask(&fake, &place, kind, act, body);
            assert_eq!(told(Act::Status), NOT_RUNNING, "{kind:?}");
            assert_eq!(told(Act::Stop), STOPPED, "{kind:?}");
            assert_eq!(told(Act::Start), RUNNING, "{kind:?}");
            assert_eq!(told(Act::Status), RUNNING, "{kind:?}");
            let running = fake.net();
            assert_ne!(running, Net::default(), "{kind:?}");
            match kind {
                // A port that is dropped already is dropped, as ECS answers.
                Kind::BlackHolePort => assert_eq!(told(Act::Start), RUNNING),
                Kind::Latency | Kind::PacketLoss => {
                    assert!(matches!(told(Act::Start), Answer::Conflict(_)), "{kind:?}");
                }
            }
            assert_eq!(fake.net(), running, "{kind:?}");
            assert_eq!(told(Act::Stop), STOPPED, "{kind:?}");
            assert_eq!(fake.net(), Net::default(), "{kind:?}");
            assert_eq!(told(Act::Status), NOT_RUNNING, "{kind:?}");
        }
    }
}

#[test]
fn the_commands_are_those_of_ecs() {
    let mut all = String::new();
    let spared = r#"{"Port":80,"Protocol":"udp","TrafficType":"egress","SourcesToFilter":["10.0.0.7","fd00::/8"]}"#;
    for (name, place, kind, body) in [
        (
            "a task's port",
            own(&["172.18.0.5"]),
            Kind::BlackHolePort,
            PORT,
        ),
        (
            "a port of the host's",
            Place::Host,
            Kind::BlackHolePort,
            spared,
        ),
        (
            "a task's latency",
            own(&["172.18.0.5"]),
            Kind::Latency,
            LATE,
        ),
        (
            "the host's packet loss",
            Place::Host,
            Kind::PacketLoss,
            LOST,
        ),
    ] {
        let fake = Fake::new();
        for act in [Act::Start, Act::Stop] {
            ask(&fake, &place, kind, act, body);
            let lines = fake.transcript();
            writeln!(all, "# {name}: {}\n{lines}\n", act.as_str()).unwrap();
        }
    }
    insta::assert_snapshot!("fault-commands", all);
}

#[test]
fn a_start_that_fails_anywhere_leaves_nothing_and_says_why() {
    for (kind, body) in [
        (Kind::BlackHolePort, PORT),
        (Kind::Latency, LATE),
        (Kind::PacketLoss, LOST),
    ] {
        // With an IPv6 address what fails for IPv6 counts, too.
        let place = own(&["172.18.0.5", "fd00::5"]);
        let mut fails = 1;
        loop {
            let fake = Fake {
                fails: Some(fails),
                ..Fake::new()
            };
            match ask(&fake, &place, kind, Act::Start, body) {
                Answer::Failed(words) => {
                    let asked = format!("start {}: ", kind.as_str());
                    assert!(
                        words.starts_with(&asked) && words.ends_with(": it is broken"),
                        "{words}"
                    );
                    assert_eq!(fake.net(), Net::default(), "{kind:?}, command {fails}");
                }
                answer => {
                    assert_eq!(answer, RUNNING);
                    break;
                }
            }
            fails += 1;
        }
        assert!(fails > 4, "{kind:?} takes {fails} commands");
    }
}

#[test]
fn a_host_without_ipv6_drops_packets_of_ipv4() {
    let fake = Fake {
        v4_only: true,
        ..Fake::new()
    };
    let place = own(&["172.18.0.5"]);
    let told = |act| ask(&fake, &place, Kind::BlackHolePort, act, PORT);
    assert_eq!(told(Act::Start), RUNNING);
    assert!(fake.net().chains.keys().all(|(tool, _)| tool == "iptables"));
    assert_eq!(told(Act::Stop), STOPPED);
    assert_eq!(fake.net(), Net::default());
    let place = own(&["172.18.0.5", "fd00::5"]);
    let answer = ask(&fake, &place, Kind::BlackHolePort, Act::Start, PORT);
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert_eq!(fake.net(), Net::default());
}

#[test]
fn latency_and_loss_exclude_each_other() {
    let fake = Fake::new();
    let place = own(&["172.18.0.5"]);
    assert_eq!(ask(&fake, &place, Kind::Latency, Act::Start, LATE), RUNNING);
    let words = "There is already one network latency fault running".to_owned();
    assert_eq!(
        ask(&fake, &place, Kind::PacketLoss, Act::Start, LOST),
        Answer::Conflict(words)
    );
    assert_eq!(
        ask(&fake, &place, Kind::PacketLoss, Act::Status, ""),
        NOT_RUNNING
    );
    // It is not the fault that is to stop.
    assert_eq!(ask(&fake, &place, Kind::PacketLoss, Act::Stop, ""), STOPPED);
    assert_eq!(ask(&fake, &place, Kind::Latency, Act::Status, ""), RUNNING);
}

#[test]
fn a_kernel_that_cannot_do_it_is_quoted() {
    for lacks in ["prio", "netem"] {
        let fake = Fake {
            lacks: Some(lacks),
            ..Fake::new()
        };
        assert_eq!(
            ask(
                &fake,
                &own(&["172.18.0.5"]),
                Kind::PacketLoss,
                Act::Start,
                LOST
            ),
            Answer::Failed(
                "start network-packet-loss: tc: Error: Specified qdisc kind is unknown.".to_owned()
            )
        );
        assert_eq!(fake.net(), Net::default());
    }
}

#[test]
fn a_network_without_an_address_of_the_task_is_left_alone() {
    let fake = Fake::new();
    for addresses in [&["172.18.0.6"][..], &[]] {
        let answer = ask(
            &fake,
            &own(addresses),
            Kind::BlackHolePort,
            Act::Start,
            PORT,
        );
        let Answer::Failed(words) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            words.contains("the network of process 77 is not the task's"),
            "{words}"
        );
    }
    assert_eq!(fake.net(), Net::default());
}

/// Tools of which none is there, or none comes to an end.
struct Broken(NotRun);

impl Tools for Broken {
    fn run(&self, _: &Command) -> Result<Ran, NotRun> {
        Err(self.0.clone())
    }
}

#[test]
fn tools_that_are_missing_or_slow_are_told() {
    let request = Request::read(Kind::BlackHolePort, Act::Status, PORT.as_bytes()).unwrap();
    for (why, place, words) in [
        (
            NotRun::TimedOut,
            Place::Host,
            "check status network-blackhole-port: request timed out",
        ),
        (
            NotRun::Absent("No such file or directory".to_owned()),
            own(&["172.18.0.5"]),
            "check status network-blackhole-port: the host cannot run `nsenter`: No such file or directory",
        ),
    ] {
        let broken = Broken(why);
        let answer = perform(Act::Status, &request, &place, &broken);
        assert_eq!(answer, Answer::Failed(words.to_owned()));
    }
}

#[test]
fn requests_are_validated_as_ecs_does() {
    let wrong = |kind, act, body: &str| Request::read(kind, act, body.as_bytes()).unwrap_err();
    for (kind, body, words) in [
        (Kind::BlackHolePort, "", "required request body is missing"),
        (
            Kind::BlackHolePort,
            "{}",
            "required parameter Port is missing",
        ),
        (
            Kind::BlackHolePort,
            r#"{"Port":80}"#,
            "required parameter Protocol is missing",
        ),
        (
            Kind::BlackHolePort,
            r#"{"Port":80,"Protocol":"tcp","TrafficType":""}"#,
            "required parameter TrafficType is missing",
        ),
        (
            Kind::BlackHolePort,
            r#"{"Port":80,"Protocol":"TCP","TrafficType":"ingress"}"#,
            "invalid value TCP for parameter Protocol",
        ),
        (
            Kind::BlackHolePort,
            r#"{"Port":80,"Protocol":"tcp","TrafficType":"in"}"#,
            "invalid value in for parameter TrafficType",
        ),
        (Kind::Latency, "", "required request body is missing"),
        (
            Kind::Latency,
            "{}",
            "required parameter DelayMilliseconds is missing",
        ),
        (
            Kind::Latency,
            r#"{"DelayMilliseconds":1}"#,
            "required parameter JitterMilliseconds is missing",
        ),
        (
            Kind::Latency,
            r#"{"DelayMilliseconds":1,"JitterMilliseconds":1,"Sources":[]}"#,
            "required parameter Sources is missing",
        ),
        (
            Kind::PacketLoss,
            "{}",
            "required parameter LossPercent is missing",
        ),
        (
            Kind::PacketLoss,
            r#"{"LossPercent":0,"Sources":["1.2.3.4"]}"#,
            "invalid value 0 for parameter LossPercent",
        ),
        (
            Kind::PacketLoss,
            r#"{"LossPercent":101,"Sources":["1.2.3.4"]}"#,
            "invalid value 101 for parameter LossPercent",
        ),
    ] {
        assert_eq!(wrong(kind, Act::Start, body), words, "{body}");
    }
    for source in [
        "",
        "host",
        "1.2.3",
        "1.2.3.4/33",
        "1.2.3.4/+8",
        "1.2.3.4/",
        "fd00::/129",
        "1.2.3.4 flowid",
        "1.2.3.4;x",
    ] {
        let body = json!({ "LossPercent": 1, "Sources": [source] }).to_string();
        let words = format!("invalid value {source} for parameter Sources");
        assert_eq!(wrong(Kind::PacketLoss, Act::Start, &body), words);
    }
    let port = wrong(
        Kind::BlackHolePort,
        Act::Start,
        r#"{"Port":65536,"Protocol":"tcp","TrafficType":"ingress"}"#,
    );
    assert!(
        port.starts_with("the request body cannot be read: "),
        "{port}"
    );
    // To end what is there, and to ask for it, nothing need be said.
    for act in [Act::Stop, Act::Status] {
        assert!(Request::read(Kind::Latency, act, b"").is_ok());
        assert!(Request::read(Kind::PacketLoss, act, b"").is_ok());
        assert_eq!(
            wrong(Kind::BlackHolePort, act, ""),
            "required request body is missing"
        );
    }
}

#[test]
fn bodies_are_those_of_ecs() {
    let body = |answer: Answer| serde_json::to_string(&answer.body()).unwrap();
    assert_eq!(body(RUNNING), r#"{"Status":"running"}"#);
    assert_eq!(body(STOPPED), r#"{"Status":"stopped"}"#);
    assert_eq!(body(NOT_RUNNING), r#"{"Status":"not-running"}"#);
    assert_eq!(body(Answer::Invalid("x".to_owned())), r#"{"Error":"x"}"#);
}

fn rig(mode: &str, on: bool) -> Rig {
    let mut spec = rig::plan(vec![rig::container("app", true)]);
    for definition in spec.definitions.values_mut() {
        definition.definition.network_mode = serde_json::from_value(json!(mode)).unwrap();
        definition.definition.enable_fault_injection = Some(on);
    }
    let mut rig = Rig::of(spec);
    rig.settle_down();
    rig.run(Duration::from_secs(20));
    rig
}

#[test]
fn tasks_that_ask_for_it_get_it_in_their_own_network_or_the_hosts() {
    let host = HostPlace::default();
    for (mode, on, words) in [
        (
            "host",
            false,
            "enableFaultInjection is not enabled for task: arn:aws:ecs:::task/default/web-000001",
        ),
        (
            "bridge",
            true,
            "bridge mode is not supported. Please use either host or awsvpc mode.",
        ),
        (
            "none",
            true,
            "none mode is not supported. Please use either host or awsvpc mode.",
        ),
    ] {
        let sight = rig(mode, on).machine.sight();
        let told = refused(&sight, &host, "app");
        assert_eq!(told, Some(Answer::Invalid(words.to_owned())), "{mode}");
    }
    let rig_of_host = rig("host", true);
    let sight = rig_of_host.machine.sight();
    assert_eq!(refused(&sight, &host, "app"), None);
    assert_eq!(Place::of(&sight, "app"), Some(Place::Host));
    let document = documents::task(&sight, &host, Version::Four);
    assert_eq!(document.fault_injection_enabled, Some(true));
    let own = rig("awsvpc", true);
    let mut sight = own.machine.sight();
    assert_eq!(refused(&sight, &host, "app"), None);
    let holder = sight.seen[pause::NAME].clone();
    let (address, _) = holder.attachments[0].ipv4.unwrap();
    assert_eq!(
        Place::of(&sight, "app"),
        Some(Place::Own {
            pid: holder.pid.unwrap(),
            addresses: vec![IpAddr::V4(address)],
        })
    );
    sight.seen.remove(pause::NAME);
    assert_eq!(Place::of(&sight, "app"), None);
}

/// Rehearsals are one command each: a shell in a network of its own.
struct Rehearsals(Mutex<Vec<String>>);

impl Tools for Rehearsals {
    fn run(&self, command: &Command) -> Result<Ran, NotRun> {
        self.0.lock().unwrap().push(command.to_string());
        let netem = command.to_string().contains("netem");
        Ok(Ran {
            code: Some(if netem { 2 } else { 0 }),
            err: "Error: Specified qdisc kind is unknown.\n".to_owned(),
            ..Ran::default()
        })
    }
}

#[test]
fn a_host_offers_what_it_could_do_when_it_tried() {
    let tools = Rehearsals(Mutex::default());
    let (abilities, reasons) = Abilities::tried(&tools);
    assert_eq!(
        abilities,
        Abilities {
            black_hole_port: true,
            impairment: false,
        }
    );
    let why = "Error: Specified qdisc kind is unknown.".to_owned();
    assert_eq!(reasons, [(Ability::Impairment, why)]);
    let lines = tools.0.into_inner().unwrap();
    insta::assert_snapshot!("fault-rehearsals", lines.join("\n"));
}
