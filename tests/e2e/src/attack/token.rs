//! With the token of a host.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::names::HOST_TOKEN_SECONDS;
use tallyman_lab::wait_until;

use crate::attack::api::{
    JSON, MERGE, SOMEBODY, judge, request, sending, token_request, wanted, with,
};
use crate::attack::scene::{ELSEWHERE, Scene};
use crate::attack::thief::{STOLEN, Thief};
use crate::attack::{From, Haul, Row};
use crate::scenarios::rogue;

/// Rows of this file. The last one ends the token.
pub const ROWS: &[Row] = &[
    Row {
        number: "30",
        from: From::Token,
        tried: "every verb on all that discovery lists, with its own, like and other names (`rogue.rs`)",
        reduced: false,
        run: matrix,
    },
    Row {
        number: "31",
        from: From::Token,
        tried: "lists and watches of more than its own objects: other selectors, all namespaces, paths of old, versions of before, tables",
        reduced: true,
        run: watches,
    },
    Row {
        number: "32",
        from: From::Token,
        tried: "writes to what is another's: Leases, status of hosts and tasks, plans, Secrets, as merge, JSON and apply patches",
        reduced: true,
        run: writes,
    },
    Row {
        number: "33",
        from: From::Token,
        tried: "to be somebody else: impersonation, headers of proxies, client certificates by header",
        reduced: true,
        run: impersonates,
    },
    Row {
        number: "34",
        from: From::Token,
        tried: "exec, attach, port-forward, proxy and logs of pods, nodes and services; paths that are no resources; paths with `..`, `//` and encodings",
        reduced: true,
        run: subresources,
    },
    Row {
        number: "35",
        from: From::Token,
        tried: "tokens: for longer than its own, bound to nothing or to another object, of other accounts",
        reduced: true,
        run: tokens,
    },
    Row {
        number: "36",
        from: From::Token,
        tried: "going on after the host's Secret was deleted, with the token, with renewed ones, with one for as long as can be and with one for somebody else, and renewing them",
        reduced: true,
        run: revoked,
    },
];

/// A host whose Secret was deleted is locked out within this.
const LOCKED_OUT: Duration = Duration::from_secs(15);

fn matrix(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let tried = rogue::tried(&scene.user)?;
    for _ in 0..tried.open {
        haul.note("its own");
    }
    for _ in tried.open..tried.cells {
        haul.note("403");
    }
    for wrong in tried.wrong {
        haul.got(wrong);
    }
    Ok(())
}

fn watches(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let Thief {
        core,
        ours,
        own,
        other,
        ..
    } = &thief;
    let host = scene.vault.host.name();
    let mut requests = Vec::new();
    for (list, mine, theirs) in [
        (format!("{core}/secrets"), own.as_str(), other.as_str()),
        (format!("{ours}/hostplans"), STOLEN, host),
        (format!("{ours}/containerinstances"), STOLEN, host),
        (format!("{ours}/tasks"), STOLEN, scene.vault_task.as_str()),
    ] {
        for query in [
            "limit=1".to_owned(),
            "resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(),
            "watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan".to_owned(),
            format!("fieldSelector=metadata.name%3D{theirs}"),
            format!("fieldSelector=metadata.name%21%3D{mine}"),
            format!("fieldSelector=metadata.name%3D%3D{theirs}"),
            format!("watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{theirs}"),
            format!("watch=1&timeoutSeconds=1&fieldSelector=metadata.name%21%3D{mine}"),
            format!("fieldSelector=metadata.namespace%3D{}", scene.user.namespace()),
            format!("fieldSelector=&fieldSelector=metadata.name%3D{mine}"),
            format!("fieldSelector=metadata.name%3D{theirs}&fieldSelector=metadata.name%3D{mine}"),
            "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtallyman".to_owned(),
            format!("name={mine}"),
        ] {
            requests.push(request("GET", &format!("{list}?{query}")));
        }
        let table = request("GET", &format!("{list}/{theirs}"));
        requests.push(with(
            table,
            "Accept",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        ));
        let partial = request("GET", &list);
        requests.push(with(
            partial,
            "Accept",
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        ));
        // Watches as they were asked for once, and all namespaces.
        let watched =
            list.replacen("/v1/", "/v1/watch/", 1)
                .replacen("/v1alpha1/", "/v1alpha1/watch/", 1);
        requests.push(request("GET", &format!("{watched}?timeoutSeconds=1")));
        requests.push(request(
            "GET",
            &format!("{watched}/{theirs}?timeoutSeconds=1"),
        ));
        let everywhere = list.replace(&format!("/namespaces/{}", scene.user.namespace()), "");
        requests.push(request("GET", &everywhere));
        requests.push(request(
            "GET",
            &format!("{everywhere}?fieldSelector=metadata.name%3D{mine}"),
        ));
        let elsewhere = list.replace(
            &format!("/namespaces/{}", scene.user.namespace()),
            &format!("/namespaces/{}", ELSEWHERE.0),
        );
        requests.push(request("GET", &elsewhere));
        requests.push(request(
            "GET",
            &format!("{elsewhere}?fieldSelector=metadata.name%3D{mine}"),
        ));
    }
    thief.try_all(haul, &requests)?;
    // Selectors that hold its own name and more: at most its own comes of them.
    let both = format!("fieldSelector=metadata.name%3D{own}%2Cmetadata.name%3D{other}");
    let both = [
        request("GET", &format!("{core}/secrets?{both}")),
        request(
            "GET",
            &format!("{core}/secrets?watch=1&timeoutSeconds=1&{both}"),
        ),
        request(
            "GET",
            &format!(
                "{core}/secrets?fieldSelector=metadata.name%3D{own}&fieldSelector=metadata.name%3D{other}"
            ),
        ),
    ];
    for (request, answer) in both.iter().zip(thief.send_as(&scene.token, &both)?) {
        judge(scene, haul, request, &answer, true);
        // A refusal says what was asked for.
        if answer.0 < 400 && answer.1.contains(other.as_str()) {
            haul.got(format!("another host's Secret by `{}`", request["path"]));
        }
    }
    Ok(())
}

fn writes(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let Thief {
        core,
        ours,
        leases,
        own,
        other,
        ..
    } = &thief;
    let (host, task) = (scene.vault.host.name(), &scene.vault_task);
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                        "metadata": { "name": other }, "spec": { "holderIdentity": STOLEN } });
    let stopped = json!({ "status": { "lastStatus": "STOPPED" } });
    let taken = json!({ "status": { "containerInstance": STOLEN } });
    let report = json!({ "status": { "host": { "engineReachable": false } } });
    let mut all = Vec::new();
    for (path, body) in [
        (format!("{leases}/{other}"), &lease),
        (format!("{ours}/tasks/{task}/status"), &stopped),
        (format!("{ours}/tasks/{task}/status"), &taken),
        (
            format!("{ours}/tasks/{task}"),
            &json!({ "spec": { "containerInstance": STOLEN } }),
        ),
        (
            format!("{ours}/tasks/{task}"),
            &json!({ "metadata": { "labels": { "a": "b" } } }),
        ),
        (format!("{ours}/containerinstances/{host}/status"), &report),
        (
            format!("{ours}/containerinstances/{STOLEN}/status"),
            &json!({ "status": { "agentConnected": true } }),
        ),
        (
            format!("{ours}/containerinstances/{STOLEN}"),
            &json!({ "spec": { "status": "DRAINING" } }),
        ),
        (
            format!("{ours}/hostplans/{STOLEN}"),
            &json!({ "spec": { "generation": 99 } }),
        ),
        (
            format!("{ours}/hostplans/{host}"),
            &json!({ "spec": { "generation": 99 } }),
        ),
        (
            format!("{ours}/clusters/default"),
            &json!({ "spec": { "taskPolicy": { "privileged": true } } }),
        ),
        (
            format!("{ours}/hostjoins/{STOLEN}/status"),
            &json!({ "status": { "request": null } }),
        ),
        (
            format!("{core}/secrets/{own}"),
            &json!({ "data": { "a": "Yg==" } }),
        ),
        (
            format!("{core}/secrets/{other}"),
            &json!({ "data": { "a": "Yg==" } }),
        ),
        (
            format!("{core}/serviceaccounts/{own}"),
            &json!({ "metadata": { "labels": { "a": "b" } } }),
        ),
        (
            format!(
                "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/{own}",
                scene.user.namespace()
            ),
            &json!({ "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }] }),
        ),
    ] {
        let patch = |content: &str, query: &str, body: &Value| {
            sending(request("PATCH", &format!("{path}?{query}")), content, body)
        };
        all.push(patch(MERGE, "dryRun=All", body));
        let (group, kind) = path_of_kind(&path);
        let mut applied = body.clone();
        applied["apiVersion"] = json!(group);
        applied["kind"] = json!(kind);
        applied["metadata"] = json!({ "name": name_in(&path) });
        all.push(patch(
            "application/apply-patch+yaml",
            "dryRun=All&force=true&fieldManager=thief",
            &applied,
        ));
        let (field, value) = body
            .as_object()
            .into_iter()
            .flatten()
            .last()
            .context("an empty body")?;
        let steps = json!([{ "op": "add", "path": format!("/{field}"), "value": value }]);
        all.push(patch("application/json-patch+json", "dryRun=All", &steps));
        all.push(sending(
            request("PUT", &format!("{path}?dryRun=All")),
            JSON,
            &applied,
        ));
        all.push(request("DELETE", &format!("{path}?dryRun=All")));
    }
    // What is not there yet.
    for (path, body) in [
        (leases.clone(), lease.clone()),
        (
            format!("{ours}/tasks"),
            json!({ "apiVersion": "tallyman.dev/v1alpha1", "kind": "Task",
            "metadata": { "name": "planted" }, "spec": { "taskDefinition": "vault", "containerInstance": STOLEN } }),
        ),
        (
            format!("{core}/events"),
            json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "x" },
            "involvedObject": {}, "reason": "x", "message": "x", "type": "Normal" }),
        ),
        (
            format!("{core}/pods"),
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" },
            "spec": { "containers": [{ "name": "x", "image": "x" }] } }),
        ),
    ] {
        all.push(sending(
            request("POST", &format!("{path}?dryRun=All")),
            JSON,
            &body,
        ));
    }
    thief.try_all(haul, &all)
}

/// `apiVersion` and `kind` of what a path leads to.
fn path_of_kind(path: &str) -> (&'static str, &'static str) {
    let kinds = [
        ("/leases/", "coordination.k8s.io/v1", "Lease"),
        ("/tasks/", "tallyman.dev/v1alpha1", "Task"),
        (
            "/containerinstances/",
            "tallyman.dev/v1alpha1",
            "ContainerInstance",
        ),
        ("/hostplans/", "tallyman.dev/v1alpha1", "HostPlan"),
        ("/clusters/", "tallyman.dev/v1alpha1", "Cluster"),
        ("/hostjoins/", "tallyman.dev/v1alpha1", "HostJoin"),
        ("/secrets/", "v1", "Secret"),
        ("/serviceaccounts/", "v1", "ServiceAccount"),
    ];
    let mut kinds = kinds.into_iter();
    let found = kinds.find(|(part, _, _)| path.contains(part));
    found.map_or(
        ("rbac.authorization.k8s.io/v1", "Role"),
        |(_, group, kind)| (group, kind),
    )
}

fn name_in(path: &str) -> &str {
    let path = path.strip_suffix("/status").unwrap_or(path);
    path.rsplit('/').next().unwrap_or_default()
}

fn impersonates(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let mut somebody: Vec<Vec<(&str, String)>> = Vec::new();
    for user in [
        "system:admin".to_owned(),
        "system:serviceaccount:tallyman-system:tallyman-operator".to_owned(),
        format!(
            "system:serviceaccount:{}:{}",
            scene.user.namespace(),
            thief.other
        ),
    ] {
        somebody.push(vec![("Impersonate-User", user.clone())]);
        somebody.push(vec![
            ("Impersonate-User", user),
            ("Impersonate-Group", "system:masters".to_owned()),
        ]);
    }
    let own = format!(
        "system:serviceaccount:{}:{}",
        scene.user.namespace(),
        thief.own
    );
    for (name, value) in [
        ("Impersonate-Group", "system:masters"),
        ("Impersonate-Uid", "0"),
        ("Impersonate-Extra-scopes", "all"),
    ] {
        // Somebody must be named with these; also oneself.
        somebody.push(vec![(name, value.to_owned())]);
        somebody.push(vec![
            ("Impersonate-User", own.clone()),
            (name, value.to_owned()),
        ]);
    }
    for (name, value) in SOMEBODY {
        somebody.push(vec![(name, (*value).to_owned())]);
    }
    let mut all = Vec::new();
    for headers in somebody {
        for mut one in wanted(scene) {
            for (name, value) in &headers {
                one = with(one, name, value);
            }
            all.push(one);
        }
    }
    thief.try_all(haul, &all)
}

fn subresources(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let Thief {
        core, ours, other, ..
    } = &thief;
    let host = scene.vault.host.name();
    let mut all = Vec::new();
    for path in [
        format!("{core}/pods/x/exec?command=id&stdout=true"),
        format!("{core}/pods/x/attach?stdout=true"),
        format!("{core}/pods/x/portforward?ports=80"),
        format!("{core}/pods/x/log"),
        format!("{core}/pods/x/proxy/"),
        format!("{core}/services/https:kubernetes:443/proxy/api/v1/secrets"),
        format!("/api/v1/nodes/{host}/proxy/pods"),
        "/api/v1/nodes".to_owned(),
        "/api/v1/namespaces".to_owned(),
        "/metrics".to_owned(),
        "/debug/pprof/".to_owned(),
        "/debug/flags/v".to_owned(),
        "/logs/".to_owned(),
        "/configz".to_owned(),
        "/statusz".to_owned(),
        "/flagz".to_owned(),
        format!("//{}/secrets/{other}", core.trim_start_matches('/')),
        format!("{core}/secrets/{}/../{other}", thief.own),
        format!("{core}/secrets/{}%2f..%2f{other}", thief.own),
        format!("{core}/secrets/{}/..%2f{other}", thief.own),
        format!("{core}/secrets/%74{}", other.trim_start_matches('t')),
        format!("{core}/secrets//{other}"),
        format!("{core}/./secrets/{other}"),
        format!("{ours}/hostplans/{STOLEN}/../{host}"),
        format!("{ours}/containerinstances/{STOLEN}/..;/{host}"),
        format!("{ours}/containerinstances/{host}/status"),
        format!("{ours}/services/vault/scale"),
    ] {
        for method in ["GET", "POST"] {
            all.push(request(method, &path));
        }
    }
    thief.try_all(haul, &all)
}

fn tokens(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let Thief { own, other, .. } = &thief;
    let mut all = Vec::new();
    for seconds in [HOST_TOKEN_SECONDS + 1, 365 * 24 * 3600, 1 << 32] {
        all.push(thief.token(own, &token_request(seconds, Some(own))));
    }
    all.push(thief.token(own, &token_request(600, None)));
    all.push(thief.token(own, &token_request(600, Some(other))));
    for (kind, name) in [
        ("Pod", own),
        ("Node", own),
        ("secret", own),
        ("Secret", &own.to_uppercase()),
    ] {
        let mut body = token_request(600, Some(name));
        body["spec"]["boundObjectRef"]["kind"] = json!(kind);
        all.push(thief.token(own, &body));
    }
    for account in [other.as_str(), "default", "tallyman-join-stolen"] {
        all.push(thief.token(account, &token_request(600, Some(account))));
        all.push(thief.token(account, &token_request(600, Some(own))));
        all.push(thief.token(account, &token_request(600, None)));
    }
    let operator = "/api/v1/namespaces/tallyman-system/serviceaccounts/tallyman-operator/token";
    all.push(sending(
        request("POST", operator),
        JSON,
        &token_request(600, None),
    ));
    thief.try_all(haul, &all)
}

fn revoked(scene: &Scene<'_>, haul: &mut Haul) -> Result<()> {
    let thief = Thief::new(scene);
    let own = &thief.own;
    // What it may have, and has stored.
    let mut hoard = vec![scene.token.clone()];
    let mut audience = token_request(600, Some(own));
    audience["spec"]["audiences"] = json!(["https://kubernetes.default.svc", "vault.example"]);
    let asked = [
        thief.token(own, &token_request(600, Some(own))),
        thief.token(own, &token_request(HOST_TOKEN_SECONDS, Some(own))),
        thief.token(own, &audience),
    ];
    for (code, text) in thief.send_as(&scene.token, &asked)? {
        ensure!(code == 201, "it gets a token like its own: {code} {text}");
        let token = serde_json::from_str::<Value>(&text)?["status"]["token"].clone();
        hoard.push(token.as_str().context("no token")?.to_owned());
    }
    for token in &hoard {
        let answers = thief.send_as(token, &[thief.its_own()])?;
        ensure!(
            answers[0].0 == 200,
            "a token does not work before: {answers:?}"
        );
    }
    scene.user.k(&["delete", "secret", own])?;
    wait_until("every token to be refused", LOCKED_OUT, || {
        for token in &hoard {
            let (code, _) = thief.send_as(token, &[thief.its_own()])?.remove(0);
            if code != 401 {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .or_else(|error| {
        haul.got(format!("access after the Secret is gone: {error:#}"));
        anyhow::Ok(())
    })?;
    for token in &hoard {
        let after = [
            thief.its_own(),
            thief.token(own, &token_request(600, Some(own))),
            thief.token(own, &token_request(600, None)),
            request("GET", &format!("{}/secrets/{own}", thief.core)),
            sending(
                request("PATCH", &format!("{}/{own}?dryRun=All", thief.leases)),
                MERGE,
                &json!({ "spec": { "holderIdentity": STOLEN } }),
            ),
        ];
        let answers = thief.send_as(token, &after)?;
        for (request, answer) in after.iter().zip(&answers) {
            judge(scene, haul, request, answer, false);
        }
    }
    // Nor does asking for the Secret's name again help: it is made anew for nobody.
    let there = scene
        .user
        .kubectl()
        .get("secret", scene.user.namespace(), own)?;
    if there.is_some() {
        haul.got("a Secret that was made again by itself");
    }
    Ok(())
}
