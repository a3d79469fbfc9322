//! A real kube-apiserver, spoken to with kubectl as a user would.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support;

/// Longest wait for anything the server does in the background.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace of one test; removed when the test ends, also when it fails.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

/// What kubectl said.
pub struct Answer {
    /// It succeeded.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Standard output of a command that had to succeed.
    pub fn expect_ok(self, what: &str) -> String {
        assert!(self.ok, "{what}: {}", self.err);
        self.out
    }
}

/// Runs kubectl with `input` on standard input.
pub fn kubectl(arguments: &[&str], input: Option<&Value>) -> Answer {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "these tests need a kube-apiserver: set KUBECONFIG (and TALLYMAN_KUBECTL, unless kubectl is in PATH)"
    );
    let program = std::env::var_os("TALLYMAN_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is in TALLYMAN_KUBECTL or in PATH");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    if let Some(input) = input {
        stdin
            .write_all(input.to_string().as_bytes())
            .expect("kubectl reads its input");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("kubectl ends");
    Answer {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks until `done`; fails with `what` never having come true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what} did not come true within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Applies the generated definitions, once per run. They stay: others may have objects of these kinds on the server.
pub fn definitions() -> &'static str {
    static APPLIED: OnceLock<String> = OnceLock::new();
    APPLIED.get_or_init(|| {
        let folder = support::here("generated");
        let folder = folder.to_str().expect("paths of this crate are plain");
        let answer = kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", folder],
            None,
        );
        assert!(answer.ok, "{}", answer.err);
        let established = [
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            folder,
        ];
        kubectl(&established, None).expect_ok("every definition becomes Established");
        for crd in tallyman_crds::schema::crds() {
            let plural = crd.file.trim_end_matches(".yaml").to_owned() + ".tallyman.dev";
            until("the new kind is served", || {
                kubectl(&["get", &plural, "-A"], None).ok
            });
        }
        answer.err
    })
}

impl Namespace {
    /// Makes a namespace for the test of this name.
    pub fn new(test: &str) -> Namespace {
        definitions();
        let name = format!("crds-{test}-{}", std::process::id());
        kubectl(&["create", "namespace", &name], None).expect_ok("a namespace of our own");
        Namespace { name }
    }

    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> Answer {
        let mut all = vec!["--namespace", self.name.as_str()];
        all.extend(arguments);
        kubectl(&all, input)
    }

    /// Makes an object.
    pub fn create(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        self.kubectl(&["create", "-f", "-"], Some(&object))
            .expect_ok(&format!("{kind} {name}"));
    }

    /// Reads an object.
    pub fn get(&self, resource: &str, name: &str) -> Value {
        let text = self
            .kubectl(&["get", resource, name, "-o", "json"], None)
            .expect_ok(name);
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Changes the status of an object, as a user who may do everything.
    pub fn status(&self, resource: &str, name: &str, status: Value) -> Answer {
        self.status_as(&[], resource, name, status)
    }

    /// Changes the status of an object with more flags.
    pub fn status_as(&self, flags: &[&str], resource: &str, name: &str, status: Value) -> Answer {
        let patch = json!({ "status": status }).to_string();
        let mut all = vec![
            "patch",
            resource,
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        all.extend(flags);
        self.kubectl(&all, None)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Without a namespace controller on the server the namespace itself stays, so empty it first.
        self.kubectl(
            &[
                "delete",
                "tallyman,leases,roles,rolebindings",
                "--all",
                "--wait=false",
            ],
            None,
        );
        kubectl(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}
