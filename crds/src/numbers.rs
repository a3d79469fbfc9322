//! Whole numbers as the API server keeps them.
//!
//! The API server takes `-0` for a whole number, also as `-0.0`, and hands it out again as `-0`, which serde_json reads as a fraction.
//! An object that is not read waits, and what is its own with it, so where a bound allows 0, minus zero is 0.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A number of type `N`.
struct Whole<N>(N);

impl<'de, N: TryFrom<i64>> Deserialize<'de> for Whole<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader(PhantomData)).map(Whole)
    }
}

struct Reader<N>(PhantomData<N>);

impl<N: TryFrom<i64>> Visitor<'_> for Reader<N> {
    type Value = N;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", std::any::type_name::<N>())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
        N::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
        let signed = i64::try_from(number).map_err(|_| wrong())?;
        N::try_from(signed).map_err(|_| wrong())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<N, E> {
        let wrong = || E::invalid_type(Unexpected::Float(number), &self);
        if number != 0.0 {
            return Err(wrong());
        }
        N::try_from(0).map_err(|_| wrong())
    }
}

/// Reads a whole number.
///
/// # Errors
/// It is none, or not within the type.
pub fn whole<'de, D: Deserializer<'de>, N: TryFrom<i64>>(from: D) -> Result<N, D::Error> {
    Whole::deserialize(from).map(|Whole(number)| number)
}

/// Reads a whole number that may be `null`.
///
/// # Errors
/// As [`whole`].
pub fn whole_or_none<'de, D: Deserializer<'de>, N: TryFrom<i64>>(
    from: D,
) -> Result<Option<N>, D::Error> {
    let read = Option::<Whole<N>>::deserialize(from)?;
    Ok(read.map(|Whole(number)| number))
}

/// Reads a list of whole numbers.
///
/// # Errors
/// As [`whole`].
pub fn all_whole<'de, D: Deserializer<'de>, N: TryFrom<i64>>(from: D) -> Result<Vec<N>, D::Error> {
    let read = Vec::<Whole<N>>::deserialize(from)?;
    Ok(read.into_iter().map(|Whole(number)| number).collect())
}

#[cfg(test)]
mod tests {
    use crate::RunTaskSpec;

    #[test]
    fn minus_zero_is_zero_and_a_fraction_is_none() {
        let read = |text: &str| {
            let text = format!(r#"{{"taskDefinition":"a","backoffLimit":{text}}}"#);
            serde_json::from_str::<RunTaskSpec>(&text).map(|spec| spec.backoff_limit)
        };
        for text in ["0", "-0", "-0.0", "0.0"] {
            assert_eq!(read(text).ok(), Some(Some(0)), "{text}");
        }
        assert_eq!(read("null").ok(), Some(None));
        assert_eq!(read("7").ok(), Some(Some(7)));
        for text in ["0.5", "1e9", "2147483648", "\"0\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
