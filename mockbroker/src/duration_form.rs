//! Durations as people write them: `200ms`, `1.5s`, `2m`.
//!
//! For `#[serde(with = "crate::duration_form")]`, wherever a rule or a move has a duration.
//!
//! *Not here*: what the durations are for.

use core::fmt;
use core::time::Duration;

use serde::de::{self, Unexpected};
use serde::{Deserializer, Serializer};

/// A unit and its nanoseconds, the largest first.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// What a duration is, for messages.
pub(crate) const ALLOWED: &str =
    "a number with its unit, one of h | m | s | ms | us | ns, such as 200ms";

/// The duration as a whole number of the largest unit that leaves none over.
pub(crate) fn text(duration: &Duration) -> String {
    let nanos = duration.as_nanos();
    let exact = UNITS
        .iter()
        .find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(u128::from(*unit)));
    match exact {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => "0s".into(),
    }
}

/// A duration as it is written; `None` when it is none.
///
/// A fraction is exact to the nanosecond; what is finer is left out.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let unit = u128::from(*unit);
    let nanos = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    let nanos = nanos.checked_add(fraction.parse::<u128>().ok()? * unit / scale)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// More digits than an hour has of nanoseconds.
const FRACTION_DIGITS_MAX: usize = 15;

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationForm)
}

struct DurationForm;

impl de::Visitor<'_> for DurationForm {
    type Value = Duration;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(ALLOWED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("0s", 0)]
    #[case("1ns", 1)]
    #[case("200ms", 200_000_000)]
    #[case("1.5s", 1_500_000_000)]
    #[case(" 2m ", 120_000_000_000)]
    #[case("1h", 3_600_000_000_000)]
    #[case("0.000000001s", 1)]
    #[case("0.1us", 100)]
    fn durations_are_read(#[case] text: &str, #[case] nanos: u64) {
        assert_eq!(parse(text), Some(Duration::from_nanos(nanos)));
    }

    #[rstest]
    #[case("")]
    #[case("200")]
    #[case("ms")]
    #[case("-1s")]
    #[case("1 s")]
    #[case("1.s")]
    #[case(".5s")]
    #[case("1e3s")]
    #[case("1S")]
    #[case("1d")]
    #[case("1é")]
    #[case("340282366920938463463374607431768211455h")]
    #[case("0.0000000000000000000000000000000000000001s")]
    fn what_is_no_duration_is_refused(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }

    proptest! {
        #[test]
        fn every_duration_is_read_as_it_is_written(seconds: u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&text(&duration)), Some(duration));
        }
    }
}
