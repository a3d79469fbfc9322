//! `plan`: what applying files would do.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tallyman_operator_core::Objects;

use super::print;
use crate::args::{Form, Plan};
use crate::forecast::{Change, Verb, forecast};
use crate::session::{Session, heard_of};
use crate::table::{Paint, data};
use crate::words::name;
use crate::{diff, foresight, manifests, outcome};

pub(super) async fn plan(session: &Session, args: &Plan) -> Result<u8> {
    let given = manifests::read(&args.filename)?;
    let mut changes = Vec::new();
    let mut looked_at = Vec::new();
    for object in given {
        let tried = attempt(session, object, &args.field_manager).await?;
        changes.push(tried.change);
        looked_at.extend(tried.ours);
    }
    let now = session.objects().await?;
    let mut then = now.clone();
    for object in &looked_at {
        put(&mut then, object)?;
    }
    then.silence = heard_of(&then);
    let (namespace, at) = (&session.namespace, Timestamp::now());
    let anyway = foresight::settle(now.clone(), namespace, at);
    let then = foresight::settle(then, namespace, at);
    let forecast = forecast(changes, &now, &anyway, &then, namespace);
    print(&match args.output.output {
        form @ (Form::Json | Form::Yaml) => data(&serde_json::to_value(&forecast)?, form),
        Form::Name => forecast.names(),
        form @ (Form::Table | Form::Wide) => forecast.text(form == Form::Wide, Paint::of_stdout()),
    })?;
    Ok(if forecast.changes() {
        outcome::FAILED
    } else {
        outcome::DONE
    })
}

/// What the server says of an object that would be applied.
struct Tried {
    change: Change,
    /// The object as it would be, if it is of our group and of this namespace.
    ours: Option<Value>,
}

async fn attempt(session: &Session, mut object: Value, manager: &str) -> Result<Tried> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let (version, kind, name) = (
        text(&object["apiVersion"]),
        text(&object["kind"]),
        text(&object["metadata"]["name"]),
    );
    let subject = format!("{kind}/{name}");
    let (group, version) = version.split_once('/').unwrap_or(("", version.as_str()));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let found = discovery::pinned_kind(&session.client, &gvk).await;
    let (resource, capabilities) = found
        .map_err(|e| session.explained(e, &kind))
        .with_context(|| {
            format!("{subject}: the API server knows no kind {kind} of {group}/{version}")
        })?;
    let own = object["metadata"]["namespace"].as_str().map(str::to_owned);
    let namespaced = capabilities.scope == Scope::Namespaced;
    if own
        .as_ref()
        .is_some_and(|n| group == tallyman_crds::GROUP && *n != session.namespace)
    {
        bail!(
            "{subject} is of namespace `{}`, and -n is `{}`: one namespace is planned at a time",
            own.unwrap_or_default(),
            session.namespace
        );
    }
    let namespace = own.unwrap_or_else(|| session.namespace.clone());
    let api: Api<DynamicObject> = if namespaced {
        object["metadata"]["namespace"] = namespace.clone().into();
        Api::namespaced_with(session.client.clone(), &namespace, &resource)
    } else {
        Api::all_with(session.client.clone(), &resource)
    };
    let before = api
        .get_opt(&name)
        .await
        .map_err(|e| session.explained(e, &kind))
        .context(subject.clone())?;
    let dry = |force: bool| PatchParams {
        dry_run: true,
        force,
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Apply(&object);
    let after = match api.patch(&name, &dry(false), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            eprintln!(
                "{subject}: {} (`kubectl apply --server-side` asks for --force-conflicts here)",
                status.message
            );
            api.patch(&name, &dry(true), &patch).await
        }
        other => other,
    };
    let after = after
        .map_err(|e| session.explained(e, &kind))
        .with_context(|| format!("{subject} is refused"))?;
    let before = before.map(serde_json::to_value).transpose()?;
    let after = serde_json::to_value(&after)?;
    let mut differences = before
        .as_ref()
        .map_or_else(Vec::new, |b| diff::of_objects(b, &after));
    if group.is_empty() && kind == "Secret" {
        for d in &mut differences {
            d.before = d.before.take().map(|_| "(hidden)".into());
            d.after = d.after.take().map(|_| "(hidden)".into());
        }
    }
    let verb = match (&before, differences.is_empty()) {
        (None, _) => Verb::Create,
        (Some(_), true) => Verb::Keep,
        (Some(_), false) => Verb::Change,
    };
    Ok(Tried {
        change: Change {
            group: group.to_owned(),
            kind,
            name,
            verb,
            differences,
        },
        ours: (group == tallyman_crds::GROUP && verb != Verb::Keep).then_some(after),
    })
}

/// Puts an object into its place, instead of the one of its name.
fn put(objects: &mut Objects, object: &Value) -> Result<()> {
    fn into<K: kube::ResourceExt + DeserializeOwned>(
        list: &mut Vec<Arc<K>>,
        object: &Value,
    ) -> Result<()> {
        let object: K = serde_json::from_value(object.clone())?;
        list.retain(|o| o.name_any() != object.name_any());
        list.push(Arc::new(object));
        list.sort_by_key(|o| o.name_any());
        Ok(())
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    // Whatever it was, it can be read when it is as given.
    objects.unreadable.retain(|o| {
        o.kind.as_str() != kind || object["metadata"]["name"] != name(&o.unread.metadata)
    });
    match kind {
        "Cluster" => into(&mut objects.clusters, object),
        "TaskDefinition" => into(&mut objects.task_definitions, object),
        "TaskDefinitionRevision" => into(&mut objects.revisions, object),
        "Service" => into(&mut objects.services, object),
        "Task" => into(&mut objects.tasks, object),
        "ContainerInstance" => into(&mut objects.instances, object),
        "RunTask" => into(&mut objects.run_tasks, object),
        "TaskSet" => into(&mut objects.task_sets, object),
        // Its runs come when they are due.
        "ScheduledTask" => Ok(()),
        other => Err(anyhow!("nobody applies a {other}: the operator writes it")),
    }
}
