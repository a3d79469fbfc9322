//! The cluster query language: what is true of which container instance, and what is wrong with an expression.
use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman_operator_core::names::Group;
use tallyman_operator_core::placement::{Facts, Query};

struct Instance {
    attributes: BTreeMap<String, Option<String>>,
    groups: BTreeMap<Group, i64>,
    connected: bool,
    version: Option<&'static str>,
    registered_at: Option<jiff::Timestamp>,
    running: i64,
}

/// A production host in zone a with two tasks of `service:web` and one of `database`.
fn instance() -> Instance {
    let attributes = [
        ("stack", Some("prod")),
        ("ecs.instance-type", Some("g2.2xlarge")),
        ("ecs.availability-zone", Some("eu-1a")),
        ("slots", Some("8")),
        ("load", Some("-1.5")),
        ("kernel", Some("6.1.10")),
        ("note", Some("two words, and 'quotes'")),
        ("ssd", None),
    ];
    Instance {
        attributes: attributes
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned)))
            .collect(),
        groups: BTreeMap::from([
            (Group::from("service:web"), 2),
            (Group::from("database"), 1),
        ]),
        connected: true,
        version: Some("1.14.5"),
        registered_at: Some("2018-06-18T22:28:28Z".parse().unwrap()),
        running: 3,
    }
}

impl Instance {
    fn facts(&self) -> Facts<'_> {
        Facts {
            name: "host-a",
            agent_connected: self.connected,
            agent_version: self.version,
            registered_at: self.registered_at,
            running_tasks_count: self.running,
            attributes: &self.attributes,
            groups: &self.groups,
        }
    }
}

fn holds(expression: &str, instance: &Instance) -> bool {
    let query = Query::parse(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    query.matches(&instance.facts())
}

#[test]
fn an_expression_is_true_of_an_instance_or_not() {
    let rows = [
        // Equality, in both spellings; quotes.
        ("attribute:stack == prod", true),
        ("attribute:stack equals prod", true),
        ("attribute:stack==prod", true),
        ("attribute:stack == 'prod'", true),
        ("attribute:stack == \"prod\"", true),
        ("attribute:stack == test", false),
        ("attribute:stack != test", true),
        ("attribute:stack not_equals prod", false),
        ("attribute:note == 'two words, and \\'quotes\\''", true),
        ("attribute:note == \"two words, and 'quotes'\"", true),
        ("attribute:slots == 8.0", false),
        // What is not there equals nothing, and differs from everything.
        ("attribute:rack == a", false),
        ("attribute:rack != a", true),
        ("attribute:rack not_in [a, b]", true),
        ("attribute:rack !~ a.*", true),
        ("attribute:rack > 1", false),
        ("attribute:ssd == ''", false),
        ("attribute:ssd != x", true),
        // Existence.
        ("attribute:ssd exists", true),
        ("attribute:rack exists", false),
        ("attribute:rack !exists", true),
        ("attribute:rack not_exists", true),
        ("attribute:ssd not_exists", false),
        ("task:group exists", true),
        ("registeredAt exists", true),
        // Lists.
        ("attribute:ecs.availability-zone in [eu-1a, eu-1b]", true),
        (
            "attribute:ecs.availability-zone in ['eu-1b' , \"eu-1c\"]",
            false,
        ),
        ("attribute:ecs.availability-zone !in [eu-1b]", true),
        ("attribute:ecs.availability-zone not_in [eu-1a]", false),
        ("ec2InstanceId in ['host-a', 'host-b']", true),
        ("runningTasksCount in [1, 3]", true),
        // Patterns match the whole value.
        ("attribute:ecs.instance-type =~ g2.*", true),
        ("attribute:ecs.instance-type matches 'g2|t2'", false),
        ("attribute:ecs.instance-type =~ '(g2|t2)\\.xlarge'", false),
        (
            "attribute:ecs.instance-type =~ '(g2|t2)\\.[0-9]xlarge'",
            true,
        ),
        ("attribute:ecs.instance-type !~ t2.*", true),
        ("ec2InstanceId not_matches host-.", false),
        ("task:group =~ 'service:.*'", true),
        ("agentVersion =~ '1\\.14\\..*'", true),
        // Order of numbers, versions and times.
        ("runningTasksCount == 3", true),
        ("runningTasksCount < 10", true),
        ("runningTasksCount greater_than 3", false),
        ("runningTasksCount greater_than_equal 3", true),
        ("runningTasksCount less_than 3", false),
        ("runningTasksCount less_than_equal 3", true),
        ("attribute:slots >= 8", true),
        ("attribute:slots < 16", true),
        ("attribute:load < -1", true),
        ("attribute:kernel > 6.1.9", true),
        ("attribute:kernel < 6.2.0", true),
        ("attribute:stack > 1", false),
        ("agentVersion < 1.14.10", true),
        ("agentVersion >= 1.14.5", true),
        ("agentVersion == 1.14.5.0", true),
        ("agentVersion > 1.14.5-rc1", true),
        ("agentVersion != 1.14.5+build7", false),
        ("registeredAt < 2018-06-19", true),
        ("registeredAt > 2018-06-18", true),
        ("registeredAt == 2018-06-18T22:28:28", true),
        ("registeredAt == 2018-06-18T22:28:28+00:00", true),
        ("registeredAt == 2018-06-18T23:28:28+01:00", true),
        ("registeredAt >= '2018-06-18T22:28:29Z'", false),
        // Agents and groups.
        ("agentConnected == true", true),
        ("agentConnected != true", false),
        ("task:group == service:web", true),
        ("task:group == service:api", false),
        ("task:group != service:api", true),
        ("not(task:group == database)", false),
        ("task:group in [service:api, database]", true),
        // not before and before or; parentheses; both spellings.
        (
            "attribute:stack == test and attribute:slots == 8 or agentConnected == true",
            true,
        ),
        (
            "attribute:stack == test && (attribute:slots == 8 || agentConnected == true)",
            false,
        ),
        (
            "agentConnected == true or agentConnected == true and attribute:stack == test",
            true,
        ),
        (
            "not attribute:stack == test and attribute:slots == 9",
            false,
        ),
        (
            "not (attribute:stack == test and attribute:slots == 9)",
            true,
        ),
        ("! attribute:stack == test", true),
        ("!(attribute:stack == prod)", false),
        ("not not attribute:stack == prod", true),
        ("!!!attribute:stack == prod", false),
        ("((attribute:stack == prod))", true),
        ("  attribute:stack==prod&&attribute:slots==8  ", true),
        ("attribute:stack == and and attribute:slots == 8", false),
    ];
    let host = instance();
    for (expression, expected) in rows {
        assert_eq!(holds(expression, &host), expected, "{expression}");
    }
}

#[test]
fn nothing_is_known_of_a_host_that_never_registered() {
    let host = Instance {
        version: None,
        registered_at: None,
        connected: false,
        groups: BTreeMap::new(),
        ..instance()
    };
    for expression in [
        "agentVersion > 0",
        "agentVersion exists",
        "registeredAt > 2000-01-01",
        "agentConnected == true",
        "task:group exists",
        "task:group =~ .*",
    ] {
        assert!(!holds(expression, &host), "{expression}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_column() {
    const SUBJECT: &str = "expected a subject (`agentConnected`, `agentVersion`, `attribute:<name>`, `ec2InstanceId`, \
                           `registeredAt`, `runningTasksCount` or `task:group`)";
    let operator = |after: &str, found: &str| {
        format!("expected an operator such as `==` or `in` after `{after}`, {found}")
    };
    let rows: [(&str, usize, String); 28] = [
        ("", 1, format!("{SUBJECT}, but the expression ends")),
        ("   ", 4, format!("{SUBJECT}, but the expression ends")),
        ("stack == prod", 1, format!("{SUBJECT}, not `stack`")),
        ("attribute:stack prod", 17, operator("attribute:stack", "not `prod`")),
        ("attribute:stack", 16, operator("attribute:stack", "but the expression ends")),
        ("attribute:stack = prod", 17, operator("attribute:stack", "not `=`")),
        ("attribute:stack inn [a]", 17, operator("attribute:stack", "not `inn`")),
        ("attribute:stack ==", 19, "expected a value, but the expression ends".to_owned()),
        ("attribute:stack == [a]", 20, "expected a value, not `[a]`".to_owned()),
        (
            "attribute: == prod",
            1,
            "expected the name of an attribute behind `attribute:`, 1 to 128 letters, digits and `_./\\-`, not `attribute:`"
                .to_owned(),
        ),
        ("attribute:stack in prod", 20, "expected a list such as `[a, b]`, not `prod`".to_owned()),
        ("attribute:stack in [a b]", 23, "expected `,` or `]`, not `b]`".to_owned()),
        ("attribute:stack in []", 21, "expected a value, not `]`".to_owned()),
        (
            "attribute:stack == two words",
            24,
            "expected `and`, `or` or the end, not `words`".to_owned(),
        ),
        (
            "attribute:stack =~ t2|t3",
            22,
            "expected `and`, `or` or the end (a value with special characters stands in quotes), not `|t3`".to_owned(),
        ),
        (
            "attribute:stack == 'prod",
            20,
            "expected a closing ' for the quote that opens here".to_owned(),
        ),
        (
            "(attribute:stack == prod",
            25,
            "expected `and`, `or` or `)`, but the expression ends".to_owned(),
        ),
        (
            "attribute:stack == prod)",
            24,
            "expected as many `(` before as `)`, not `)`".to_owned(),
        ),
        ("agentConnected == yes", 19, "expected `true` or `false`, not `yes`".to_owned()),
        ("runningTasksCount < few", 21, "expected a whole number, not `few`".to_owned()),
        (
            "agentVersion >= newest",
            17,
            "expected a version such as `1.14.5`, not `newest`".to_owned(),
        ),
        (
            "attribute:stack > prod",
            19,
            "expected a number or a version such as `1.14.5`, not `prod`".to_owned(),
        ),
        (
            "registeredAt < yesterday",
            16,
            "expected a time such as `2018-06-18T22:28:28Z` or `2018-06-18`, not `yesterday`".to_owned(),
        ),
        (
            "agentConnected > true",
            16,
            "expected `==`, `!=`, `in`, `not_in`, `=~` or `!~` after `agentConnected`, which has no order, not `>`"
                .to_owned(),
        ),
        (
            "ec2InstanceId =~ 'host-('",
            18,
            "expected a regular expression, but of `host-(` unclosed group".to_owned(),
        ),
        (
            "ec2InstanceId =~ '(?=a)b'",
            18,
            "expected a regular expression, but of `(?=a)b` look-around, including look-ahead and look-behind, is not supported"
                .to_owned(),
        ),
        (
            "ec2InstanceId =~ 'a)|(b'",
            18,
            "expected a regular expression, but of `a)|(b` unopened group".to_owned(),
        ),
        // Columns count characters, not bytes.
        ("attribute:stack == 'größe' prod", 28, "expected `and`, `or` or the end, not `prod`".to_owned()),
    ];
    for (expression, column, message) in rows {
        let wrong = Query::parse(expression).unwrap_err();
        assert_eq!(
            (wrong.column, &wrong.message),
            (column, &message),
            "{expression}"
        );
    }
}

#[test]
fn an_expression_has_bounds() {
    let long = |n: usize| format!("attribute:stack == {}", "x".repeat(n - 19));
    assert!(Query::parse(&long(2000)).is_ok());
    assert_eq!(
        Query::parse(&long(2001)).unwrap_err().to_string(),
        "column 2001: expected at most 2000 characters in an expression, not 2001"
    );
    let nested = |n: usize| format!("{}agentConnected == true{}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&nested(32)).is_ok());
    assert_eq!(
        Query::parse(&nested(33)).unwrap_err().message,
        "expected at most 32 parentheses within each other, not `agentConnected`"
    );
    // Neither the stack nor the memory of the operator is somebody's to exhaust.
    assert!(Query::parse(&"(".repeat(2000)).is_err());
    assert!(Query::parse(&format!("{}agentConnected == true", "!".repeat(1900))).is_ok());
    let huge = Query::parse("ec2InstanceId =~ 'x{900}{900}'").unwrap_err();
    assert!(huge.message.ends_with("it needs too much memory"), "{huge}");
}

#[test]
fn it_is_known_whether_an_answer_changes_as_tasks_are_placed() {
    let asks = |text: &str| Query::parse(text).unwrap().asks_of_tasks();
    assert!(asks("agentConnected == true and not(task:group == a)"));
    assert!(asks("attribute:a exists or runningTasksCount < 3"));
    assert!(!asks(
        "attribute:a exists or agentVersion > 1 and ec2InstanceId == x or registeredAt > 2000-01-01"
    ));
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_or_refused_at_a_column_of_it(text in ".{0,60}") {
        if let Err(wrong) = Query::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&wrong.column), "{wrong}");
            prop_assert!(!wrong.message.is_empty());
        }
    }

    /// The same out of the words of the language, which gets further.
    #[test]
    fn words_in_any_order_are_read_or_refused(words in prop::collection::vec(word(), 0..14)) {
        let text = words.join(" ");
        match Query::parse(&text) {
            Ok(query) => { query.matches(&instance().facts()); }
            Err(wrong) => prop_assert!((1..=text.chars().count() + 1).contains(&wrong.column), "{wrong}"),
        }
    }

    #[test]
    fn not_is_the_contrary_and_and_or_are_of_de_morgan(a in test(), b in test()) {
        let host = instance();
        let not = |e: &str| format!("not ({e})");
        prop_assert_eq!(holds(&a, &host), !holds(&not(&a), &host));
        let both = format!("{a} and {b}");
        let neither = format!("not ({} or {})", not(&a), not(&b));
        prop_assert_eq!(holds(&both, &host), holds(&neither, &host));
        prop_assert_eq!(holds(&both, &host), holds(&a, &host) && holds(&b, &host));
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "attribute:stack",
        "agentConnected",
        "runningTasksCount",
        "task:group",
        "==",
        "in",
        "!in",
        "exists",
        "=~",
        "<",
        "[",
        "]",
        ",",
        "(",
        ")",
        "and",
        "||",
        "not",
        "!",
        "true",
        "3",
        "prod",
        "'a b'",
        "'",
    ])
}

fn test() -> impl Strategy<Value = String> {
    let subject = prop::sample::select(vec![
        "attribute:stack",
        "attribute:slots",
        "attribute:rack",
        "task:group",
    ]);
    let operator = prop::sample::select(vec!["==", "!=", "=~", "!~", "in", "not_in"]);
    let value = prop::sample::select(vec!["prod", "8", "database", "a"]);
    (subject, operator, value).prop_map(|(subject, operator, value)| {
        if operator.ends_with("in") {
            format!("{subject} {operator} [{value}, x]")
        } else {
            format!("{subject} {operator} {value}")
        }
    })
}
