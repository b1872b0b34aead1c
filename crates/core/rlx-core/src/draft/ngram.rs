//! Drafts looked up in the text itself.

use std::collections::HashMap;

use super::Drafter;
use crate::CoreError;

/// Lengths of the endings that are looked up, the longest first: the more of the text agrees, the better the guess.
const LENGTHS: [usize; 3] = [5, 3, 2];

/// Prompt lookup: what followed the last place where the text was the same. Good where an answer repeats parts of its prompt, as
/// summaries, corrections and edits of code do.
#[derive(Debug, Default)]
pub struct NgramDrafter {
    /// The tokens that are in `ends`.
    seen: Vec<u32>,
    /// For each length, hash of the n-gram -> where the last one, and the one before it, ended.
    ends: [HashMap<u64, (usize, usize)>; LENGTHS.len()],
}

impl NgramDrafter {
    /// A drafter that has seen no text.
    pub fn new() -> NgramDrafter {
        NgramDrafter::default()
    }

    /// Takes the part of `history` that is new.
    fn follow(&mut self, history: &[u32]) {
        if !history.starts_with(&self.seen) {
            *self = NgramDrafter::default();
        }
        for end in self.seen.len() + 1..=history.len() {
            for (&n, ends) in LENGTHS.iter().zip(&mut self.ends) {
                if let Some(start) = end.checked_sub(n) {
                    let entry = ends.entry(hash(&history[start..end])).or_insert((0, 0));
                    *entry = (end, entry.0);
                }
            }
        }
        self.seen.extend_from_slice(&history[self.seen.len()..]);
    }

    /// Where the last earlier occurrence of the ending of `history` ends.
    fn find(&self, history: &[u32]) -> Option<usize> {
        LENGTHS.iter().zip(&self.ends).find_map(|(&n, ends)| {
            let ending = &history[history.len().checked_sub(n)?..];
            let &(_, earlier) = ends.get(&hash(ending))?;
            // Hashes may collide; 0 is no earlier occurrence.
            (earlier >= n && history[earlier - n..earlier] == *ending).then_some(earlier)
        })
    }
}

impl Drafter for NgramDrafter {
    fn draft(&mut self, history: &[u32], max: usize, out: &mut Vec<u32>) -> Result<(), CoreError> {
        self.follow(history);
        let Some(from) = self.find(history) else { return Ok(()) };
        let first = out.len();
        for at in from..from + max {
            // A text that repeats itself goes on with what was just drafted.
            let token = history.get(at).or_else(|| out.get(first + at - history.len()));
            out.extend(token.copied());
        }
        Ok(())
    }
}

/// FNV-1a over the tokens.
fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &token| (hash ^ u64::from(token)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(drafter: &mut NgramDrafter, history: &[u32], max: usize) -> Vec<u32> {
        let mut out = vec![99];
        drafter.draft(history, max, &mut out).unwrap();
        assert_eq!(out.remove(0), 99);
        out
    }

    #[test]
    fn the_longest_and_then_the_last_match_is_continued() {
        let mut drafter = NgramDrafter::new();
        assert!(draft(&mut drafter, &[1, 2, 3, 4], 4).is_empty());
        // (2, 3) was followed by 4, later by 7.
        assert_eq!(draft(&mut drafter, &[1, 2, 3, 4, 9, 2, 3, 7, 5, 2, 3], 2), [7, 5]);
        // (1, 2, 3) goes before (2, 3).
        let history = [1, 2, 3, 4, 9, 2, 3, 7, 5, 2, 3, 7, 1, 2, 3];
        assert_eq!(draft(&mut drafter, &history, 3), [4, 9, 2]);
    }

    #[test]
    fn repetition_goes_on() {
        let mut drafter = NgramDrafter::new();
        assert_eq!(draft(&mut drafter, &[5, 6, 7, 5, 6], 6), [7, 5, 6, 7, 5, 6]);
        assert_eq!(draft(&mut drafter, &[8, 8, 8], 3), [8, 8, 8]);
        assert!(draft(&mut drafter, &[], 3).is_empty());
        assert!(draft(&mut drafter, &[8], 3).is_empty());
    }

    #[test]
    fn another_text_is_another_text() {
        let mut drafter = NgramDrafter::new();
        draft(&mut drafter, &[1, 2, 3, 1, 2], 1);
        assert!(draft(&mut drafter, &[4, 1, 2], 1).is_empty());
    }
}
