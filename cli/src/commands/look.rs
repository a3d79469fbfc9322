//! Commands that only look.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use tallyman_crds::readable::Unread;
use tallyman_crds::{RunTask, Service, TaskDefinition, TaskDefinitionRevision};
use tallyman_operator_core::Objects;
use tallyman_operator_core::placement::Query;

use super::{Interrupts, PERIOD, print};
use crate::args::{Explain, Form, Get, History, Instances, Reach, Status, Top, TopOf};
use crate::session::{Listed, Session};
use crate::standing::{self, Standing, followed};
use crate::subject::{Found, SubjectKind};
use crate::table::{Listing, Paint, data};
use crate::tree::{self, Scope};
use crate::words::{left_out, name};
use crate::{explain, history, namespaces, outcome, totals};

const ALL_KINDS: [SubjectKind; 3] = [SubjectKind::Service, SubjectKind::Run, SubjectKind::Task];

pub(super) async fn get(session: &Session, args: &Get) -> Result<u8> {
    let session = &session.everywhere(args.reach.all_namespaces);
    let found = match &args.name {
        Some(given) => Some(session.find(given, &ALL_KINDS).await?),
        None => None,
    };
    let form = args.output.output;
    let clears = matches!(form, Form::Table | Form::Wide) && std::io::stdout().is_terminal();
    let mut interrupts = Interrupts::new()?;
    let mut shown = String::new();
    loop {
        let text = tokio::select! {
            text = tree_text(session, args, found.as_ref()) => text?,
            () = interrupts.next() => return Ok(outcome::INTERRUPTED),
        };
        if text != shown {
            let before = match form {
                _ if !args.watch => "",
                _ if clears => "\u{1b}[H\u{1b}[2J",
                Form::Yaml => "---\n",
                Form::Table | Form::Wide if !shown.is_empty() => "\n",
                Form::Table | Form::Wide | Form::Json | Form::Name => "",
            };
            print(&format!("{before}{text}"))?;
            shown = text;
        }
        if !args.watch {
            return Ok(outcome::DONE);
        }
        if !interrupts.pause(PERIOD).await {
            return Ok(outcome::INTERRUPTED);
        }
    }
}

async fn tree_text(session: &Session, args: &Get, found: Option<&Found>) -> Result<String> {
    let every = &ListParams::default();
    let (services, run_tasks, tasks) = futures::try_join!(
        session.list(every),
        session.list(every),
        session.list(every)
    )?;
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
    let now = Timestamp::now();
    let listing = by_namespace(args.reach, objects, |_, objects| {
        tree::listing(objects, scope, args.all, now)
    });
    let form = args.output.output;
    if listing.table.rows.is_empty() && matches!(form, Form::Table | Form::Wide) {
        let readable = if session.warned() {
            " that this version can read"
        } else {
            ""
        };
        let place = session.place();
        return Ok(format!(
            "There is no service, run or task in {place}{readable}.\n"
        ));
    }
    Ok(listing.text(form, Paint::of_stdout()))
}

/// A listing of these objects: of one namespace, or of each and then as one.
fn by_namespace(
    reach: Reach,
    objects: Objects,
    list: impl Fn(Option<&str>, &Objects) -> Listing,
) -> Listing {
    if !reach.all_namespaces {
        return list(None, &objects);
    }
    let parts = namespaces::apart(objects).into_iter();
    let parts = parts.map(|(namespace, objects)| {
        let listing = list(Some(&namespace), &objects);
        (namespace, listing)
    });
    Listing::of_namespaces(parts.collect())
}

fn shared<K>(items: Vec<K>) -> Vec<Arc<K>> {
    items.into_iter().map(Arc::new).collect()
}

pub(super) async fn status(session: &Session, args: &Status) -> Result<u8> {
    let found = session
        .find(&args.name, &[SubjectKind::Service, SubjectKind::Run])
        .await?;
    let began = Instant::now();
    let mut interrupts = Interrupts::new()?;
    let mut said = String::new();
    loop {
        let standing = tokio::select! {
            standing = stand(session, &found) => standing,
            () = interrupts.next() => return Ok(outcome::INTERRUPTED),
        };
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
        if !interrupts.pause(PERIOD).await {
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
        Form::Name => format!("{}\n", found.resource()),
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
    let form = args.output.output;
    if args.events && form == Form::Name {
        bail!("events have no names: `-o name` and --events do not go together");
    }
    let (service, revisions, unread) = service_and_revisions(session, &args.name).await?;
    for unread in &unread {
        session.warn(&left_out("TaskDefinitionRevision", unread));
    }
    let past = history::Past::of(&service, &revisions).map_err(|why| anyhow!(why))?;
    let now = Timestamp::now();
    let paint = Paint::of_stdout();
    let listing = past.listing(&service, now);
    print(&match form {
        Form::Json | Form::Yaml if args.events => {
            let events = history::events_data(&service);
            let both = json!({ "revisions": listing.data.value(), "events": events });
            data(&both, form)
        }
        Form::Table | Form::Wide if args.events => {
            let events = history::events(&service, now).text(false, paint);
            format!("{}\n{events}", listing.text(form, paint))
        }
        Form::Table | Form::Wide | Form::Json | Form::Yaml | Form::Name => {
            listing.text(form, paint)
        }
    })?;
    Ok(outcome::DONE)
}

pub(super) async fn top(session: &Session, args: &Top) -> Result<u8> {
    let objects = session
        .everywhere(args.reach.all_namespaces)
        .objects()
        .await?;
    let (form, paint) = (args.output.output, Paint::of_stdout());
    let hosts = (args.what != Some(TopOf::Services))
        .then(|| by_namespace(args.reach, objects.clone(), |_, o| totals::hosts(o)));
    let services = (args.what != Some(TopOf::Hosts)).then(|| {
        by_namespace(args.reach, objects, |namespace, o| {
            totals::services(o, namespace.unwrap_or(&session.namespace))
        })
    });
    match (form, &hosts, &services) {
        (Form::Json | Form::Yaml, Some(hosts), Some(services)) => {
            let both = json!({ "hosts": hosts.data.value(), "services": services.data.value() });
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
    let session = &session.everywhere(args.reach.all_namespaces);
    let objects = session.objects().await?;
    let listing = by_namespace(args.reach, objects, |namespace, o| {
        totals::instances(o, namespace.unwrap_or(&session.namespace), query.as_ref())
    });
    if listing.table.rows.is_empty() && matches!(args.output.output, Form::Table | Form::Wide) {
        let of = args
            .filter
            .as_ref()
            .map_or(String::new(), |f| format!(" of which `{f}` is true"));
        eprintln!("There is no host{of} in {}.", session.place());
        return Ok(outcome::DONE);
    }
    print(&listing.text(args.output.output, Paint::of_stdout()))?;
    Ok(outcome::DONE)
}
