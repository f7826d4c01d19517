//! The known name that is nearest to one that is not known.

/// The nearest of the known names, if one is near enough to be meant.
pub(crate) fn name(found: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let nearest = names(found, known).into_iter().next();
    nearest
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .map(|(_, name)| name)
}

/// The known names with their likeness, the nearest first.
pub(crate) fn names(found: &str, known: &'static [&'static str]) -> Vec<(f64, &'static str)> {
    let likeness = |name: &str| {
        let spelling = strsim::normalized_levenshtein(found, name);
        // A name that was not written to its end is meant too.
        if found.len() >= BEGINNING_MIN && name.starts_with(found) {
            spelling.max(LIKENESS_OF_A_BEGINNING)
        } else {
            spelling
        }
    };
    let mut names: Vec<_> = known.iter().map(|name| (likeness(name), *name)).collect();
    names.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    names
}

/// Below this likeness a suggestion would be noise.
const LIKENESS_MIN: f64 = 0.5;

const LIKENESS_OF_A_BEGINNING: f64 = 0.6;

/// Letters that say which name is begun.
const BEGINNING_MIN: usize = 4;
