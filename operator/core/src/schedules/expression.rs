//! When a schedule is due: `cron(...)`, `rate(...)` and `at(...)` of EventBridge Scheduler, and cron lines of five fields.
//!
//! croner reads and searches cron fields; here is what EventBridge and it do not share: the names of the forms, `?`, `L` as
//! a day of the week, years, sentences that name the wrong part, and what happens when clocks change:
//!
//! - A schedule that names hours comes true exactly once for every local time that it names. A local time that clocks skip
//!   is due at the moment when they go forward; of one that comes twice the first counts. (EventBridge Scheduler leaves
//!   out what is skipped; a nightly backup should not be.)
//! - A schedule of every hour follows the clock on the wall: what is skipped does not come, what comes twice is due twice,
//!   so that `cron(0/15 * * * ? *)` is due every fifteen minutes on every day of the year.
//! - A `rate` counts seconds, and a day of it is 24 hours (EventBridge Scheduler, rate-based schedules).

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use tallyman_crds::ScheduledTaskSpec;

use super::fields::{self, Dialect};
use crate::problem::Problem;

/// Missed times of one absence are counted up to here.
pub const COUNTED: u32 = 1000;

const NANOSECOND: SignedDuration = SignedDuration::from_nanos(1);
const FIELD: &str = "spec.scheduleExpression";
const FORMS: &str = "must be `cron(...)`, `rate(...)`, `at(...)`, or a cron line of five fields \
                     (minute hour day-of-month month day-of-week)";

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
    /// The object was made then.
    created: Timestamp,
    starts: Option<Timestamp>,
    ends: Option<Timestamp>,
}

#[derive(Clone)]
enum Expression {
    /// Of local times.
    Cron { cron: Box<Cron>, every_hour: bool },
    /// Of time that passes.
    Rate(SignedDuration),
    /// Once.
    At(Timestamp),
}

impl fmt::Debug for Expression {
    /// As it is read; croner's own form is five thousand years long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Cron {
                cron,
                every_hour: _,
            } => write!(f, "cron({})", cron.pattern),
            Expression::Rate(every) => write!(f, "rate({every})"),
            Expression::At(at) => write!(f, "at({at})"),
        }
    }
}

/// What fell due in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The latest time.
    pub latest: Timestamp,
    /// How many came before it; counted up to [`COUNTED`].
    pub earlier: u32,
}

impl Schedule {
    /// Reads the schedule of an object that was made at `created`.
    ///
    /// # Errors
    /// Every problem found, each naming its field, the part that is wrong, and what would be right.
    pub fn parse(spec: &ScheduledTaskSpec, created: Timestamp) -> Result<Schedule, Vec<Problem>> {
        let mut problems = Vec::new();
        let zone = zone(spec.schedule_expression_timezone.as_deref());
        let zone = zone.map_err(|p| problems.push(p)).unwrap_or(TimeZone::UTC);
        let expression = expression(spec.schedule_expression.trim(), &zone);
        let expression = expression.map_err(|p| problems.push(p)).ok();
        let starts = spec.start_date.as_ref().map(|t| t.0);
        let ends = spec.end_date.as_ref().map(|t| t.0);
        if starts.zip(ends).is_some_and(|(s, e)| e <= s) {
            problems.push(Problem::new(
                "spec.endDate",
                "must be later than `spec.startDate`",
            ));
        }
        match expression {
            Some(expression) if problems.is_empty() => Ok(Schedule {
                expression,
                zone,
                created,
                starts,
                ends,
            }),
            _ => Err(problems),
        }
    }

    /// Everything due is later than this.
    pub fn begins(&self) -> Timestamp {
        match self.expression {
            // Its first time is the beginning itself.
            Expression::Rate(_) => self
                .anchor()
                .checked_sub(NANOSECOND)
                .unwrap_or(self.created),
            Expression::Cron { .. } | Expression::At(_) => self.created,
        }
    }

    /// What a `rate` counts from.
    fn anchor(&self) -> Timestamp {
        self.starts.unwrap_or(self.created)
    }

    /// The first due time later than `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let before_start = self.starts.and_then(|s| s.checked_sub(NANOSECOND).ok());
        let from = before_start.map_or(after, |s| s.max(after));
        match &self.expression {
            // One-time schedules do not look at dates (EventBridge Scheduler, StartDate and EndDate).
            Expression::At(at) => return (*at > after).then_some(*at),
            Expression::Rate(every) => self.next_of_rate(*every, from),
            Expression::Cron {
                cron,
                every_hour: true,
            } => {
                let from = from.to_zoned(self.zone.clone());
                let found = cron.find_next_occurrence(&from, false);
                found.ok().map(|next| next.timestamp())
            }
            Expression::Cron {
                cron,
                every_hour: false,
            } => self.next_local(cron, from),
        }
        .filter(|next| self.ends.is_none_or(|ends| *next < ends))
    }

    fn next_of_rate(&self, every: SignedDuration, after: Timestamp) -> Option<Timestamp> {
        let anchor = self.anchor();
        if after < anchor {
            return Some(anchor);
        }
        let passed = after.duration_since(anchor).as_nanos();
        let whole = passed - passed % every.as_nanos() + every.as_nanos();
        let seconds = i64::try_from(whole / 1_000_000_000).ok()?;
        anchor.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// The search is on local times, as though clocks never changed; what it finds is then looked up in the zone.
    fn next_local(&self, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after).to_zoned(TimeZone::UTC).ok()?;
        loop {
            local = cron.find_next_occurrence(&local, false).ok()?;
            // Local times that come twice lie behind, seen from the second time.
            let at = instant(local.datetime(), &self.zone)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// What fell due later than `after` and not later than `until`.
    pub fn due(&self, after: Timestamp, until: Timestamp) -> Option<Due> {
        let next = |after| self.next(after).filter(|at| *at <= until);
        let mut due = Due {
            latest: next(after)?,
            earlier: 0,
        };
        while let Some(at) = next(due.latest) {
            due.latest = at;
            due.earlier += 1;
            if due.earlier == COUNTED {
                due.latest = self.latest(due.latest, until);
                break;
            }
        }
        Some(due)
    }

    /// The latest due time until `until`; `known` is one of them. Looked for in ever longer whiles before `until`, so that
    /// a schedule of every minute costs no year of minutes.
    fn latest(&self, known: Timestamp, until: Timestamp) -> Timestamp {
        let mut span = SignedDuration::from_hours(1);
        loop {
            let from = until.checked_sub(span).unwrap_or(known).max(known);
            let mut found = None;
            let mut at = from;
            while let Some(next) = self.next(at).filter(|next| *next <= until) {
                found = Some(next);
                at = next;
            }
            match found {
                Some(latest) => return latest,
                None if from == known => return known,
                None => span = span.checked_mul(8).unwrap_or(SignedDuration::MAX),
            }
        }
    }
}

fn zone(name: Option<&str>) -> Result<TimeZone, Problem> {
    let Some(name) = name else {
        return Ok(TimeZone::UTC);
    };
    // The database that the program was built with: a host may have none, and a core reads no files.
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        Problem::new(
            "spec.scheduleExpressionTimezone",
            format!("must be an IANA time zone such as `Europe/Berlin` or `UTC`, not `{name}`"),
        )
    })
}

fn expression(text: &str, zone: &TimeZone) -> Result<Expression, Problem> {
    let problem = |message: String| Problem::new(FIELD, message);
    let inside = |form: &str| {
        let rest = text.strip_prefix(form)?.strip_prefix('(')?;
        Some(rest.strip_suffix(')')?.trim())
    };
    if let Some(inner) = inside("cron") {
        return cron(inner, Dialect::EventBridge).map_err(problem);
    }
    if let Some(inner) = inside("rate") {
        return rate(inner).map_err(problem);
    }
    if let Some(inner) = inside("at") {
        return at(inner, zone).map_err(problem);
    }
    if text.starts_with('@') || text.split_whitespace().count() == 5 {
        return cron(text, Dialect::Line).map_err(problem);
    }
    Err(problem(format!("{FORMS}, not `{text}`")))
}

fn cron(text: &str, dialect: Dialect) -> Result<Expression, String> {
    let parser = parser(dialect);
    let cron = if text.starts_with('@') {
        let known = "`@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`";
        let read = parser.parse(text);
        read.map_err(|_| format!("must be {known} when it begins with `@`, not `{text}`"))?
    } else {
        let read = parser.parse(&fields::checked(text, dialect)?);
        read.map_err(|_| fields::blame(text, dialect, &parser))?
    };
    let first = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    if cron.find_next_occurrence(&first, true).is_err() {
        return Err(format!(
            "must name a time that comes: there is no such day from 1970 to 2199 in `{text}`"
        ));
    }
    let every_hour = cron.pattern.hours.values().len() == 24;
    Ok(Expression::Cron {
        cron: Box::new(cron),
        every_hour,
    })
}

fn parser(dialect: Dialect) -> CronParser {
    match dialect {
        // `0/15` is how EventBridge starts a step, and its Sunday is 1.
        Dialect::EventBridge => CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Required)
            .alternative_weekdays(true)
            .sloppy_ranges(true)
            .build(),
        Dialect::Line => CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build(),
    }
}

fn rate(text: &str) -> Result<Expression, String> {
    let wanted = || {
        format!(
            "must be a whole number from 1 and `minutes`, `hours` or `days`, such as `rate(5 minutes)`, not `rate({text})`"
        )
    };
    let (value, unit) = text.split_once(char::is_whitespace).ok_or_else(wanted)?;
    let unit = unit.trim();
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let value: i64 = value
        .parse()
        .ok()
        .filter(|v| digits && *v > 0)
        .ok_or_else(wanted)?;
    let (one, seconds) = match unit.strip_suffix('s').unwrap_or(unit) {
        "minute" => ("minute", 60),
        "hour" => ("hour", 3600),
        "day" => ("day", 86_400),
        _ => return Err(wanted()),
    };
    let right = if value == 1 {
        one.to_owned()
    } else {
        format!("{one}s")
    };
    if unit != right {
        return Err(format!(
            "must be `rate({value} {right})`, not `rate({text})`"
        ));
    }
    // Longer than the calendar is as good as never.
    let most = SignedDuration::from_hours(24 * 366 * 8000).as_secs();
    let seconds = value.saturating_mul(seconds).min(most);
    Ok(Expression::Rate(SignedDuration::from_secs(seconds)))
}

fn at(text: &str, zone: &TimeZone) -> Result<Expression, String> {
    DateTime::strptime("%Y-%m-%dT%H:%M:%S", text)
        .ok()
        .and_then(|local| instant(local, zone))
        .map(Expression::At)
        .ok_or_else(|| {
            format!(
                "must be `at(yyyy-mm-ddThh:mm:ss)`, such as `at(2026-12-24T18:00:00)`, not `at({text})`"
            )
        })
}

/// The moment of a local time: when clocks skip it, that at which they go forward; when it comes twice, the first.
fn instant(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let at = |offset: Offset| offset.to_timestamp(local).ok();
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset),
        AmbiguousOffset::Fold { before, after: _ } => at(before),
        // Read with the later offset it lies before the change.
        AmbiguousOffset::Gap { before: _, after } => {
            zone.following(at(after)?).next().map(|t| t.timestamp())
        }
    }
}
