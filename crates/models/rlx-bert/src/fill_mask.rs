//! Words for the gaps of a text: what the masked-language-model head was trained to do.

use rlx_core::encoder::{Encoder, TokenBatch, names};
use rlx_core::{CoreError, load_tokenizer};
use rlx_flow::Taps;
use rlx_runtime::CompileOptions;
use rlx_text::Tokenizer;
use rlx_weights::Checkpoint;

use crate::{BertHead, encoder};

/// A BERT with its masked-language-model head and tokenizer.
pub struct FillMask {
    encoder: Encoder,
    tokenizer: Tokenizer,
    mask: u32,
}

/// A word that may stand in a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its token's id.
    pub id: u32,
    /// Its token as the vocabulary has it: `fever`, `##itis`.
    pub token: String,
    /// How probable it is among all words.
    pub probability: f32,
}

impl FillMask {
    /// Loads the model of `checkpoint`.
    ///
    /// # Errors
    /// If the checkpoint has no masked-language-model head, no tokenizer or no `[MASK]`, or cannot be loaded.
    pub fn load(checkpoint: &Checkpoint, options: &CompileOptions) -> Result<FillMask, CoreError> {
        let model = encoder(checkpoint, BertHead::MaskedLm, Taps::None)?;
        let tokenizer = load_tokenizer(checkpoint, None)?.ok_or(CoreError::NoTokenizer)?;
        let mask = tokenizer.token_to_id("[MASK]");
        let mask = mask.ok_or_else(|| CoreError::Config("the tokenizer has no [MASK]".into()))?;
        Ok(FillMask { encoder: Encoder::load(checkpoint, model, options)?, tokenizer, mask })
    }

    /// For each `[MASK]` in `text`, in order, the `count` most probable words, the best first.
    ///
    /// # Errors
    /// If the text has no `[MASK]`, is longer than the model takes, or cannot be tokenised.
    pub fn fill(&mut self, text: &str, count: usize) -> Result<Vec<Vec<Candidate>>, CoreError> {
        let ids = self.tokenizer.encode(text, true)?;
        let gaps: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == self.mask).collect();
        if gaps.is_empty() {
            return Err(CoreError::Input { name: "text".into(), what: "has no [MASK] to fill".into() });
        }
        let tokens: Result<Vec<i32>, _> = ids.iter().map(|&id| i32::try_from(id)).collect();
        let tokens = tokens.map_err(|_| CoreError::Config("the tokenizer's ids do not fit".into()))?;
        self.encoder.run(&TokenBatch { tokens: &tokens, token_types: None, positions: None, lens: &[tokens.len()] })?;
        let mut logits = Vec::new();
        self.encoder.read(names::MLM_LOGITS, &mut logits)?;
        let vocab = self.encoder.vocab_size();
        Ok(gaps.iter().map(|&gap| self.best(&logits[gap * vocab..(gap + 1) * vocab], count)).collect())
    }

    fn best(&self, logits: &[f32], count: usize) -> Vec<Candidate> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|x| (x - max).exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Of equals the lowest id first.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let candidates = order.into_iter().take(count).map(|id| Candidate {
            id: id as u32,
            token: self.tokenizer.id_to_token(id as u32).unwrap_or_default(),
            probability: (logits[id] - max).exp() / sum,
        });
        candidates.collect()
    }
}
