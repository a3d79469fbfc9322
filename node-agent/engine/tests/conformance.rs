//! The fake passes the suite that real engines pass.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/sights.rs"]
mod sights;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tallyman_agent_engine::conformance::{self, Bench, Settings, Sight, Verdict};
use tallyman_agent_engine::fake::{FakeEngine, Program};
use tallyman_agent_engine::{
    Archive, ContainerSpec, Health, Ipc, LocalImage, Log, MountSource, Network, Processes,
    PublishedPort,
};

const IMAGE: &str = "localhost/conformance:1";

struct FakeBench {
    engine: FakeEngine,
    /// What the programs `sees` look for, by index.
    sights: Arc<Mutex<Vec<Vec<Sight>>>>,
    next_port: AtomicU16,
    files: Files,
}

/// Text of the files that programs wrote, by what is mounted and the path below it.
type Files = Arc<Mutex<BTreeMap<(MountSource, String), String>>>;

impl FakeBench {
    fn new() -> Self {
        let engine = FakeEngine::new("conformance");
        engine.import_image(IMAGE);
        engine.set_missing("localhost/nobody:1");
        let files = Files::default();
        let played = Arc::clone(&files);
        let sights: Arc<Mutex<Vec<Vec<Sight>>>> = Arc::default();
        let known = Arc::clone(&sights);
        engine.interpret(move |spec, published| match argv(spec).as_slice() {
            [word, index] if word == "sees" => {
                let index = usize::try_from(number(index)).expect("an index");
                sights::look(spec, &known.lock().expect("no panic")[index])
            }
            _ => interpret(spec, published, &played),
        });
        Self {
            engine,
            files,
            sights,
            next_port: AtomicU16::new(20_000),
        }
    }
}

/// A container's log as engines tell it: nothing is hidden there.
fn told(log: &Log) -> Log {
    let secret = log.secret_options.iter();
    let secret = secret.map(|(key, value)| (key.clone(), value.expose().to_owned()));
    Log {
        driver: log.driver.clone(),
        options: log.options.clone().into_iter().chain(secret).collect(),
        ..Log::default()
    }
}

/// Plays the words that [`FakeBench::command`] writes, and the health checks of the suite.
fn interpret(spec: &ContainerSpec, published: &[PublishedPort], files: &Files) -> Program {
    let argv = argv(spec);
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let program = match words.as_slice() {
        ["ignores-stop", _] => Program::runs().ignoring_stop(),
        ["exits", code, millis] => Program::exits(number(code), millis_of(millis)),
        ["finds", user, directory, name, value] => {
            let found = spec.user.as_deref() == Some(*user)
                && spec.working_directory.as_deref() == Some(*directory)
                && spec
                    .environment
                    .iter()
                    .map(|(has, is)| (has, is.as_str()))
                    .chain(spec.secrets.iter().map(|(has, is)| (has, is.expose())))
                    .any(|(has, is)| has == name && is == *value);
            Program::exits(i64::from(!found), Duration::ZERO)
        }
        ["fetches", _] if matches!(spec.network, Network::Container(_)) => {
            Program::exits(0, Duration::ZERO)
        }
        ["asks", ..] => {
            let shares = matches!(spec.network, Network::Container(_));
            Program::exits(i64::from(!shares), Duration::ZERO)
        }
        ["fetches", port] => {
            let answers = published
                .iter()
                .any(|one| i64::from(one.host_port) == number(port));
            Program::exits(i64::from(!answers), Duration::ZERO)
        }
        ["reaches", name, _] => {
            let known = spec.links.iter().any(|link| link.alias == *name);
            Program::exits(i64::from(!known), Duration::ZERO)
        }
        ["writes", path, text] => {
            let wrote = match file(spec, path) {
                Some((_, true)) => false,
                Some((file, false)) => {
                    files.lock().unwrap().insert(file, (*text).to_owned());
                    true
                }
                // There is no such folder in the image.
                None => false,
            };
            Program::exits(i64::from(!wrote), Duration::ZERO)
        }
        ["reads", path, text] => {
            let found =
                file(spec, path).and_then(|(file, _)| files.lock().unwrap().get(&file).cloned());
            Program::exits(i64::from(found.as_deref() != Some(*text)), Duration::ZERO)
        }
        // The engine refuses to start what shares with nobody; the rest is as it is on every engine.
        ["meets", _] => {
            let shares = matches!(spec.parameters.processes, Processes::Container(_));
            Program::exits(i64::from(!shares), Duration::ZERO)
        }
        ["discovers", _] => {
            let shares = matches!(spec.parameters.ipc, Ipc::Container(_));
            Program::exits(i64::from(!shares), Duration::ZERO)
        }
        ["swells", _] => Program::runs_out_of_memory(Duration::from_secs(1)),
        ["missing", _] => Program::cannot_start("exec: \"missing\": executable file not found"),
        _ => Program::runs(),
    };
    match &spec.health_check {
        Some(check) if check.test.last().is_some_and(|word| word == "false") => {
            program.health_after(check.interval * check.retries, Health::Unhealthy)
        }
        Some(check) => program.health_after(check.interval, Health::Healthy),
        None => program,
    }
}

/// What a path inside is, and whether it cannot be written.
fn file(spec: &ContainerSpec, path: &str) -> Option<((MountSource, String), bool)> {
    let mount = spec
        .mounts
        .iter()
        .find(|mount| path.starts_with(&format!("{}/", mount.path)))?;
    let below = path[mount.path.len()..].to_owned();
    Some(((mount.source.clone(), below), mount.read_only))
}

fn argv(spec: &ContainerSpec) -> Vec<String> {
    let entrypoint = spec.entrypoint.iter().flatten();
    entrypoint
        .chain(spec.command.iter().flatten())
        .cloned()
        .collect()
}

fn number(word: &str) -> i64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is no number"))
}

fn millis_of(word: &str) -> Duration {
    Duration::from_millis(number(word).unsigned_abs())
}

impl Bench for FakeBench {
    type Engine = FakeEngine;

    fn engine(&self) -> &FakeEngine {
        &self.engine
    }

    fn image(&self) -> String {
        IMAGE.to_owned()
    }

    async fn spare_image(&self) -> Result<String, String> {
        let name = format!("localhost/spare:{}", self.free_port());
        self.engine.import_image(&name);
        Ok(name)
    }

    async fn name_image(&self, image: &str, name: &str) -> Verdict {
        match self.engine.name_image(image, name) {
            true => Ok(()),
            false => Err(format!("there is no {image}")),
        }
    }

    fn missing_image(&self) -> String {
        "localhost/nobody:1".to_owned()
    }

    fn command(&self, program: &conformance::Program) -> Vec<String> {
        use conformance::Program::{
            AsksHost, Discovers, Exits, Fetches, Finds, IgnoresStop, Leaves, Meets, Missing,
            Reaches, Reads, Runs, Sees, Serves, Swells, Writes,
        };
        let line: Vec<String> = match program {
            Runs => vec!["runs".to_owned(), "on".to_owned()],
            IgnoresStop => vec!["ignores-stop".to_owned(), "on".to_owned()],
            Exits { code, after } => vec![
                "exits".to_owned(),
                code.to_string(),
                after.as_millis().to_string(),
            ],
            Finds {
                uid,
                gid,
                directory,
                variable: (name, value),
            } => vec![
                "finds".to_owned(),
                format!("{uid}:{gid}"),
                directory.clone(),
                name.clone(),
                value.clone(),
            ],
            Sees(wanted) => {
                let mut sights = self.sights.lock().expect("no panic");
                sights.push(wanted.clone());
                vec!["sees".to_owned(), (sights.len() - 1).to_string()]
            }
            Serves { port } => vec!["serves".to_owned(), port.to_string()],
            Fetches { port } => vec!["fetches".to_owned(), port.to_string()],
            AsksHost { address, port } => {
                vec!["asks".to_owned(), address.to_string(), port.to_string()]
            }
            Reaches { name, port } => {
                vec!["reaches".to_owned(), name.clone(), port.to_string()]
            }
            Writes { path, text } => vec!["writes".to_owned(), path.clone(), text.clone()],
            Reads { path, text } => vec!["reads".to_owned(), path.clone(), text.clone()],
            Meets { first } => vec!["meets".to_owned(), first.clone()],
            Leaves { name } => vec!["leaves".to_owned(), name.clone()],
            Discovers { name } => vec!["discovers".to_owned(), name.clone()],
            Swells => vec!["swells".to_owned(), "on".to_owned()],
            Missing => vec!["missing".to_owned(), "program".to_owned()],
        };
        line
    }

    fn free_port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    async fn pass(&self, span: Duration) {
        self.engine.advance(span);
    }

    async fn kill(&self, name: &str) -> Verdict {
        match self.engine.kill(name) {
            true => Ok(()),
            false => Err(format!("{name} does not run")),
        }
    }

    async fn destroy(&self, name: &str) -> Verdict {
        self.engine.destroy(name);
        Ok(())
    }

    async fn destroy_volume(&self, name: &str) -> Verdict {
        match self.engine.destroy_volume(name) {
            true => Ok(()),
            false => Err(format!("{name} is in use or absent")),
        }
    }

    async fn destroy_network(&self, name: &str) -> Verdict {
        self.engine.destroy_network(name);
        Ok(())
    }

    fn brought(&self) -> LocalImage {
        LocalImage {
            reference: "localhost/pause:1".to_owned(),
            archive: Archive(b""),
            entrypoint: vec!["/pause".to_owned()],
            labels: BTreeMap::new(),
        }
    }

    fn host_folder(&self) -> String {
        format!("/srv/{}", self.next_port.fetch_add(1, Ordering::Relaxed))
    }

    fn host_file(&self, path: &str) -> Option<String> {
        let (folder, file) = path.rsplit_once('/')?;
        assert!(self.engine.made_directory(folder), "{folder} was not made");
        let key = (MountSource::HostPath(folder.to_owned()), format!("/{file}"));
        self.files.lock().unwrap().get(&key).cloned()
    }

    async fn settings(&self, name: &str) -> Result<Settings, String> {
        let spec = self.engine.spec(name);
        let spec = spec.ok_or_else(|| format!("{name} is absent"))?;
        Ok(Settings {
            cpu_shares: spec.cpu_shares.unwrap_or(0),
            memory_bytes: spec.memory_bytes.unwrap_or(0),
            memory_reservation_bytes: spec.memory_reservation_bytes.unwrap_or(0),
            cpu_quota: spec.cpu_quota,
            group: spec.group.clone(),
            argv: argv(&spec),
            stop_timeout_seconds: spec
                .stop_timeout
                .map(|span| i64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)),
            gpus: spec.gpus.clone(),
            network: spec.network.clone(),
            privileged: spec.parameters.privileged,
            ipc: spec.parameters.ipc.clone(),
            swap: spec.parameters.swap.map(|swap| swap.bytes),
            // Its host has the second version of control groups.
            swappiness: None,
            log: spec.parameters.log.as_ref().map(told),
            engine_restarts: false,
            engine_removes: false,
        })
    }
}

#[test]
fn the_fake_passes_the_suite() {
    let bench = FakeBench::new();
    let mut failures = Vec::new();
    for case in conformance::cases::<FakeBench>() {
        let verdict = case.run(&bench).now_or_never();
        match verdict.unwrap_or_else(|| Err("it waits for ever".to_owned())) {
            Ok(()) => {}
            Err(sentence) => failures.push(format!("{}: {sentence}", case.name())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(bench.engine.containers().is_empty());
    assert!(bench.engine.volumes().is_empty());
}
