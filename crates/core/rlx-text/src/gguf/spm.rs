//! SentencePiece BPE by scores, as the `llama` vocabulary of GGUF files stores it.
//!
//! There is no list of merges: any two neighbours whose concatenation is a token may merge, the highest score first,
//! the leftmost first among equals. (This is not the Unigram model, and no library has it.) The work is
//! `O(n log n)` in the length of the text.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Subword;
use super::texts::TextTable;
use crate::TextError;
use crate::pieces::{SPM_SPACE, TokenKind, byte_token};

pub(super) struct Spm {
    table: Arc<TextTable>,
    scores: Vec<f32>,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    add_space_prefix: bool,
}

/// A run of text that is one token so far, in a doubly linked list.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// 0 once merged into its left neighbour.
    len: usize,
    prev: usize,
    next: usize,
}

const END: usize = usize::MAX;

/// Two neighbours that may merge.
struct Bigram {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when queued; another length now means that one of them has changed.
    len: usize,
}

impl Ord for Bigram {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Bigram {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Bigram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Bigram {}

impl Spm {
    pub(super) fn new(
        table: Arc<TextTable>,
        scores: &[f32],
        kinds: &[TokenKind],
        unk: Option<u32>,
        add_space_prefix: bool,
    ) -> Self {
        let mut bytes = [None; 256];
        for (id, token) in (0u32..).zip(table.texts().iter()) {
            let is_byte = matches!(kinds[id as usize], TokenKind::Byte | TokenKind::Normal);
            if let Some(b) = byte_token(token).filter(|_| is_byte) {
                bytes[b as usize].get_or_insert(id);
            }
        }
        Self { table, scores: scores.to_vec(), bytes, unk, add_space_prefix }
    }

    fn bigram(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Bigram> {
        if left == END || right == END {
            return None;
        }
        let len = symbols[left].len + symbols[right].len;
        let start = symbols[left].start;
        let id = self.table.id(&text[start..start + len])?;
        Some(Bigram { score: self.scores[id as usize], left, right, len })
    }

    fn emit(&self, piece: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        if let Some(id) = self.table.id(piece) {
            out.push(id);
            return Ok(());
        }
        if piece.bytes().all(|b| self.bytes[b as usize].is_some()) {
            out.extend(piece.bytes().filter_map(|b| self.bytes[b as usize]));
            return Ok(());
        }
        match self.unk {
            Some(id) => out.push(id),
            None => {
                return Err(TextError::Encode(format!(
                    "{piece:?} is in no token, and the vocabulary has neither byte tokens nor an unknown token"
                )));
            }
        }
        Ok(())
    }
}

impl Subword for Spm {
    fn encode(&self, text: &str, after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError> {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.add_space_prefix && after_special {
            escaped.push(SPM_SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPM_SPACE } else { c }));
        let text = escaped.as_str();

        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let i = symbols.len();
            symbols.push(Symbol { start, len: c.len_utf8(), prev: i.wrapping_sub(1), next: i + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }

        let mut queue: BinaryHeap<Bigram> =
            (1..symbols.len()).filter_map(|i| self.bigram(text, &symbols, i - 1, i)).collect();
        while let Some(Bigram { left, right, len, .. }) = queue.pop() {
            let (l, r) = (symbols[left], symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[left].next = r.next;
            symbols[right].len = 0;
            if r.next != END {
                symbols[r.next].prev = left;
            }
            queue.extend(self.bigram(text, &symbols, l.prev, left));
            queue.extend(self.bigram(text, &symbols, left, r.next));
        }

        for s in symbols.iter().filter(|s| s.len > 0) {
            self.emit(&text[s.start..s.start + s.len], out)?;
        }
        Ok(())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.table.id(token)
    }
}
