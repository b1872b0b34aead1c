//! [`StopMatcher`]: ends a generation at stop strings.

/// What one more piece of text leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopState {
    /// Text that may be shown now.
    pub emit: String,
    /// A stop string is complete; generation ends. `emit` is what stood before it.
    pub stopped: bool,
}

/// Watches generated text for stop strings and generated ids for stop ids.
///
/// The stop string that is complete first wins; of those complete at the same character, the longest. It is not part
/// of the output. Text that may be the beginning of a stop string is held back, so the result does not depend on how
/// the text was cut into pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    stop_ids: Vec<u32>,
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// Stops at any of `stops` (empty strings are ignored) and at any of `stop_ids`.
    pub fn new(stops: Vec<String>, stop_ids: Vec<u32>) -> Self {
        let stops = stops.into_iter().filter(|s| !s.is_empty()).collect();
        Self { stops, stop_ids, held: String::new(), stopped: false }
    }

    /// Whether generating `id` ends the generation.
    pub fn is_stop_id(&self, id: u32) -> bool {
        self.stop_ids.contains(&id)
    }

    /// Takes the next piece of text. After a stop, further pieces are dropped.
    pub fn push(&mut self, piece: &str) -> StopState {
        if self.stopped {
            return StopState { emit: String::new(), stopped: true };
        }
        let seen = self.held.len();
        self.held.push_str(piece);
        // What was held back holds no whole stop string, so one can only end inside the new piece.
        for (i, c) in piece.char_indices() {
            let upto = &self.held[..seen + i + c.len_utf8()];
            let longest = self.stops.iter().filter(|s| upto.ends_with(s.as_str())).map(String::len).max();
            if let Some(len) = longest {
                let emit = upto[..upto.len() - len].to_owned();
                self.held.clear();
                self.stopped = true;
                return StopState { emit, stopped: true };
            }
        }
        let keep_from = self.held.len() - self.partial_len();
        let kept = self.held.split_off(keep_from);
        let emit = std::mem::replace(&mut self.held, kept);
        StopState { emit, stopped: false }
    }

    /// Ends the text: returns what was held back and turned out to be no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of `held` that begins a stop string.
    fn partial_len(&self) -> usize {
        let text = self.held.as_str();
        let partial = |stop: &String| {
            let ends = stop.char_indices().map(|(i, _)| i).skip(1);
            ends.filter(|&i| text.ends_with(&stop[..i])).max().unwrap_or(0)
        };
        self.stops.iter().map(partial).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut m = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect(), vec![]);
        let mut out = String::new();
        for p in pieces {
            let state = m.push(p);
            out += &state.emit;
            if state.stopped {
                return (out, true);
            }
        }
        (out + &m.finish(), false)
    }

    #[test]
    fn holds_back_and_stops() {
        assert_eq!(run(&["</s>"], &["ab<", "/s", ">cd"]), ("ab".into(), true));
        assert_eq!(run(&["</s>"], &["ab<", "/x"]), ("ab</x".into(), false));
        assert_eq!(run(&["abcd", "c"], &["ab", "cd"]), ("ab".into(), true));
        assert_eq!(run(&["bc", "abc"], &["xabc"]), ("x".into(), true));
        assert_eq!(run(&[""], &["x"]), ("x".into(), false));
        assert_eq!(run(&["日本"], &["x日", "本"]), ("x".into(), true));
        let mut m = StopMatcher::new(vec!["\n\n".into()], vec![7]);
        assert_eq!(m.push("a\n").emit, "a");
        assert_eq!(m.push("b"), StopState { emit: "\nb".into(), stopped: false });
        assert!(m.is_stop_id(7) && !m.is_stop_id(8));
    }

    /// The stop that ends first, the longest of those; text before it.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for end in (0..=text.len()).filter(|&i| text.is_char_boundary(i)) {
            let hit =
                stops.iter().filter(|s| !s.is_empty() && text[..end].ends_with(s.as_str())).map(|s| s.len()).max();
            if let Some(len) = hit {
                return (text[..end - len].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn equals_naive_search(
            pieces in prop::collection::vec("[abé]{0,4}", 0..8),
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let refs: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stop_refs: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stop_refs, &refs), naive(&pieces.concat(), &stops));
        }
    }
}
