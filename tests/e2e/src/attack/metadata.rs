//! From inside a container, by the network: the metadata endpoint, what else the agent serves, and the API server.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;

use crate::attack::api::without;
use crate::attack::ask::{Ask, ENDPOINT, PORT, Reply, ask, ask_until_answered};
use crate::attack::scene::{Foothold, Scene};
use crate::attack::{From, Haul, Row};
use crate::inside::Inside;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "1",
        from: From::Container,
        tried: "with the true id of another task's container: every path of metadata v2, v3 and v4, statistics, credentials of its role, protection, fault injection",
        reduced: true,
        run: true_ids,
    },
    Row {
        number: "2",
        from: From::Container,
        tried: "ids of other containers cut short, made longer, in other letters, mixed with one's own, encoded, with `..`, `//`, `%2e`, `%00`",
        reduced: true,
        run: changed_ids,
    },
    Row {
        number: "3",
        from: From::Container,
        tried: "headers that say who asks (X-Forwarded-For, Forwarded, PROXY), other names in Host, HTTP/0.9, 1.0 and 2, a whole URL or a tunnel, two lengths, a request within another one's body, pipelining",
        reduced: true,
        run: disguised,
    },
    Row {
        number: "4",
        from: From::Container,
        tried: "protecting another task from scale-in, and letting faults into its network",
        reduced: true,
        run: in_its_name,
    },
    Row {
        number: "5",
        from: From::Container,
        tried: "introspection and metrics of the agent and the engine's TCP ports, at every address of the host",
        reduced: false,
        run: ports,
    },
    Row {
        number: "6",
        from: From::Container,
        tried: "the API server without a token, with none that it made, and as somebody else",
        reduced: true,
        run: api_server,
    },
];

/// Paths that lead to what is told of a container.
fn paths(id: &str, docker_id: &str) -> Vec<String> {
    let mut all: Vec<String> = ["v3", "v4"]
        .iter()
        .flat_map(|version| {
            ["", "/task", "/taskWithTags", "/stats", "/task/stats"]
                .map(|what| format!("/{version}/{id}{what}"))
        })
        .collect();
    all.extend([
        format!("/v2/credentials/{id}"),
        format!("/api/{id}/task-protection/v1/state"),
        format!("/v2/metadata/{docker_id}"),
        format!("/v2/stats/{docker_id}"),
        "/v2/metadata".to_owned(),
        "/v2/stats".to_owned(),
    ]);
    all
}

/// Notes answers; what is not about the container that asks is got.
pub(super) fn judge(
    scene: &Scene<'_>,
    haul: &mut Haul,
    foothold: &Foothold<'_>,
    replies: &[Reply],
) {
    for reply in replies {
        let Reply { what, text } = reply;
        haul.note(reply.word());
        if let Some(canary) = scene.found(text) {
            haul.got(format!("{canary} by `{what}` in mode {}", foothold.mode));
        }
        let foreign = [&scene.vault.id, &scene.vault_task, &scene.vault_host.id];
        if foreign.iter().any(|one| text.contains(one.as_str())) {
            let mode = foothold.mode;
            haul.got(format!(
                "metadata of another task by `{what}` in mode {mode}"
            ));
        }
        let is_own = text.contains(&foothold.inside.id) || text.contains(&foothold.task);
        if reply.status().is_some_and(|status| status < 400) && !is_own {
            let mode = foothold.mode;
            haul.got(format!(
                "an answer that is not its own by `{what}` in mode {mode}: {text}"
            ));
        }
    }
}

/// Whom a foothold attacks: on the host's network it is the id alone that keeps tasks apart, so the true id of a neighbour
/// there is none of a thief's.
fn victims<'a, 'b>(scene: &'a Scene<'b>, foothold: &Foothold<'_>) -> Vec<&'a Inside<'b>> {
    match foothold.mode {
        "host" => vec![&scene.vault],
        _ => vec![&scene.vault, &scene.vault_host],
    }
}

fn true_ids(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    for foothold in &scene.footholds {
        let mut asks = Vec::new();
        for victim in victims(scene, foothold) {
            let id = scene.id_of(victim)?;
            asks.extend(paths(&id, &victim.id).iter().map(|path| Ask::get(path)));
            asks.extend([80, PORT].map(|port| {
                let path = format!("/v2/credentials/{id}");
                Ask::get(&path).to(ENDPOINT, port)
            }));
            let fault = format!("/api/{id}/fault/v1/network-latency/status");
            asks.push(Ask::request("POST", &fault, "", "{}"));
        }
        let replies = ask_until_answered(&foothold.inside.stdin_shell(), &asks)?;
        judge(scene, haul, foothold, &replies);
        // All this would show nothing if nobody were answered.
        let own = foothold.inside.get("$ECS_CONTAINER_METADATA_URI_V4")?;
        ensure!(own["DockerId"] == foothold.inside.id.as_str(), "{own}");
    }
    Ok(())
}

/// Other spellings of an id.
fn spellings(own: &str, other: &str) -> Vec<String> {
    let (uid, tag) = other.rsplit_once('-').unwrap_or((other, ""));
    let own_tag = own.rsplit_once('-').map_or("", |(_, tag)| tag);
    let own_uid = own.rsplit_once('-').map_or("", |(uid, _)| uid);
    let encoded: String = other.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let cut = |n: usize| other.chars().take(n).collect::<String>();
    let mut all = vec![
        String::new(),
        uid.to_owned(),
        format!("{uid}-"),
        tag.to_owned(),
        cut(8),
        cut(other.len() / 2),
        cut(other.len() - 1),
        cut(other.len() - 2),
        format!("{other}0"),
        format!("{other}00"),
        format!("{other}-"),
        other.to_uppercase(),
        format!("{uid}-{own_tag}"),
        format!("{own_uid}-{tag}"),
        format!("{own}/../{other}"),
        format!("{own}/..%2f{other}"),
        format!("{own}/%2e%2e/{other}"),
        format!("{own}/..;/{other}"),
        format!("../v4/{other}"),
        format!("./{other}"),
        format!("/{other}"),
        format!("%2f{other}"),
        format!("{other}%00"),
        format!("{other}%20"),
        format!("{other}%0d%0aX-Id:%201"),
        format!("{other}?id={own}"),
        format!("{own}?id={other}"),
        format!("{own};{other}"),
        format!("{own},{other}"),
        format!("{own}#/{other}"),
        encoded,
        format!("{uid}-{}", "0".repeat(32)),
        format!("{uid}-{}", "f".repeat(32)),
        format!("{uid}-{}", "+0".repeat(16)),
        format!("{uid}-*"),
        "*".to_owned(),
        "..".to_owned(),
        "%".to_owned(),
        "'%20or%20'1'='1".to_owned(),
        "null".to_owned(),
        "-".to_owned(),
    ];
    all.sort();
    all.dedup();
    all
}

fn changed_ids(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    for foothold in &scene.footholds {
        let own = scene.id_of(&foothold.inside)?;
        for victim in victims(scene, foothold) {
            let id = scene.id_of(victim)?;
            let mut asks = Vec::new();
            for spelling in spellings(&own, &id) {
                for path in [
                    format!("/v4/{spelling}"),
                    format!("/v4/{spelling}/task"),
                    format!("/v2/credentials/{spelling}"),
                    format!("/api/{spelling}/task-protection/v1/state"),
                ] {
                    asks.push(Ask::get(&path));
                }
            }
            for path in [
                format!("//v4/{id}"),
                format!("/./v4/{id}"),
                format!("/V4/{id}"),
                format!("/v4//{id}"),
                format!("/v2/metadata/../../v4/{id}"),
                format!("/v2/metadata/{}", &victim.id[..12]),
                format!("/v2/metadata/..%2f{}", victim.id),
            ] {
                asks.push(Ask::get(&path));
            }
            let replies = ask_until_answered(&foothold.inside.stdin_shell(), &asks)?;
            judge(scene, haul, foothold, &replies);
        }
    }
    Ok(())
}

/// Requests for `path` that somebody else seems to make, or that seem to be another one.
fn disguises(path: &str, victim: &str) -> Vec<Ask> {
    let mut all = Vec::new();
    for header in [
        "X-Forwarded-For: VICTIM",
        "x-forwarded-for: VICTIM, 127.0.0.1",
        "Forwarded: for=VICTIM",
        "X-Real-IP: VICTIM",
        "X-Client-IP: VICTIM",
        "True-Client-IP: VICTIM",
        "X-Forwarded-For : VICTIM",
        "X-Forwarded-For:\r\n VICTIM",
        "Host: VICTIM",
        "X-Forwarded-Host: VICTIM",
        "X-Original-URL: PATH",
        "X-HTTP-Method-Override: PUT",
        "Authorization: PATH",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: X-Forwarded-For",
    ] {
        let header = header.replace("VICTIM", victim).replace("PATH", path);
        all.push(Ask::request("GET", path, &format!("{header}\r\n"), ""));
    }
    let mut raw = |what: &str, text: String| all.push(Ask::bytes(format!("{what} {path}"), text));
    raw("HTTP/0.9", format!("GET {path}\r\n"));
    raw(
        "HTTP/1.0 without Host",
        format!("GET {path} HTTP/1.0\r\n\r\n"),
    );
    raw(
        "HTTP/1.1 without Host",
        format!("GET {path} HTTP/1.1\r\n\r\n"),
    );
    raw("HTTP/9.9", format!("GET {path} HTTP/9.9\r\n\r\n"));
    for host in [
        "evil.example",
        "localhost",
        "127.0.0.1",
        "api.ecs.internal:80",
    ] {
        raw(
            &format!("Host: {host}"),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
    }
    raw(
        "a whole URL",
        format!("GET http://127.0.0.1:51678{path} HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    raw(
        "a tunnel",
        "CONNECT 127.0.0.1:51678 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/tasks HTTP/1.0\r\n\r\n"
            .to_owned(),
    );
    raw("TRACE", format!("TRACE {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw(
        "OPTIONS",
        format!("OPTIONS {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    raw(
        "PROXY",
        format!(
            "PROXY TCP4 {victim} {ENDPOINT} 4711 {PORT}\r\nGET {path} HTTP/1.1\r\nHost: x\r\n\r\n"
        ),
    );
    raw(
        "HTTP/2 at once",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned(),
    );
    let second = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = second.len();
    raw(
        "two lengths",
        format!(
            "GET /v2/metadata HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{second}"
        ),
    );
    raw(
        "a length and chunks",
        format!(
            "GET /v2/metadata HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"
        ),
    );
    raw(
        "chunks spelled otherwise",
        format!(
            "GET /v2/metadata HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: {length}\r\n\r\n{second}"
        ),
    );
    raw(
        "a second request",
        format!("GET /v2/metadata HTTP/1.1\r\nHost: x\r\n\r\n{second}"),
    );
    raw(
        "a bare line feed",
        format!("GET {path} HTTP/1.1\nHost: x\n\n"),
    );
    raw("a tab", format!("GET\t{path}\tHTTP/1.1\r\nHost: x\r\n\r\n"));
    all
}

fn disguised(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let address = scene.address()?.to_string();
    for foothold in &scene.footholds {
        let id = scene.id_of(&scene.vault)?;
        let mut asks = Vec::new();
        for path in [
            "/v2/metadata".to_owned(),
            format!("/v4/{id}/task"),
            format!("/v2/credentials/{id}"),
        ] {
            asks.extend(disguises(&path, &address));
        }
        let replies = ask_until_answered(&foothold.inside.stdin_shell(), &asks)?;
        judge(scene, haul, foothold, &replies);
    }
    Ok(())
}

fn in_its_name(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    for foothold in &scene.footholds {
        let id = scene.id_of(&scene.vault)?;
        let state = format!("/api/{id}/task-protection/v1/state");
        let fault = format!("/api/{id}/fault/v1/network-blackhole-port/start");
        let hole = json!({ "Port": 8080, "Protocol": "tcp", "TrafficType": "ingress" }).to_string();
        let mut asks = vec![Ask::request("POST", &fault, "", &hole)];
        for body in [
            r#"{"ProtectionEnabled":true}"#,
            r#"{"ProtectionEnabled":true,"ExpiresInMinutes":2880}"#,
        ] {
            for method in ["PUT", "POST", "PATCH", "put"] {
                asks.push(Ask::request(method, &state, "", body));
            }
            asks.push(Ask::request(
                "GET",
                &state,
                "X-HTTP-Method-Override: PUT\r\n",
                body,
            ));
            let encoded = state.replace('-', "%2d");
            asks.push(Ask::request("PUT", &encoded, "", body));
        }
        let replies = ask_until_answered(&foothold.inside.stdin_shell(), &asks)?;
        judge(scene, haul, foothold, &replies);
    }
    let task = scene.user.get("tasks", &scene.vault_task)?;
    if task["status"]["protectedUntil"] != Value::Null {
        haul.got(format!("protection of another task: {}", task["status"]));
    }
    Ok(())
}

fn ports(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let host = scene.vault.host.address().to_string();
    let gateways = scene.gateways()?;
    let requests = |to: &str| {
        let tries = [
            (51678, "/v1/metadata"),
            (51678, "/v1/tasks"),
            (51678, "/metrics"),
            (51678, "/license"),
            (51680, "/metrics"),
            (51680, "/v1/tasks"),
            (2375, "/containers/json"),
            (2376, "/containers/json"),
            (10250, "/pods"),
        ];
        tries.map(|(port, path)| Ask::get(path).to(to, port))
    };
    for foothold in &scene.footholds {
        let mut asks = Vec::new();
        for to in [host.as_str(), ENDPOINT, "127.0.0.1", "0.0.0.0"]
            .into_iter()
            .chain(gateways.iter().map(String::as_str))
        {
            asks.extend(requests(to));
        }
        for reply in ask(&foothold.inside.stdin_shell(), &asks)? {
            // A task on the host's network is the host, for what the agent serves to the host: docs/security.md says so.
            let loopback =
                reply.what.starts_with("127.0.0.1:") || reply.what.starts_with("0.0.0.0:");
            let as_host = foothold.mode == "host" && loopback;
            haul.note(match reply.status() {
                Some(200) if as_host => "200 to the host itself".to_owned(),
                _ => reply.word(),
            });
            if let Some(canary) = scene.found(&reply.text) {
                haul.got(format!("{canary} by `{}`", reply.what));
            }
            if reply.status().is_some_and(|status| status < 400) && !as_host {
                haul.got(format!("`{}` in mode {}", reply.what, foothold.mode));
            }
        }
    }
    Ok(())
}

fn api_server(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    for foothold in &scene.footholds {
        let pid = foothold.inside.inspect("{{.State.Pid}}")?;
        let network = format!("--net=/proc/{}/ns/net", pid.trim());
        let enter = |program: &str| Tool::new("nsenter").args([network.as_str(), "--", program]);
        without(scene, haul, &enter)?;
    }
    Ok(())
}
