//! Values that a query compares: versions, and attributes, which may be numbers or versions.

use std::cmp::Ordering;

/// A version such as `1.14.5` or `1.14.5-rc1`. Missing numbers at the end count as 0; a suffix behind `-` comes before the
/// version without it; what stands behind `+` says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: Vec<u64>,
    suffix: Suffix,
}

/// In this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    PreRelease(String),
    None,
}

impl Version {
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, suffix) = match text.split_once('-') {
            Some((numbers, suffix)) => (numbers, Suffix::PreRelease(suffix.to_owned())),
            None => (text, Suffix::None),
        };
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u64>().ok()).flatten()
        };
        let mut numbers: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Version { numbers, suffix })
    }
}

/// The value of an attribute: equal by its text, ordered as a number or as a version.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub text: String,
    number: Option<f64>,
    version: Option<Version>,
}

impl Scalar {
    pub fn parse(text: &str) -> Scalar {
        Scalar {
            text: text.to_owned(),
            number: text.parse().ok().filter(|n: &f64| n.is_finite()),
            version: Version::parse(text),
        }
    }

    /// It can come before or after something.
    pub fn is_ordered(&self) -> bool {
        self.number.is_some() || self.version.is_some()
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.text == other.text
    }
}

impl PartialOrd for Scalar {
    /// `None` when one of them is neither a number nor a version, or one is only a number and the other only a version.
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        match (self.number, other.number) {
            (Some(one), Some(two)) => one.partial_cmp(&two),
            (Some(_), None) | (None, Some(_)) | (None, None) => {
                Some(self.version.as_ref()?.cmp(other.version.as_ref()?))
            }
        }
    }
}
