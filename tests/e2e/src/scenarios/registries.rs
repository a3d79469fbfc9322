//! Images of a registry that lets in who knows the password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::process::CommandSpec;
use tallyman_lab::{LabHost, Process, paths, wait_until};

use crate::scenarios::secrets::{definition, kept};
use crate::suite::Scenario;
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "an image of a private registry is pulled with the task's credentials",
        run: private_registry,
    },
    Scenario {
        name: "an image of a private registry is pulled with the host's credentials, in each form of them",
        run: of_the_host,
    },
];

/// User `anna`, password `s3cret`, as `htpasswd -B` writes them.
const HTPASSWD: &str = "anna:$2y$05$Wm0ODqW1zmmdFz6.vaEzj.Jzx1ouvBAGJC9EICllU8MVAyVx4qxBe\n";
/// The same as a Docker client keeps them.
const AUTH: &str = "YW5uYTpzM2NyZXQ=";
const PORT: u16 = 5007;

/// A registry in the host's own network, where plain HTTP is allowed.
fn registry(host: &LabHost, folder: &Path) -> Result<Process> {
    fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("htpasswd"), HTPASSWD)?;
    let configuration = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{PORT}\n\
         auth:\n  htpasswd:\n    realm: shop\n    path: {}\n",
        path("data"),
        path("htpasswd")
    );
    fs::write(path("registry.yml"), configuration)?;
    let client = json!({ "auths": { format!("localhost:{PORT}"): { "auth": AUTH } } });
    fs::write(path("config.json"), client.to_string())?;
    let program = paths::test_tool("registry")?;
    let command = CommandSpec::new(program).args(["serve".to_owned(), path("registry.yml")]);
    let process = host.process(&format!("registry-{}", host.name()), command)?;
    process.start()?;
    Ok(process)
}

/// A registry that runs, with an image that its host does not have.
struct Shop {
    registry: Process,
    /// Its files, and `config.json` of a Docker client that may pull.
    folder: PathBuf,
    image: String,
}

impl Shop {
    fn open(user: &User<'_>, host: &LabHost) -> Result<Self> {
        let image = format!("localhost:{PORT}/shop/web:1");
        let folder = user.lab.log_path("operator")?;
        let folder = folder
            .parent()
            .context("a log has a folder")?
            .join("registry");
        let registry = registry(host, &folder)?;
        let config = folder.display().to_string();
        host.docker_ok(["tag", "localhost/tallyman/hello:1", &image])?;
        wait_until("the registry to take the image", PATIENCE, || {
            host.docker_ok(["--config", &config, "push", &image])
                .map(|_| true)
        })?;
        host.docker_ok(["rmi", &image])?;
        Ok(Self {
            registry,
            folder,
            image,
        })
    }
}

fn private_registry(user: &User<'_>) -> Result<()> {
    let host = &user.lab.hosts()[0];
    let Shop {
        registry,
        folder,
        image,
    } = Shop::open(user, host)?;

    let mut container = json!({
        "image": image, "repositoryCredentials": { "credentialsParameter": "shop-registry" },
    });
    let mut once = json!({
        "kind": "Task", "metadata": { "name": "wrong" },
        "spec": { "taskDefinition": "vault", "containerInstance": host.name() },
    });
    kept(
        user,
        "Secret",
        "shop-registry",
        json!({ "username": "anna", "password": "guessed" }),
    )?;
    user.apply(&[definition(container.clone())])?;
    user.apply(&[once.clone()])?;
    wait_until("a wrong password to be told", PATIENCE, || {
        let status = user.get("tasks", "wrong")?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(reason.starts_with("CannotPullContainerError"), "{status}");
        Ok(true)
    })?;

    kept(
        user,
        "Secret",
        "shop-registry",
        json!({ "username": "anna", "password": "s3cret" }),
    )?;
    once["metadata"]["name"] = json!("right");
    user.apply(&[once])?;
    user.k(&[
        "wait",
        "--for=condition=Ready",
        "tasks.tallyman.dev/right",
        "--timeout=90s",
    ])?;
    let status = user.get("tasks", "right")?["status"].clone();
    let digest = &status["containers"][0]["imageDigest"];
    ensure!(
        digest.as_str().is_some_and(|d| d.starts_with("sha256:")),
        "{status}"
    );

    // The same, as `kubectl create secret docker-registry` keeps it.
    container["repositoryCredentials"]["credentialsParameter"] = json!("shop-config");
    let client = fs::read_to_string(folder.join("config.json"))?;
    let config = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": { "name": "shop-config", "namespace": user.namespace() },
        "stringData": { ".dockerconfigjson": client },
    });
    user.kubectl().apply(&config.to_string())?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "wrong",
        "right",
        "--timeout=60s",
    ])?;
    host.docker_ok(["rmi", &image])?;
    user.apply(&[definition(container)])?;
    let mut again = json!({ "kind": "Task", "metadata": { "name": "again" } });
    again["spec"] = json!({ "taskDefinition": "vault", "containerInstance": host.name() });
    user.apply(&[again])?;
    user.k(&[
        "wait",
        "--for=condition=Ready",
        "tasks.tallyman.dev/again",
        "--timeout=90s",
    ])?;

    user.k(&["delete", "tasks.tallyman.dev", "again", "--timeout=60s"])?;
    host.docker_ok(["rmi", &image])?;
    registry.stop(PATIENCE)?;
    user.k(&["delete", "secret/shop-registry", "secret/shop-config"])?;
    user.delete(&["vault"])
}

/// `ECS_ENGINE_AUTH_DATA` in both forms, where the longest entry counts and the others are wrong, and the file of a Docker
/// client that names a credential helper.
fn of_the_host(user: &User<'_>) -> Result<()> {
    let host = &user.lab.hosts()[0];
    let Shop {
        registry,
        folder,
        image,
    } = Shop::open(user, host)?;
    let data = |right: Value, wrong: Value| {
        json!({
            "localhost": wrong, format!("http://localhost:{PORT}"): wrong,
            format!("https://localhost:{PORT}/shop/"): right, format!("localhost:{PORT}/shop/web2"): wrong,
        })
        .to_string()
    };
    // The second is `anna:guessed`.
    let dockercfg = data(
        json!({ "auth": AUTH }),
        json!({ "auth": "YW5uYTpndWVzc2Vk" }),
    );
    let docker = data(
        json!({ "username": "anna", "password": "s3cret" }),
        json!({ "username": "anna", "password": "guessed" }),
    );
    let helped = folder.join("helped");
    fs::create_dir_all(&helped)?;
    fs::write(helped.join("config.json"), r#"{"credsStore": "shop"}"#)?;
    let helper = helped.join("docker-credential-shop");
    // It reads what it is asked, as every helper does: who asks would write into a closed pipe.
    let script =
        "#!/bin/sh\nread -r server\necho '{\"Username\": \"anna\", \"Secret\": \"s3cret\"}'\n";
    fs::write(&helper, script)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let auth = |form: &'static str, data| {
        vec![
            ("ECS_ENGINE_AUTH_TYPE", form.to_owned()),
            ("ECS_ENGINE_AUTH_DATA", data),
        ]
    };
    // A helper that is not there: nobody knows whom to be.
    let helpless = folder.join("helpless");
    fs::create_dir_all(&helpless)?;
    fs::write(helpless.join("config.json"), r#"{"credsStore": "nowhere"}"#)?;
    let forms = [
        ("nobody", Vec::new()),
        (
            "helpless",
            vec![("DOCKER_CONFIG", helpless.display().to_string())],
        ),
        ("dockercfg", auth("dockercfg", dockercfg)),
        ("docker", auth("docker", docker)),
        (
            "helper",
            vec![("DOCKER_CONFIG", helped.display().to_string())],
        ),
    ];
    user.apply(&[definition(json!({ "image": image }))])?;
    let agent = host.agent();
    let plain = agent.command();
    let pulled = forms.iter().try_for_each(|(name, variables)| {
        let mut command = plain.clone().path(&helped);
        for (variable, value) in variables {
            command = command.env(*variable, value);
        }
        agent.set_command(command);
        agent.restart()?;
        pulled_by(user, host, name, &image).with_context(|| (*name).to_owned())
    });
    // Whatever was seen, others find the host as it was.
    agent.set_command(plain);
    agent.restart()?;
    pulled?;
    registry.stop(PATIENCE)?;
    user.delete(&["vault"])
}

/// Runs a task on the host, which pulls its image, unless it is `nobody`, or `helpless`.
fn pulled_by(user: &User<'_>, host: &LabHost, task: &str, image: &str) -> Result<()> {
    user.apply(&[json!({
        "kind": "Task", "metadata": { "name": task },
        "spec": { "taskDefinition": "vault", "containerInstance": host.name() },
    })])?;
    let denied = match task {
        "nobody" => Some("CannotPullContainerError: "),
        "helpless" => Some("CannotPullContainerAuthError: "),
        _ => None,
    };
    wait_until("the task to run, or not", PATIENCE, || {
        let status = user.get("tasks", task)?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            match denied {
                Some(name) => reason.starts_with(name),
                None => status["lastStatus"] == "RUNNING",
            },
            "{status}"
        );
        Ok(true)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", task, "--timeout=60s"])?;
    if denied.is_none() {
        host.docker_ok(["rmi", image])?;
    }
    Ok(())
}
