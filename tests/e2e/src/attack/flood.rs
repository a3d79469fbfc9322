//! From inside a container: much of everything, so that others are not answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::command::Tool;

use crate::attack::ask::{Ask, ENDPOINT, PORT, ask, ask_until_answered};
use crate::attack::metadata::judge;
use crate::attack::scene::Scene;
use crate::attack::{From, Haul, Row, program};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "7",
        from: From::Container,
        tried: "2,000 guesses of an id as fast as can be, while the other task asks for its own",
        reduced: false,
        run: guesses,
    },
    Row {
        number: "8",
        from: From::Container,
        tried: "paths, headers, bodies and counts of headers that are much too long",
        reduced: false,
        run: too_long,
    },
    Row {
        number: "9",
        from: From::Container,
        tried: "hundreds of connections held open that send nothing, so that another task is not answered",
        reduced: false,
        run: held_open,
    },
];

fn guesses(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    const COUNT: usize = 2000;
    let uid = scene.id_of(&scene.vault)?;
    let uid = uid
        .rsplit_once('-')
        .context("an id without tag")?
        .0
        .to_owned();
    let foothold = &scene.footholds[0];
    let asks: Vec<Ask> = (0..COUNT)
        .map(|_| {
            Ask::get(&format!(
                "/v2/credentials/{uid}-{:032x}",
                fastrand::u128(..)
            ))
        })
        .collect();
    let (replies, own) = std::thread::scope(|scope| {
        let thief = scope.spawn(|| ask(&foothold.inside.stdin_shell(), &asks));
        let mut own = Vec::new();
        while !thief.is_finished() {
            own.push(scene.vault.ask("$ECS_CONTAINER_METADATA_URI_V4", ""));
        }
        (thief.join(), own)
    });
    let replies = replies.map_err(|_| anyhow::anyhow!("the thief panicked"))??;
    judge(scene, haul, foothold, &replies);
    // It asks one after the other, far below its own rate.
    for answer in own {
        let (status, body) = answer?;
        ensure!(
            status == 200,
            "meanwhile the task itself is answered {status} {body}"
        );
    }
    Ok(())
}

fn too_long(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let foothold = &scene.footholds[0];
    let long = "a".repeat(90_000);
    let many = |n: usize, value: &str| {
        (0..n).fold(String::new(), |all, i| format!("{all}X-{i}: {value}\r\n"))
    };
    let mut asks = vec![
        Ask::get(&format!("/v4/{long}")),
        Ask::get(&"/".repeat(60_000)),
        Ask::get(&format!("/v4/{}", "%2e%2e/".repeat(9000))),
        Ask::get(&format!("/v2/metadata?{long}")),
        Ask::request("GET", "/v2/metadata", &format!("X: {long}\r\n"), ""),
        Ask::request("GET", "/v2/metadata", &many(90, &long[..1000]), ""),
        Ask::request("GET", "/v2/metadata", &many(5000, "y"), ""),
        Ask::request("POST", "/v2/metadata", "", &long),
        Ask::bytes("no end of a method", long.as_bytes()),
        Ask::bytes(
            "a length that does not come",
            "PUT /v2/metadata HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nx",
        ),
        Ask::bytes(
            "a chunk that does not come",
            "PUT /v2/metadata HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        ),
        Ask::bytes(
            "a length below zero",
            "PUT /v2/metadata HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        ),
    ];
    let id = scene.id_of(&foothold.inside)?;
    let path = format!("/api/{id}/task-protection/v1/state");
    asks.push(Ask::request("PUT", &path, "", &"[".repeat(4000)));
    asks.push(Ask::request("PUT", &path, "", &long));
    for ask in &mut asks {
        // The table and the log name it.
        ask.what.truncate(40);
    }
    let replies = ask_until_answered(&foothold.inside.stdin_shell(), &asks)?;
    for reply in &replies {
        haul.note(reply.word());
        if let Some(canary) = scene.found(&reply.text) {
            haul.got(format!("{canary} by `{}`", reply.what));
        }
    }
    Ok(())
}

fn held_open(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    const COUNT: usize = 600;
    const TIME: Duration = Duration::from_secs(10);
    // Each connection would hold its place for 5 s, and a few times as many as there are places wait.
    const SLOWEST: Duration = Duration::from_secs(8);
    let program = program()?;
    for foothold in scene.footholds.iter().filter(|one| one.mode != "host") {
        // In the network of the container, as a program in it would be.
        let pid = foothold.inside.inspect("{{.State.Pid}}")?;
        let network = format!("--net=/proc/{}/ns/net", pid.trim());
        let address = SocketAddr::from((ENDPOINT.parse::<std::net::Ipv4Addr>()?, PORT));
        let hold = Tool::new("nsenter")
            .args([network.as_str(), "--"])
            .arg(&program)
            .args(["--hold", &address.to_string()])
            .args(["--connections", &COUNT.to_string()])
            .args(["--seconds", &TIME.as_secs().to_string()]);
        let (opened, own) = std::thread::scope(|scope| {
            let thief = scope.spawn(|| hold.check());
            let mut own = Vec::new();
            while !thief.is_finished() {
                let since = Instant::now();
                let answer = scene.vault.ask("$ECS_CONTAINER_METADATA_URI_V4", "");
                own.push((answer, since.elapsed()));
            }
            (thief.join(), own)
        });
        let opened = opened.map_err(|_| anyhow::anyhow!("the thief panicked"))??;
        let opened: u64 = opened.trim().parse().with_context(|| opened.clone())?;
        ensure!(opened >= 64, "only {opened} connections were opened");
        let answered = own
            .iter()
            .filter(|(answer, _)| matches!(answer, Ok((200, _))))
            .count();
        haul.note(format!(
            "{opened} connections, {answered} answers to the other task"
        ));
        let slowest = own.iter().map(|(_, took)| *took).max().unwrap_or_default();
        if answered < own.len() || slowest > SLOWEST {
            let asked = own.len();
            haul.got(format!(
                "the other task's answers in mode {}: {answered} of {asked}, the slowest after {slowest:?}",
                foothold.mode
            ));
        }
    }
    Ok(())
}
