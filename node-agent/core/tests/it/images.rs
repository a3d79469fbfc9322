//! Image cleanup: what may go, in which order, and what never does.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tallyman_agent_core::images::{ImageBook, dispensable, foreign, references, spent};
use tallyman_agent_core::settings::images::Images;
use tallyman_agent_engine::{
    ContainerState, ContainerSummary, Health, ImageState, Moment, Phase, PhaseKind, PullBehavior,
};
use tallyman_crds::labels;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn image(name: &str, built: i64, bytes: i64) -> ImageState {
    ImageState {
        id: format!("sha256:{name}"),
        names: vec![format!("{name}:latest")],
        created_at: Some(Moment(at(built).as_millisecond())),
        bytes,
    }
}

fn container(name: &str, image: &str, phase: PhaseKind, ours: bool) -> ContainerSummary {
    let mut summary = ContainerSummary {
        id: name.to_owned(),
        name: name.to_owned(),
        image_id: format!("sha256:{image}"),
        labels: std::collections::BTreeMap::new(),
        phase,
        health: None,
        ports: Vec::new(),
    };
    if ours {
        let label = labels::CONTAINER_TASK_UID.to_owned();
        summary.labels.insert(label, "uid".to_owned());
    }
    summary
}

fn names<'a>(images: &[&'a ImageState]) -> Vec<&'a str> {
    images.iter().map(|i| &i.id["sha256:".len()..]).collect()
}

#[test]
fn what_tasks_brought_goes_least_recently_used_first_and_not_too_many_at_once() {
    let mut book = ImageBook::default();
    for (name, used) in [("c", 3), ("a", 2), ("b", 1), ("d", 4)] {
        book.note(&format!("sha256:{name}"), true, at(used));
    }
    let images = ["a", "b", "c", "d"].map(|name| image(name, 0, 1));
    let settings = Images {
        images_per_cycle: 3,
        ..Images::default()
    };
    let go = |now, settings: &Images| {
        names(&dispensable(settings, &book, &images, &[], at(now)))
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(go(HOUR, &settings), [] as [&str; 0]);
    assert_eq!(go(HOUR + 2, &settings), ["b", "a"]);
    assert_eq!(go(HOUR + 9, &settings), ["b", "a", "c"]);
    for off in [
        Images {
            cleanup_disabled: true,
            ..settings.clone()
        },
        Images {
            pull_behavior: PullBehavior::PreferCached,
            ..settings.clone()
        },
    ] {
        assert_eq!(go(2 * HOUR, &off), [] as [&str; 0]);
    }
    let excluded = Images {
        excluded: vec!["a".to_owned(), "b:latest".to_owned()],
        ..settings
    };
    assert_eq!(go(2 * HOUR, &excluded), ["c", "d"]);
}

#[test]
fn an_old_image_that_a_task_was_just_given_stays() {
    let mut book = ImageBook::default();
    book.note("sha256:a", true, at(0));
    book.note("sha256:a", false, at(2 * HOUR));
    let images = [image("a", 0, 1)];
    let settings = Images::default();
    let go = |now| dispensable(&settings, &book, &images, &[], at(now)).len();
    assert_eq!(go(2 * HOUR + 599), 0);
    assert_eq!(go(2 * HOUR + 600), 1);
}

#[test]
fn images_of_nobody_go_only_when_asked_for_the_smallest_first_with_what_is_left_of_the_cycle() {
    let mut book = ImageBook::default();
    book.note("sha256:ours", true, at(0));
    let images = [
        image("big", 0, 9),
        image("young", 2 * HOUR, 1),
        image("small", 0, 2),
        image("ours", 0, 5),
    ];
    let mut settings = Images {
        images_per_cycle: 2,
        ..Images::default()
    };
    let now = at(2 * HOUR);
    assert_eq!(
        names(&dispensable(&settings, &book, &images, &[], now)),
        ["ours"]
    );
    settings.untracked = true;
    let go = dispensable(&settings, &book, &images, &[], now);
    assert_eq!(names(&go), ["ours", "small"]);
    settings.images_per_cycle = 9;
    let go = dispensable(&settings, &book, &images, &[], now);
    assert_eq!(names(&go), ["ours", "small", "big"]);
}

#[test]
fn containers_of_nobody_go_when_they_are_over_for_long_enough() {
    let list = [
        container("ours", "a", PhaseKind::Exited, true),
        container("runs", "a", PhaseKind::Running, false),
        container("made", "a", PhaseKind::Created, false),
        container("over", "a", PhaseKind::Exited, false),
        container("late", "a", PhaseKind::Exited, false),
    ];
    let mut settings = Images::default();
    assert_eq!(foreign(&settings, &list), [] as [&str; 0]);
    settings.untracked = true;
    assert_eq!(foreign(&settings, &list), ["made", "over", "late"]);
    let state = |name: &str, phase| ContainerState {
        id: name.to_owned(),
        name: name.to_owned(),
        image: "a".to_owned(),
        image_id: "sha256:a".to_owned(),
        labels: std::collections::BTreeMap::new(),
        phase,
        health: Health::None,
        ports: Vec::new(),
        created_at: Some(Moment(at(0).as_millisecond())),
        started_at: None,
        attachments: Vec::new(),
        pid: None,
        resolver_file: String::new(),
        last_check: None,
        mounts: Vec::new(),
    };
    let exited = |seconds| Phase::Exited {
        exit_code: 0,
        finished_at: Some(Moment(at(seconds).as_millisecond())),
        oom_killed: false,
        error: None,
    };
    let states = [
        state("late", exited(100)),
        state("over", exited(50)),
        state("made", Phase::Created),
        state("runs", Phase::Running { started_at: None }),
    ];
    let wait = Duration::from_secs(60);
    assert_eq!(spent(&settings, wait, &states, at(120)), ["made", "over"]);
    settings.containers_per_cycle = 1;
    assert_eq!(spent(&settings, wait, &states, at(120)), ["made"]);
}

#[test]
fn an_image_without_a_name_goes_by_its_id() {
    let mut lost = image("a", 0, 1);
    assert_eq!(references(&lost), ["a:latest"]);
    lost.names.clear();
    assert_eq!(references(&lost), ["sha256:a"]);
}

#[test]
fn the_book_outlives_the_agent_and_forgets_what_is_gone() {
    let mut book = ImageBook::default();
    book.note("sha256:a", true, at(0));
    book.note("sha256:b", true, at(0));
    let text = serde_json::to_string(&book).unwrap();
    let mut read: ImageBook = serde_json::from_str(&text).unwrap();
    assert_eq!(read, book);
    assert!(read.keep(&[image("a", 0, 1)]));
    assert!(read.has("sha256:a") && !read.has("sha256:b"));
    assert!(!read.keep(&[image("a", 0, 1)]));
}

proptest! {
    /// Whatever the host has and whatever is set: an image in use stays, no cycle takes too many, and what was asked to
    /// stay stays.
    #[test]
    fn an_image_in_use_never_goes(
        have in prop::collection::btree_set(0..12u8, 0..12),
        used in prop::collection::vec((0..12u8, any::<bool>()), 0..8),
        brought in prop::collection::vec((0..12u8, 0..10_000i64), 0..12),
        excluded in prop::collection::btree_set(0..12u8, 0..3),
        untracked: bool,
        most in 1..6i64,
        now in 0..20_000i64,
    ) {
        let images: Vec<ImageState> = have.iter().map(|n| image(&n.to_string(), 0, i64::from(*n))).collect();
        let containers: Vec<ContainerSummary> = used
            .iter()
            .enumerate()
            .map(|(i, (n, ours))| container(&i.to_string(), &n.to_string(), PhaseKind::Exited, *ours))
            .collect();
        let mut book = ImageBook::default();
        for (n, seconds) in &brought {
            book.note(&format!("sha256:{n}"), true, at(*seconds));
        }
        let settings = Images {
            untracked,
            images_per_cycle: most,
            excluded: excluded.iter().map(u8::to_string).collect(),
            ..Images::default()
        };
        let go = dispensable(&settings, &book, &images, &containers, at(now));
        prop_assert!(go.len() <= usize::try_from(most).unwrap());
        let in_use: BTreeSet<&str> = containers.iter().map(|c| c.image_id.as_str()).collect();
        for image in go {
            prop_assert!(!in_use.contains(image.id.as_str()));
            let n: u8 = image.id["sha256:".len()..].parse().unwrap();
            prop_assert!(!excluded.contains(&n));
            prop_assert!(untracked || book.has(&image.id));
        }
    }
}
