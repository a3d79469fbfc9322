//! What is read of an API server that stores an object which no type reads.

use std::convert::Infallible;

use http::{Request, Response};
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;
use serde_json::{Value, json};
use tallyman_cli::checks;
use tallyman_cli::session::Session;
use tallyman_crds::Service;
use tallyman_operator_core::Kind;

fn service(name: &str, grace: &Value) -> Value {
    json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service",
        "metadata": { "name": name, "namespace": "prod", "uid": name },
        "spec": { "taskDefinition": "web", "healthCheckGracePeriodSeconds": grace },
    })
}

/// Of services there are `steady`, and `dark` with a text for a number. Of everything else there is nothing.
fn answer(path: &str) -> Value {
    let all = [
        service("steady", &json!(5)),
        service("dark", &json!("hunter2")),
    ];
    let (above, last) = path.rsplit_once('/').unwrap();
    if above.ends_with("/services") {
        return all
            .into_iter()
            .find(|s| s["metadata"]["name"] == last)
            .unwrap();
    }
    let items = if last == "services" {
        all.to_vec()
    } else {
        Vec::new()
    };
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items })
}

fn session() -> Session {
    let server = tower::service_fn(|request: Request<Body>| async move {
        let body = answer(request.uri().path()).to_string();
        Ok::<_, Infallible>(Response::new(Body::from(body.into_bytes())))
    });
    let client = Client::new(server, "prod");
    Session::new(client, "prod".to_owned(), "https://here".to_owned())
}

fn names<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<&'a str> {
    let names = services
        .into_iter()
        .filter_map(|s| s.metadata.name.as_deref());
    names.collect()
}

const DARK: &str = "Service prod/dark is stored in a way that this version cannot read: `spec.healthCheckGracePeriodSeconds` must be ";

#[tokio::test]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let session = session();
    let services = session
        .list::<Service>(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(names(&services), ["steady"]);
    assert!(session.warned(), "nothing was said of the other");
    let all = session
        .listed::<Service>(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(names(&all.items), ["steady"]);
    assert_eq!(all.unread[0].metadata.name.as_deref(), Some("dark"));
    // Shells are offered it: `kubectl edit` takes a name.
    assert_eq!(
        session.names::<Service>().await.unwrap(),
        ["steady", "dark"]
    );
}

#[tokio::test]
async fn the_scheduler_is_told_of_it_and_doctor_tells_of_it() {
    let session = session();
    let objects = session.objects_in_silence().await.unwrap();
    assert!(!session.warned());
    assert_eq!(names(objects.services.iter().map(|s| &**s)), ["steady"]);
    let [dark] = &objects.unreadable[..] else {
        panic!("{:?}", objects.unreadable);
    };
    assert_eq!(dark.kind, Kind::Service);
    let findings = checks::unreadable(&objects);
    assert!(findings[0].what.starts_with(DARK), "{findings:?}");
    assert!(!findings[0].what.contains("hunter2"), "{findings:?}");
    session.objects().await.unwrap();
    assert!(session.warned());
}

#[tokio::test]
async fn who_asks_for_it_by_name_hears_which_field_it_is() {
    let session = session();
    assert!(session.get::<Service>("steady").await.unwrap().is_some());
    let error = session
        .get::<Service>("dark")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(DARK), "{error}");
}
