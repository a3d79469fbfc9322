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

use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions};
use futures::stream::TryStreamExt;
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::conformance::Bench;
use tallyman_agent_engine::{
    ContainerSpec, Engine, EngineError, Network, Prepared, PullBehavior, PullFault,
    RegistryCredentials, Sensitive,
};

use bench::{DockerBench, IMAGE, Scratch, engines};

const OPEN: &str = "conformance-registry-open";
const CLOSED: &str = "conformance-registry-closed";
const SILENT: &str = "conformance-registry-silent";
/// User `anna`, password `s3cret`, as `htpasswd -B` writes them.
const HTPASSWD: &str = "anna:$2y$05$Wm0ODqW1zmmdFz6.vaEzj.Jzx1ouvBAGJC9EICllU8MVAyVx4qxBe\n";

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
        push(bench.docker(), &format!("localhost:{open}/pulled"), None).await;
        present(&bench, &endpoint, &image).await;
        absent(&endpoint, open, closed).await;
        with_credentials(&bench, &endpoint, closed).await;
        stalled(&bench, &endpoint).await;
        away(&bench, &endpoint, &image).await;
        bench.destroy(CLOSED).await.unwrap();
        forget(bench.docker(), &image).await;
    }
}

/// A handle that remembers nothing of earlier pulls.
fn engine(endpoint: &str) -> DockerEngine {
    DockerEngine::new(endpoint, Settings::default()).unwrap()
}

async fn prepare(
    endpoint: &str,
    image: &str,
    behavior: PullBehavior,
) -> Result<Prepared, EngineError> {
    engine(endpoint).prepare(image, behavior, None).await
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

/// An image of a registry, with one configuration that lets everybody in and one that lets in who knows the password.
async fn import_registry(docker: &Docker, [open, closed]: [u16; 2]) {
    let root = Scratch::new();
    let registry = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.tools/engines/bin/registry"
    );
    root.install(registry, "bin/registry", "run dev/tools.sh engines");
    let storage = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /data\n";
    let http = |port: u16| format!("http:\n  addr: 127.0.0.1:{port}\n");
    let auth = "auth:\n  htpasswd:\n    realm: closed\n    path: /htpasswd\n";
    root.write("htpasswd", HTPASSWD);
    root.write("open", &format!("{storage}{}", http(open)));
    root.write("closed", &format!("{storage}{}{auth}", http(closed)));
    root.write("data/.keep", "");
    bench::import(docker, "localhost:1/tallyman-registry", "1", root.archive()).await;
}

async fn begin(bench: &DockerBench, name: &str, configuration: &str) {
    bench.destroy(name).await.unwrap();
    let mut spec = ContainerSpec::new(name, "localhost:1/tallyman-registry:1");
    spec.network = Network::Host;
    let words = ["/bin/registry", "serve", &format!("/{configuration}")].map(str::to_owned);
    spec.command = Some(words.to_vec());
    bench.engine().create(&spec).await.unwrap();
    bench.engine().start(name).await.unwrap();
}

async fn push(docker: &Docker, repository: &str, user: Option<DockerCredentials>) {
    let options = TagImageOptions {
        repo: Some(repository.to_owned()),
        tag: Some("1".to_owned()),
    };
    docker.tag_image(IMAGE, Some(options)).await.unwrap();
    // The registry may not be up yet.
    in_the_end("push never succeeded", async || {
        let options = PushImageOptions {
            tag: Some("1".to_owned()),
            ..PushImageOptions::default()
        };
        let user = user.clone().unwrap_or_default();
        let pushed = docker.push_image(repository, Some(options), Some(user));
        pushed.try_collect::<Vec<_>>().await
    })
    .await;
}

/// What `once` gives when it succeeds, tried again for ten seconds and more.
async fn in_the_end<T, E: std::fmt::Debug>(
    failed: &str,
    once: impl AsyncFn() -> Result<T, E>,
) -> T {
    let mut attempt = 0;
    loop {
        match once().await {
            Ok(value) => return value,
            Err(error) => assert!(attempt < 50, "{failed}: {error:?}"),
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn forget(docker: &Docker, image: &str) {
    let options = RemoveImageOptions {
        force: true,
        ..RemoveImageOptions::default()
    };
    docker
        .remove_image(image, Some(options), None)
        .await
        .unwrap();
}
