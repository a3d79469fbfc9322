//! What the adapter makes of an engine that is away, old, slow, or breaks off; and how often it asks.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/script.rs"]
mod script;

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::StreamExt;
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::{
    ContainerSpec, Engine, EngineError, Fault, Hint, PullBehavior, PullFault, Retry, Verb,
};

use script::{Reply, Scripted, fresh_path};

const INSPECTED: &str = r#"{"Id":"1","Name":"/a","Image":"sha256:2","Config":{"Labels":{"x":"y"}},
    "State":{"Status":"running","StartedAt":"2026-01-01T00:00:00Z"}}"#;
const IMAGE: &str = r#"{"Id":"sha256:2","RepoDigests":["web@sha256:3"]}"#;

fn says(status: u16, body: &str) -> Reply {
    Reply::Says(status, body.to_owned())
}

fn refuses(status: u16, words: &str) -> Reply {
    Reply::Says(status, format!(r#"{{"message":"{words}"}}"#))
}

fn unknown() -> Reply {
    refuses(404, "page not found")
}

fn quick() -> Settings {
    let short = Duration::from_millis(300);
    Settings {
        look: short,
        list: short,
        create: short,
        start: short,
        remove: short,
        stop_margin: short,
        pull_inactivity: short,
        pull_patience: Duration::from_millis(100),
        prepared_fresh: Duration::ZERO,
        ..Settings::default()
    }
}

fn engine(scripted: &Scripted) -> DockerEngine {
    DockerEngine::new(&scripted.endpoint(), quick()).unwrap()
}

fn spec() -> ContainerSpec {
    let mut spec = ContainerSpec::new("a", "web");
    spec.labels.insert("x".to_owned(), "y".to_owned());
    spec
}

#[tokio::test]
async fn a_socket_that_comes_later_is_unreachable_until_then() {
    let path = fresh_path();
    let endpoint = format!("unix://{}", path.display());
    let engine = DockerEngine::new(&endpoint, quick()).unwrap();
    let error = engine.inspect("a").await.unwrap_err();
    assert!(
        matches!(error, EngineError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(
        (error.retry(), error.fault()),
        (Retry::Later, Fault::Engine)
    );
    let scripted = Scripted::at(&path, |_| unknown());
    assert_eq!(engine.inspect("a").await.unwrap(), None);
    drop(scripted);
    let error = engine.inspect("a").await.unwrap_err();
    assert!(
        matches!(error, EngineError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_unreachable() {
    let path = fresh_path();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let engine = DockerEngine::new(&format!("unix://{}", path.display()), quick()).unwrap();
    let error = engine.start("a").await.unwrap_err();
    assert!(
        matches!(error, EngineError::Unreachable { .. }),
        "{error:?}"
    );
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn an_engine_before_api_1_41_is_too_old() {
    let scripted = Scripted::new(|_| says(200, r#"{"ApiVersion":"1.40"}"#));
    let error = engine(&scripted).describe().await.unwrap_err();
    let EngineError::TooOld { found, oldest } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((found.as_str(), oldest.as_str()), ("1.40", "1.41"));
    assert_eq!((error.retry(), error.fault()), (Retry::Never, Fault::Host));
}

#[tokio::test]
async fn requests_carry_the_agreed_version() {
    let newer = Scripted::new(|request| match request {
        "GET /version" => says(200, r#"{"ApiVersion":"1.99"}"#),
        _ => says(200, "[]"),
    });
    engine(&newer).list(("x", "y")).await.unwrap();
    let ours = newer.requests().pop().unwrap();
    assert!(ours.starts_with("GET /v1.5"), "{ours}");
    let older = Scripted::new(|request| match request {
        "GET /containers/json" => says(200, "[]"),
        _ => unknown(),
    });
    engine(&older).list(("x", "y")).await.unwrap();
    assert_eq!(
        older.requests(),
        ["GET /version", "GET /v1.41/containers/json"]
    );
}

#[tokio::test]
async fn silence_is_a_timeout_and_its_outcome_unknown() {
    let scripted = Scripted::new(|request| match request {
        "GET /version" => unknown(),
        _ => Reply::Hangs,
    });
    let engine = engine(&scripted);
    let name = "a";
    let grace = Duration::from_millis(200);
    let errors = [
        (Verb::Create, engine.create(&spec()).await.map(drop)),
        (Verb::Start, engine.start(name).await),
        (Verb::Stop, engine.stop(name, grace).await),
        (Verb::Remove, engine.remove(name).await),
        (Verb::Inspect, engine.inspect(name).await.map(drop)),
        (Verb::List, engine.list(("x", "y")).await.map(drop)),
        (Verb::Describe, engine.describe().await.map(drop)),
        (Verb::Stats, engine.stats(name).await.map(drop)),
        (Verb::ListImages, engine.list_images().await.map(drop)),
        (Verb::RemoveImage, engine.remove_image(name).await),
    ];
    for (asked, answer) in errors {
        let error = answer.unwrap_err();
        let EngineError::Timeout { verb, after } = &error else {
            panic!("{asked}: {error:?}");
        };
        assert_eq!(*verb, asked);
        let limit = if asked == Verb::Stop {
            grace
        } else {
            Duration::ZERO
        };
        assert_eq!(*after, limit + Duration::from_millis(300), "{asked}");
        assert_eq!(
            (error.retry(), error.fault()),
            (Retry::Unknown, Fault::Engine)
        );
    }
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    let scripted = Scripted::new(|request| match request {
        "GET /version" => unknown(),
        _ => Reply::BreaksOff,
    });
    let error = engine(&scripted).start("a").await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Interrupted {
                verb: Verb::Start,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Unknown);
}

#[tokio::test]
async fn only_404_proves_absence() {
    for status in [400, 403, 409, 500, 503] {
        let scripted = Scripted::new(move |request| match request {
            "GET /version" => unknown(),
            _ => refuses(status, "No such container: a"),
        });
        let answer = engine(&scripted).inspect("a").await;
        assert!(answer.is_err(), "{status}: {answer:?}");
    }
}

#[tokio::test]
async fn one_start_is_three_calls() {
    let scripted = Scripted::new(|request| match request {
        "POST /containers/create" => says(201, r#"{"Id":"1","Warnings":[]}"#),
        "POST /containers/a/start" => says(204, ""),
        "GET /containers/a/json" => says(200, INSPECTED),
        _ => unknown(),
    });
    let engine = engine(&scripted);
    engine.create(&spec()).await.unwrap();
    engine.start("a").await.unwrap();
    let state = engine.inspect("a").await.unwrap().unwrap();
    assert!(state.phase.kind().is_alive());
    assert_eq!(
        scripted.requests(),
        [
            "GET /version",
            "POST /v1.41/containers/create",
            "POST /v1.41/containers/a/start",
            "GET /v1.41/containers/a/json",
        ]
    );
}

#[tokio::test]
async fn a_taken_name_costs_one_look() {
    let scripted = Scripted::new(|request| match request {
        "POST /containers/create" => refuses(409, "Conflict. The container name is in use"),
        "GET /containers/a/json" => says(200, INSPECTED),
        _ => unknown(),
    });
    let engine = engine(&scripted);
    assert!(engine.create(&spec()).await.unwrap().adopted);
    let mut other = spec();
    other.labels.insert("uid".to_owned(), "1".to_owned());
    let error = engine.create(&other).await.unwrap_err();
    assert!(matches!(error, EngineError::NameTaken { .. }), "{error:?}");
    assert_eq!(scripted.requests().len(), 5);
}

/// An engine with a cached image and a registry that plays `pull`.
fn with_image(pull: Reply) -> Scripted {
    Scripted::new(move |request| match request {
        "GET /images/web/json" => says(200, IMAGE),
        "POST /images/create" => pull.clone(),
        _ => unknown(),
    })
}

fn pulls(scripted: &Scripted) -> usize {
    let requests = scripted.requests();
    requests
        .iter()
        .filter(|one| one.ends_with("/images/create"))
        .count()
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_once_by_fifty_tasks() {
    for away in [
        refuses(500, "dial tcp: lookup registry-1.docker.io: i/o timeout"),
        Reply::Hangs,
    ] {
        let scripted = with_image(away);
        let engine = engine(&scripted);
        let begun = Instant::now();
        for _ in 0..5 {
            let tasks = (0..10).map(|_| engine.prepare("web", PullBehavior::Default, None));
            for prepared in join_all(tasks).await {
                let prepared = prepared.unwrap();
                assert!(!prepared.pulled);
                assert!(matches!(
                    prepared.pull_failure,
                    Some(EngineError::PullFailed {
                        why: PullFault::RegistryUnreachable | PullFault::Stalled,
                        ..
                    })
                ));
                assert_eq!(prepared.image_digest.as_deref(), Some("sha256:3"));
            }
        }
        assert_eq!(pulls(&scripted), 1);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn many_tasks_share_one_pull() {
    let done = r#"{"status":"Status: Image is up to date"}"#.to_owned();
    let scripted = with_image(Reply::SaysAfter(Duration::from_millis(50), 200, done));
    let engine = engine(&scripted);
    let tasks = (0..50).map(|_| engine.prepare("web", PullBehavior::Always, None));
    for prepared in join_all(tasks).await {
        assert!(prepared.unwrap().pulled);
    }
    assert_eq!(pulls(&scripted), 1);
    // Without a span of freshness the next one asks again, as ECS does.
    engine
        .prepare("web", PullBehavior::Always, None)
        .await
        .unwrap();
    assert_eq!(pulls(&scripted), 2);
}

#[tokio::test]
async fn a_prepared_image_is_fresh_for_a_while() {
    let scripted = with_image(says(200, "{}"));
    let settings = Settings {
        prepared_fresh: Duration::from_secs(60),
        ..quick()
    };
    let engine = DockerEngine::new(&scripted.endpoint(), settings).unwrap();
    for _ in 0..10 {
        engine
            .prepare("web", PullBehavior::Default, None)
            .await
            .unwrap();
    }
    assert_eq!(pulls(&scripted), 1);
    // Until a create finds the image gone.
    let error = engine
        .create(&ContainerSpec::new("a", "web"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, EngineError::ImageNotFound { .. }),
        "{error:?}"
    );
    engine
        .prepare("web", PullBehavior::Default, None)
        .await
        .unwrap();
    assert_eq!(pulls(&scripted), 2);
}

#[tokio::test]
async fn a_pull_that_stalls_in_the_middle_fails() {
    let scripted = with_image(Reply::BeginsAndHangs(
        r#"{"status":"Pulling from web"}"#.to_owned(),
    ));
    let error = engine(&scripted)
        .prepare("web", PullBehavior::Always, None)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::PullFailed {
                why: PullFault::Stalled,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!((error.retry(), error.fault()), (Retry::Later, Fault::Host));
}

/// A clean-up that queued behind a pull once held all pulls behind itself (ECS agent #836).
#[tokio::test]
async fn a_pull_that_goes_on_holds_neither_clean_up_nor_other_tasks() {
    let scripted = Scripted::new(|request| match request {
        "GET /images/web/json" => says(200, IMAGE),
        "POST /images/create" => {
            Reply::BeginsAndHangs(r#"{"status":"Pulling from slow"}"#.to_owned())
        }
        "DELETE /images/old" => says(200, "[]"),
        _ => unknown(),
    });
    let settings = Settings {
        pull_inactivity: Duration::from_secs(3600),
        ..quick()
    };
    let engine = DockerEngine::new(&scripted.endpoint(), settings).unwrap();
    let pulling = engine.prepare("slow", PullBehavior::Always, None);
    let meanwhile = async {
        while pulls(&scripted) == 0 {
            tokio::task::yield_now().await;
        }
        let error = engine.remove_image("slow").await.unwrap_err();
        assert!(matches!(error, EngineError::ImageInUse { .. }), "{error:?}");
        engine.remove_image("old").await.unwrap();
        let prepared = engine.prepare("web", PullBehavior::PreferCached, None);
        assert!(!prepared.await.unwrap().pulled);
    };
    tokio::select! {
        outcome = pulling => panic!("the pull ended: {outcome:?}"),
        () = meanwhile => {}
    }
}

#[tokio::test]
async fn an_error_in_the_stream_fails_the_pull() {
    let body = "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"write /x: no space left on device\"},\"error\":\"write /x: no space left on device\"}\r\n";
    let scripted = with_image(says(200, body));
    let error = engine(&scripted)
        .prepare("web", PullBehavior::Always, None)
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::NoSpace { .. }), "{error:?}");
}

#[tokio::test]
async fn progress_that_cannot_be_read_is_looked_up() {
    let scripted = with_image(says(200, "{\"status\":5}\n"));
    let prepared = engine(&scripted)
        .prepare("web", PullBehavior::Always, None)
        .await
        .unwrap();
    assert!(prepared.pulled);
    assert_eq!(pulls(&scripted), 3);
}

#[tokio::test]
async fn an_image_that_was_pulled_and_cannot_be_looked_at_has_no_digest() {
    let done = r#"{"status":"Status: Downloaded newer image"}"#;
    for (looked, words) in [
        (unknown(), "web was pulled and is not there"),
        (
            refuses(500, "layer does not exist"),
            "web was pulled and cannot be looked at: layer does not exist",
        ),
    ] {
        let scripted = Scripted::new(move |request| match request {
            "GET /images/web/json" => looked.clone(),
            "POST /images/create" => says(200, done),
            _ => unknown(),
        });
        let error = engine(&scripted)
            .prepare("web", PullBehavior::Always, None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, EngineError::CannotResolve { .. }),
            "{error:?}"
        );
        assert_eq!(error.to_string(), words);
        assert_eq!(
            (error.retry(), error.fault()),
            (Retry::Later, Fault::Engine)
        );
    }
}

/// As the Docker client, the pull does without what could not be looked up; a registry that wants it has the last word.
#[tokio::test]
async fn a_lookup_of_credentials_that_fails_is_told_when_the_registry_wants_some() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, "no configuration").unwrap();
    let settings = Settings {
        client_config: Some(file),
        ..quick()
    };
    let done = says(200, r#"{"status":"Status: Downloaded newer image"}"#);
    let denied = refuses(500, "pull access denied for web");
    let absent = refuses(404, "manifest for web not found");
    for (answer, wanted) in [(done, None), (denied, Some(true)), (absent, Some(false))] {
        let scripted = with_image(answer);
        let engine = DockerEngine::new(&scripted.endpoint(), settings.clone()).unwrap();
        let error = engine
            .prepare("web", PullBehavior::Always, None)
            .await
            .err();
        let told = error.as_ref().map(|error| {
            matches!(error, EngineError::CannotAuthenticate { image, .. } if image == "web")
        });
        assert_eq!(told, wanted, "{error:?}");
        let Some(error) = error.filter(|_| wanted == Some(true)) else {
            continue;
        };
        assert_eq!(
            error.to_string(),
            "the credentials for docker.io could not be looked up: the Docker configuration could not be read; \
             without them: pull access denied for web"
        );
        assert_eq!((error.retry(), error.fault()), (Retry::Later, Fault::Host));
    }
}

#[tokio::test]
async fn a_watch_that_breaks_says_so_once_and_ends() {
    let event =
        r#"{"Type":"container","Action":"start","Actor":{"ID":"1","Attributes":{"name":"a"}}}"#;
    let scripted = Scripted::new(move |request| match request {
        "GET /events" => says(200, &format!("{event}\n")),
        _ => unknown(),
    });
    let hints: Vec<Hint> = engine(&scripted).watch(("x", "y")).collect().await;
    assert_eq!(hints, [Hint::Started("a".to_owned()), Hint::Lost]);
    let nobody = DockerEngine::new("unix:///nowhere/at/all", quick()).unwrap();
    let hints: Vec<Hint> = nobody.watch(("x", "y")).collect().await;
    assert_eq!(hints, [Hint::Lost]);
}

#[tokio::test]
async fn a_volume_is_removed_only_after_its_labels_were_seen() {
    let volume = |owner: &str| {
        says(
            200,
            &format!(
                r#"{{"Name":"v","Driver":"local","Mountpoint":"/x","Labels":{{"uid":"{owner}"}},"Options":null,"Scope":"local"}}"#
            ),
        )
    };
    for (owner, asked) in [("ours", 2), ("theirs", 1)] {
        let answer = volume(owner);
        let scripted = Scripted::new(move |request| match request {
            "GET /volumes/v" => answer.clone(),
            "DELETE /volumes/v" => says(204, ""),
            _ => unknown(),
        });
        let engine = engine(&scripted);
        engine.remove_volume("v", ("uid", "ours")).await.unwrap();
        let requests = scripted.requests();
        let told = requests.iter().filter(|r| r.contains("/volumes/v")).count();
        assert_eq!(told, asked, "{requests:?}");
    }
    let scripted = Scripted::new(|request| match request {
        "POST /volumes/create" => refuses(409, "A volume named v already exists"),
        "GET /volumes/v" => Reply::Hangs,
        _ => unknown(),
    });
    let engine = engine(&scripted);
    let mut spec = tallyman_agent_engine::VolumeSpec::new("v");
    spec.driver = "other".to_owned();
    let error = engine.create_volume(&spec).await.unwrap_err();
    assert!(
        matches!(error, EngineError::VolumeTaken { .. }),
        "{error:?}"
    );
    assert_eq!((error.retry(), error.fault()), (Retry::Never, Fault::Host));
    let error = engine.inspect_volume("v").await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Timeout {
                verb: Verb::InspectVolume,
                ..
            }
        ),
        "{error:?}"
    );
}
