//! From another machine on the hosts' network, as root, without a token.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tallyman_crds::names::join_identity;
use tallyman_lab::command::Tool;

use crate::attack::ask::{Ask, ENDPOINT, PORT, ask};
use crate::attack::scene::{PAGE_PORT, Scene};
use crate::attack::{From, Haul, Row, api, thief};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "20",
        from: From::Neighbour,
        tried: "every port on which the host listens, by IPv4 and IPv6",
        reduced: false,
        run: ports,
    },
    Row {
        number: "21",
        from: From::Neighbour,
        tried: "the metadata endpoint by a route over the host, in one's own name",
        reduced: true,
        run: by_route,
    },
    Row {
        number: "22",
        from: From::Neighbour,
        tried: "the same in the name of a container (its address, on the wrong side of the host), and of the host itself",
        reduced: true,
        run: forged,
    },
    Row {
        number: "23",
        from: From::Neighbour,
        tried: "loopback of the host by a route (CVE-2020-8558)",
        reduced: true,
        run: loopback,
    },
    Row {
        number: "24",
        from: From::Neighbour,
        tried: "ports of containers that are not published, by a route over the host",
        reduced: true,
        run: unpublished,
    },
    Row {
        number: "25",
        from: From::Neighbour,
        tried: "the operator's metrics and health, etcd, and the API server without a token, with none that it made, and as somebody else",
        reduced: true,
        run: control_plane,
    },
    Row {
        number: "26",
        from: From::Neighbour,
        tried: "joining with tokens of nothing, of one's own making, and of another kind",
        reduced: true,
        run: join,
    },
];

impl Scene<'_> {
    fn ip(&self, args: &[&str]) -> Result<()> {
        self.beside("ip").args(args).check()?;
        Ok(())
    }

    /// Routes `to` over the attacked host while `work` is done, with `source` as sender when there is one. Not by the host's
    /// address, which may be the one that is forged, but by its card.
    fn routed(
        &self,
        to: &str,
        source: Option<&str>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let card = self
            .vault
            .host
            .inside("ip")
            .args(["-o", "link", "show", "eth0"])
            .check()?;
        let mut card = card
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        let card = card.nth(1).context("the host has no card")?.to_owned();
        if let Some(source) = source {
            self.ip(&["addr", "add", &format!("{source}/32"), "dev", "lo"])?;
        }
        let mut route = vec!["route", "replace", to, "dev", "eth0"];
        route.extend(source.iter().flat_map(|source| ["src", *source]));
        self.ip(&route)?;
        self.ip(&["neigh", "replace", to, "lladdr", &card, "dev", "eth0"])?;
        let done = work();
        self.ip(&["neigh", "del", to, "dev", "eth0"])?;
        self.ip(&["route", "del", to])?;
        if let Some(source) = source {
            self.ip(&["addr", "del", &format!("{source}/32"), "dev", "lo"])?;
        }
        done
    }

    /// Asks from the neighbour; any answer with something in it is got.
    fn nothing_for(&self, haul: &mut Haul, asks: &[Ask], what: &str) -> Result<()> {
        for reply in ask(&self.neighbours_shell(), asks)? {
            haul.note(reply.word());
            if let Some(canary) = self.found(&reply.text) {
                haul.got(format!("{canary} by `{}`", reply.what));
            }
            if !reply.text.trim().is_empty() {
                haul.got(format!(
                    "an answer {what} to `{}`: {}",
                    reply.what, reply.text
                ));
            }
        }
        Ok(())
    }

    /// What the attacked task is asked about.
    fn wanted(&self) -> Result<Vec<Ask>> {
        let id = self.id_of(&self.vault)?;
        let of_host = self.id_of(&self.vault_host)?;
        Ok([
            format!("/v2/credentials/{id}"),
            format!("/v4/{id}/task"),
            format!("/v4/{of_host}/task"),
            "/v2/metadata".to_owned(),
            "/".to_owned(),
        ]
        .iter()
        .flat_map(|path| [PORT, 80].map(|port| Ask::get(path).to(ENDPOINT, port)))
        .collect())
    }
}

/// What `ss` calls listening sockets of the host that others can reach: address and port.
fn listening(scene: &Scene<'_>) -> Result<Vec<(String, u16)>> {
    let host = scene.vault.host;
    let text = host.inside("ss").args(["-Hltn"]).check()?;
    let mut all = Vec::new();
    for line in text.lines() {
        let local = line.split_whitespace().nth(3).context("a line of ss")?;
        let (address, port) = local.rsplit_once(':').context("no port")?;
        let address = address.trim_matches(['[', ']']).to_owned();
        if !address.starts_with("127.") && address != "::1" {
            all.push((address, port.parse()?));
        }
    }
    Ok(all)
}

fn ports(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let host = scene.vault.host;
    let address = host.address().to_string();
    // The agent's endpoint for containers alone is one that others can reach at all; nothing of the scene is published.
    for (listener, port) in listening(scene)? {
        haul.note("a port of the host");
        if (listener.as_str(), port) != (ENDPOINT, PORT) {
            haul.got(format!("a port that others reach: {listener}:{port}"));
        }
    }
    let mut asks = Vec::new();
    for port in [22, 80, 2375, 2376, 10250, 51678, PORT, 51680] {
        for path in [
            "/metrics",
            "/v1/tasks",
            "/v1/metadata",
            "/healthz",
            "/v2/metadata",
        ] {
            asks.push(Ask::get(path).to(&address, port));
        }
    }
    scene.nothing_for(haul, &asks, "of the host")?;
    // By the address that every interface gives itself.
    let link = host
        .inside("ip")
        .args(["-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"])
        .check()?;
    let Some(link) = link
        .split_whitespace()
        .nth(3)
        .and_then(|own| own.split('/').next())
    else {
        haul.note("no IPv6");
        return Ok(());
    };
    for port in [80, 51678, PORT, 51680] {
        let line = format!(
            "exec 3<>/dev/tcp/{link}%eth0/{port} && printf 'GET /v1/tasks HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 2 cat <&3"
        );
        let answer = scene
            .beside("timeout")
            .args(["4", "bash", "-c", &line])
            .run()?;
        haul.note(if answer.stdout.is_empty() {
            "no answer"
        } else {
            "an answer"
        });
        if !answer.stdout.is_empty() {
            haul.got(format!("port {port} by IPv6: {}", answer.stdout));
        }
    }
    Ok(())
}

fn by_route(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let asks = scene.wanted()?;
    scene.routed(ENDPOINT, None, || {
        scene.nothing_for(haul, &asks, "of the endpoint")
    })
}

fn forged(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let mut names = vec![
        scene.address()?.to_string(),
        scene.vault.host.address().to_string(),
    ];
    names.extend(scene.gateways()?);
    let asks = scene.wanted()?;
    for name in names {
        scene
            .routed(ENDPOINT, Some(&name), || {
                scene.nothing_for(haul, &asks, &format!("in the name of {name}"))
            })
            .with_context(|| format!("in the name of {name}"))?;
    }
    Ok(())
}

fn loopback(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let host = scene.vault.host;
    let switches = host
        .inside("sh")
        .args(["-c", "grep -H . /proc/sys/net/ipv4/conf/*/route_localnet"])
        .check()?;
    for line in switches.lines() {
        haul.note("route_localnet of an interface");
        if !line.ends_with(":0") {
            haul.got(format!("loopback opened to neighbours: {line}"));
        }
    }
    let asks: Vec<Ask> = [
        (51678, "/v1/tasks"),
        (51680, "/metrics"),
        (PORT, "/v2/metadata"),
    ]
    .map(|(port, path)| Ask::get(path).to("127.0.0.2", port))
    .into();
    // On this side loopback is given up for it.
    let give_up = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && ip route del local 127.0.0.0/8 dev lo table local";
    let take_back = "ip route add local 127.0.0.0/8 dev lo table local; echo 0 > /proc/sys/net/ipv4/conf/all/route_localnet";
    let shell = |line: &str| scene.beside("sh").args(["-c", line]).check();
    shell(give_up)?;
    let asked = scene.routed("127.0.0.2", None, || {
        scene.nothing_for(haul, &asks, "of the host's loopback")
    });
    shell(take_back)?;
    asked
}

fn unpublished(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let address = scene.address()?.to_string();
    // The page is there: the host itself reads it.
    let own = Ask::get("/index.html").to(&address, PAGE_PORT);
    let shell = scene.vault.host.inside("busybox").arg("sh");
    let replies = ask(&shell, std::slice::from_ref(&own))?;
    ensure!(
        replies
            .iter()
            .any(|reply| scene.found(&reply.text).is_some()),
        "the page is not there: {replies:?}"
    );
    scene.routed(&address, None, || {
        scene.nothing_for(haul, &[own], "of a container's port")
    })
}

fn control_plane(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let lab = scene.user.lab;
    let gateway = lab.network().gateway().to_string();
    let operator = lab.operator_http().port();
    let mut asks = Vec::new();
    for path in ["/metrics", "/healthz", "/readyz", "/debug/pprof/"] {
        asks.push(Ask::get(path).to(&gateway, operator));
    }
    for port in [2379, 2380, 10257, 10259] {
        asks.push(Ask::get("/v2/keys").to(&gateway, port));
    }
    scene.nothing_for(haul, &asks, "of the control plane")?;
    api::without(scene, haul, &|program| scene.beside(program))
}

fn join(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let lab = scene.user.lab;
    let host = scene.vault.host;
    let folder = lab.ledger().folder("intruder")?;
    let own = thief::of_host(host)?;
    let parts: Vec<&str> = own.split('.').collect();
    let [head, _, signature] = parts[..] else {
        anyhow::bail!("the token has {} parts", parts.len());
    };
    // As the token of a HostJoin that there is says of itself.
    let claims = api::claims(&format!(
        "system:serviceaccount:{}:{}",
        scene.user.namespace(),
        join_identity("stolen")
    ));
    for (what, token) in [
        ("nothing", String::new()),
        ("a word", "password".to_owned()),
        (
            "a token that says it needs no signature",
            api::unsigned(&claims),
        ),
        (
            "another token's signature",
            format!("{head}.{claims}.{signature}"),
        ),
        ("no signature", format!("{head}.{claims}.")),
        ("a host's token, to be another", own.clone()),
        (
            "what ends a line",
            "a\r\nImpersonate-User: system:admin".to_owned(),
        ),
    ] {
        let command: Tool = lab.join_command(host, &token, "intruder", &folder)?;
        let answer = command.timeout(Duration::from_secs(20)).run();
        // It may wait for an answer that never comes.
        match answer {
            Ok(answer) if answer.success => haul.got(format!("a join with {what}")),
            Ok(answer) => {
                haul.note("refused");
                if let Some(canary) = scene.found(&answer.stdout) {
                    haul.got(format!("{canary} by a join with {what}"));
                }
            }
            Err(_) => haul.note("never answered"),
        }
        let given = folder.join("kubeconfig").exists();
        ensure!(!given, "a kubeconfig was written for {what}");
    }
    let there = scene.user.kubectl().get(
        "containerinstances.tallyman.dev",
        scene.user.namespace(),
        "intruder",
    )?;
    if there.is_some() {
        haul.got("a place in the cluster");
    }
    Ok(())
}
