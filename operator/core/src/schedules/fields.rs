//! The fields of a cron expression: what croner would let pass, and which part it means when it does not.

use croner::parser::CronParser;

/// Which cron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `cron(minutes hours day-of-month month day-of-week year)` (EventBridge cron expressions).
    EventBridge,
    /// `minute hour day-of-month month day-of-week` (crontab, Kubernetes CronJob).
    Line,
}

struct Field {
    name: &'static str,
    /// What may stand there.
    values: &'static str,
    /// Letters that may stand there, beside digits.
    words: &'static [&'static str],
    /// The first and the last number; the first word, if any, is the first number.
    range: (usize, usize),
}

const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: &[&str] = &[
    "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L", "SUNL", "MONL", "TUEL", "WEDL", "THUL",
    "FRIL", "SATL",
];
const MINUTES: Field = Field {
    name: "minutes",
    values: "0-59 with `, - * /`",
    words: &[],
    range: (0, 59),
};
const HOURS: Field = Field {
    name: "hours",
    values: "0-23 with `, - * /`",
    words: &[],
    range: (0, 23),
};
const DAY_OF_MONTH: Field = Field {
    name: "day-of-month",
    values: "1-31 with `, - * / ?`, `L` (the last day), `LW` (the last weekday) or `15W` (the weekday nearest to the 15th)",
    words: &["L", "W", "LW"],
    range: (1, 31),
};
const MONTH: Field = Field {
    name: "month",
    values: "1-12 or JAN-DEC with `, - * /`",
    words: MONTHS,
    range: (1, 12),
};
const EVENT_BRIDGE: [Field; 6] = [
    MINUTES,
    HOURS,
    DAY_OF_MONTH,
    MONTH,
    Field {
        name: "day-of-week",
        values: "1-7 (1 is Sunday) or SUN-SAT with `, - * / ?`, `L` (Saturday), `6L` (the last Friday) or `6#3` (the third Friday)",
        words: DAYS,
        range: (1, 7),
    },
    Field {
        name: "year",
        values: "1970-2199 with `, - * /`",
        words: &[],
        range: (1970, 2199),
    },
];
const LINE: [Field; 5] = [
    MINUTES,
    HOURS,
    DAY_OF_MONTH,
    MONTH,
    Field {
        name: "day-of-week",
        values: "0-7 (0 and 7 are Sunday) or SUN-SAT with `, - * / ?`, `5L` (the last Friday) or `5#3` (the third Friday)",
        words: DAYS,
        range: (0, 7),
    },
];
/// Index of day-of-month and day-of-week.
const DAY_FIELDS: (usize, usize) = (2, 4);

impl Dialect {
    fn fields(self) -> &'static [Field] {
        match self {
            Dialect::EventBridge => &EVENT_BRIDGE,
            Dialect::Line => &LINE,
        }
    }

    /// As the user wrote it.
    fn shown(self, text: &str) -> String {
        match self {
            Dialect::EventBridge => format!("cron({text})"),
            Dialect::Line => text.to_owned(),
        }
    }
}

/// The pattern that croner is to read.
///
/// # Errors
/// What is wrong that croner would not see: the number of fields, the one `?` of EventBridge, letters in the wrong place,
/// empty parts.
pub(super) fn checked(text: &str, dialect: Dialect) -> Result<String, String> {
    let upper = text.to_uppercase();
    let given: Vec<&str> = upper.split_whitespace().collect();
    let fields = dialect.fields();
    let names: Vec<_> = fields.iter().map(|f| f.name).collect();
    if given.len() != fields.len() {
        return Err(format!(
            "must have the six fields {} in `cron(...)`, not {} as in `cron({text})`; a cron line of five fields stands \
             without `cron(...)`",
            names.join(", "),
            given.len()
        ));
    }
    for (field, value) in fields.iter().zip(&given) {
        if let Some(part) = value.split(',').find(|part| !known(part, field, dialect)) {
            return Err(refusal(field, part, text, dialect));
        }
    }
    match dialect {
        Dialect::Line => Ok(given.join(" ")),
        Dialect::EventBridge => {
            let (month_day, week_day) = (given[DAY_FIELDS.0], given[DAY_FIELDS.1]);
            if (month_day == "?") == (week_day == "?") {
                return Err(format!(
                    "must have `?` as day-of-month or as day-of-week, and in one of them only, not `cron({text})`"
                ));
            }
            Ok(spelled_for_croner(&given))
        }
    }
}

/// Seconds in front, `L` as a day of the week is Saturday, a range may turn around (`20-2`, hours of a night), and a year that
/// stands for every one ends.
fn spelled_for_croner(given: &[&str]) -> String {
    let mut pattern = vec!["0".to_owned()];
    for (i, value) in given.iter().enumerate() {
        let field = &EVENT_BRIDGE[i];
        let parts = value.split(',').map(|part| match part {
            "L" if i == DAY_FIELDS.1 => "7".to_owned(),
            "*" if field.name == "year" => "1970-2199".to_owned(),
            other => turned(other, field).unwrap_or_else(|| other.to_owned()),
        });
        pattern.push(parts.collect::<Vec<_>>().join(","));
    }
    pattern.join(" ")
}

/// Both halves of a range that goes over the end of its field.
fn turned(part: &str, field: &Field) -> Option<String> {
    let (first, last) = field.range;
    let number = |text: &str| {
        let word = field.words.iter().position(|w| *w == text);
        let number = word.map(|at| at + first).or(text.parse().ok());
        number.filter(|n| (first..=last).contains(n))
    };
    let (from, to) = part.split_once('-')?;
    let (from, to) = (number(from)?, number(to)?);
    (from > to && field.name != "year").then(|| format!("{from}-{last},{first}-{to}"))
}

/// Nothing but digits, signs and the words of its field.
fn known(part: &str, field: &Field, dialect: Dialect) -> bool {
    let sign = |c: char| c.is_ascii_digit() || "*/-?#".contains(c);
    let letters = part.split(|c: char| !c.is_alphabetic());
    let words = letters.filter(|word| !word.is_empty());
    let alone = !part.contains('?') || part == "?";
    // A cron line has no last day of the week.
    let day = !(part == "L" && field.name == "day-of-week" && dialect == Dialect::Line);
    !part.is_empty()
        && part.chars().all(|c| c.is_alphabetic() || sign(c))
        && words.into_iter().all(|word| field.words.contains(&word))
        && alone
        && day
}

/// Which part croner does not take: each is tried alone, with every other field at `*`.
pub(super) fn blame(text: &str, dialect: Dialect, parser: &CronParser) -> String {
    let upper = text.to_uppercase();
    let given: Vec<&str> = upper.split_whitespace().collect();
    let fields = dialect.fields();
    for (i, (field, value)) in fields.iter().zip(&given).enumerate() {
        for part in value.split(',') {
            let alone: Vec<&str> = (0..fields.len())
                .map(|n| if n == i { part } else { "*" })
                .collect();
            let pattern = match dialect {
                Dialect::EventBridge => spelled_for_croner(&alone),
                Dialect::Line => alone.join(" "),
            };
            if parser.parse(&pattern).is_err() {
                return refusal(field, part, text, dialect);
            }
        }
    }
    format!(
        "must be a cron expression that can be read, not `{}`",
        dialect.shown(text)
    )
}

fn refusal(field: &Field, part: &str, text: &str, dialect: Dialect) -> String {
    format!(
        "must have {} as {}, not `{part}` as in `{}`",
        field.values,
        field.name,
        dialect.shown(text)
    )
}
