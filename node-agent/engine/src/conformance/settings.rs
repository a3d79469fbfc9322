//! What the spec asks for is what the container gets.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{Engine, EngineError, Log, Network, Phase, Sensitive};

const MIB: i64 = 1024 * 1024;

pub(super) async fn cpu_memory_and_limits_are_set<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.cpu_shares = Some(256);
    spec.memory_bytes = Some(64 * MIB);
    spec.memory_reservation_bytes = Some(32 * MIB);
    spec.stop_timeout = Some(Duration::from_millis(6500));
    ground.launch(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.cpu_shares == 256, "cpu: {settings:?}");
    ensure!(settings.memory_bytes == 64 * MIB, "memory: {settings:?}");
    ensure!(
        settings.memory_reservation_bytes == 32 * MIB,
        "reservation: {settings:?}"
    );
    ensure!(
        settings.stop_timeout_seconds == Some(7),
        "stop timeout: {settings:?}"
    );
    let plain = ground.spec("plain", &Program::Runs);
    ground.create(&plain).await?;
    let settings = ground.bench.settings(&plain.name).await?;
    let unset = (
        settings.cpu_shares,
        settings.memory_bytes,
        settings.memory_reservation_bytes,
    );
    ensure!(unset == (0, 0, 0), "set without asking: {settings:?}");
    ensure!(
        settings.stop_timeout_seconds.is_none(),
        "stop timeout: {settings:?}"
    );
    Ok(())
}

pub(super) async fn entrypoint_and_command_are_passed<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let after = Duration::ZERO;
    let mut spec = ground.spec("a", &Program::Exits { code: 7, after });
    let argv = spec.command.take().unwrap_or_default();
    ensure!(argv.len() >= 2, "the bench spells a program {argv:?}");
    let (entrypoint, command) = argv.split_at(1);
    spec.entrypoint = Some(entrypoint.to_vec());
    spec.command = Some(command.to_vec());
    ground.launch(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.argv == argv, "{argv:?} became {settings:?}");
    let state = ground.until_exited(&spec.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 7, .. }),
        "it did not end with 7: {state:?}"
    );
    Ok(())
}

pub(super) async fn user_directory_and_environment_are_seen_inside<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let variable = ("GREETING".to_owned(), "hello = \"world\" $HOME".to_owned());
    let mut spec = ground.spec(
        "a",
        &Program::Finds {
            uid: 7,
            gid: 8,
            directory: "/tmp".to_owned(),
            variable: variable.clone(),
        },
    );
    spec.user = Some("7:8".to_owned());
    spec.working_directory = Some("/tmp".to_owned());
    spec.environment = vec![("EMPTY".to_owned(), String::new()), variable];
    ground.launch(&spec).await?;
    let state = ground.until_exited(&spec.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 0, .. }),
        "it found something else: {state:?}"
    );
    Ok(())
}

pub(super) async fn secrets_reach_the_container_and_its_log_driver<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let (name, value) = ("PASSWORD", "a=b \"c\" $HOME");
    let mut spec = ground.spec(
        "a",
        &Program::Finds {
            uid: 0,
            gid: 0,
            directory: "/".to_owned(),
            variable: (name.to_owned(), value.to_owned()),
        },
    );
    spec.user = Some("0:0".to_owned());
    spec.working_directory = Some("/".to_owned());
    spec.secrets = vec![(name.to_owned(), Sensitive::new(value))];
    spec.parameters.log = Some(Log {
        driver: "json-file".to_owned(),
        options: [("max-file".to_owned(), "2".to_owned())].into(),
        secret_options: [("max-size".to_owned(), Sensitive::new("1m"))].into(),
    });
    ground.launch(&spec).await?;
    let state = ground.until_exited(&spec.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 0, .. }),
        "it found something else: {state:?}"
    );
    let settings = ground.bench.settings(&spec.name).await?;
    let all = Log {
        options: [("max-file", "2"), ("max-size", "1m")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        driver: "json-file".to_owned(),
        ..Log::default()
    };
    ensure!(settings.log == Some(all), "log: {settings:?}");
    Ok(())
}

pub(super) async fn labels_are_kept_verbatim<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    for (key, value) in [
        (
            "com.amazonaws.ecs.task-arn",
            "arn:aws:ecs:us-east-1:1:task/a b=c",
        ),
        ("empty", ""),
        ("quotes", "\"'\\ {}[],ü"),
    ] {
        spec.labels.insert(key.to_owned(), value.to_owned());
    }
    ground.create(&spec).await?;
    let state = ground.state(&spec.name).await?;
    for label in &spec.labels {
        ensure!(
            state.labels.get(label.0) == Some(label.1),
            "{label:?} is lost: {state:?}"
        );
    }
    Ok(())
}

pub(super) async fn engine_restarts_and_removes_nothing<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.create(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(
        !settings.engine_restarts,
        "the engine restarts it: {settings:?}"
    );
    ensure!(
        !settings.engine_removes,
        "the engine removes it: {settings:?}"
    );
    ensure!(settings.network == Network::Bridge, "network: {settings:?}");
    Ok(())
}

pub(super) async fn too_little_memory_is_invalid<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.memory_bytes = Some(MIB);
    match ground.engine().create(&spec).await {
        Err(EngineError::InvalidSpec { message }) if message.contains("memory") => Ok(()),
        answer => Err(unexpected(&answer, "invalid spec")),
    }
}

pub(super) async fn unknown_program_cannot_start<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Missing);
    ground.create(&spec).await?;
    match ground.engine().start(&spec.name).await {
        Err(EngineError::CannotStart { name, message }) if name == spec.name => {
            ensure!(!message.is_empty(), "no words");
        }
        answer => return Err(unexpected(&answer, "cannot start")),
    }
    let state = ground.state(&spec.name).await?;
    ensure!(
        state.phase == Phase::Created,
        "it is not created: {state:?}"
    );
    ground.stop(&spec.name, Duration::from_secs(5)).await?;
    ground.remove(&spec.name).await
}
