//! A registry that runs as a container on the engine's own host.

use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions};
use futures::stream::TryStreamExt;
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::conformance::Bench;
use tallyman_agent_engine::{ContainerSpec, Engine, EngineError, Network, Prepared, PullBehavior};

use crate::bench::{self, DockerBench, Scratch};

/// User `anna`, password `s3cret`, as `htpasswd -B` writes them.
const HTPASSWD: &str = "anna:$2y$05$Wm0ODqW1zmmdFz6.vaEzj.Jzx1ouvBAGJC9EICllU8MVAyVx4qxBe\n";

/// A handle that remembers nothing of earlier pulls.
pub fn engine(endpoint: &str) -> DockerEngine {
    DockerEngine::new(endpoint, Settings::default()).unwrap()
}

pub async fn prepare(
    endpoint: &str,
    image: &str,
    behavior: PullBehavior,
) -> Result<Prepared, EngineError> {
    engine(endpoint).prepare(image, behavior, None).await
}

/// An image of a registry, with one configuration that lets everybody in and one that lets in who knows the password.
pub async fn import_registry(docker: &Docker, [open, closed]: [u16; 2]) {
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

pub async fn begin(bench: &DockerBench, name: &str, configuration: &str) {
    bench.destroy(name).await.unwrap();
    let mut spec = ContainerSpec::new(name, "localhost:1/tallyman-registry:1");
    spec.network = Network::Host;
    let words = ["/bin/registry", "serve", &format!("/{configuration}")].map(str::to_owned);
    spec.command = Some(words.to_vec());
    bench.engine().create(&spec).await.unwrap();
    bench.engine().start(name).await.unwrap();
}

/// Pushes an image of the host as tag `1` of a repository.
pub async fn push(docker: &Docker, image: &str, repository: &str, user: Option<DockerCredentials>) {
    let options = TagImageOptions {
        repo: Some(repository.to_owned()),
        tag: Some("1".to_owned()),
    };
    docker.tag_image(image, Some(options)).await.unwrap();
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
pub async fn in_the_end<T, E: std::fmt::Debug>(
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

pub async fn forget(docker: &Docker, image: &str) {
    let options = RemoveImageOptions {
        force: true,
        ..RemoveImageOptions::default()
    };
    docker
        .remove_image(image, Some(options), None)
        .await
        .unwrap();
}
