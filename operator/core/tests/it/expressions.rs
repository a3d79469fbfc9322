//! When schedules are due: EventBridge's expressions by its documentation's own examples, cron lines, time zones, and days
//! on which clocks change.
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_operator_core::schedules::expression::{COUNTED, Due, Schedule};

const CREATED: &str = "2026-01-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn parsed(fields: Value) -> Result<Schedule, Vec<String>> {
    let mut spec = json!({ "runTask": { "taskDefinition": "job" } });
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let spec = serde_json::from_value(spec).unwrap();
    let schedule = Schedule::parse(&spec, at(CREATED));
    schedule.map_err(|list| list.iter().map(ToString::to_string).collect())
}

fn schedule(expression: &str, zone: &str) -> Schedule {
    parsed(json!({ "scheduleExpression": expression, "scheduleExpressionTimezone": zone }))
        .unwrap_or_else(|problems| panic!("{expression}: {problems:?}"))
}

/// The first times after a moment.
fn times(s: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = at(after);
    while found.len() < count {
        let Some(next) = s.next(after) else { break };
        found.push(next.to_string());
        after = next;
    }
    found
}

/// EventBridge, "Cron expressions reference": examples and wildcards. 2026-01-01 is a Thursday.
#[test]
fn cron_as_event_bridge_documents_it() {
    for (expression, expected) in [
        // Every day at 10:00.
        (
            "cron(0 10 * * ? *)",
            ["2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z"],
        ),
        (
            "cron(15 12 * * ? *)",
            ["2026-01-01T12:15:00Z", "2026-01-02T12:15:00Z"],
        ),
        // Every Monday through Friday at 18:00.
        (
            "cron(0 18 ? * MON-FRI *)",
            ["2026-01-01T18:00:00Z", "2026-01-02T18:00:00Z"],
        ),
        // Every first day of the month.
        (
            "cron(0 8 1 * ? *)",
            ["2026-01-01T08:00:00Z", "2026-02-01T08:00:00Z"],
        ),
        (
            "cron(0/15 * * * ? *)",
            ["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"],
        ),
        (
            "cron(0/10 * ? * MON-FRI *)",
            ["2026-01-01T00:10:00Z", "2026-01-01T00:20:00Z"],
        ),
        (
            "cron(0/5 8-17 ? * MON-FRI *)",
            ["2026-01-01T08:00:00Z", "2026-01-01T08:05:00Z"],
        ),
        // Nights, from 20:00 to 02:00.
        (
            "cron(0/30 20-2 ? * MON-FRI *)",
            ["2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"],
        ),
        (
            "cron(0 0 ? * SAT-MON *)",
            ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"],
        ),
        (
            "cron(0 0 1 NOV-FEB ? *)",
            ["2026-02-01T00:00:00Z", "2026-11-01T00:00:00Z"],
        ),
        // From the eleventh minute on.
        (
            "cron(1/10 * * * ? *)",
            ["2026-01-01T00:01:00Z", "2026-01-01T00:11:00Z"],
        ),
        (
            "cron(0 0 1 JAN,FEB,MAR ? *)",
            ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
        ),
        (
            "cron(0 0 1-15 * ? *)",
            ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"],
        ),
        // The last day of the month, and the last day of the week.
        (
            "cron(0 0 L * ? *)",
            ["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"],
        ),
        (
            "cron(0 0 ? * L *)",
            ["2026-01-03T00:00:00Z", "2026-01-10T00:00:00Z"],
        ),
        // The last Friday of the month.
        (
            "cron(15 10 ? * 6L 2026-2029)",
            ["2026-01-30T10:15:00Z", "2026-02-27T10:15:00Z"],
        ),
        (
            "cron(15 10 ? * FRIL *)",
            ["2026-01-30T10:15:00Z", "2026-02-27T10:15:00Z"],
        ),
        // The weekday nearest to the third: a Saturday in January, a Tuesday in February.
        (
            "cron(0 0 3W * ? *)",
            ["2026-01-02T00:00:00Z", "2026-02-03T00:00:00Z"],
        ),
        (
            "cron(0 0 LW * ? *)",
            ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"],
        ),
        // The second Tuesday.
        (
            "cron(0 0 ? * 3#2 *)",
            ["2026-01-13T00:00:00Z", "2026-02-10T00:00:00Z"],
        ),
        (
            "cron(0 0 ? * 1 *)",
            ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
        (
            "cron(0 0 ? * 7 *)",
            ["2026-01-03T00:00:00Z", "2026-01-10T00:00:00Z"],
        ),
        (
            "cron(0 0 1 1 ? 2028,2030)",
            ["2028-01-01T00:00:00Z", "2030-01-01T00:00:00Z"],
        ),
        (
            "cron(0 0 29 2 ? *)",
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        ("cron(0 0 1 1 ? 2020)", ["", ""]),
        (
            "  cron( 0 10 * * ? * ) ",
            ["2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z"],
        ),
    ] {
        let found = times(&schedule(expression, "UTC"), CREATED, 2);
        let expected: Vec<_> = expected.into_iter().filter(|t| !t.is_empty()).collect();
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn cron_lines_as_kubernetes_reads_them() {
    for (expression, expected) in [
        (
            "*/5 * * * *",
            ["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"],
        ),
        (
            "0 3 * * *",
            ["2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"],
        ),
        // 0 and 7 are Sunday.
        (
            "0 0 * * 0",
            ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
        (
            "0 0 * * 7",
            ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
        (
            "0 0 * * SUN",
            ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
        // A day of the month or a day of the week.
        (
            "0 0 13 * FRI",
            ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"],
        ),
        ("@daily", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]),
    ] {
        assert_eq!(
            times(&schedule(expression, "UTC"), CREATED, 2),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn rates_count_from_their_beginning() {
    for (expression, expected) in [
        (
            "rate(1 minute)",
            [
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:01:00Z",
                "2026-01-01T00:02:00Z",
            ],
        ),
        (
            "rate(5 minutes)",
            [
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:05:00Z",
                "2026-01-01T00:10:00Z",
            ],
        ),
        (
            "rate(12 hours)",
            [
                "2026-01-01T00:00:00Z",
                "2026-01-01T12:00:00Z",
                "2026-01-02T00:00:00Z",
            ],
        ),
        (
            "rate(7 days)",
            [
                "2026-01-01T00:00:00Z",
                "2026-01-08T00:00:00Z",
                "2026-01-15T00:00:00Z",
            ],
        ),
    ] {
        let s = schedule(expression, "Europe/Berlin");
        assert_eq!(
            times(&s, &s.begins().to_string(), 3),
            expected,
            "{expression}"
        );
    }
    // A day of a rate is 24 hours, also on the day on which clocks go forward.
    let daily = json!({
        "scheduleExpression": "rate(1 day)", "scheduleExpressionTimezone": "Europe/Berlin",
        "startDate": "2026-03-28T11:00:00Z"
    });
    let found = times(&parsed(daily).unwrap(), CREATED, 3);
    assert_eq!(
        found,
        [
            "2026-03-28T11:00:00Z",
            "2026-03-29T11:00:00Z",
            "2026-03-30T11:00:00Z"
        ]
    );
    // Longer than the calendar.
    assert_eq!(
        times(&schedule("rate(999999999999 days)", "UTC"), CREATED, 1),
        Vec::<String>::new()
    );
}

#[test]
fn at_is_once_and_in_its_zone() {
    for (expression, zone, expected) in [
        ("at(2026-12-24T18:00:00)", "UTC", "2026-12-24T18:00:00Z"),
        (
            "at(2026-12-24T18:00:00)",
            "Europe/Berlin",
            "2026-12-24T17:00:00Z",
        ),
        (
            "at(2026-07-24T18:00:00)",
            "America/New_York",
            "2026-07-24T22:00:00Z",
        ),
        // Clocks in Berlin go from 02:00 to 03:00 at 01:00 UTC.
        (
            "at(2026-03-29T02:30:00)",
            "Europe/Berlin",
            "2026-03-29T01:00:00Z",
        ),
        // It comes twice: the first counts.
        (
            "at(2026-10-25T02:30:00)",
            "Europe/Berlin",
            "2026-10-25T00:30:00Z",
        ),
    ] {
        let found = times(&schedule(expression, zone), CREATED, 3);
        assert_eq!(found, [expected], "{expression} {zone}");
    }
}

/// Rule J12: a schedule that names hours comes true once for every local time; one of every hour follows the clock.
#[test]
fn days_on_which_clocks_change() {
    let rows: [(&str, &str, &str, &[&str]); 12] = [
        // Berlin, forward at 01:00 UTC from 02:00 to 03:00: 02:30 is due when that happens.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        // Two of them that are skipped, and 03:00 itself, are one.
        (
            "cron(0,30 2,3 * * ? *)",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &[
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:00:00Z",
            ],
        ),
        // Every hour: what is skipped does not come.
        (
            "cron(0/30 * * * ? *)",
            "Europe/Berlin",
            "2026-03-29T00:15:00Z",
            &[
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ],
        ),
        // Back at 01:00 UTC from 03:00 to 02:00: 02:30 comes twice, and is due once.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            "cron(0,30 2,14 * * ? *)",
            "Europe/Berlin",
            "2026-10-24T23:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T13:00:00Z",
            ],
        ),
        // Every hour: it is due both times.
        (
            "cron(0/30 * * * ? *)",
            "Europe/Berlin",
            "2026-10-25T00:15:00Z",
            &[
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
            ],
        ),
        // New York, forward at 07:00 UTC, back at 06:00 UTC.
        (
            "15 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"],
        ),
        (
            "15 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T05:15:00Z", "2026-11-02T06:15:00Z"],
        ),
        // Asked between the two times: the first was it.
        (
            "15 1 * * *",
            "America/New_York",
            "2026-11-01T05:45:00Z",
            &["2026-11-02T06:15:00Z"],
        ),
        // Lord Howe, where it is half an hour: back at 15:00 UTC from 02:00 to 01:30, forward at 15:30 UTC from 02:00 to 02:30.
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T12:00:00Z",
            &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            "cron(0/15 * * * ? *)",
            "Australia/Lord_Howe",
            "2026-04-04T14:40:00Z",
            &[
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:00:00Z",
                "2026-04-04T15:15:00Z",
                "2026-04-04T15:30:00Z",
            ],
        ),
    ];
    for (expression, zone, after, expected) in rows {
        let found = times(&schedule(expression, zone), after, expected.len());
        assert_eq!(found, expected, "{expression} {zone}");
    }
}

#[test]
fn dates_bound_it() {
    let fields = json!({
        "scheduleExpression": "cron(0 10 * * ? *)",
        "startDate": "2026-01-05T10:00:00Z", "endDate": "2026-01-07T10:00:00Z"
    });
    // The start counts, the end does not.
    let found = times(&parsed(fields).unwrap(), CREATED, 5);
    assert_eq!(found, ["2026-01-05T10:00:00Z", "2026-01-06T10:00:00Z"]);
    let once = json!({
        "scheduleExpression": "at(2026-01-05T10:00:00)",
        "startDate": "2027-01-01T00:00:00Z", "endDate": "2027-01-02T00:00:00Z"
    });
    assert_eq!(
        times(&parsed(once).unwrap(), CREATED, 1),
        ["2026-01-05T10:00:00Z"]
    );
}

#[test]
fn a_mistake_is_named_with_what_would_be_right() {
    for (expression, said) in [
        (
            "cron(61 * * * ? *)",
            "must have 0-59 with `, - * /` as minutes, not `61` as in `cron(61 * * * ? *)`",
        ),
        ("cron(0 24 * * ? *)", "as hours, not `24`"),
        ("cron(0 10,25 * * ? *)", "as hours, not `25`"),
        ("cron(0 10 32 * ? *)", "as day-of-month, not `32`"),
        (
            "cron(0 10 * 13 ? *)",
            "1-12 or JAN-DEC with `, - * /` as month, not `13`",
        ),
        ("cron(0 10 * FEBRUARY ? *)", "as month, not `FEBRUARY`"),
        ("cron(0 10 ? * 8 *)", "as day-of-week, not `8`"),
        ("cron(0 10 ? * 0 *)", "1-7 (1 is Sunday)"),
        ("cron(0 10 ? * 3#6 *)", "as day-of-week, not `3#6`"),
        ("cron(MON 10 * * ? *)", "as minutes, not `MON`"),
        ("cron(0 10 JANFEB * ? *)", "as day-of-month, not `JANFEB`"),
        ("cron(0,,5 10 * * ? *)", "as minutes, not ``"),
        ("cron(0 10 * * ? 26x)", "as year, not `26X`"),
        (
            "cron(0 10 * * * *)",
            "must have `?` as day-of-month or as day-of-week, and in one of them only",
        ),
        (
            "cron(0 10 ? * ? *)",
            "must have `?` as day-of-month or as day-of-week",
        ),
        (
            "cron(0 10 * * MON *)",
            "must have `?` as day-of-month or as day-of-week",
        ),
        (
            "cron(0 10 * * ?)",
            "must have the six fields minutes, hours, day-of-month, month, day-of-week, year in `cron(...)`, not 5",
        ),
        (
            "cron(0 0 30 2 ? *)",
            "must name a time that comes: there is no such day",
        ),
        ("0 10 * * +MON", "as day-of-week, not `+MON`"),
        ("0 10 * * L", "as day-of-week, not `L`"),
        ("0 20-2 * * *", "as hours, not `20-2`"),
        ("cron(0 10 * * ? 2030-2029)", "as year, not `2030-2029`"),
        ("0 0/15 * * *", "as hours, not `0/15`"),
        (
            "@fortnightly",
            "`@monthly` or `@yearly` when it begins with `@`, not `@fortnightly`",
        ),
        (
            "rate(1 minutes)",
            "must be `rate(1 minute)`, not `rate(1 minutes)`",
        ),
        (
            "rate(5 minute)",
            "must be `rate(5 minutes)`, not `rate(5 minute)`",
        ),
        (
            "rate(0 minutes)",
            "must be a whole number from 1 and `minutes`, `hours` or `days`",
        ),
        ("rate(-1 hour)", "must be a whole number from 1"),
        ("rate(+5 hours)", "must be a whole number from 1"),
        ("rate(1.5 hours)", "must be a whole number from 1"),
        (
            "rate(5 weeks)",
            "such as `rate(5 minutes)`, not `rate(5 weeks)`",
        ),
        ("rate(5minutes)", "not `rate(5minutes)`"),
        (
            "at(2026-12-24)",
            "must be `at(yyyy-mm-ddThh:mm:ss)`, such as `at(2026-12-24T18:00:00)`, not `at(2026-12-24)`",
        ),
        ("at(2026-12-24T18:00:00Z)", "not `at(2026-12-24T18:00:00Z)`"),
        ("at(2026-02-30T00:00:00)", "not `at(2026-02-30T00:00:00)`"),
        (
            "every five minutes",
            "must be `cron(...)`, `rate(...)`, `at(...)`, or a cron line of five fields",
        ),
        ("0 10 * * ? *", "must be `cron(...)`"),
        ("", "must be `cron(...)`"),
    ] {
        let problems = parsed(json!({ "scheduleExpression": expression })).unwrap_err();
        assert_eq!(problems.len(), 1, "{expression}: {problems:?}");
        assert!(
            problems[0].starts_with("`spec.scheduleExpression` must") && problems[0].contains(said),
            "{expression}: {}",
            problems[0]
        );
    }
    let two =
        json!({ "scheduleExpression": "rate(x)", "scheduleExpressionTimezone": "Europe/Berln" });
    let problems = parsed(two).unwrap_err();
    assert_eq!(
        problems[0],
        "`spec.scheduleExpressionTimezone` must be an IANA time zone such as `Europe/Berlin` or `UTC`, not `Europe/Berln`"
    );
    assert_eq!(problems.len(), 2);
    let turned = json!({
        "scheduleExpression": "rate(1 hour)",
        "startDate": "2026-02-01T00:00:00Z", "endDate": "2026-01-01T00:00:00Z"
    });
    assert_eq!(
        parsed(turned).unwrap_err(),
        ["`spec.endDate` must be later than `spec.startDate`"]
    );
}

#[test]
fn what_fell_due_in_a_long_while_is_counted_and_bounded() {
    let s = schedule("cron(0 10 * * ? *)", "UTC");
    let due = |s: &Schedule, a: &str, b: &str| s.due(at(a), at(b));
    assert_eq!(
        due(&s, "2026-01-01T10:00:00Z", "2026-01-02T09:59:59Z"),
        None
    );
    let three = Due {
        latest: at("2026-01-04T10:00:00Z"),
        earlier: 2,
    };
    assert_eq!(
        due(&s, "2026-01-01T10:00:00Z", "2026-01-04T10:00:00Z"),
        Some(three)
    );
    // Ten years of minutes.
    let minutes = schedule("cron(* * * * ? *)", "Europe/Berlin");
    let most = Due {
        latest: at("2036-01-01T00:00:00Z"),
        earlier: COUNTED,
    };
    assert_eq!(due(&minutes, CREATED, "2036-01-01T00:00:30Z"), Some(most));
    // Often, and then for long not at all.
    let winter = schedule("cron(* * * 1 ? 2026)", "UTC");
    let most = Due {
        latest: at("2026-01-31T23:59:00Z"),
        earlier: COUNTED,
    };
    assert_eq!(due(&winter, CREATED, "2036-01-01T00:00:00Z"), Some(most));
}

fn expression() -> impl Strategy<Value = String> {
    let minute = prop_oneof![Just("0"), Just("30"), Just("0/15"), Just("*"), Just("7,37")];
    let hour = prop_oneof![
        Just("*"),
        Just("1"),
        Just("2"),
        Just("3"),
        Just("0-4"),
        Just("1,2,13")
    ];
    let day = prop_oneof![
        Just("* * ? *"),
        Just("? * SUN *"),
        Just("L * ? *"),
        Just("? * 1#1 *")
    ];
    prop_oneof![
        (minute, hour, day).prop_map(|(m, h, d)| format!("cron({m} {h} {d})")),
        (2..500_u32).prop_map(|n| format!("rate({n} minutes)")),
    ]
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("UTC"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("Australia/Lord_Howe"),
        Just("Asia/Kathmandu"),
        Just("Pacific/Apia"),
    ]
}

/// Moments around which clocks change somewhere, and others.
fn moment() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-08T07:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-06-15T12:00:00Z",
        "2011-12-30T10:00:00Z",
    ];
    (prop::sample::select(changes.to_vec()), -20_000_i64..20_000)
        .prop_map(|(text, seconds)| at(text) + SignedDuration::from_secs(seconds))
}

proptest! {
    #[test]
    fn the_next_time_is_later_and_nothing_lies_between(text in expression(), zone in zone(), from in moment()) {
        let s = schedule(&text, zone);
        let mut after = from;
        for _ in 0..20 {
            let next = s.next(after).unwrap();
            prop_assert!(next > after, "{text} {zone}: {next} after {after}");
            // Whoever asks in between gets the same answer.
            let middle = after + (next.duration_since(after) / 2);
            prop_assert_eq!(s.next(middle), Some(next), "{} {} at {}", text, zone, middle);
            after = next;
        }
    }

    #[test]
    fn what_is_due_is_what_comes_next_one_by_one(text in expression(), zone in zone(), from in moment(), hours in 1..100_i64) {
        let s = schedule(&text, zone);
        let until = from + SignedDuration::from_hours(hours);
        let mut all = Vec::new();
        let mut after = from;
        while let Some(next) = s.next(after).filter(|n| *n <= until) {
            all.push(next);
            after = next;
        }
        let due = s.due(from, until);
        prop_assert_eq!(due.map(|d| d.latest), all.last().copied());
        if let Some(due) = due {
            prop_assert_eq!(due.earlier as usize, (all.len() - 1).min(COUNTED as usize));
        }
    }

    #[test]
    fn what_names_an_hour_comes_once_every_day(minute in 0..60_u8, hour in 0..24_u8, zone in zone()) {
        let s = schedule(&format!("{minute} {hour} * * *"), zone);
        let from = at("2026-01-01T00:00:00Z");
        let mut after = from;
        let mut count = 0;
        while let Some(next) = s.next(after).filter(|n| *n <= from + SignedDuration::from_hours(24 * 365)) {
            prop_assert!(next.duration_since(after) <= SignedDuration::from_hours(26));
            count += 1;
            after = next;
        }
        prop_assert_eq!(count, 365);
    }
}
