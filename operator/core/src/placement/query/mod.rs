//! The cluster query language (ECS developer guide, cluster query language): expressions that are true of some container
//! instances, for `memberOf` and for filters of lists.
//!
//! ```text
//! expression := all ((or | ||) all)*              `not` binds tighter than `and`, and that tighter than `or`
//! all        := one ((and | &&) one)*
//! one        := (not | !) one | "(" expression ")" | test
//! test       := subject operator value | subject (in | not_in) "[" value, ... "]" | subject (exists | not_exists)
//! ```
//!
//! Parsed once, at the door ([`Query::parse`]); what is past it only asks [`Query::matches`]. Where ECS is silent:
//!
//! - A negated operator is true exactly when the other one is false, so `attribute:stack != prod` also holds for an instance
//!   without `stack`, as with label selectors of Kubernetes.
//! - `matches` must match the whole value. Patterns are those of the `regex` crate: no look-around and no references back, which
//!   Java's have; so a pattern costs time linear in the value, whatever somebody writes.
//! - Attributes are compared with `<` and the like as numbers when both sides are numbers, else as versions when both are; an
//!   instance whose value is neither does not match.

mod parse;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use regex::Regex;

use crate::names::Group;
use value::{Scalar, Version};

/// The most characters of an expression (ECS API reference, PlacementConstraint).
pub const LONGEST: usize = 2000;

/// What a query may ask of one container instance.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its name; `ec2InstanceId` here.
    pub name: &'a str,
    /// Its agent renewed its Lease lately.
    pub agent_connected: bool,
    /// Version of its agent, once it registered.
    pub agent_version: Option<&'a str>,
    /// When its agent first registered.
    pub registered_at: Option<Timestamp>,
    /// Tasks that it runs.
    pub running_tasks_count: i64,
    /// Its attributes; one without value only exists.
    pub attributes: &'a BTreeMap<String, Option<String>>,
    /// Task groups of which it has tasks, with their number.
    pub groups: &'a BTreeMap<Group, i64>,
}

/// Why an expression does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct Invalid {
    /// Where, in characters from 1.
    pub column: usize,
    /// What was expected there, and what was found.
    pub message: String,
}

/// A parsed expression. Cheap to clone; equal and ordered by its text.
#[derive(Clone)]
pub struct Query {
    text: Arc<str>,
    root: Arc<Expression>,
}

impl Query {
    /// Parses an expression.
    ///
    /// ```
    /// # use tallyman_operator_core::placement::Query;
    /// assert!(Query::parse("attribute:stack == prod and not(task:group == database)").is_ok());
    /// let wrong = Query::parse("attribute:stack prod").unwrap_err();
    /// assert_eq!(
    ///     wrong.to_string(),
    ///     "column 17: expected an operator such as `==` or `in` after `attribute:stack`, not `prod`"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`Invalid`]: where it stops making sense, and what would.
    pub fn parse(text: &str) -> Result<Query, Invalid> {
        let length = text.chars().count();
        if length > LONGEST {
            return Err(Invalid {
                column: LONGEST + 1,
                message: format!(
                    "expected at most {LONGEST} characters in an expression, not {length}"
                ),
            });
        }
        Ok(Query {
            text: text.into(),
            root: Arc::new(parse::expression(text)?),
        })
    }

    /// The expression is true of a container instance.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.root.holds(facts)
    }

    /// It asks what runs on an instance, so that its answer may change whenever a task is placed.
    pub fn asks_of_tasks(&self) -> bool {
        self.root.asks_of_tasks()
    }

    /// The expression as it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({:?})", self.text)
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Query) -> bool {
        self.text == other.text
    }
}

impl Eq for Query {}

impl PartialOrd for Query {
    fn partial_cmp(&self, other: &Query) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Query {
    fn cmp(&self, other: &Query) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

/// An expression. Its depth is bounded by the parser.
#[derive(Debug)]
enum Expression {
    /// One of them holds.
    Any(Vec<Expression>),
    /// All of them hold.
    All(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// What is asked of one subject.
    Test(Test),
}

/// A subject and what is asked of it.
#[derive(Debug)]
enum Test {
    AgentConnected(Check<bool>),
    AgentVersion(Check<Version>),
    /// `ec2InstanceId`.
    Name(Check<String>),
    RegisteredAt(Check<Timestamp>),
    RunningTasksCount(Check<i64>),
    Attribute(String, Check<Scalar>),
    /// `task:group`: of any of the groups on the instance.
    Group(Check<String>),
}

/// What is asked. Negated operators are `Expression::Not` of these.
#[derive(Debug)]
enum Check<T> {
    /// There is a value.
    Exists,
    /// The value is one of these; `==` is a list of one.
    In(Vec<T>),
    /// The value comes before or after this one.
    Ordered(Order, T),
    /// The value as text matches as a whole.
    Matches(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Order {
    fn holds(self, ordering: Option<std::cmp::Ordering>) -> bool {
        ordering.is_some_and(|o| match self {
            Order::Greater => o.is_gt(),
            Order::GreaterOrEqual => o.is_ge(),
            Order::Less => o.is_lt(),
            Order::LessOrEqual => o.is_le(),
        })
    }
}

impl<T: PartialOrd> Check<T> {
    fn holds(&self, value: Option<&T>, text: &str) -> bool {
        let Some(value) = value else { return false };
        match self {
            Check::Exists => true,
            Check::In(list) => list.contains(value),
            Check::Ordered(order, bound) => order.holds(value.partial_cmp(bound)),
            Check::Matches(pattern) => pattern.is_match(text),
        }
    }
}

impl Expression {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Expression::Any(parts) => parts.iter().any(|p| p.holds(facts)),
            Expression::All(parts) => parts.iter().all(|p| p.holds(facts)),
            Expression::Not(inner) => !inner.holds(facts),
            Expression::Test(test) => test.holds(facts),
        }
    }

    fn asks_of_tasks(&self) -> bool {
        match self {
            Expression::Any(parts) | Expression::All(parts) => {
                parts.iter().any(Expression::asks_of_tasks)
            }
            Expression::Not(inner) => inner.asks_of_tasks(),
            Expression::Test(Test::RunningTasksCount(_) | Test::Group(_)) => true,
            Expression::Test(
                Test::AgentConnected(_)
                | Test::AgentVersion(_)
                | Test::Name(_)
                | Test::RegisteredAt(_)
                | Test::Attribute(..),
            ) => false,
        }
    }
}

impl Test {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Test::AgentConnected(check) => {
                let connected = facts.agent_connected;
                check.holds(Some(&connected), &connected.to_string())
            }
            Test::AgentVersion(check) => {
                let text = facts.agent_version.unwrap_or_default();
                check.holds(Version::parse(text).as_ref(), text)
            }
            Test::Name(check) => one_of_texts(check, facts.name),
            Test::RegisteredAt(check) => {
                let text = facts.registered_at.map(|at| at.to_string());
                check.holds(facts.registered_at.as_ref(), &text.unwrap_or_default())
            }
            Test::RunningTasksCount(check) => {
                let count = facts.running_tasks_count;
                check.holds(Some(&count), &count.to_string())
            }
            Test::Attribute(name, check) => attribute(check, facts.attributes.get(name)),
            Test::Group(check) => facts
                .groups
                .keys()
                .any(|group| one_of_texts(check, group.as_str())),
        }
    }
}

fn one_of_texts(check: &Check<String>, value: &str) -> bool {
    match check {
        Check::Exists => true,
        Check::In(list) => list.iter().any(|wanted| wanted == value),
        Check::Ordered(order, bound) => order.holds(Some(value.cmp(bound))),
        Check::Matches(pattern) => pattern.is_match(value),
    }
}

/// An attribute without a value exists, and has no value that anything could be said of.
fn attribute(check: &Check<Scalar>, found: Option<&Option<String>>) -> bool {
    match (check, found) {
        (Check::Exists, found) => found.is_some(),
        (_, None | Some(None)) => false,
        (Check::In(list), Some(Some(value))) => list.iter().any(|wanted| wanted.text == *value),
        (Check::Ordered(order, bound), Some(Some(value))) => {
            order.holds(Scalar::parse(value).partial_cmp(bound))
        }
        (Check::Matches(pattern), Some(Some(value))) => pattern.is_match(value),
    }
}
