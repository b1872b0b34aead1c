//! Drafts by a smaller model.

use rlx_runtime::{Entry, Logits, SequenceId, Session, SessionOptions};

use super::{Drafter, MAX_DRAFT_TOKENS};
use crate::{CausalLm, CoreError};

/// A second, smaller model with the same vocabulary, which guesses what the large one would say.
pub struct ModelDrafter {
    session: Session,
    sequence: SequenceId,
    /// Ids that both models know.
    vocab: usize,
}

impl ModelDrafter {
    /// A drafter for `target`.
    ///
    /// # Errors
    /// If the vocabularies differ, telling in what; if a session option is out of range.
    pub fn new(draft: &CausalLm, target: &CausalLm, options: SessionOptions) -> Result<ModelDrafter, CoreError> {
        check_vocabularies(draft, target)?;
        let mut session = draft.session(options)?;
        let sequence = session.add_sequence();
        let vocab = session.vocab().min(target.info().vocab_size);
        Ok(ModelDrafter { session, sequence, vocab })
    }

    /// The most probable next token.
    fn best(&self) -> u32 {
        let (all, width) = (self.session.logits(), self.session.vocab());
        let row = &all[all.len() - width..][..self.vocab];
        (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best }) as u32
    }
}

impl Drafter for ModelDrafter {
    fn prepare(&mut self, history: &[u32]) -> Result<(), CoreError> {
        if history.is_empty() || history.len() > self.session.options().max_seq {
            return Ok(());
        }
        let cached = self.session.tokens(self.sequence)?;
        let common = cached.iter().zip(history).take_while(|(a, b)| a == b).count().min(history.len() - 1);
        self.session.truncate(self.sequence, common)?;
        let new = &history[common..];
        // As exactly as the model itself, so that a draft fails only where the models differ.
        if new.len() <= MAX_DRAFT_TOKENS {
            self.session.verify(self.sequence, new)?;
        } else {
            self.session.prefill(self.sequence, new, |_| true)?;
        }
        Ok(())
    }

    fn draft(&mut self, history: &[u32], max: usize, out: &mut Vec<u32>) -> Result<(), CoreError> {
        // The draft's own cache ends before the last of the tokens it guessed.
        let room = (self.session.options().max_seq + 1).saturating_sub(history.len());
        let max = max.min(room);
        if max == 0 || history.is_empty() {
            return Ok(());
        }
        self.prepare(history)?;
        for i in 0..max {
            let token = self.best();
            out.push(token);
            if i + 1 < max {
                self.session.step(&[Entry { sequence: self.sequence, tokens: &[token], logits: Logits::Last }])?;
            }
        }
        Ok(())
    }
}

fn check_vocabularies(draft: &CausalLm, target: &CausalLm) -> Result<(), CoreError> {
    let differ = |what: String| Err(CoreError::DraftVocabulary(what));
    let (Ok(draft_tokens), Ok(target_tokens)) = (draft.tokenizer(), target.tokenizer()) else {
        let (a, b) = (draft.info().vocab_size, target.info().vocab_size);
        return if a == b { Ok(()) } else { differ(format!("the draft's has {a} entries, the model's {b}")) };
    };
    // Unused entries at the end differ among the sizes of a family.
    let (a, b) = (draft_tokens.vocab_size(), target_tokens.vocab_size());
    for id in 0..a.min(b) as u32 {
        let (a, b) = (draft_tokens.token_bytes(id), target_tokens.token_bytes(id));
        if a != b {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return differ(format!("token {id} is {:?} in the draft's, {:?} in the model's", text(&a), text(&b)));
        }
    }
    let (longer, whose) = if a > b { (draft_tokens, "draft's") } else { (target_tokens, "model's") };
    let extra = (a.min(b)..a.max(b)).find(|&id| longer.token_kind(id as u32) == Some(rlx_text::TokenKind::Normal));
    match extra {
        Some(id) => differ(format!("the draft's has {a} tokens, the model's {b}; token {id} is only in the {whose}")),
        None => Ok(()),
    }
}
