//! The commands: each reads, asks a pure part, prints, and writes what the user asked it to write.

mod act;
mod convert;
mod doctor;
mod join;
mod look;
mod plan;
mod run;

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Cli, Command};
use crate::complete::{self, Wanted};
use crate::outcome;
use crate::session::Session;

/// How often is looked while something is waited for.
pub(crate) const PERIOD: Duration = Duration::from_millis(1000);

/// Ctrl-C. One that comes while nobody waits for it, as during a request, is kept until somebody does.
pub(crate) struct Interrupts(Signal);

impl Interrupts {
    /// From now on Ctrl-C does not end the program by itself.
    pub(crate) fn new() -> Result<Interrupts> {
        Ok(Interrupts(signal(SignalKind::interrupt())?))
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // There will be none any more.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a while, or for one; says whether to go on.
    pub(crate) async fn pause(&mut self, period: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(period) => true,
            () = self.next() => false,
        }
    }
}

/// What `logs`, `exec` and `port-forward` say until they are there.
const NO_LOGS: &str = "`kubectl tally logs` is not there yet; meanwhile `kubectl tally get -o wide` names the host and the id of each \
                       container, and `docker logs ID` on that host prints what it wrote";
const NO_EXEC: &str = "`kubectl tally exec` is not there yet; meanwhile `kubectl tally get -o wide` names the host and the id of each \
                       container, and `docker exec -it ID sh` on that host opens a shell in it";
const NO_PORT_FORWARD: &str = "`kubectl tally port-forward` is not there yet; meanwhile `kubectl tally get` shows at which address of \
                               its host each published port of a task is reached";

/// Runs a command; the exit code is what it says.
///
/// # Errors
/// It could not do what it was asked for.
pub async fn run(cli: Cli) -> Result<u8> {
    let connection = &cli.connection;
    match &cli.command {
        Command::Convert(args) => return convert::convert(args),
        Command::Completion(args) => {
            print(complete::script(args.shell))?;
            return Ok(outcome::DONE);
        }
        Command::Complete(args) => return Ok(complete(&args.words).await),
        Command::Logs(_) => bail!(NO_LOGS),
        Command::Exec(_) => bail!(NO_EXEC),
        Command::PortForward(_) => bail!(NO_PORT_FORWARD),
        Command::Doctor(args) => return doctor::doctor(connection, args).await,
        _ => {}
    }
    let session = &Session::open(connection).await?;
    match cli.command {
        Command::Get(args) => look::get(session, &args).await,
        Command::Status(args) => look::status(session, &args).await,
        Command::Explain(args) => look::explain(session, &args).await,
        Command::History(args) => look::history(session, &args).await,
        Command::Top(args) => look::top(session, &args).await,
        Command::Instances(args) => look::instances(session, &args).await,
        Command::Plan(args) => plan::plan(session, &args).await,
        Command::Undo(args) => act::undo(session, &args).await,
        Command::Restart(args) => act::restart(session, &args).await,
        Command::Stop(args) => act::stop(session, &args).await,
        Command::Drain(args) => act::drain(session, &args).await,
        Command::Undrain(args) => act::undrain(session, &args).await,
        Command::Join(args) => join::join(session, &args).await,
        Command::Run(args) => run::run(session, &args).await,
        Command::Convert(_)
        | Command::Completion(_)
        | Command::Complete(_)
        | Command::Logs(_)
        | Command::Exec(_)
        | Command::PortForward(_)
        | Command::Doctor(_) => Ok(outcome::DONE),
    }
}

/// Prints to standard output. A reader that has gone (`| head`) ends the program quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Answers a shell; one that is offered nothing is told so, and no error.
async fn complete(words: &[String]) -> u8 {
    let (wanted, connection) = complete::wanted(words);
    let resources = match &wanted {
        Wanted::Names(resources) => *resources,
        Wanted::Namespace => &["namespaces"],
        Wanted::These(_) | Wanted::File => &[],
    };
    let (candidates, files) = match wanted {
        Wanted::These(list) => (list, false),
        Wanted::File => (Vec::new(), true),
        Wanted::Names(_) | Wanted::Namespace => {
            let prefix = words.last().map(String::as_str).unwrap_or_default();
            let found = names(&connection, resources, prefix);
            let found = tokio::time::timeout(Duration::from_secs(3), found).await;
            (found.ok().and_then(Result::ok).unwrap_or_default(), false)
        }
    };
    let _ = print(&complete::answer(&candidates, files));
    outcome::DONE
}

async fn names(
    connection: &crate::args::Connection,
    resources: &[&str],
    prefix: &str,
) -> Result<Vec<(String, String)>> {
    use tallyman_crds::{ContainerInstance, RunTask, Service, Task, TaskDefinition};
    let session = Session::open(connection).await?;
    let mut found = Vec::new();
    for resource in resources {
        let names = match *resource {
            "services" => session.names::<Service>().await?,
            "runtasks" => session.names::<RunTask>().await?,
            "tasks" => session.names::<Task>().await?,
            "taskdefinitions" => session.names::<TaskDefinition>().await?,
            "namespaces" => session.namespaces().await?,
            _ => session.names::<ContainerInstance>().await?,
        };
        let named = names.into_iter().filter(|n| n.starts_with(prefix));
        found.extend(named.map(|n| (n, (*resource).to_owned())));
    }
    Ok(found)
}
