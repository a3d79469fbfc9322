//! A problem with what a user wrote: the field, and what would be right.

use std::fmt;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `spec.containerDefinitions[web].memory`.
    pub field: String,
    /// Where in the field's text, in characters from 1, when it is an expression.
    pub column: Option<usize>,
    /// What would be right, starting with a verb: "must be ...".
    pub message: String,
}

impl Problem {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            field: field.into(),
            column: None,
            message: message.into(),
        }
    }

    /// A problem at a column of the expression that `field` holds: "expected ...".
    pub fn in_text(field: impl Into<String>, column: usize, message: impl Into<String>) -> Problem {
        Problem {
            field: field.into(),
            column: Some(column),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            field,
            column,
            message,
        } = self;
        match column {
            None => write!(f, "`{field}` {message}"),
            Some(column) => write!(f, "`{field}`, column {column}: {message}"),
        }
    }
}

/// All problems in one line.
pub fn sentence(problems: &[Problem]) -> String {
    let mut text = problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    text.push('.');
    text
}
