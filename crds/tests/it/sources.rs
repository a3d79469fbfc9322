//! References to Secrets and ConfigMaps: how they are read, and what is found under them.
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use tallyman_crds::ecs::{EnvironmentFile, EnvironmentFileType};
use tallyman_crds::sources::{
    Contents, FileSource, Source, SourceKind, SourceObject, Supplied, Supply, supply,
};

fn read(text: &str) -> Result<(String, Option<String>), String> {
    Source::of_value_from(text).map(|s| (s.object.name, s.key))
}

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

#[test]
fn value_from_names_a_secret_and_a_key() {
    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";
    let whole = |name: &str| (name.to_owned(), None);
    let key = |name: &str, key: &str| (name.to_owned(), Some(key.to_owned()));
    for (text, wanted) in [
        ("db", whole("db")),
        ("db:password", key("db", "password")),
        ("db:tls.crt", key("db", "tls.crt")),
        ("/prod/db/password", whole("prod-db-password")),
        ("Prod_Db", whole("prod-db")),
        (
            "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db/password",
            whole("prod-db-password"),
        ),
        (
            "arn:aws:ssm:eu-west-1:123456789012:parameter/password",
            whole("password"),
        ),
        (&format!("{ARN}prod/Db-AbCdE1"), whole("prod-db")),
        (&format!("{ARN}db-AbCdE1:password::"), key("db", "password")),
        (
            &format!("{ARN}db-AbCdE1:password:AWSCURRENT:"),
            key("db", "password"),
        ),
        (&format!("{ARN}db-AbCdE1:::"), whole("db")),
    ] {
        assert_eq!(read(text), Ok(wanted), "{text}");
    }
    for text in [
        "",
        ":key",
        "db:",
        "///",
        "arn:aws:ssm",
        "arn:aws:ssm:eu-west-1:1:document/x",
        "arn:aws:kms:eu-west-1:1:key/x",
        &format!("{ARN}db-AbCdE1::AWSPREVIOUS:"),
        &format!("{ARN}db-AbCdE1:::0a1b"),
    ] {
        let refused = read(text).unwrap_err();
        assert!(
            refused.starts_with("must ") || refused.starts_with("must not "),
            "{text}: {refused}"
        );
    }
}

#[test]
fn files_name_a_key_of_a_config_map_or_secret() {
    let file = |r#type, value: &str| {
        let source = Source::of_file(&EnvironmentFile {
            value: value.to_owned(),
            r#type,
        })?;
        let source = source.kept().ok_or("of the host")?;
        let SourceObject { kind, name } = source.object;
        Ok::<_, String>((kind, name, source.key.unwrap_or_default()))
    };
    use EnvironmentFileType::{ConfigMap, File, S3, Secret};
    let is = |kind, name: &str, key: &str| Ok((kind, name.to_owned(), key.to_owned()));
    assert_eq!(
        file(S3, "arn:aws:s3:::acme.config/prod/web.env"),
        is(SourceKind::ConfigMap, "acme.config", "prod.web.env")
    );
    assert_eq!(
        file(ConfigMap, "web:prod.env"),
        is(SourceKind::ConfigMap, "web", "prod.env")
    );
    assert_eq!(file(Secret, "web"), is(SourceKind::Secret, "web", ""));
    for (kind, text) in [
        (S3, "web.env"),
        (S3, "arn:aws:s3:::bucket"),
        (S3, "arn:aws:s3:::bucket/"),
        (ConfigMap, "web:"),
        (Secret, ""),
        (File, "web.env"),
        (File, "/etc/app/../shadow"),
        (File, "/etc/app/"),
        (File, "file:///etc/app/web.env"),
    ] {
        assert!(file(kind, text).is_err(), "{text}");
    }
}

#[test]
fn a_task_takes_the_file_of_its_log_router_and_the_secrets_of_those_that_send_to_it() {
    let definition = |kind: &str, value: &str| {
        let options = serde_json::json!({ "config-file-type": kind, "config-file-value": value });
        let spec = serde_json::from_value(serde_json::json!({ "containerDefinitions": [
            { "name": "app", "image": "a", "logConfiguration": { "logDriver": "awsfirelens",
              "options": { "Name": "http" }, "secretOptions": [{ "name": "key", "valueFrom": "sink:key" }] } },
            { "name": "logs", "image": "r", "firelensConfiguration": { "type": "fluentbit", "options": options } },
        ]}));
        let sources = tallyman_crds::sources::of_task(&spec.unwrap(), None);
        sources.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let secret = "key `key` of Secret `sink`";
    assert_eq!(
        definition("s3", "arn:aws:s3:::acme/logs/extra.conf"),
        [secret, "key `logs.extra.conf` of ConfigMap `acme`"]
    );
    assert_eq!(definition("file", "/extra.conf"), [secret]);
}

#[test]
fn the_value_is_found_by_key_alone_or_inside_json() {
    let find = |from: &str, pairs: &[(&str, &str)]| {
        Source::of_value_from(from).unwrap().choose(&data(pairs))
    };
    let value = |text: &str| Supplied::Value(text.to_owned());
    let json = ("value", r#"{"user": "anna", "port": 5432, "none": null}"#);
    for (from, pairs, wanted) in [
        ("db:a", &[("a", "1"), ("b", "2")][..], value("1")),
        ("db", &[("a", "1")], value("1")),
        ("db", &[("a", "1"), ("value", "2")], value("2")),
        ("db", &[("a", "1"), ("b", "2")], Supplied::SeveralKeys),
        ("db", &[], Supplied::NoKey),
        ("db:c", &[("a", "1"), ("b", "2")], Supplied::NoKey),
        ("db:user", &[json], value("anna")),
        ("db:port", &[json], value("5432")),
        ("db:none", &[json], Supplied::NoKey),
        ("db:user", &[json, ("user", "bob")], value("bob")),
    ] {
        assert_eq!(find(from, pairs), wanted, "{from} of {pairs:?}");
    }
    let bytes = BTreeMap::from([("a".to_owned(), vec![0xff])]);
    let source = Source::of_value_from("db").unwrap();
    assert_eq!(source.choose(&bytes), Supplied::NotText);
}

#[test]
fn a_supply_shows_no_value_and_survives_its_secret() {
    let source = Source::of_value_from("db:password").unwrap();
    let gone = Source::of_value_from("gone:x").unwrap();
    let objects = BTreeMap::from([(
        source.object.clone(),
        Contents {
            metadata: ObjectMeta {
                resource_version: Some("7".to_owned()),
                ..ObjectMeta::default()
            },
            data: data(&[("password", "canary")]),
        },
    )]);
    let sources = BTreeSet::from([source.clone(), gone.clone()]);
    let (given, receipt) = supply(&sources, &objects);
    assert!(!format!("{given:?}").contains("canary"));
    assert!(!serde_json::to_string(&receipt).unwrap().contains("canary"));
    let text = serde_json::to_string(&given).unwrap();
    let back: Supply = serde_json::from_str(&text).unwrap();
    assert_eq!(
        back.get(&source),
        Some(&Supplied::Value("canary".to_owned()))
    );
    assert_eq!(back.get(&gone), Some(&Supplied::NoObject));

    let present = |version: &'static str| {
        move |object: &SourceObject| (object.name == "db").then_some(version)
    };
    assert!(receipt.says(&sources, present("7")));
    assert!(
        receipt.says(&sources, present("6")),
        "seen before our own read"
    );
    assert!(!receipt.says(&sources, present("8")), "changed since");
    assert!(!receipt.says(&sources, |_| None), "deleted since");
    assert!(
        !receipt.says(&BTreeSet::from([source]), present("7")),
        "too much"
    );
}

proptest! {
    /// Whatever is written is either refused with a reason or names something that Kubernetes can have.
    #[test]
    fn every_reference_names_an_object_or_is_refused(text in ".{0,80}") {
        match Source::of_value_from(&text) {
            Ok(source) => {
                let name = source.object.name;
                let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
                prop_assert!(!name.is_empty() && name.chars().all(fine), "{name}");
                prop_assert!(!name.starts_with(['-', '.']) && !name.ends_with(['-', '.']));
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }
}

#[test]
fn a_file_of_the_host_is_its_path_and_nothing_that_is_supplied() {
    let file = EnvironmentFile {
        value: "/etc/app/web.env".to_owned(),
        r#type: EnvironmentFileType::File,
    };
    let source = Source::of_file(&file).unwrap();
    assert_eq!(source, FileSource::Host("/etc/app/web.env".to_owned()));
    assert_eq!(source.kept(), None);
}
