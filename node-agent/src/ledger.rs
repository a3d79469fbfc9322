//! The disk: the last plan, a record for each task, and who the engine was.
//!
//! A cache. The engine's labels are the truth about containers and the API about the plan; what is lost
//! here costs words and retries (`tallyman_agent_core::task`). So writes are coalesced and never in the
//! way of a start. One thing waits for the disk: the report of a task's end, since a task that failed
//! before it had a container leaves no other trace on the host. Each task has a file of its own: a host remembers thousands that
//! are over, and each end is written down. Each file ends with the sum of what it says, and one that was changed since counts as lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tallyman_agent_core::images::ImageBook;
use tallyman_agent_core::{Host, TaskRecord, TaskUid};
use tallyman_agent_engine::{EngineDescription, ImageState};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::files;

const PLAN: &str = "plan.json";
/// Folder of the records.
const TASKS: &str = "tasks";
const ENGINE: &str = "engine.json";
const IMAGES: &str = "images.json";
const LOCK: &str = "lock";
/// Begins the second line of a file, which holds the sum of the first. Both are JSON.
const SUM: &str = "\"sha256:";
/// Changes within this time go to disk together.
const COALESCE: Duration = Duration::from_millis(100);
/// The same, once somebody waits for them.
const AWAITED: Duration = Duration::from_millis(10);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What was on disk.
#[derive(Debug, Default)]
pub struct Saved {
    /// `spec` of the last HostPlan.
    pub plan: Option<Value>,
    /// Records of tasks.
    pub records: BTreeMap<TaskUid, TaskRecord>,
    /// As the engine described itself last.
    pub engine: Option<EngineDescription>,
    /// Images that tasks brought.
    pub images: ImageBook,
}

#[derive(Default)]
struct Pages {
    records: BTreeMap<TaskUid, Arc<TaskRecord>>,
    plan: Option<Arc<Value>>,
    engine: Option<EngineDescription>,
    images: ImageBook,
    images_dirty: bool,
    /// Counts changes.
    version: u64,
    /// Tasks whose files are not what `records` says.
    changed: BTreeSet<TaskUid>,
    /// Why the last changes could not be written.
    trouble: Option<String>,
}

/// A handle to the files; clones share them.
#[derive(Clone)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
    changed: Arc<Notify>,
    awaited: Arc<Notify>,
    written: watch::Receiver<u64>,
}

/// Held while the agent uses the folder.
pub struct FolderLock(
    #[expect(dead_code, reason = "the lock lives as long as the file is open")] File,
);

/// Makes the folder and takes its lock, so that two agents never share records.
///
/// # Errors
/// Nothing can be written to the folder, or another agent uses it.
pub fn lock(folder: &Path) -> anyhow::Result<FolderLock> {
    let path = folder.join(LOCK);
    let open = || {
        std::fs::create_dir_all(folder)?;
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
    };
    let file = open().with_context(|| {
        format!(
            "nothing can be written to the data directory `{folder}`; name a folder of this host in --data-dir, \
             TALLYMAN_DATA_DIR or ECS_DATADIR, or let the agent's unit write there with `ReadWritePaths={folder}`",
            folder = folder.display()
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another agent uses the data directory {}; give this one its own with --data-dir",
            folder.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Reads what an earlier agent left. What cannot be read is set aside and counts as lost.
pub fn load(folder: &Path) -> Saved {
    Saved {
        plan: read(&folder.join(PLAN)),
        records: records(&folder.join(TASKS)),
        engine: read(&folder.join(ENGINE)),
        images: read(&folder.join(IMAGES)).unwrap_or_default(),
    }
}

fn records(folder: &Path) -> BTreeMap<TaskUid, TaskRecord> {
    let mut records = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // No task was ever recorded.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return records,
        Err(error) => {
            warn!(path = %folder.display(), %error, "cannot read what was saved");
            return records;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let extension = path.extension().and_then(|e| e.to_str());
        match extension {
            Some("json") => {
                let record: Option<TaskRecord> = read(&path);
                records.extend(record.map(|record| (record.uid.clone(), record)));
            }
            // The agent ended before it had its name.
            Some("new") => drop(files::remove(&path)),
            _ => {}
        }
    }
    records
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read what was saved");
            return None;
        }
    };
    match unsealed(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            let aside = path.with_extension("broken");
            let kept = std::fs::rename(path, &aside).is_ok();
            warn!(path = %path.display(), %error, kept, "what was saved is broken and counts as lost");
            None
        }
    }
}

/// JSON and its sum: a disk that changes a digit of a uid must not make another task of it.
pub fn sealed(json: &[u8]) -> Vec<u8> {
    let sum = Sha256::digest(json);
    let mut file = json.to_vec();
    file.extend_from_slice(format!("\n{SUM}").as_bytes());
    for byte in sum {
        file.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    file.extend_from_slice(b"\"\n");
    file
}

/// What a file says, if it is as it was written. One line without a sum is of an agent that wrote none: JSON has no line
/// breaks of its own here, so a file with a sum never passes for one without, unless it lost the sum alone.
pub fn unsealed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let json = match bytes.iter().position(|b| *b == b'\n') {
        None => bytes,
        Some(end) => {
            let json = &bytes[..end];
            if sealed(json) != bytes {
                return Err("its sum is not that of what it says".to_owned());
            }
            json
        }
    };
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

impl Ledger {
    /// Starts writing; ends when the runtime does, after [`Ledger::flush`].
    pub fn open(
        folder: PathBuf,
        records: BTreeMap<TaskUid, TaskRecord>,
        images: ImageBook,
    ) -> Self {
        let records = records.into_iter();
        let pages = Arc::new(Mutex::new(Pages {
            records: records.map(|(uid, r)| (uid, Arc::new(r))).collect(),
            images,
            ..Pages::default()
        }));
        let changed = Arc::new(Notify::new());
        let awaited = Arc::new(Notify::new());
        let (sender, written) = watch::channel(0);
        tokio::spawn(write_on(
            folder,
            Arc::clone(&pages),
            Arc::clone(&changed),
            Arc::clone(&awaited),
            sender,
        ));
        Self {
            pages,
            changed,
            awaited,
            written,
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a task. Returns the version to wait for.
    pub fn put(&self, record: Arc<TaskRecord>) -> u64 {
        let mut pages = self.pages();
        if pages.records.get(&record.uid) == Some(&record) {
            return pages.version;
        }
        pages.changed.insert(record.uid.clone());
        pages.records.insert(record.uid.clone(), record);
        self.touch(pages)
    }

    /// Forgets a task.
    pub fn forget(&self, uid: &TaskUid) {
        let mut pages = self.pages();
        if pages.records.remove(uid).is_some() {
            pages.changed.insert(uid.clone());
            self.touch(pages);
        }
    }

    /// Remembers the plan.
    pub fn put_plan(&self, spec: Arc<Value>) {
        let mut pages = self.pages();
        pages.plan = Some(spec);
        self.touch(pages);
    }

    /// Remembers the engine.
    pub fn put_engine(&self, engine: EngineDescription) {
        let mut pages = self.pages();
        pages.engine = Some(engine);
        self.touch(pages);
    }

    /// Remembers that a task was given an image.
    pub fn note_image(&self, image_id: &str, pulled: bool, now: Timestamp) {
        let mut pages = self.pages();
        pages.images.note(image_id, pulled, now);
        pages.images_dirty = true;
        self.touch(pages);
    }

    /// Images that tasks brought, of those that the host has.
    pub fn keep_images(&self, listed: &[ImageState]) -> ImageBook {
        let mut pages = self.pages();
        let changed = pages.images.keep(listed);
        let book = pages.images.clone();
        if changed {
            pages.images_dirty = true;
            self.touch(pages);
        }
        book
    }

    /// A task's record, as last put.
    pub fn record(&self, uid: &TaskUid) -> Option<TaskRecord> {
        let pages = self.pages();
        pages.records.get(uid).map(|r| TaskRecord::clone(r))
    }

    /// Tasks that are recorded as stopped.
    pub fn stopped(&self) -> BTreeSet<TaskUid> {
        let pages = self.pages();
        pages
            .records
            .values()
            .filter(|r| r.is_stopped())
            .map(|r| r.uid.clone())
            .collect()
    }

    /// Tasks of `host` that the API server forgot, with their names.
    pub fn forgotten(&self, host: &Host) -> BTreeMap<TaskUid, String> {
        host.forgotten(self.pages().records.values().map(|r| &**r))
    }

    /// Why plan and records cannot be written, for people; `None` while they can.
    pub fn trouble(&self) -> Option<String> {
        let pages = self.pages();
        let error = pages.trouble.as_ref()?;
        Some(format!(
            "The agent cannot write down what it knows ({error}): it works on, but should it be restarted now, it has to learn \
             anew from the engine and the API server. It tries again."
        ))
    }

    fn touch(&self, mut pages: MutexGuard<'_, Pages>) -> u64 {
        pages.version += 1;
        let version = pages.version;
        drop(pages);
        self.changed.notify_one();
        version
    }

    /// Waits until all changes up to `version` were written (or could not be).
    pub async fn written(&self, version: u64) {
        let mut written = self.written.clone();
        if *written.borrow_and_update() >= version {
            return;
        }
        self.awaited.notify_one();
        let _ = written.wait_for(|done| *done >= version).await;
    }

    /// Waits until everything put so far was written (or could not be).
    pub async fn flush(&self) {
        let version = self.pages().version;
        self.written(version).await;
    }
}

async fn write_on(
    folder: PathBuf,
    pages: Arc<Mutex<Pages>>,
    changed: Arc<Notify>,
    awaited: Arc<Notify>,
    written: watch::Sender<u64>,
) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        tokio::select! {
            () = tokio::time::sleep(COALESCE) => {}
            () = awaited.notified() => tokio::time::sleep(AWAITED).await,
        }
        let locked = || pages.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, taken) = {
            let mut pages = locked();
            (pages.version, pages.take_changes())
        };
        let outcome = match taken {
            Ok(batch) => write(batch.clone(), folder.clone())
                .await
                .map_err(|error| (batch, error)),
            Err(error) => Err((Batch::default(), error.into())),
        };
        failed = outcome.is_err();
        locked().note(outcome);
        written.send_replace(version);
    }
}

async fn write(batch: Batch, folder: PathBuf) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || batch.write(&folder)).await?
}

/// Changes that go to disk together, as they are in the files.
#[derive(Clone, Default)]
struct Batch {
    /// Records by task; none of one that is to be forgotten.
    records: BTreeMap<TaskUid, Option<Arc<TaskRecord>>>,
    plan: Option<Arc<Value>>,
    engine: Option<EngineDescription>,
    images: Option<Vec<u8>>,
}

impl Batch {
    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let replace = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            files::replace(&path, &sealed(bytes)).with_context(|| path.display().to_string())
        };
        if let Some(plan) = &self.plan {
            replace(PLAN, &serde_json::to_vec(&**plan)?)?;
        }
        if let Some(engine) = &self.engine {
            replace(ENGINE, &serde_json::to_vec(engine)?)?;
        }
        if let Some(images) = &self.images {
            replace(IMAGES, images)?;
        }
        self.write_records(folder)
    }

    fn write_records(&self, folder: &Path) -> anyhow::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let below = folder.join(TASKS);
        if !below.is_dir() {
            std::fs::create_dir(&below)
                .and_then(|()| files::sync_folder(folder))
                .with_context(|| below.display().to_string())?;
        }
        for (uid, record) in &self.records {
            let path = below.join(format!("{uid}.json"));
            match record {
                Some(record) => files::write(&path, &sealed(&serde_json::to_vec(&**record)?)),
                None => files::remove(&path),
            }
            .with_context(|| path.display().to_string())?;
        }
        files::sync_folder(&below).with_context(|| below.display().to_string())
    }
}

impl Pages {
    fn take_changes(&mut self) -> serde_json::Result<Batch> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let records = changed.map(|uid| {
            let record = self.records.get(&uid).cloned();
            (uid, record)
        });
        let images = self.images_dirty.then(|| serde_json::to_vec(&self.images));
        let batch = Batch {
            records: records.collect(),
            plan: self.plan.take(),
            engine: self.engine.take(),
            images: images.transpose()?,
        };
        self.images_dirty = false;
        Ok(batch)
    }

    fn note(&mut self, outcome: Result<(), (Batch, anyhow::Error)>) {
        match outcome {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("plan and records are written again");
                }
            }
            Err((batch, error)) => {
                self.put_back(batch);
                let trouble = Some(format!("{error:#}"));
                if self.trouble != trouble {
                    warn!(
                        error = trouble,
                        "cannot write plan and records; tried again"
                    );
                    self.trouble = trouble;
                }
            }
        }
    }

    /// What could not be written is written with the next changes, unless it changed meanwhile.
    fn put_back(&mut self, batch: Batch) {
        self.changed.extend(batch.records.into_keys());
        self.images_dirty |= batch.images.is_some();
        self.plan = self.plan.take().or(batch.plan);
        self.engine = self.engine.take().or(batch.engine);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn two_agents_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_err());
        drop(first);
        assert!(lock(folder.path()).is_ok());

        let below = folder.path().join(LOCK).join("below");
        let words = lock(&below).err().unwrap().to_string();
        let part = format!("with `ReadWritePaths={}`", below.display());
        assert!(
            words.contains(&part) && words.contains("ECS_DATADIR"),
            "{words}"
        );
    }

    #[test]
    fn broken_files_count_as_lost_and_are_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let tasks = folder.path().join(TASKS);
        std::fs::create_dir(&tasks).unwrap();
        std::fs::write(tasks.join("u1.json"), b"{\"half\":").unwrap();
        std::fs::write(tasks.join("u2.json.new"), b"{\"half\":").unwrap();
        let whole = sealed(br#"{"uid":"u3","name":"web-000003"}"#);
        std::fs::write(tasks.join("u3.json"), whole).unwrap();
        let saved = load(folder.path());
        let known: Vec<_> = saved.records.keys().map(TaskUid::as_str).collect();
        assert!(known == ["u3"] && saved.plan.is_none(), "{known:?}");
        assert!(tasks.join("u1.broken").exists() && !tasks.join("u2.json.new").exists());
    }

    /// Also where it stays JSON: a plan's generation or a task's uid with another digit would be believed.
    #[test]
    fn no_bit_of_a_file_can_change_unnoticed() {
        let json = br#"{"generation":12,"tasks":[{"uid":"0a1b","name":"web-000001"}]}"#;
        let file = sealed(json);
        assert_eq!(unsealed::<Value>(&file).unwrap()["generation"], 12);
        for at in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(unsealed::<Value>(&flipped).is_err(), "bit {at}");
        }
        for length in (0..file.len()).filter(|length| *length != json.len()) {
            assert!(
                unsealed::<Value>(&file[..length]).is_err(),
                "{length} bytes"
            );
        }
        // As agents before this wrote it.
        assert_eq!(unsealed::<Value>(json).unwrap()["generation"], 12);
    }

    /// Whoever waits for the disk goes on, and what could not be written is written once it can be.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_nothing_is_told_of_and_tried_again() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("later");
        let ledger = Ledger::open(folder.clone(), BTreeMap::new(), ImageBook::default());
        ledger.put_plan(Arc::new(serde_json::json!({ "generation": 4 })));
        let record: TaskRecord =
            serde_json::from_value(serde_json::json!({ "uid": "u1", "name": "web-000001" }))
                .unwrap();
        ledger.put(Arc::new(record.clone()));
        ledger.flush().await;
        let told = ledger.trouble().unwrap();
        assert!(
            told.contains("plan.json") && told.contains("No such file or directory"),
            "{told}"
        );
        std::fs::create_dir(&folder).unwrap();
        while ledger.trouble().is_some() {
            tokio::time::sleep(RETRY).await;
        }
        let saved = load(&folder);
        assert_eq!(saved.plan.unwrap()["generation"], 4);
        assert_eq!(saved.records[&record.uid], record);
    }

    #[tokio::test]
    async fn what_was_put_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(
            folder.path().to_owned(),
            BTreeMap::new(),
            ImageBook::default(),
        );
        ledger.put_plan(Arc::new(serde_json::json!({ "generation": 4 })));
        let record: TaskRecord = serde_json::from_value(serde_json::json!({
            "uid": "u1", "name": "web-000001"
        }))
        .unwrap();
        ledger.put(Arc::new(record.clone()));
        let engine = EngineDescription {
            name: "docker".to_owned(),
            cpus: 2,
            memory_mib: 3950,
            ..EngineDescription::default()
        };
        ledger.put_engine(engine.clone());
        ledger.flush().await;
        let saved = load(folder.path());
        assert_eq!(saved.engine, Some(engine));
        assert_eq!(saved.plan.unwrap()["generation"], 4);
        assert_eq!(saved.records[&record.uid], record);
        ledger.forget(&record.uid);
        ledger.flush().await;
        assert!(load(folder.path()).records.is_empty());
    }

    /// A host remembers thousands of tasks that are over, and each end waits for the disk.
    #[tokio::test]
    async fn a_change_writes_the_records_that_changed_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let records = (0..100).map(|n| {
            let record = serde_json::json!({ "uid": format!("u{n}"), "name": "web-000001" });
            let record: TaskRecord = serde_json::from_value(record).unwrap();
            (record.uid.clone(), record)
        });
        let records: BTreeMap<_, _> = records.collect();
        let changed = Arc::new(records[&TaskUid::new("u7")].clone());
        let ledger = Ledger::open(folder.path().to_owned(), records, ImageBook::default());
        ledger.put(Arc::new(TaskRecord {
            name: "web-000002".to_owned(),
            ..TaskRecord::clone(&changed)
        }));
        ledger.flush().await;
        let files = std::fs::read_dir(folder.path().join(TASKS)).unwrap();
        let names: Vec<_> = files.map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["u7.json"]);
    }
}
