//! Secrets on their way from a user to a container: there when the container is created, nowhere else, and not for longer
//! than they are needed.

use serde_json::json;
use tallyman_crds::{labels, names};
use tallyman_operator_core::Kind;
use tallyman_sim::api::Object;
use tallyman_sim::user::{definition, with_secret};
use tallyman_sim::{Sim, deaths, story};

/// In no log, no status and on no disk.
const CANARY: &str = "canary-4711";

/// Passwords that the running containers were given, sorted.
fn given(sim: &Sim) -> Vec<String> {
    let mut found: Vec<String> = sim
        .agents
        .iter()
        .flat_map(|agent| {
            let all = agent.engine.containers().into_iter();
            let running = all.filter(|c| c.labels.contains_key(labels::CONTAINER_TASK_UID));
            running
                .filter_map(|c| agent.engine.spec(&c.name))
                .flat_map(|spec| spec.secrets)
                .map(|(_, value)| value.expose().to_owned())
        })
        .collect();
    found.sort();
    found
}

/// Hosts whose Secret holds something.
fn supplied(sim: &Sim) -> usize {
    let holds = |agent: &&tallyman_sim::agent::Agent| {
        let name = names::host_identity(&agent.name);
        let secrets = sim.shared.server.typed(Kind::Secret);
        secrets.into_iter().any(|o| match o {
            Object::Secret(s) => {
                s.metadata.name.as_deref() == Some(name.as_str()) && !s.data.is_empty()
            }
            _ => false,
        })
    };
    sim.agents.iter().filter(holds).count()
}

/// Objects and disks that show the password, beside Secrets.
fn leaks(sim: &Sim) -> Vec<String> {
    let mut found: Vec<String> = tallyman_sim::api::KINDS
        .iter()
        .filter(|kind| **kind != Kind::Secret)
        .flat_map(|kind| sim.shared.server.all(*kind))
        .filter(|(_, value)| value.to_string().contains(CANARY))
        .map(|(name, _)| name.to_owned())
        .collect();
    let disks = sim.agents.iter().filter(|a| a.disk().contains(CANARY));
    found.extend(disks.map(|a| a.name.clone()));
    found
}

#[test]
fn a_secret_reaches_the_containers_that_name_it() {
    story(
        "a_secret_reaches_the_containers_that_name_it",
        6,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.define("web", &with_secret("web:1"));
            sim.serve("web", 3, 100, 200);
            sim.run(120);
            let failed = sim.tasks(|t| {
                let why = t.status.as_ref().and_then(|s| s.stopped_reason.clone());
                why.is_some_and(|w| w.contains("Secret `db` does not exist"))
            });
            assert!(!failed.is_empty() && given(sim).is_empty());

            sim.secret("db", "password", CANARY);
            sim.until("the service is ready", 1800, Sim::all_ready);
            assert_eq!(given(sim), [CANARY; 3]);
            assert_eq!(supplied(sim), 2);

            // A running container keeps what it was given; the next one is given what there is then.
            sim.secret("db", "password", "other");
            sim.scale("web", 4);
            sim.come_to_rest();
            assert_eq!(given(sim), [CANARY, CANARY, CANARY, "other"]);
            assert_eq!(leaks(sim), Vec::<String>::new());

            sim.define("web", &definition("web:2"));
            sim.come_to_rest();
            assert_eq!(supplied(sim), 0, "nobody needs it any more");
        },
    );
}

/// Every running container would be answered when it asked for the credentials of its role.
fn answered(sim: &Sim) -> bool {
    let agents = sim.agents.iter();
    agents
        .into_iter()
        .all(|agent| agent.without_credentials(sim.shared.now).is_empty())
}

fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.secret("db", "password", CANARY);
    let keys = json!({ "AccessKeyId": "id", "SecretAccessKey": CANARY });
    sim.secret("web", "credentials", &keys.to_string());
    let mut spec = with_secret("web:1");
    spec["taskRoleArn"] = json!("arn:aws:iam::123456789012:role/web");
    sim.define("web", &spec);
    sim.serve("web", 2, 100, 200);
    sim.until("the service is ready", 600, Sim::all_ready);
    assert_eq!(given(sim), [CANARY; 2]);
    assert_eq!(leaks(sim), Vec::<String>::new());
    assert!(answered(sim));
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 900, |sim| {
        assert!(
            answered(sim),
            "a container is stopped without its credentials"
        );
        sim.nothing_left()
    });
    sim.come_to_rest();
    assert_eq!(supplied(sim), 0);
}

#[test]
fn an_agent_dies_at_every_deed_on_the_way() {
    let name = "an_agent_dies_at_every_deed_on_the_way";
    deaths::of_agent(name, 1, |at| at % 2 == 0, life);
}

#[test]
fn an_operator_dies_at_every_write_on_the_way() {
    let name = "an_operator_dies_at_every_write_on_the_way";
    deaths::of_operator(name, 1, life);
}
