//! [`StreamDecoder`]: ids to text, one at a time.

use crate::tokenizer::Engine;
use crate::{TextError, Tokenizer};

/// Tokens a character may be spread over; more are not waited for.
const MAX_PENDING: usize = 16;

/// Turns ids into text as they come. The concatenation of everything it returns equals [`Tokenizer::decode`] of all
/// ids; each returned string is complete UTF-8, a character spread over several tokens is held back until it is whole.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    at_start: bool,
    pending: Vec<u8>,
    /// The latest ids, for decoders that look at neighbours.
    window: Vec<u32>,
    /// How many of them have their text returned.
    settled: usize,
    /// Text of those.
    returned: String,
}

impl StreamDecoder {
    /// Decodes a text from its first token. Special tokens are left out.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self {
            at_start: tokenizer.inner().strip_leading_space,
            tokenizer: tokenizer.clone(),
            skip_special: true,
            pending: Vec::new(),
            window: Vec::new(),
            settled: 0,
            returned: String::new(),
        }
    }

    /// Decodes the continuation of `prompt`: the first piece keeps its leading space unless the prompt ends with a
    /// special token (or is empty), so that prompt text and output join as one text.
    pub fn continuing(tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        let mut decoder = Self::new(tokenizer);
        if let Some(&last) = prompt.last() {
            decoder.at_start &= tokenizer.token_kind(last).is_none_or(|k| k.is_special());
            if decoder.by_window() {
                // The library's decoders look at neighbours; one token of context is enough for all of them.
                decoder.window.push(last);
                decoder.settled = 1;
                decoder.returned = decoder.decode_window(0);
            }
        }
        decoder
    }

    /// Shows special tokens instead of leaving them out.
    pub fn show_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// Takes the next id; returns the text that is complete now (often empty inside a character). An id outside the
    /// vocabulary adds nothing.
    pub fn push(&mut self, id: u32) -> String {
        if self.by_window() {
            return self.window_step(id);
        }
        self.tokenizer.append_piece(id, self.skip_special, &mut self.at_start, &mut self.pending);
        self.take_complete()
    }

    /// Ends the text: returns what was held back, incomplete bytes as U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.by_window() {
            let text = self.decode_window(0);
            let rest = text.strip_prefix(self.returned.as_str()).unwrap_or("").to_owned();
            self.returned = text;
            return rest;
        }
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    fn take_complete(&mut self) -> String {
        let mut out = String::new();
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            out.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let last = done + invalid.len() == self.pending.len();
            let incomplete = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if last && incomplete {
                break;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.pending.drain(..done);
        out
    }

    /// Whether the text of a token depends on its neighbours in ways only the library's decoder knows.
    fn by_window(&self) -> bool {
        matches!(&self.tokenizer.inner().engine, Engine::Hf(t) if t.decodes_itself())
    }

    fn decode_window(&self, from: usize) -> String {
        let decoded: Result<String, TextError> = match &self.tokenizer.inner().engine {
            Engine::Hf(t) => t.decode(&self.window[from..], self.skip_special),
            Engine::Gguf(_) => Ok(String::new()),
        };
        decoded.unwrap_or_default()
    }

    fn window_step(&mut self, id: u32) -> String {
        let kind = self.tokenizer.token_kind(id);
        if kind.is_none_or(|k| self.skip_special && k.is_special()) {
            return String::new();
        }
        self.window.push(id);
        let text = self.decode_window(0);
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.window.len() - self.settled < MAX_PENDING {
            return String::new();
        }
        let new = text.strip_prefix(self.returned.as_str()).unwrap_or("").to_owned();
        if !new.is_empty() {
            // What was new the last time is context enough for the next.
            self.window.drain(..self.settled);
            self.settled = self.window.len();
            self.returned = self.decode_window(0);
        }
        new
    }
}
