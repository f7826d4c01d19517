//! Which cases to run: patterns over ids, such as `IDM-*`.

use std::fmt;
use std::str::FromStr;

/// A pattern over case ids: letters are compared without case, `*` stands for any characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern(String);

/// A pattern that can match no id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("filter \"{0}\" can match no case; allowed: letters, digits, - and *, such as IDM-*")]
pub struct PatternError(String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '*';
        match !given.is_empty() && given.chars().all(allowed) {
            true => Ok(Self(given.to_ascii_uppercase())),
            false => Err(PatternError(given.to_owned())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// Whether `id` matches.
    pub fn matches(&self, id: &str) -> bool {
        let id = id.to_ascii_uppercase();
        let mut parts = self.0.split('*');
        // The part before the first star is anchored at the start, the one after the last star at
        // the end, those between match the earliest place: greedy is enough for stars alone.
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = id.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("IDM-04", "IDM-04", true)]
    #[case("idm-04", "IDM-04", true)]
    #[case("IDM-*", "IDM-04", true)]
    #[case("*", "IDM-04", true)]
    #[case("*-04", "IDM-04", true)]
    #[case("I*-*4", "IDM-04", true)]
    #[case("*D*0*", "IDM-04", true)]
    #[case("IDM", "IDM-04", false)]
    #[case("IDM-0", "IDM-04", false)]
    #[case("RBV-*", "IDM-04", false)]
    #[case("*-05", "IDM-04", false)]
    #[case("IDM-04*04", "IDM-04", false)]
    fn pattern_matches_whole_ids(
        #[case] pattern: Pattern,
        #[case] id: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(pattern.matches(id), matches, "{pattern} on {id}");
    }

    #[rstest]
    #[case("")]
    #[case("IDM 04")]
    #[case("IDM-?")]
    fn pattern_that_can_match_nothing_is_refused(#[case] given: &str) {
        assert!(
            given
                .parse::<Pattern>()
                .unwrap_err()
                .to_string()
                .contains("such as IDM-*")
        );
    }
}
