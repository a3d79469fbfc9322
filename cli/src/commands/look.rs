//! Commands that only look.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use tallyman_crds::readable::Unread;
use tallyman_crds::{RunTask, Service, TaskDefinition, TaskDefinitionRevision, labels};
use tallyman_operator_core::Objects;
use tallyman_operator_core::placement::Query;

use super::{PERIOD, print};
use crate::args::{Explain, Form, Get, History, Instances, Status, Top, TopOf};
use crate::session::{Listed, Session};
use crate::standing::{self, Standing, followed};
use crate::subject::{Found, SubjectKind};
use crate::table::{Paint, data};
use crate::tree::{self, Scope};
use crate::words::{label, left_out, name};
use crate::{explain, history, outcome, totals};

const ALL_KINDS: [SubjectKind; 3] = [SubjectKind::Service, SubjectKind::Run, SubjectKind::Task];

/// Waits for a while, or for Ctrl-C; says whether to go on.
async fn pause() -> bool {
    tokio::select! {
        () = tokio::time::sleep(PERIOD) => true,
        _ = tokio::signal::ctrl_c() => false,
    }
}

pub(super) async fn get(session: &Session, args: &Get) -> Result<u8> {
    let found = match &args.name {
        Some(given) => Some(session.find(given, &ALL_KINDS).await?),
        None => None,
    };
    let paint = Paint::of_stdout();
    let clears = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let text = tree_text(session, args, found.as_ref(), paint).await?;
        if text != shown {
            let clear = if args.watch && clears {
                "\u{1b}[H\u{1b}[2J"
            } else {
                ""
            };
            let apart = if args.watch && !clears && !shown.is_empty() {
                "\n"
            } else {
                ""
            };
            print(&format!("{clear}{apart}{text}"))?;
            shown = text;
        }
        if !args.watch || !pause().await {
            return Ok(outcome::DONE);
        }
    }
}

async fn tree_text(
    session: &Session,
    args: &Get,
    found: Option<&Found>,
    paint: Paint,
) -> Result<String> {
    let all = &ListParams::default();
    let (services, run_tasks, tasks) =
        futures::try_join!(session.list(all), session.list(all), session.list(all))?;
    let objects = Objects {
        services: shared(services),
        run_tasks: shared(run_tasks),
        tasks: shared(tasks),
        ..Objects::default()
    };
    let scope = match found {
        None => Scope::All,
        Some(Found::Service(s)) => Scope::Service(name(&s.metadata)),
        Some(Found::Run(r)) => Scope::Run(name(&r.metadata)),
        Some(Found::Task(t)) => Scope::Task(name(&t.metadata)),
    };
    if matches!(args.output.output, Form::Table | Form::Wide) {
        let table = tree::tree(&objects, scope, args.all, Timestamp::now());
        if table.rows.is_empty() {
            let namespace = &session.namespace;
            return Ok(format!(
                "There is no service, run or task in namespace {namespace}{}.\n",
                if session.warned() {
                    " that this version can read"
                } else {
                    ""
                }
            ));
        }
        return Ok(table.text(false, paint));
    }
    let is_of = |key: &str, wanted: &str, meta| label(meta, key) == Some(wanted);
    let services = objects
        .services
        .iter()
        .filter(|s| scope == Scope::All || scope == Scope::Service(name(&s.metadata)));
    let runs = objects
        .run_tasks
        .iter()
        .filter(|r| scope == Scope::All || scope == Scope::Run(name(&r.metadata)));
    let tasks = objects.tasks.iter().filter(|t| match scope {
        Scope::All => true,
        Scope::Service(s) => is_of(labels::SERVICE, s, &t.metadata),
        Scope::Run(r) => is_of(labels::RUN_TASK, r, &t.metadata),
        Scope::Task(one) => name(&t.metadata) == one,
    });
    if args.output.output == Form::Name {
        let names = services.map(|s| format!("service/{}", name(&s.metadata)));
        let names = names.chain(runs.map(|r| format!("runtask/{}", name(&r.metadata))));
        let names = names.chain(tasks.map(|t| format!("task/{}", name(&t.metadata))));
        return Ok(names.map(|n| n + "\n").collect());
    }
    let mut items: Vec<_> = services.map(|o| json!(**o)).collect();
    items.extend(runs.map(|o| json!(**o)));
    items.extend(tasks.map(|o| json!(**o)));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    Ok(data(&list, args.output.output))
}

fn shared<K>(items: Vec<K>) -> Vec<Arc<K>> {
    items.into_iter().map(Arc::new).collect()
}

pub(super) async fn status(session: &Session, args: &Status) -> Result<u8> {
    let found = session
        .find(&args.name, &[SubjectKind::Service, SubjectKind::Run])
        .await?;
    let began = Instant::now();
    let mut said = String::new();
    loop {
        let standing = stand(session, &found).await;
        let standing = match standing {
            // An API server that is away for a moment is no answer about the service.
            Err(error) if began.elapsed() < args.timeout => Standing::Going(format!("{error:#}")),
            other => other?,
        };
        match standing {
            Standing::Done(text) => {
                print(&format!("{text}\n"))?;
                return Ok(outcome::DONE);
            }
            Standing::Failed(text) => {
                print(&format!("{text}\n"))?;
                return Ok(outcome::FAILED);
            }
            Standing::Going(text) => {
                if text != said {
                    eprintln!("{text}");
                    said = text;
                }
            }
        }
        if began.elapsed() >= args.timeout {
            let seconds = args.timeout.as_secs();
            print(&format!("after {seconds} s not there yet: {said}\n"))?;
            return Ok(outcome::TIMED_OUT);
        }
        if !pause().await {
            return Ok(outcome::INTERRUPTED);
        }
    }
}

async fn stand(session: &Session, found: &Found) -> Result<Standing> {
    match found {
        Found::Service(s) => {
            let service: Service = session.need(name(&s.metadata)).await?;
            let definition = match followed(&service) {
                Some(family) => definition_of(session, family).await?,
                None => None,
            };
            Ok(standing::of_service(&service, definition.as_ref()))
        }
        Found::Run(r) => {
            let run: RunTask = session.need(name(&r.metadata)).await?;
            Ok(standing::of_run(&run))
        }
        Found::Task(t) => Err(anyhow!("`{}` is a task", name(&t.metadata))),
    }
}

/// The TaskDefinition of a family: mostly that of its name.
async fn definition_of(session: &Session, family: &str) -> Result<Option<TaskDefinition>> {
    let is_it = |d: &TaskDefinition| {
        d.spec
            .family
            .as_deref()
            .unwrap_or_else(|| name(&d.metadata))
            == family
    };
    // A family may have letters that no object's name has.
    if let Some(found) = session
        .get::<TaskDefinition>(&family.to_ascii_lowercase().replace('_', "-"))
        .await?
        && is_it(&found)
    {
        return Ok(Some(found));
    }
    let all: Vec<TaskDefinition> = session.list(&ListParams::default()).await?;
    Ok(all.into_iter().find(is_it))
}

pub(super) async fn explain(session: &Session, args: &Explain) -> Result<u8> {
    let found = session.find(&args.name, &ALL_KINDS).await?;
    let objects = session.objects().await?;
    let explanation = explain::explain(&objects, &session.namespace, &found, Timestamp::now());
    print(&match args.output.output {
        form @ (Form::Json | Form::Yaml) => data(&explanation.data(), form),
        Form::Name => format!("{}\n", explanation.subject.replacen(' ', "/", 1)),
        form @ (Form::Table | Form::Wide) => {
            explanation.text(form == Form::Wide, Paint::of_stdout())
        }
    })?;
    Ok(outcome::DONE)
}

/// A service with the revisions of the namespace, and those that cannot be read.
pub(super) async fn service_and_revisions(
    session: &Session,
    given: &str,
) -> Result<(Service, Vec<Arc<TaskDefinitionRevision>>, Vec<Unread>)> {
    let Found::Service(service) = session.find(given, &[SubjectKind::Service]).await? else {
        return Err(anyhow!("`{given}` is no service"));
    };
    let Listed { items, unread } = session.listed(&ListParams::default()).await?;
    Ok((service, shared(items), unread))
}

pub(super) async fn history(session: &Session, args: &History) -> Result<u8> {
    let (service, revisions, unread) = service_and_revisions(session, &args.name).await?;
    for unread in &unread {
        session.warn(&left_out("TaskDefinitionRevision", unread));
    }
    let past = history::Past::of(&service, &revisions).map_err(|why| anyhow!(why))?;
    let now = Timestamp::now();
    let form = args.output.output;
    let paint = Paint::of_stdout();
    print(&past.listing(&service, now).text(form, paint))?;
    if args.events && matches!(form, Form::Table | Form::Wide) {
        print(&format!(
            "\n{}",
            history::events(&service, now).text(false, paint)
        ))?;
    }
    Ok(outcome::DONE)
}

pub(super) async fn top(session: &Session, args: &Top) -> Result<u8> {
    let objects = session.objects().await?;
    let (form, paint) = (args.output.output, Paint::of_stdout());
    let hosts = (args.what != Some(TopOf::Services)).then(|| totals::hosts(&objects));
    let services =
        (args.what != Some(TopOf::Hosts)).then(|| totals::services(&objects, &session.namespace));
    match (form, &hosts, &services) {
        (Form::Json | Form::Yaml, Some(hosts), Some(services)) => {
            let both = json!({ "hosts": hosts.data, "services": services.data });
            print(&data(&both, form))?;
        }
        _ => {
            let texts = [&hosts, &services]
                .into_iter()
                .flatten()
                .map(|l| l.text(form, paint));
            let apart = if form == Form::Name { "" } else { "\n" };
            print(&texts.collect::<Vec<_>>().join(apart))?;
        }
    }
    if matches!(form, Form::Table | Form::Wide) {
        eprintln!("{}", totals::NOT_KNOWN);
    }
    Ok(outcome::DONE)
}

pub(super) async fn instances(session: &Session, args: &Instances) -> Result<u8> {
    let query = match &args.filter {
        None => None,
        Some(text) => {
            Some(Query::parse(text).map_err(|wrong| anyhow!(totals::pointed(text, &wrong)))?)
        }
    };
    let objects = session.objects().await?;
    let listing = totals::instances(&objects, &session.namespace, query.as_ref());
    if listing.table.rows.is_empty() && matches!(args.output.output, Form::Table | Form::Wide) {
        let of = args
            .filter
            .as_ref()
            .map_or(String::new(), |f| format!(" of which `{f}` is true"));
        eprintln!("There is no host{of} in namespace {}.", session.namespace);
        return Ok(outcome::DONE);
    }
    print(&listing.text(args.output.output, Paint::of_stdout()))?;
    Ok(outcome::DONE)
}
