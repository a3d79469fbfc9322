//! Pulls from a real registry, which runs as a container on the engine's own host.
//!
//! Needs `TALLYMAN_TEST_ENGINES` and busybox-static as the conformance suite, and the registry that `dev/tools.sh engines`
//! builds.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
#[allow(dead_code, reason = "shared with the conformance suite")]
mod bench;
#[path = "support/registry.rs"]
mod registry;

use std::time::Duration;

use bollard::auth::DockerCredentials;
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::conformance::Bench;
use tallyman_agent_engine::{
    ContainerSpec, Engine, EngineError, Network, PullBehavior, PullFault, RegistryCredentials,
    Sensitive,
};

use bench::{DockerBench, IMAGE, engines};
use registry::{begin, engine, forget, import_registry, in_the_end, prepare, push};

const OPEN: &str = "conformance-registry-open";
const CLOSED: &str = "conformance-registry-closed";
const SILENT: &str = "conformance-registry-silent";

#[tokio::test]
async fn images_come_from_a_registry() {
    for (index, (name, endpoint)) in engines().into_iter().enumerate() {
        let bench = DockerBench::new(&endpoint, 20 + index).await;
        println!("engine {name}");
        let (open, closed) = (bench.free_port(), bench.free_port());
        import_registry(bench.docker(), [open, closed]).await;
        begin(&bench, OPEN, "open").await;
        begin(&bench, CLOSED, "closed").await;
        let image = format!("localhost:{open}/pulled:1");
        push(
            bench.docker(),
            IMAGE,
            &format!("localhost:{open}/pulled"),
            None,
        )
        .await;
        present(&bench, &endpoint, &image).await;
        absent(&endpoint, open, closed).await;
        with_credentials(&bench, &endpoint, closed).await;
        stalled(&bench, &endpoint).await;
        away(&bench, &endpoint, &image).await;
        bench.destroy(CLOSED).await.unwrap();
        forget(bench.docker(), &image).await;
    }
}

async fn present(bench: &DockerBench, endpoint: &str, image: &str) {
    for behavior in [
        PullBehavior::Default,
        PullBehavior::Always,
        PullBehavior::Once,
        PullBehavior::PreferCached,
    ] {
        forget(bench.docker(), image).await;
        let first = prepare(endpoint, image, behavior).await.unwrap();
        assert!(
            first.pulled && first.pull_failure.is_none(),
            "{behavior:?}: {first:?}"
        );
        let digest = first.image_digest.unwrap();
        assert!(digest.starts_with("sha256:"), "{digest}");
        let second = prepare(endpoint, image, behavior).await.unwrap();
        let again = matches!(behavior, PullBehavior::Default | PullBehavior::Always);
        assert_eq!(second.pulled, again, "{behavior:?}: {second:?}");
        assert_eq!(second.image_id, first.image_id);
        assert_eq!(second.image_digest, Some(digest.clone()));
        let pinned = format!("{image}@{digest}");
        let pinned = prepare(endpoint, &pinned, behavior).await.unwrap();
        assert_eq!(pinned.image_id, first.image_id);
    }
}

async fn absent(endpoint: &str, open: u16, closed: u16) {
    for image in [
        format!("localhost:{open}/pulled:nope"),
        format!("localhost:{open}/nobody:1"),
    ] {
        let error = prepare(endpoint, &image, PullBehavior::Default)
            .await
            .unwrap_err();
        assert!(
            matches!(error, EngineError::ImageNotFound { .. }),
            "{error:?}"
        );
    }
    let image = format!("localhost:{closed}/pulled:1");
    let error = prepare(endpoint, &image, PullBehavior::Default)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::PullFailed {
                why: PullFault::Denied,
                ..
            }
        ),
        "{error:?}"
    );
    for image in ["UPPER:1", "a b:1", "a?b", "a#b", "../containers/json", ""] {
        let error = prepare(endpoint, image, PullBehavior::Default)
            .await
            .unwrap_err();
        assert!(
            matches!(error, EngineError::InvalidSpec { .. }),
            "{image}: {error:?}"
        );
    }
}

/// Given credentials, those of the Docker client's file, and wrong ones.
async fn with_credentials(bench: &DockerBench, endpoint: &str, closed: u16) {
    let anna = DockerCredentials {
        username: Some("anna".to_owned()),
        password: Some("s3cret".to_owned()),
        ..DockerCredentials::default()
    };
    push(
        bench.docker(),
        IMAGE,
        &format!("localhost:{closed}/own"),
        Some(anna),
    )
    .await;
    let image = format!("localhost:{closed}/own:1");
    let user = |password: &str| RegistryCredentials {
        username: "anna".to_owned(),
        password: Sensitive::new(password),
    };
    let always = PullBehavior::Always;
    // One handle: what one user pulled says nothing about another's pull.
    let shared = engine(endpoint);
    let right = user("s3cret");
    let pulled = shared.prepare(&image, always, Some(&right)).await.unwrap();
    assert!(pulled.pulled && pulled.image_digest.is_some(), "{pulled:?}");
    for wrong in [Some(user("guessed")), None] {
        let denied = shared.prepare(&image, always, wrong.as_ref()).await;
        let why = match denied {
            Err(EngineError::PullFailed { why, .. }) => why,
            other => panic!("{wrong:?}: {other:?}"),
        };
        assert_eq!(why, PullFault::Denied, "{wrong:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let server = format!("localhost:{closed}");
    // anna:s3cret
    let config = format!(r#"{{"auths": {{"{server}": {{"auth": "YW5uYTpzM2NyZXQ="}}}}}}"#);
    std::fs::write(&file, config).unwrap();
    let settings = Settings {
        client_config: Some(file),
        ..Settings::default()
    };
    let as_client = DockerEngine::new(endpoint, settings).unwrap();
    forget(bench.docker(), &image).await;
    let pulled = as_client.prepare(&image, always, None).await.unwrap();
    assert!(pulled.pulled, "{pulled:?}");
    forget(bench.docker(), &image).await;
}

/// A registry that takes the connection and says nothing: the engine would wait, the pull does not.
async fn stalled(bench: &DockerBench, endpoint: &str) {
    let port = bench.free_port();
    bench.destroy(SILENT).await.unwrap();
    let mut spec = ContainerSpec::new(SILENT, IMAGE);
    spec.network = Network::Host;
    let listens = ["nc", "-ll", "-p", &port.to_string(), "-e", "sleep", "60"].map(str::to_owned);
    spec.command = Some(listens.to_vec());
    bench.engine().create(&spec).await.unwrap();
    bench.engine().start(SILENT).await.unwrap();
    let settings = Settings {
        pull_inactivity: Duration::from_secs(2),
        ..Settings::default()
    };
    let engine = DockerEngine::new(endpoint, settings).unwrap();
    let image = format!("localhost:{port}/silent:1");
    // Until it listens the engine is refused.
    let message = in_the_end("it was not given up", async || {
        match engine.prepare(&image, PullBehavior::Always, None).await {
            Err(EngineError::PullFailed {
                why: PullFault::Stalled,
                message,
                ..
            }) => Ok(message),
            other => Err(other),
        }
    })
    .await;
    assert!(message.contains("got no word"), "{message}");
    bench.destroy(SILENT).await.unwrap();
}

async fn away(bench: &DockerBench, endpoint: &str, image: &str) {
    bench.destroy(OPEN).await.unwrap();
    let cached = prepare(endpoint, image, PullBehavior::Default)
        .await
        .unwrap();
    assert!(!cached.pulled, "{cached:?}");
    assert!(cached.image_digest.is_some(), "{cached:?}");
    for failure in [
        cached.pull_failure,
        prepare(endpoint, image, PullBehavior::Always).await.err(),
    ] {
        assert!(
            matches!(
                failure,
                Some(EngineError::PullFailed {
                    why: PullFault::RegistryUnreachable,
                    ..
                })
            ),
            "{failure:?}"
        );
    }
}
