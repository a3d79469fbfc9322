//! What the fake adds to the port: time, mishaps, crashes, and hands behind the agent's back.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use futures::FutureExt;
use futures::stream::StreamExt;
use tallyman_agent_engine::fake::{Crash, FakeEngine, Mishap, Outcome, Program, RegistryMood};
use tallyman_agent_engine::{
    ContainerSpec, Engine, EngineError, Health, HealthCheck, Hint, Moment, Phase, PhaseKind,
    PortSpec, Protocol, PullBehavior, PullFault, Retry, Verb,
};

const SCOPE: (&str, &str) = ("scope", "ours");
const SECOND: Duration = Duration::from_secs(1);

fn fake() -> FakeEngine {
    FakeEngine::new("host-a")
}

fn spec(name: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name, "web:1");
    spec.labels.insert("scope".to_owned(), "ours".to_owned());
    spec
}

/// All futures of the fake are ready at once, unless stops are held.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the fake answers at once")
}

fn launch(fake: &FakeEngine, spec: &ContainerSpec) {
    now(fake.prepare(&spec.image, PullBehavior::Default, None)).unwrap();
    now(fake.create(spec)).unwrap();
    now(fake.start(&spec.name)).unwrap();
}

fn phase(fake: &FakeEngine, name: &str) -> Phase {
    fake.peek(name).unwrap().phase
}

fn exit_code(fake: &FakeEngine, name: &str) -> Option<i64> {
    match phase(fake, name) {
        Phase::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

#[test]
fn programs_end_when_their_time_has_come() {
    let fake = fake();
    fake.set_program("web:1", Program::exits(3, SECOND * 5));
    launch(&fake, &spec("aa"));
    assert_eq!(fake.next_event(), Some(Moment(5_000)));
    fake.advance(SECOND * 4);
    assert_eq!(exit_code(&fake, "aa"), None);
    fake.advance(SECOND * 60);
    assert_eq!(exit_code(&fake, "aa"), Some(3));
    let Phase::Exited { finished_at, .. } = phase(&fake, "aa") else {
        panic!("it runs");
    };
    assert_eq!(finished_at, Some(Moment(5_000)));
    assert_eq!(fake.now(), Moment(64_000));
    fake.set_now(Moment(1));
    assert_eq!(fake.now(), Moment(64_000), "time never goes back");
}

#[test]
fn a_container_killed_for_memory_says_so() {
    let fake = fake();
    fake.set_program("web:1", Program::runs_out_of_memory(SECOND));
    launch(&fake, &spec("aa"));
    fake.advance(SECOND);
    let phase = phase(&fake, "aa");
    assert!(
        matches!(
            phase,
            Phase::Exited {
                exit_code: 137,
                oom_killed: true,
                ..
            }
        ),
        "{phase:?}"
    );
}

#[test]
fn verdicts_come_in_order_and_hint() {
    let fake = fake();
    let program = Program::runs()
        .health_after(SECOND, Health::Healthy)
        .health_after(SECOND * 3, Health::Unhealthy);
    fake.set_program("web:1", program);
    let mut checked = spec("aa");
    checked.health_check = Some(HealthCheck {
        test: vec!["CMD-SHELL".to_owned(), "true".to_owned()],
        interval: SECOND,
        timeout: SECOND,
        retries: 1,
        start_period: None,
    });
    let mut hints = fake.watch(SCOPE);
    launch(&fake, &checked);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(fake.peek("aa").unwrap().health);
        fake.advance(SECOND);
    }
    assert_eq!(
        seen,
        [
            Health::Starting,
            Health::Healthy,
            Health::Healthy,
            Health::Unhealthy
        ]
    );
    let hints: Vec<_> = std::iter::from_fn(|| hints.next().now_or_never().flatten()).collect();
    let changed = Hint::HealthChanged("aa".to_owned());
    assert_eq!(
        hints,
        [Hint::Started("aa".to_owned()), changed.clone(), changed]
    );
}

#[test]
fn a_held_stop_waits_for_the_end() {
    let fake = fake();
    fake.hold_stops(true);
    fake.set_program("web:1", Program::runs().stopping(SECOND * 3, 143));
    launch(&fake, &spec("aa"));
    let mut stop = fake.stop("aa", SECOND * 10).boxed();
    assert!(stop.as_mut().now_or_never().is_none());
    assert_eq!(phase(&fake, "aa").kind(), PhaseKind::Running);
    fake.advance(SECOND * 3);
    assert!(stop.now_or_never().unwrap().is_ok());
    assert_eq!(exit_code(&fake, "aa"), Some(143));
    // Who asks and dies still stops the container.
    fake.set_program("web:1", Program::runs().ignoring_stop());
    launch(&fake, &spec("bb"));
    drop(fake.stop("bb", SECOND * 2).boxed().now_or_never());
    fake.advance(SECOND * 2);
    assert_eq!(exit_code(&fake, "bb"), Some(137));
}

#[test]
fn mishaps_befall_the_next_fitting_call() {
    let fake = fake();
    launch(&fake, &spec("aa"));
    fake.next_for(Verb::Stop, "aa", Mishap::TimeoutAfter);
    now(fake.stop("bb", SECOND)).unwrap();
    let error = now(fake.stop("aa", SECOND)).unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown);
    assert_eq!(exit_code(&fake, "aa"), Some(0), "it was done all the same");
    now(fake.stop("aa", SECOND)).unwrap();
    fake.next(Verb::Start, Mishap::TimeoutBefore);
    now(fake.start("aa")).unwrap_err();
    assert_eq!(exit_code(&fake, "aa"), Some(0), "it was not done");
    fake.next(Verb::Remove, Mishap::InterruptedAfter);
    let error = now(fake.remove("aa")).unwrap_err();
    assert!(matches!(
        error,
        EngineError::Interrupted {
            verb: Verb::Remove,
            ..
        }
    ));
    assert_eq!(fake.peek("aa"), None);
    let refusal = EngineError::NoSpace {
        message: "no space left on device".to_owned(),
    };
    fake.fail(Verb::Create, 2, &refusal);
    for _ in 0..2 {
        let error = now(fake.create(&spec("cc"))).unwrap_err();
        assert!(matches!(error, EngineError::NoSpace { .. }));
    }
    now(fake.create(&spec("cc"))).unwrap();
}

#[test]
fn an_agent_can_be_killed_at_every_call() {
    let calls = 4; // of `life`, below
    for carried_out in [false, true] {
        for at_call in 1..=calls {
            let fake = fake();
            fake.crash(Crash {
                at_call,
                carried_out,
            });
            assert!(life(&fake).is_err());
            assert!(fake.crashed());
            let log = fake.take_call_log();
            let last = log.iter().find(|call| call.number == at_call).unwrap();
            assert_eq!(
                last.outcome == Outcome::DoneButLost,
                carried_out,
                "{last:?}"
            );
            fake.mend();
            life(&fake).unwrap();
            let containers = fake.containers();
            assert_eq!(containers.len(), 1, "one container whatever happened");
            assert_eq!(containers[0].phase, PhaseKind::Running);
        }
    }
}

/// A small agent.
fn life(fake: &FakeEngine) -> Result<(), EngineError> {
    now(fake.prepare("web:1", PullBehavior::Default, None))?;
    now(fake.create(&spec("aa")))?;
    now(fake.start("aa"))?;
    now(fake.inspect("aa")).map(drop)
}

#[test]
fn an_engine_that_is_away_answers_nothing_and_its_containers_run_on() {
    let fake = fake();
    launch(&fake, &spec("aa"));
    let mut hints = fake.watch(SCOPE);
    fake.set_unreachable(true);
    assert_eq!(now(hints.next()), Some(Hint::Lost));
    assert_eq!(now(hints.next()), None);
    assert_eq!(now(fake.watch(SCOPE).next()), Some(Hint::Lost));
    let error = now(fake.list(SCOPE)).unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }));
    fake.set_unreachable(false);
    assert_eq!(now(fake.list(SCOPE)).unwrap()[0].phase, PhaseKind::Running);
}

#[test]
fn pulls_follow_the_behaviour_and_the_registrys_mood() {
    let fake = fake();
    let prepare = |behavior| now(fake.prepare("web:1", behavior, None));
    assert!(prepare(PullBehavior::Default).unwrap().pulled);
    fake.set_registry(RegistryMood::Unreachable);
    let cached = prepare(PullBehavior::Default).unwrap();
    assert!(!cached.pulled && cached.pull_failure.is_some() && cached.image_digest.is_some());
    assert!(!prepare(PullBehavior::Once).unwrap().pulled);
    prepare(PullBehavior::Always).unwrap_err();
    assert_eq!(fake.pulls(), 3);
    fake.forget_image("web:1");
    fake.set_registry(RegistryMood::Denies);
    for behavior in [PullBehavior::Default, PullBehavior::Once] {
        let error = prepare(behavior).unwrap_err();
        assert!(matches!(
            error,
            EngineError::PullFailed {
                why: PullFault::Denied,
                ..
            }
        ));
        assert_eq!(error.retry(), Retry::Never);
    }
    fake.set_registry(RegistryMood::Gives);
    fake.set_missing("web:1");
    let error = prepare(PullBehavior::Default).unwrap_err();
    assert!(matches!(error, EngineError::ImageNotFound { .. }));
    fake.publish_image("web:1");
    assert!(prepare(PullBehavior::PreferCached).unwrap().pulled);
}

#[test]
fn ports_collide_by_protocol_and_address_while_their_container_runs() {
    let fake = fake();
    let port = |host_port, protocol, ip: Option<&str>| PortSpec {
        container_port: 80,
        host_port,
        protocol,
        host_ip: ip.map(|ip| ip.parse().unwrap()),
    };
    let with = |name: &str, port| {
        let mut spec = spec(name);
        spec.ports = vec![port];
        spec
    };
    let begin = |spec: ContainerSpec| {
        now(fake.prepare(&spec.image, PullBehavior::Default, None)).unwrap();
        now(fake.create(&spec)).unwrap();
        now(fake.start(&spec.name))
    };
    begin(with("aa", port(Some(80), Protocol::Tcp, Some("10.0.0.1")))).unwrap();
    begin(with("bb", port(Some(80), Protocol::Tcp, Some("10.0.0.2")))).unwrap();
    begin(with("cc", port(Some(80), Protocol::Udp, None))).unwrap();
    let error = begin(with("dd", port(Some(80), Protocol::Tcp, None))).unwrap_err();
    assert!(matches!(
        error,
        EngineError::PortTaken { port: Some(80), .. }
    ));
    fake.kill("aa");
    fake.kill("bb");
    now(fake.start("dd")).unwrap();
    fake.occupy_port(32768, Protocol::Tcp);
    begin(with("ee", port(None, Protocol::Tcp, None))).unwrap();
    assert_eq!(fake.peek("ee").unwrap().ports[0].host_port, 32769);
}

#[test]
fn strange_phases_are_within_reach() {
    let fake = fake();
    launch(&fake, &spec("aa"));
    fake.distort("aa", Phase::Paused);
    assert!(matches!(
        now(fake.remove("aa")),
        Err(EngineError::Running { .. })
    ));
    fake.distort("aa", Phase::Dead);
    assert!(matches!(
        now(fake.start("aa")),
        Err(EngineError::CannotStart { .. })
    ));
    now(fake.stop("aa", SECOND)).unwrap();
    now(fake.remove("aa")).unwrap();
    launch(&fake, &spec("bb"));
    fake.restart_engine(true);
    assert_eq!(phase(&fake, "bb").kind(), PhaseKind::Running);
    fake.restart_engine(false);
    assert_eq!(exit_code(&fake, "bb"), Some(255));
}

#[test]
fn the_same_story_leaves_the_same_world() {
    let story = || {
        let fake = fake();
        fake.set_program("web:1", Program::exits(1, SECOND));
        for name in ["cc", "aa", "bb"] {
            launch(&fake, &spec(name));
        }
        fake.advance(SECOND * 2);
        (
            format!("{:?}", fake.containers()),
            fake.call_log(),
            fake.calls_of(Verb::Create),
        )
    };
    assert_eq!(story(), story());
    let other = FakeEngine::new("host-b");
    launch(&other, &spec("aa"));
    let ours = fake();
    launch(&ours, &spec("aa"));
    assert_ne!(other.peek("aa").unwrap().id, ours.peek("aa").unwrap().id);
}
