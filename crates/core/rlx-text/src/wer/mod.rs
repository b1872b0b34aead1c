//! How far a transcription is from what was said: word error rate, and the texts made alike first.

mod english;
mod normalize;
mod numbers;

use std::str::FromStr;

pub use normalize::Normalization;

/// Edits that turn one sequence into another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorCounts {
    /// Words of the reference.
    pub reference: usize,
    /// Words replaced by others.
    pub substitutions: usize,
    /// Words of the reference that are missing.
    pub deletions: usize,
    /// Words that are not in the reference.
    pub insertions: usize,
}

impl ErrorCounts {
    /// Substitutions, deletions and insertions.
    pub fn errors(&self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Errors per word of the reference; may exceed 1. Without reference it is 0 if there is no error, else infinite.
    pub fn rate(&self) -> f64 {
        match (self.errors(), self.reference) {
            (0, _) => 0.0,
            (errors, reference) => errors as f64 / reference as f64,
        }
    }

    /// The counts of two pairs of texts together.
    #[must_use]
    pub fn plus(self, other: ErrorCounts) -> ErrorCounts {
        ErrorCounts {
            reference: self.reference + other.reference,
            substitutions: self.substitutions + other.substitutions,
            deletions: self.deletions + other.deletions,
            insertions: self.insertions + other.insertions,
        }
    }
}

/// Unit that errors are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Words, between white space.
    #[default]
    Words,
    /// Characters; a run of white space is one of them.
    Characters,
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Unit, String> {
        match text {
            "words" => Ok(Unit::Words),
            "characters" => Ok(Unit::Characters),
            _ => Err("expected words or characters".to_owned()),
        }
    }
}

/// The fewest edits from `reference` to `hypothesis`.
///
/// ```
/// use rlx_text::wer::{Normalization, Unit, error_counts};
/// let found = error_counts("He's got twenty-two dogs.", "he has got 22 dog", Unit::Words, Normalization::English);
/// assert_eq!((found.substitutions, found.errors(), found.reference), (1, 1, 5));
/// ```
pub fn error_counts(reference: &str, hypothesis: &str, unit: Unit, normalization: Normalization) -> ErrorCounts {
    let (reference, hypothesis) = (normalization.apply(reference), normalization.apply(hypothesis));
    match unit {
        Unit::Words => {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            edits(&words(&reference), &words(&hypothesis))
        }
        Unit::Characters => {
            let characters =
                |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect::<Vec<_>>();
            edits(&characters(&reference), &characters(&hypothesis))
        }
    }
}

/// Levenshtein's distance, by kind of edit; of equally few edits, a substitution goes before the others. Memory grows with the
/// hypothesis alone.
fn edits<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> ErrorCounts {
    let mut row: Vec<ErrorCounts> =
        (0..=hypothesis.len()).map(|i| ErrorCounts { insertions: i, ..ErrorCounts::default() }).collect();
    for (i, word) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = ErrorCounts { deletions: i + 1, ..ErrorCounts::default() };
        for (j, other) in hypothesis.iter().enumerate() {
            let above = row[j + 1];
            let mut best = diagonal;
            if word != other {
                best.substitutions += 1;
                if above.errors() + 1 < best.errors() {
                    best = ErrorCounts { deletions: above.deletions + 1, ..above };
                }
                let left = row[j];
                if left.errors() + 1 < best.errors() {
                    best = ErrorCounts { insertions: left.insertions + 1, ..left };
                }
            }
            diagonal = above;
            row[j + 1] = best;
        }
    }
    ErrorCounts { reference: reference.len(), ..row[hypothesis.len()] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(reference: &str, hypothesis: &str) -> (usize, usize, usize) {
        let found = error_counts(reference, hypothesis, Unit::Words, Normalization::None);
        (found.substitutions, found.deletions, found.insertions)
    }

    #[test]
    fn kinds_of_errors() {
        assert_eq!(words("a b c", "a b c"), (0, 0, 0));
        assert_eq!(words("a b c", "a x c"), (1, 0, 0));
        assert_eq!(words("a b c", "a c"), (0, 1, 0));
        assert_eq!(words("a c", "a b c"), (0, 0, 1));
        assert_eq!(words("a b c d", "b c d e"), (0, 1, 1));
        assert_eq!(words("", "a b"), (0, 0, 2));
        assert_eq!(words("a b", ""), (0, 2, 0));
        let characters = error_counts("kitten  x", "sitting x", Unit::Characters, Normalization::None);
        assert_eq!((characters.errors(), characters.reference), (3, 8));
    }

    #[test]
    fn rates() {
        let counts = error_counts("a b c d", "a x", Unit::Words, Normalization::None);
        assert_eq!(counts.rate(), 0.75);
        assert_eq!(error_counts("", "", Unit::Words, Normalization::None).rate(), 0.0);
        assert_eq!(error_counts("", "a", Unit::Words, Normalization::None).rate(), f64::INFINITY);
        assert_eq!(counts.plus(counts).rate(), 0.75);
    }

    proptest! {
        #[test]
        fn edits_add_up(a in "[ab ]{0,12}", b in "[abc ]{0,12}") {
            let (n, m) = (a.split_whitespace().count(), b.split_whitespace().count());
            let found = error_counts(&a, &b, Unit::Words, Normalization::None);
            prop_assert_eq!(n - found.deletions, m - found.insertions);
            prop_assert!(found.errors() <= n.max(m) && found.errors() >= n.abs_diff(m));
            let back = error_counts(&b, &a, Unit::Words, Normalization::None);
            prop_assert_eq!(found.errors(), back.errors());
        }
    }
}
