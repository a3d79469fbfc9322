//! The unit of the agent under a real systemd, with the file of an ECS host: what it says where ECS' paths are none here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::command::Tool;
use tallyman_lab::paths;

/// As files of ECS hosts are: comments, quotes, JSON without quotes around it, and paths of the container of ECS' agent.
const OF_AN_ECS_HOST: &str = r##"# Written by user data
ECS_CLUSTER=prod
ECS_DATADIR=/data
ECS_HOST_DATA_DIR=/var/lib/ecs
ECS_LOGFILE=/log/ecs-agent.log
ECS_LOGLEVEL="info"

; Also a comment
ECS_CONTAINER_STOP_TIMEOUT='45s'
ECS_INSTANCE_ATTRIBUTES={"stack":"prod","rack":"r 1"}
ECS_CONTAINER_INSTANCE_TAGS={"team": "shop floor"}
ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","awslogs"]
ECS_ENGINE_AUTH_TYPE=docker
ECS_ENGINE_AUTH_DATA={"https://registry.example.com/v1/":{"username":"my_name","password":"p@ss#\\"word","email":"a@example.com"}}
ECS_ENABLE_CONTAINER_METADATA=true
"##;

/// Nobody listens there: what the agent says before it needs the API server is what is looked at.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "x",
"clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "x", "user": {}}],
"contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "default"}}]}"#;

/// A host, as its files say, and what must come of it.
struct Row {
    name: &'static str,
    /// Of the folder `over`, and their text.
    files: &'static [(&'static str, &'static str)],
    /// In the agent's words.
    says: &'static [&'static str],
    never: &'static [&'static str],
    /// Lines of `systemctl show`.
    state: &'static [&'static str],
    /// Files that are there then.
    writes: &'static [&'static str],
}

const ROWS: [Row; 3] = [
    Row {
        name: "the file of an ECS host",
        files: &[("etc/ecs/ecs.config", OF_AN_ECS_HOST)],
        says: &[
            "ECS_DATADIR is `/data`; `/var/lib/tallyman`, which --data-dir or TALLYMAN_DATA_DIR says, goes before",
            "ECS_LOGFILE is `/log/ecs-agent.log`, which cannot be written: Read-only file system",
            "let the agent's unit write there with `ReadWritePaths=/log`. Until then the log is on standard error alone.",
            "read what was saved",
        ],
        never: &["the default is used", "no meaning here", "p@ss"],
        state: &["Result=success"],
        writes: &["var/lib/tallyman/lock"],
    },
    Row {
        name: "a data folder that the unit cannot write",
        files: &[
            ("etc/ecs/ecs.config", "ECS_DATADIR=/data\n"),
            ("etc/tallyman/agent.env", "TALLYMAN_DATA_DIR=/data\n"),
        ],
        says: &[
            "nothing can be written to the data directory `/data`; name a folder of this host in --data-dir, TALLYMAN_DATA_DIR \
             or ECS_DATADIR, or let the agent's unit write there with `ReadWritePaths=/data`: Read-only file system",
        ],
        never: &["read what was saved"],
        // Systemd starts it again: a disk may be mounted late.
        state: &["ActiveState=activating"],
        writes: &[],
    },
    Row {
        name: "an audit that the unit cannot write",
        files: &[
            (
                "etc/ecs/ecs.config",
                "ECS_LOGFILE=/var/log/ecs/ecs-agent.log\nECS_AUDIT_LOGFILE=/log/audit.log\n",
            ),
            ("var/log/ecs/ecs-init.log", "as an ECS host left it\n"),
        ],
        says: &[
            "ECS_AUDIT_LOGFILE is `/log/audit.log`, which cannot be written: Read-only file system",
        ],
        never: &["read what was saved"],
        state: &["ActiveState=failed", "ExecMainStatus=5"],
        writes: &["var/log/ecs/ecs-agent.log"],
    },
];

/// Boots systemd once for each row.
pub fn starts_with_the_file_of_an_ecs_host() -> Result<()> {
    for row in &ROWS {
        shown(row).with_context(|| row.name)?;
    }
    Ok(())
}

fn shown(row: &Row) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("tallyman-unit-{}", std::process::id()));
    let over = folder.join("over");
    let root = paths::source_root()?;
    let unit = root.join("node-agent/systemd/tallyman-agent.service");
    let program = paths::built_program("tallyman-agent")?;
    for (source, to) in [
        (unit.as_path(), "etc/systemd/system/tallyman-agent.service"),
        (program.as_path(), "usr/local/bin/tallyman-agent"),
    ] {
        std::fs::copy(source, parent(&over.join(to))?)?;
    }
    let kubeconfig = [("etc/tallyman/kubeconfig", KUBECONFIG)];
    for (path, text) in row.files.iter().chain(&kubeconfig) {
        std::fs::write(parent(&over.join(path))?, text)?;
    }
    let neighbour = neighbour()?;
    let booted = Tool::new("bash")
        .arg(root.join("tests/node/tests/unit/boot.sh"))
        .arg(&folder)
        .run()?;
    std::fs::remove_dir(&neighbour).with_context(|| {
        format!(
            "it took away {}, which is this machine's",
            neighbour.display()
        )
    })?;
    let told = |name: &str| {
        std::fs::read_to_string(folder.join("told").join(name))
            .with_context(|| format!("systemd told no {name}: {booted:?}"))
    };
    let (journal, state, files) = (told("journal")?, told("state")?, told("files")?);
    for words in row.says {
        ensure!(
            journal.contains(words),
            "it does not say `{words}`:\n{journal}"
        );
    }
    for words in row.never {
        ensure!(!journal.contains(words), "it says `{words}`:\n{journal}");
    }
    for line in row.state {
        ensure!(
            state.lines().any(|l| l == *line),
            "{line} is not in {state}\n{journal}"
        );
    }
    for file in row.writes {
        ensure!(
            files.lines().any(|l| l == *file),
            "{file} is not in {files}"
        );
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A control group of nobody's, which a systemd that takes this machine's for its own would remove.
fn neighbour() -> Result<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let above = match root.join("cgroup.controllers").exists() {
        true => root.to_owned(),
        false => root.join("pids"),
    };
    let group = above.join(format!("tallyman-neighbour-{}", std::process::id()));
    std::fs::create_dir(&group).with_context(|| group.display().to_string())?;
    Ok(group)
}

fn parent(path: &Path) -> Result<&Path> {
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(path)
}
