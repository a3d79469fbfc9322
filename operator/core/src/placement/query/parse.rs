//! The grammar, and errors that say what was expected where.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};
use winnow::Parser as _;
use winnow::combinator::{alt, opt, peek, repeat, separated};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location as _, Stream as _};
use winnow::token::{literal, one_of, take_while};

use super::value::{Scalar, Version};
use super::{Check, Expression, Invalid, Order, Test};

/// How deep parentheses may nest. Nobody writes so many; without a bound 2000 of them would exhaust the stack.
const DEEPEST: usize = 32;
/// The most memory that a pattern may need, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

const SUBJECTS: &str = "`agentConnected`, `agentVersion`, `attribute:<name>`, `ec2InstanceId`, `registeredAt`, \
                        `runningTasksCount` or `task:group`";

type Input<'a> = LocatingSlice<&'a str>;
type Parsed<T> = Result<T, ErrMode<Expected>>;

/// What was expected, and the byte at which it was not there.
#[derive(Debug)]
struct Expected {
    at: usize,
    message: String,
}

impl ParserError<Input<'_>> for Expected {
    type Inner = Expected;

    fn from_input(input: &Input<'_>) -> Expected {
        Expected {
            at: input.current_token_start(),
            message: String::new(),
        }
    }

    fn into_inner(self) -> Result<Expected, Expected> {
        Ok(self)
    }
}

/// Parses a whole expression.
pub(super) fn expression(text: &str) -> Result<Expression, Invalid> {
    let mut input = LocatingSlice::new(text);
    let parsed = any(&mut input, 0).and_then(|root| {
        end(&mut input)?;
        Ok(root)
    });
    parsed.map_err(|error| {
        // `Incomplete` is of streams; this input is whole.
        let (at, message) = match error {
            ErrMode::Cut(e) | ErrMode::Backtrack(e) => (e.at, e.message),
            ErrMode::Incomplete(_) => (text.len(), "expected more".to_owned()),
        };
        let before = text.get(..at).unwrap_or(text);
        Invalid {
            column: before.chars().count() + 1,
            message,
        }
    })
}

/// Nothing can be made of the input here: "expected ..., not `found`".
fn expected<T>(input: &Input<'_>, what: &str) -> Parsed<T> {
    let rest: &str = input.as_ref();
    let found = rest.split(char::is_whitespace).next().unwrap_or_default();
    let found: String = found.chars().take(40).collect();
    let message = if found.is_empty() {
        format!("expected {what}, but the expression ends")
    } else {
        format!("expected {what}, not `{found}`")
    };
    Err(ErrMode::Cut(Expected {
        at: input.current_token_start(),
        message,
    }))
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace)
        .void()
        .parse_next(input)
}

/// After a whole test only `and`, `or`, a closing parenthesis and the end may come.
fn end(input: &mut Input<'_>) -> Parsed<()> {
    space(input)?;
    if input.as_ref().is_empty() {
        return Ok(());
    }
    if input.as_ref().starts_with(')') {
        return expected(input, "as many `(` before as `)`");
    }
    let quote = input.as_ref().starts_with(is_special);
    expected(
        input,
        if quote {
            "`and`, `or` or the end (a value with special characters stands in quotes)"
        } else {
            "`and`, `or` or the end"
        },
    )
}

/// One of two spellings of a word of the grammar: a sign, or a word that ends where it ends.
fn spelled<'a>(sign: &'static str, word: &'static str) -> impl FnMut(&mut Input<'a>) -> Parsed<()> {
    move |input| alt((literal(sign).void(), whole_word(word))).parse_next(input)
}

fn whole_word<'a>(word: &'static str) -> impl winnow::Parser<Input<'a>, (), ErrMode<Expected>> {
    move |input: &mut Input<'a>| {
        let start = input.checkpoint();
        literal(word).void().parse_next(input)?;
        if input.as_ref().starts_with(is_word) {
            input.reset(&start);
            return Err(ErrMode::Backtrack(Expected::from_input(input)));
        }
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What ends a value that stands without quotes.
fn is_special(c: char) -> bool {
    c.is_whitespace() || "()[],'\"&|!=<>~".contains(c)
}

fn any(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let part = |input: &mut Input<'_>| all(input, depth);
    let or = (space, spelled("||", "or"));
    let parts: Vec<Expression> = separated(1.., part, or).parse_next(input)?;
    Ok(joined(parts, Expression::Any))
}

fn all(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let part = |input: &mut Input<'_>| one(input, depth);
    let and = (space, spelled("&&", "and"));
    let parts: Vec<Expression> = separated(1.., part, and).parse_next(input)?;
    Ok(joined(parts, Expression::All))
}

/// One part stands for itself.
fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 {
        parts.swap_remove(0)
    } else {
        join(parts)
    }
}

fn one(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let not = (space, alt((literal("!").void(), whole_word("not")))).void();
    let nots: usize = repeat(0.., not).parse_next(input)?;
    space(input)?;
    let inner = match opt(one_of('(')).parse_next(input)? {
        Some(_) if depth == DEEPEST => {
            return expected(
                input,
                &format!("at most {DEEPEST} parentheses within each other"),
            );
        }
        Some(_) => {
            let inner = any(input, depth + 1)?;
            space(input)?;
            if opt(one_of(')')).parse_next(input)?.is_none() {
                return expected(input, "`and`, `or` or `)`");
            }
            inner
        }
        None => test(input)?,
    };
    Ok(if nots % 2 == 1 {
        Expression::Not(Box::new(inner))
    } else {
        inner
    })
}

/// What a test is about, as it is written.
enum Subject {
    AgentConnected,
    AgentVersion,
    Name,
    RegisteredAt,
    RunningTasksCount,
    Attribute(String),
    Group,
}

fn subject(input: &mut Input<'_>) -> Parsed<(Subject, String)> {
    let start = input.checkpoint();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_./\\-:".contains(c);
    let text: &str = take_while(0.., is_name).parse_next(input)?;
    let subject = match text {
        "agentConnected" => Subject::AgentConnected,
        "agentVersion" => Subject::AgentVersion,
        "ec2InstanceId" => Subject::Name,
        "registeredAt" => Subject::RegisteredAt,
        "runningTasksCount" => Subject::RunningTasksCount,
        "task:group" => Subject::Group,
        other => match other.strip_prefix("attribute:") {
            Some(name) if (1..=128).contains(&name.len()) && !name.contains(':') => {
                Subject::Attribute(name.to_owned())
            }
            Some(_) => {
                input.reset(&start);
                return expected(
                    input,
                    "the name of an attribute behind `attribute:`, 1 to 128 letters, digits and `_./\\-`",
                );
            }
            None => {
                input.reset(&start);
                return expected(input, &format!("a subject ({SUBJECTS})"));
            }
        },
    };
    Ok((subject, text.to_owned()))
}

/// An operator without its negation.
#[derive(Clone, Copy)]
enum Verb {
    Equals,
    Ordered(Order),
    In,
    Exists,
    Matches,
}

impl Subject {
    /// Its values come before and after each other.
    fn is_ordered(&self) -> bool {
        match self {
            Subject::AgentVersion
            | Subject::RegisteredAt
            | Subject::RunningTasksCount
            | Subject::Attribute(_) => true,
            Subject::AgentConnected | Subject::Name | Subject::Group => false,
        }
    }
}

/// The operator, and whether it is negated. `written`: the subject as it stands there.
fn operator(input: &mut Input<'_>, subject: &Subject, written: &str) -> Parsed<(Verb, bool)> {
    use Order::{Greater, GreaterOrEqual, Less, LessOrEqual};
    const SIGNS: [(&str, Verb, bool); 8] = [
        ("==", Verb::Equals, false),
        ("!=", Verb::Equals, true),
        ("=~", Verb::Matches, false),
        ("!~", Verb::Matches, true),
        (">=", Verb::Ordered(GreaterOrEqual), false),
        ("<=", Verb::Ordered(LessOrEqual), false),
        (">", Verb::Ordered(Greater), false),
        ("<", Verb::Ordered(Less), false),
    ];
    const WORDS: [(&str, Verb, bool); 14] = [
        ("equals", Verb::Equals, false),
        ("not_equals", Verb::Equals, true),
        ("matches", Verb::Matches, false),
        ("not_matches", Verb::Matches, true),
        ("greater_than", Verb::Ordered(Greater), false),
        ("greater_than_equal", Verb::Ordered(GreaterOrEqual), false),
        ("less_than", Verb::Ordered(Less), false),
        ("less_than_equal", Verb::Ordered(LessOrEqual), false),
        ("in", Verb::In, false),
        ("not_in", Verb::In, true),
        ("!in", Verb::In, true),
        ("exists", Verb::Exists, false),
        ("not_exists", Verb::Exists, true),
        ("!exists", Verb::Exists, true),
    ];
    space(input)?;
    let start = input.checkpoint();
    let mut found = None;
    for (sign, verb, negated) in SIGNS {
        if found.is_none() && opt(literal(sign)).parse_next(input)?.is_some() {
            found = Some((verb, negated));
        }
    }
    for (word, verb, negated) in WORDS {
        if found.is_none() && opt(whole_word(word)).parse_next(input)?.is_some() {
            found = Some((verb, negated));
        }
    }
    match found {
        Some((Verb::Ordered(_), _)) if !subject.is_ordered() => {
            input.reset(&start);
            let all = "`==`, `!=`, `in`, `not_in`, `=~` or `!~`";
            expected(
                input,
                &format!("{all} after `{written}`, which has no order"),
            )
        }
        Some(found) => Ok(found),
        None => expected(
            input,
            &format!("an operator such as `==` or `in` after `{written}`"),
        ),
    }
}

fn test(input: &mut Input<'_>) -> Parsed<Expression> {
    let (subject, written) = subject(input)?;
    let (verb, negated) = operator(input, &subject, &written)?;
    let test = match subject {
        Subject::AgentConnected => {
            let read = |text: &str| text.parse::<bool>().ok();
            Test::AgentConnected(check(input, verb, "`true` or `false`", read)?)
        }
        Subject::AgentVersion => Test::AgentVersion(check(
            input,
            verb,
            "a version such as `1.14.5`",
            Version::parse,
        )?),
        Subject::Name => Test::Name(check(input, verb, "a value", text)?),
        Subject::RegisteredAt => Test::RegisteredAt(check(
            input,
            verb,
            "a time such as `2018-06-18T22:28:28Z` or `2018-06-18`",
            time,
        )?),
        Subject::RunningTasksCount => {
            let read = |text: &str| text.parse::<i64>().ok();
            Test::RunningTasksCount(check(input, verb, "a whole number", read)?)
        }
        Subject::Attribute(name) => {
            let (what, ordered) = match verb {
                Verb::Ordered(_) => ("a number or a version such as `1.14.5`", true),
                Verb::Equals | Verb::In | Verb::Exists | Verb::Matches => ("a value", false),
            };
            let read =
                |text: &str| Some(Scalar::parse(text)).filter(|s| !ordered || s.is_ordered());
            Test::Attribute(name, check(input, verb, what, read)?)
        }
        Subject::Group => Test::Group(check(input, verb, "a value", text)?),
    };
    let test = Expression::Test(test);
    Ok(if negated {
        Expression::Not(Box::new(test))
    } else {
        test
    })
}

/// What stands behind an operator.
fn check<T>(
    input: &mut Input<'_>,
    verb: Verb,
    what: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Parsed<Check<T>> {
    space(input)?;
    Ok(match verb {
        Verb::Exists => Check::Exists,
        Verb::Equals => Check::In(vec![value(input, what, &read)?]),
        Verb::Ordered(order) => Check::Ordered(order, value(input, what, &read)?),
        Verb::Matches => Check::Matches(pattern(input)?),
        Verb::In => Check::In(list(input, what, &read)?),
    })
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A time without offset is UTC, a day begins at midnight.
fn time(text: &str) -> Option<Timestamp> {
    let in_utc = |at: DateTime| Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let day = || {
        in_utc(
            text.parse::<Date>()
                .ok()?
                .to_datetime(jiff::civil::Time::midnight()),
        )
    };
    match text.parse::<Timestamp>() {
        Ok(at) => Some(at),
        Err(_) if text.contains('T') => in_utc(text.parse().ok()?),
        Err(_) => day(),
    }
}

fn list<T>(input: &mut Input<'_>, what: &str, read: &impl Fn(&str) -> Option<T>) -> Parsed<Vec<T>> {
    if opt(one_of('[')).parse_next(input)?.is_none() {
        return expected(input, "a list such as `[a, b]`");
    }
    let mut values = Vec::new();
    loop {
        space(input)?;
        values.push(value(input, what, read)?);
        space(input)?;
        if opt(one_of(']')).parse_next(input)?.is_some() {
            return Ok(values);
        }
        if opt(one_of(',')).parse_next(input)?.is_none() {
            return expected(input, "`,` or `]`");
        }
    }
}

fn value<T>(input: &mut Input<'_>, what: &str, read: &impl Fn(&str) -> Option<T>) -> Parsed<T> {
    let start = input.checkpoint();
    let raw = raw(input, what)?;
    match read(&raw) {
        Some(value) => Ok(value),
        None => {
            input.reset(&start);
            expected(input, what)
        }
    }
}

fn pattern(input: &mut Input<'_>) -> Parsed<Regex> {
    let start = input.checkpoint();
    let raw = raw(input, "a pattern")?;
    let build = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
    // A `)` too many would close our own parenthesis.
    let alone = if raw.contains(')') {
        build(&raw).map(|_| ())
    } else {
        Ok(())
    };
    let built = alone.and_then(|()| build(&format!("^(?:{raw})$")));
    built.map_err(|error| {
        input.reset(&start);
        let why = match error {
            regex::Error::CompiledTooBig(_) => "it needs too much memory".to_owned(),
            // The crate draws a picture; its last line is the sentence.
            other => {
                let text = other.to_string();
                let line = text.lines().last().unwrap_or_default();
                line.strip_prefix("error: ").unwrap_or(line).to_owned()
            }
        };
        ErrMode::Cut(Expected {
            at: input.current_token_start(),
            message: format!("expected a regular expression, but of `{raw}` {why}"),
        })
    })
}

/// A value in quotes, in which a backslash hides the quote and stands for itself elsewhere; or one without special characters.
fn raw(input: &mut Input<'_>, what: &str) -> Parsed<String> {
    let Some(quote) = opt(peek(one_of(['\'', '"']))).parse_next(input)? else {
        let bare: &str = take_while(0.., |c| !is_special(c)).parse_next(input)?;
        if bare.is_empty() {
            return expected(input, what);
        }
        return Ok(bare.to_owned());
    };
    let start = input.checkpoint();
    one_of(quote).parse_next(input)?;
    let mut text = String::new();
    let mut escaped = false;
    while let Some(c) = input.next_token() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (false, c) if c == quote => return Ok(text),
            (false, c) => text.push(c),
            (true, c) => {
                if c != quote {
                    text.push('\\');
                }
                text.push(c);
                escaped = false;
            }
        }
    }
    input.reset(&start);
    let at = input.current_token_start();
    let message = format!("expected a closing {quote} for the quote that opens here");
    Err(ErrMode::Cut(Expected { at, message }))
}
