//! What a host may write: `deploy/20-host-status-policy.yaml` on a real server.

use serde_json::{Value, json};
use tallyman_crds::names;

use crate::server::{Answer, Namespace, kubectl, until};
use crate::support;

#[test]
fn a_host_writes_its_own_and_nothing_else() {
    let namespace = Namespace::new("policy");
    let elsewhere = Namespace::new("policy-elsewhere");
    apply("../deploy/20-host-status-policy.yaml");
    permit_everything(&namespace, &[&namespace, &elsewhere]);
    let user = names::host_user(&namespace.name, "a");
    let group = format!("system:serviceaccounts:{}", namespace.name);
    let as_host = [
        "--as",
        &user,
        "--as-group",
        "system:serviceaccounts",
        "--as-group",
        &group,
    ];
    let status = |resource: &str, name: &str, status: Value| {
        namespace.status_as(&as_host, resource, name, status)
    };

    for (name, spec) in [
        (
            "mine",
            json!({ "taskDefinition": "web", "containerInstance": "a" }),
        ),
        (
            "other",
            json!({ "taskDefinition": "web", "containerInstance": "b" }),
        ),
        ("given", json!({ "taskDefinition": "web" })),
        ("nobodys", json!({ "taskDefinition": "web" })),
    ] {
        namespace.create("Task", name, spec);
    }
    namespace
        .status("task", "given", json!({ "containerInstance": "a" }))
        .expect_ok("placed by the operator");
    elsewhere.create(
        "Task",
        "mine",
        json!({ "taskDefinition": "web", "containerInstance": "a" }),
    );
    for host in ["a", "b"] {
        namespace.create("ContainerInstance", host, json!({}));
        namespace.create(
            "HostPlan",
            host,
            json!({ "generation": 1, "leaderEpoch": 1, "cluster": "default", "containerInstanceUid": "u" }),
        );
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": names::host_identity(host) }, "spec": {},
        });
        namespace
            .kubectl(&["create", "-f", "-"], Some(&lease))
            .expect_ok("a lease");
    }
    // The policy is in force some moments after it was applied.
    until("the policy holds", || {
        !status(
            "task",
            "other",
            json!({ "lastStatus": "PENDING", "observedGeneration": 0 }),
        )
        .ok
    });

    let permitted = |what: &str, answer: Answer| assert!(answer.ok, "{what}: {}", answer.err);
    permitted(
        "its task runs",
        status(
            "task",
            "mine",
            json!({ "lastStatus": "RUNNING", "observedGeneration": 1 }),
        ),
    );
    permitted(
        "its task stops",
        status("task", "mine", json!({ "lastStatus": "STOPPED" })),
    );
    permitted(
        "after the end it says what it removed",
        status(
            "task",
            "mine",
            json!({ "removedAt": "2026-01-01T00:00:00Z" }),
        ),
    );
    permitted(
        "a task it was given",
        status("task", "given", json!({ "lastStatus": "RUNNING" })),
    );
    let report = json!({ "host": {
        "agentVersion": "0.1.0", "engine": "docker 29.1", "engineApiVersion": "1.52", "engineReachable": true,
        "registeredResources": { "cpu": 2048, "memory": 3950 },
    } });
    permitted("its own part", status("cinst", "a", report.clone()));
    permitted(
        "its own part again",
        status(
            "cinst",
            "a",
            json!({ "host": { "engineReachable": false } }),
        ),
    );
    let renew = |name: &str| {
        let patch = json!({ "spec": { "holderIdentity": "a" } }).to_string();
        let mut all = vec!["patch", "lease", name, "--type=merge", "-p", &patch];
        all.extend(as_host);
        namespace.kubectl(&all, None)
    };
    permitted("its own lease", renew(&names::host_identity("a")));

    let refused = |what: &str, answer: Answer, because: &str| {
        assert!(!answer.ok, "{what} was permitted");
        assert!(answer.err.contains(because), "{what}: {}", answer.err);
    };
    let running = json!({ "lastStatus": "RUNNING" });
    refused(
        "another host's task",
        status("task", "other", running.clone()),
        "is not placed on host a",
    );
    refused(
        "a task that is not placed",
        status("task", "nobodys", running.clone()),
        "is not placed on host a",
    );
    refused(
        "a stopped task that runs",
        status("task", "mine", running.clone()),
        "must not go back",
    );
    refused(
        "no status at all",
        status("task", "mine", Value::Null),
        "must not go back",
    );
    refused(
        "giving a task away",
        status("task", "given", json!({ "containerInstance": "b" })),
        "`status.containerInstance`",
    );
    refused(
        "a task of another namespace",
        elsewhere.status_as(&as_host, "task", "mine", running),
        "belongs to namespace",
    );
    refused(
        "another instance",
        status("cinst", "b", report),
        "may not write the status of b",
    );
    refused(
        "the operator's part",
        status("cinst", "a", json!({ "agentConnected": true })),
        "only write `status.host`",
    );
    refused(
        "the operator's part, taken away",
        status("cinst", "a", json!({ "observedGeneration": 7 })),
        "only write `status.host`",
    );
    refused(
        "another lease",
        renew(&names::host_identity("b")),
        "only write its own Lease",
    );
    let plain = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(as_host);
        namespace.kubectl(&all, None)
    };
    let bump = r#"{"spec":{"generation":2}}"#;
    refused(
        "its plan",
        plain(&["patch", "hplan", "a", "--type=merge", "-p", bump]),
        "not UPDATE hostplans",
    );
    let stop = r#"{"spec":{"desiredStatus":"STOPPED"}}"#;
    refused(
        "a spec",
        plain(&["patch", "task", "given", "--type=merge", "-p", stop]),
        "not UPDATE tasks",
    );
    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    refused(
        "a label",
        plain(&["patch", "task", "given", "--type=merge", "-p", label]),
        "not UPDATE tasks",
    );
    refused(
        "a deletion",
        plain(&["delete", "task", "given", "--wait=false"]),
        "not DELETE tasks",
    );
    let beside = r#"{"metadata":{"labels":{"a":"b"},"finalizers":["a.b/c"]},"status":{"lastStatus":"RUNNING"}}"#;
    plain(&[
        "patch",
        "task",
        "given",
        "--subresource=status",
        "--type=merge",
        "-p",
        beside,
    ]);
    let given = namespace.get("task", "given");
    assert!(
        given["metadata"].get("labels").is_none() && given["metadata"].get("finalizers").is_none()
    );

    let identity = names::host_identity("a");
    for what in [
        &["create", "serviceaccount", &identity][..],
        &["create", "secret", "generic", &identity],
    ] {
        namespace.kubectl(what, None).expect_ok("its account");
    }
    let token = |seconds: i64, bound: bool| {
        let life = format!("--duration={seconds}s");
        let to = format!("--bound-object-name={identity}");
        let mut all = vec!["create", "token", &identity, &life];
        if bound {
            all.extend(["--bound-object-kind=Secret", &to]);
        }
        plain(&all)
    };
    let longest = names::HOST_TOKEN_SECONDS;
    permitted("a token like its first one", token(longest, true));
    refused(
        "a token that lives longer",
        token(longest + 1, true),
        "ends within 30 days",
    );
    refused(
        "a token that outlives its Secret",
        token(600, false),
        "bound to its own Secret",
    );

    // Nobody else is looked at.
    permitted(
        "an administrator",
        namespace.status("cinst", "a", json!({ "agentConnected": true })),
    );
}

#[test]
fn a_host_that_joins_writes_its_request_and_nothing_else() {
    let namespace = Namespace::new("join-policy");
    let elsewhere = Namespace::new("join-policy-elsewhere");
    apply("../deploy/30-host-join-policy.yaml");
    permit_everything(&namespace, &[&namespace, &elsewhere]);
    let user = names::join_user(&namespace.name, "a");
    let group = format!("system:serviceaccounts:{}", namespace.name);
    let as_join = ["--as", &user, "--as-group", &group];
    for name in ["a", "a-b"] {
        namespace.create("HostJoin", name, json!({ "accept": "Manual" }));
    }
    elsewhere.create("HostJoin", "a", json!({}));
    let request = |id: &str| {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        json!({ "request": { "id": id, "publicKey": key, "containerInstance": "a" } })
    };
    let ask = |name: &str, status: Value| namespace.status_as(&as_join, "hjoin", name, status);
    until("the policy holds", || !ask("a-b", request("1")).ok);

    ask("a", request("1")).expect_ok("it asks");
    ask("a", request("2")).expect_ok("it asks again, before it is admitted");
    let refused = |what: &str, answer: Answer, because: &str| {
        assert!(!answer.ok, "{what} was permitted");
        assert!(answer.err.contains(because), "{what}: {}", answer.err);
    };
    let own = "may only write the request of HostJoin a";
    refused(
        "a name that begins like its own",
        ask("a-b", request("1")),
        own,
    );
    refused(
        "a namesake elsewhere",
        elsewhere.status_as(&as_join, "hjoin", "a", request("1")),
        own,
    );
    for (what, status) in [
        ("an answer", json!({ "answered": "2" })),
        ("an admission", json!({ "containerInstance": "a" })),
        (
            "a condition",
            json!({ "conditions": [] , "keyFingerprint": "x" }),
        ),
        ("a generation", json!({ "observedGeneration": 7 })),
    ] {
        refused(what, ask("a", status), "only write `status.request`");
    }
    let plain = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(as_join);
        namespace.kubectl(&all, None)
    };
    let accept = r#"{"spec":{"accept":"Automatic"}}"#;
    for arguments in [
        ["patch", "hjoin", "a", "--type=merge", "-p", accept],
        ["label", "hjoin", "a", "a=b", "--overwrite", "--v=0"],
        ["delete", "hjoin", "a", "--wait=false", "--now", "--v=0"],
    ] {
        refused(arguments[0], plain(&arguments), own);
    }
    let other = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "ContainerInstance", "metadata": { "name": "c" }, "spec": {},
    });
    let mut create = vec!["create", "-f", "-"];
    create.extend(as_join);
    refused("an object", namespace.kubectl(&create, Some(&other)), own);
    namespace
        .status("hjoin", "a", json!({ "containerInstance": "a" }))
        .expect_ok("the operator admits");
    refused("another request", ask("a", request("3")), "is used up");
}

fn apply(file: &str) {
    let file = support::here(file);
    let file = file.to_str().expect("paths of this project are plain");
    // Some of it stands in the operator's namespace.
    kubectl(&["create", "namespace", "tallyman-system"], None);
    kubectl(
        &["apply", "--server-side", "--force-conflicts", "-f", file],
        None,
    )
    .expect_ok("the policy");
}

/// A Role that permits hosts everything, so that what is refused is refused by the policy.
fn permit_everything(namespace: &Namespace, places: &[&Namespace]) {
    for place in places {
        let everything = json!([{
            "apiGroups": ["tallyman.dev", "coordination.k8s.io"], "resources": ["*"], "verbs": ["*"],
        }, {
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
        }]);
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "everything" }, "rules": everything,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "everything" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "everything" },
            "subjects": [{ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io",
                "name": format!("system:serviceaccounts:{}", namespace.name) }],
        });
        for object in [role, binding] {
            place
                .kubectl(&["create", "-f", "-"], Some(&object))
                .expect_ok("rights for hosts");
        }
    }
}
