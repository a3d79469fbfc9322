//! The `lab` command: a control plane, Docker hosts, the operator and agents on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tallyman_lab::quickstart::Quickstart;
use tallyman_lab::state::State;
use tallyman_lab::{
    EngineGeneration, Kubectl, Lab, LabBuilder, Ledger, interrupt, paths, progress, with,
};

/// A whole Tallyman on one machine: a Kubernetes control plane, Docker hosts (network namespaces with engines of their own), the
/// operator, and an agent on every host. Everything is real, and everything is gone after `lab down`.
///
/// Needs root, and the tools that `dev/tools.sh` gets.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings a lab up and leaves it running; Ctrl-C meanwhile takes it down again.
    Up {
        /// How many Docker hosts.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
        hosts: u8,
        /// Which engine they have: 20.10 is the oldest supported, as Debian packages it; current is built by `dev/tools.sh engines`.
        #[arg(long, value_enum, default_value = "20.10")]
        engine: EngineGeneration,
        /// Writes an audit log of every API request.
        #[arg(long, conflicts_with = "kubeconfig")]
        audit: bool,
        /// Uses this cluster instead of a control plane of its own, and takes from it again what was added.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        #[command(flatten)]
        programs: Programs,
        #[command(flatten)]
        place: Place,
    },
    /// Says what runs, and what the cluster thinks of it.
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Shows a log: operator, agent-host-1, host-1-dockerd, apiserver, etcd, controller-manager; all names without one.
    Logs {
        /// Whose log.
        name: Option<String>,
        /// Goes on showing what is added.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Takes a lab down, also one that was killed half way.
    Down {
        /// All labs on this machine that nobody wanted to keep and whose process is gone, too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Runs a command beside a control plane, or beside one engine of each generation, and takes those away again.
    With {
        /// A control plane: the command gets KUBECONFIG and TALLYMAN_KUBECTL.
        #[arg(long, conflicts_with = "engines", required_unless_present = "engines")]
        control_plane: bool,
        /// Engines: the command gets TALLYMAN_TEST_ENGINES=20.10=unix:///...,current=unix:///...
        #[arg(long)]
        engines: bool,
        /// The command and its arguments, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// What `make up` runs: a control plane, an agent for this machine's Docker, and examples/hello, until its page is served.
    Quickstart {
        /// Uses this cluster instead of an embedded control plane.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        #[command(flatten)]
        programs: Programs,
        /// Where everything is kept; `.up` in the source tree without.
        #[arg(long)]
        work: Option<PathBuf>,
    },
    /// What `make down` runs: takes away all that quickstart has made.
    QuickstartDown {
        /// Where it was kept.
        #[arg(long)]
        work: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Work folder of the lab; `.lab/up` in the source tree without.
    #[arg(long)]
    work: Option<PathBuf>,
}

impl Place {
    fn folder(&self) -> Result<PathBuf> {
        match &self.work {
            Some(work) => Ok(work.clone()),
            None => Ok(paths::source_root()?.join(".lab/up")),
        }
    }

    fn ledger(&self) -> Result<std::sync::Arc<Ledger>> {
        let folder = self.folder()?;
        Ledger::open(&folder)?.with_context(|| format!("no lab is up in {}", folder.display()))
    }
}

#[derive(clap::Args)]
struct Programs {
    /// The operator; the one built beside this command without.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// The agent; the one built beside this command without.
    #[arg(long)]
    agent: Option<PathBuf>,
}

fn main() -> ExitCode {
    progress::on();
    let result = run(Cli::parse().command);
    interrupt::check();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up {
            hosts,
            engine,
            audit,
            kubeconfig,
            programs,
            place,
        } => {
            let mut builder = Lab::builder()
                .hosts(usize::from(hosts), engine)
                .work_dir(place.folder()?)
                .audit(audit);
            if let Some(kubeconfig) = kubeconfig {
                builder = builder.kubeconfig(kubeconfig);
            }
            up(builder, programs)
        }
        Command::Status { place } => status(&place.ledger()?.state()),
        Command::Logs {
            name,
            follow,
            place,
        } => logs(&place.ledger()?.state(), name.as_deref(), follow),
        Command::Down { all, place } => {
            if all {
                tallyman_lab::state::sweep();
            }
            let folder = place.folder()?;
            match Ledger::open(&folder)? {
                Some(ledger) => {
                    ledger.down()?;
                    println!("the lab in {} is down", folder.display());
                }
                None => println!("no lab is up in {}", folder.display()),
            }
            Ok(())
        }
        Command::With {
            control_plane: _,
            engines: true,
            command,
        } => with::engines(&command),
        Command::With { command, .. } => with::control_plane(&command),
        Command::Quickstart {
            kubeconfig,
            programs,
            work,
        } => quickstart(work, kubeconfig, programs)?.up(),
        Command::QuickstartDown { work } => quickstart(
            work,
            None,
            Programs {
                operator: None,
                agent: None,
            },
        )?
        .down(),
    }
}

fn quickstart(
    work: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    Programs { operator, agent }: Programs,
) -> Result<Quickstart> {
    let work = match work {
        Some(work) => work,
        None => Quickstart::default_work()?,
    };
    Ok(Quickstart {
        work,
        kubeconfig,
        operator,
        agent,
    })
}

fn up(mut builder: LabBuilder, programs: Programs) -> Result<()> {
    let began = Instant::now();
    if let Some(operator) = programs.operator {
        builder = builder.operator_binary(operator);
    }
    if let Some(agent) = programs.agent {
        builder = builder.agent_binary(agent);
    }
    let lab = builder.start()?;
    lab.keep()?;
    println!("the lab is up after {:.1} s", began.elapsed().as_secs_f32());
    status(&lab.ledger().state())?;
    let tools = lab
        .kubectl()
        .program()
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned();
    println!(
        "\nexport KUBECONFIG={} PATH={}:$PATH",
        lab.kubectl().kubeconfig().display(),
        tools.display()
    );
    println!("lab status, lab logs NAME, lab down");
    Ok(())
}

fn status(state: &State) -> Result<()> {
    println!("{:<24} {:>8}  LOG", "PROCESS", "PID");
    for recorded in &state.processes {
        let pid = recorded
            .process
            .filter(|process| process.is_alive())
            .map_or_else(|| "-".to_owned(), |process| process.pid.to_string());
        let log = state
            .work
            .join("logs")
            .join(format!("{}.log", recorded.name));
        println!("{:<24} {pid:>8}  {}", recorded.name, log.display());
    }
    if !state.hosts.is_empty() {
        println!(
            "\n{:<24} {:<16} {:<24} DOCKER_HOST",
            "HOST", "ADDRESS", "ENGINE"
        );
        let mut hosts: Vec<_> = state.hosts.iter().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        for host in hosts {
            println!(
                "{:<24} {:<16} {:<24} unix://{}",
                host.name,
                host.address,
                host.engine,
                host.socket.display()
            );
        }
    }
    if let Some(plane) = &state.control_plane {
        println!("\nKUBECONFIG={}", plane.kubeconfig.display());
        let kubectl = Kubectl::new(&plane.kubeconfig, state.work.join("kubectl-cache"))?;
        for kinds in ["cinst", "tsvc", "task"] {
            let output = kubectl.run(["get", kinds, "--all-namespaces"])?;
            println!(
                "\n$ kubectl get {kinds} -A\n{}{}",
                output.stdout,
                output.stderr.trim_end()
            );
        }
    }
    Ok(())
}

fn logs(state: &State, name: Option<&str>, follow: bool) -> Result<()> {
    let Some(name) = name else {
        for recorded in &state.processes {
            println!("{}", recorded.name);
        }
        return Ok(());
    };
    let known = state.processes.iter().find(|recorded| {
        // `agent` alone is enough where there is one.
        recorded.name == name || (recorded.name.starts_with(&format!("{name}-")) && name == "agent")
    });
    let Some(recorded) = known else {
        bail!("the lab has no process {name}; `lab logs` lists them");
    };
    let log = state
        .work
        .join("logs")
        .join(format!("{}.log", recorded.name));
    let mut tail = std::process::Command::new("tail");
    tail.args(["-n", "1000"]);
    if follow {
        tail.arg("-F");
    }
    tail.arg(&log)
        .status()
        .with_context(|| format!("cannot show {}", log.display()))?;
    Ok(())
}
