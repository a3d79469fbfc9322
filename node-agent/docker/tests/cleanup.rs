//! Image cleanup on real engines: the agent's own cycle, told that it is later.
//!
//! Needs what the pull tests need. It removes from its engines what nobody uses.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
#[allow(dead_code, reason = "shared with the conformance suite")]
mod bench;
#[path = "support/registry.rs"]
#[allow(dead_code, reason = "shared with the pull tests")]
mod registry;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tallyman_agent_core::Settings;
use tallyman_agent_core::images::{ImageBook, Removal, clean};
use tallyman_agent_engine::conformance::{Bench, Program};
use tallyman_agent_engine::{ContainerSpec, Engine, PhaseKind, PullBehavior};
use tallyman_crds::labels;

use bench::{DockerBench, busybox, engines, import};
use registry::{begin, forget, import_registry, prepare, push};

const REGISTRY: &str = "conformance-registry-cleanup";
/// Of a person.
const THEIRS: &str = "localhost:1/theirs";

#[tokio::test]
async fn images_that_nothing_uses_go_when_they_are_old_and_no_others() {
    for (index, (name, endpoint)) in engines().into_iter().enumerate() {
        let bench = DockerBench::new(&endpoint, 30 + index).await;
        println!("engine {name}");
        let port = bench.free_port();
        import_registry(bench.docker(), [port, bench.free_port()]).await;
        begin(&bench, REGISTRY, "open").await;
        let mut host = Host {
            bench: &bench,
            endpoint: &endpoint,
            port,
            book: ImageBook::default(),
            begun: Timestamp::now(),
            brought: 0,
            known: BTreeMap::new(),
        };
        host.bring_all().await;
        host.have_theirs().await;
        host.used().await;
        host.young_images_stay().await;
        host.few_at_once_and_least_recently_used_first().await;
        host.what_is_in_use_stays().await;
        host.what_is_not_in_use_any_more_goes().await;
        host.what_no_task_brought_goes_when_asked_for().await;
        for container in ["runs", "lends", REGISTRY] {
            bench.destroy(container).await.unwrap();
        }
    }
}

/// A host with what its tasks brought, and what else is there.
struct Host<'a> {
    bench: &'a DockerBench,
    endpoint: &'a str,
    /// Of the registry.
    port: u16,
    book: ImageBook,
    begun: Timestamp,
    /// So many times a task was given an image.
    brought: i64,
    /// Ids of images, as this test calls them.
    known: BTreeMap<&'static str, String>,
}

impl Host<'_> {
    fn repository(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }

    /// The registry has a new image as tag `1` of these repositories. It was pushed under another name of the registry, and the
    /// host does not have it.
    async fn publish(&self, names: &[&str], mark: &str) {
        let docker = self.bench.docker();
        import(docker, "localhost:1/elsewhere", mark, busybox(mark)).await;
        let image = format!("localhost:1/elsewhere:{mark}");
        for name in names {
            let repository = format!("127.0.0.1:{}/{name}", self.port);
            push(docker, &image, &repository, None).await;
            forget(docker, &format!("{repository}:1")).await;
        }
        forget(docker, &image).await;
    }

    /// A task is given an image. Returns the digest that is told.
    async fn bring(&mut self, called: &'static str, image: &str) -> String {
        let prepared = prepare(self.endpoint, image, PullBehavior::Always).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{image}: {error}"));
        let at = self.begun + SignedDuration::from_secs(self.brought);
        self.brought += 1;
        self.book.note(&prepared.image_id, prepared.pulled, at);
        self.known.insert(called, prepared.image_id);
        prepared.image_digest.unwrap()
    }

    async fn bring_tag(&mut self, name: &'static str) -> String {
        self.publish(&[name], name).await;
        let image = format!("{}:1", self.repository(name));
        self.bring(name, &image).await
    }

    async fn bring_all(&mut self) {
        let tagged = |host: &Self, name: &str| format!("{}:1", host.repository(name));
        self.bring_tag("old").await;
        // Two tags.
        self.bring_tag("tags").await;
        let second = format!("{}:2", self.repository("tags"));
        let first = tagged(self, "tags");
        self.bench.name_image(&first, &second).await.unwrap();
        // By digest alone.
        let digest = self.bring_tag("digest").await;
        forget(self.bench.docker(), &tagged(self, "digest")).await;
        let pinned = format!("{}:1@{digest}", self.repository("digest"));
        self.bring("digest", &pinned).await;
        // By its tag, and pinned as tasks of a deployment are.
        let digest = self.bring_tag("pinned").await;
        let pinned = format!("{}@{digest}", tagged(self, "pinned"));
        self.bring("pinned", &pinned).await;
        // By a tag in one repository and by digest in another.
        self.publish(&["both", "other"], "both").await;
        let digest = self.bring("both", &tagged(self, "both")).await;
        let other = format!("{}@{digest}", self.repository("other"));
        self.bring("other", &other).await;
        assert_eq!(self.known["other"], self.known["both"]);
        for name in ["runs", "over", "lends", "kept"] {
            self.bring_tag(name).await;
        }
        // Pulled again under a new digest; of the second a container is made before.
        for (name, new) in [("moves", "moved"), ("stays", "replaced")] {
            self.bring_tag(name).await;
            if name == "stays" {
                self.make("stays", name, true).await;
            }
            self.publish(&[name], new).await;
            let image = tagged(self, name);
            self.bring(new, &image).await;
            assert_ne!(self.known[name], self.known[new]);
        }
    }

    /// A container of an image that the registry has, of ours or of a foreigner.
    async fn make(&self, container: &str, image: &str, ours: bool) {
        let image = format!("{}:1", self.repository(image));
        self.make_of(container, &image, ours).await;
    }

    async fn make_of(&self, container: &str, image: &str, ours: bool) {
        self.bench.destroy(container).await.unwrap();
        let mut spec = ContainerSpec::new(container, image);
        spec.command = Some(self.bench.command(&Program::Runs));
        if ours {
            let label = labels::CONTAINER_TASK_UID.to_owned();
            spec.labels.insert(label, "uid".to_owned());
        }
        self.bench.engine().create(&spec).await.unwrap();
    }

    async fn start(&self, container: &str) {
        self.bench.engine().start(container).await.unwrap();
    }

    async fn end(&self, container: &str) {
        let ended = self.bench.engine().stop(container, Duration::ZERO).await;
        ended.unwrap();
    }

    /// Images that no task brought: one with nothing, one with a container that is over, one without a name.
    async fn have_theirs(&mut self) {
        for tag in ["idle", "ended", "lost", "new"] {
            import(self.bench.docker(), THEIRS, tag, busybox(tag)).await;
            let image = format!("{THEIRS}:{tag}");
            let found = self.bench.docker().inspect_image(&image).await.unwrap();
            self.known.insert(tag, found.id.unwrap());
        }
        let (new, lost) = (format!("{THEIRS}:new"), format!("{THEIRS}:lost"));
        self.bench.name_image(&new, &lost).await.unwrap();
        let ended = format!("{THEIRS}:ended");
        self.make_of("ended", &ended, false).await;
        self.start("ended").await;
        self.end("ended").await;
    }

    async fn used(&mut self) {
        for (container, ours) in [("runs", true), ("over", true), ("lends", false)] {
            self.make(container, container, ours).await;
            self.start(container).await;
        }
        self.end("over").await;
    }

    /// One cycle, so many hours after the images came. Returns what went: containers, and names of images.
    async fn cycle(&mut self, hours: i64, settings: &Settings) -> Vec<String> {
        let now = self.begun + SignedDuration::from_hours(hours) - SignedDuration::from_secs(1);
        let keep = |listed: &[_]| {
            self.book.keep(listed);
            self.book.clone()
        };
        let removals = clean(self.bench.engine(), settings, keep, now).await;
        let went = |removal| match removal {
            Removal::Container(name, Ok(())) | Removal::Image(name, Ok(())) => name,
            refused => panic!("{refused:?}"),
        };
        removals.unwrap().into_iter().map(went).collect()
    }

    /// Asked past the port.
    async fn is_there(&self, called: &str) -> bool {
        let looked = self.bench.docker().inspect_image(&self.known[called]).await;
        match looked {
            Ok(_) => true,
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => false,
            Err(error) => panic!("{called}: {error}"),
        }
    }

    async fn gone(&self, called: &[&str]) {
        for image in called {
            assert!(!self.is_there(image).await, "{image} is still there");
        }
    }

    async fn left(&self, called: &[&str]) {
        for image in called {
            assert!(self.is_there(image).await, "{image} is gone");
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.images.images_per_cycle = 100;
        settings.images.excluded = vec![format!("{}:1", self.repository("kept"))];
        settings
    }

    async fn young_images_stay(&mut self) {
        let settings = self.settings();
        let went = self.cycle(1, &settings).await;
        assert!(went.is_empty(), "{went:?}");
    }

    async fn few_at_once_and_least_recently_used_first(&mut self) {
        let mut settings = self.settings();
        settings.images.images_per_cycle = 2;
        let went = self.cycle(2, &settings).await;
        let tags = self.repository("tags");
        let expected = [
            format!("{}:1", self.repository("old")),
            format!("{tags}:1"),
            format!("{tags}:2"),
        ];
        assert_eq!(went, expected);
        self.gone(&["old", "tags"]).await;
        self.left(&["digest", "pinned", "both", "moves"]).await;
    }

    async fn what_is_in_use_stays(&mut self) {
        let settings = self.settings();
        let went = self.cycle(2, &settings).await;
        println!("  went: {went:?}");
        let unused = ["digest", "pinned", "both", "moves", "moved", "replaced"];
        self.gone(&unused).await;
        self.left(&["runs", "over", "lends", "kept", "stays"]).await;
        self.left(&["idle", "ended", "lost", "new"]).await;
        let went = self.cycle(2, &settings).await;
        assert!(went.is_empty(), "{went:?}");
        for phase in [("runs", PhaseKind::Running), ("over", PhaseKind::Exited)] {
            self.is(phase.0, Some(phase.1)).await;
        }
    }

    async fn is(&self, container: &str, phase: Option<PhaseKind>) {
        let found = self.bench.engine().inspect(container).await.unwrap();
        let found = found.map(|state| state.phase.kind());
        assert_eq!(found, phase, "{container}");
    }

    async fn what_is_not_in_use_any_more_goes(&mut self) {
        for container in ["over", "stays"] {
            self.bench.engine().remove(container).await.unwrap();
        }
        let settings = self.settings();
        let went = self.cycle(2, &settings).await;
        assert_eq!(went.len(), 2, "{went:?}");
        self.gone(&["over", "stays"]).await;
        self.left(&["runs", "lends", "kept"]).await;
    }

    async fn what_no_task_brought_goes_when_asked_for(&mut self) {
        let mut settings = self.settings();
        settings.images.untracked = true;
        // Its container is over, and kept for as long as those of tasks are: three hours.
        self.cycle(2, &settings).await;
        self.gone(&["idle", "lost", "new"]).await;
        self.left(&["ended", "runs", "lends", "kept"]).await;
        let went = self.cycle(4, &settings).await;
        assert_eq!(went, ["ended".to_owned(), format!("{THEIRS}:ended")]);
        self.gone(&["ended"]).await;
        for container in ["runs", "lends", REGISTRY] {
            self.is(container, Some(PhaseKind::Running)).await;
        }
        self.left(&["runs", "lends", "kept"]).await;
        let kept = format!("{}:1", self.repository("kept"));
        forget(self.bench.docker(), &kept).await;
    }
}
