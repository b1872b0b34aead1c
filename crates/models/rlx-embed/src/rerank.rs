//! Scores of pairs of texts by a cross-encoder (Nogueira and Cho 2019).

use rlx_core::encoder::{TokenBatch, names};

use crate::texts::longest_first;
use crate::{EmbedError, RlxEmbed};

impl RlxEmbed {
    /// Tokens that run at once for the pair of `query` and `document`, with those that the model expects around them.
    ///
    /// # Errors
    /// If a text cannot be tokenised.
    pub fn pair_tokens_at_once(&self, query: &str, document: &str) -> Result<usize, EmbedError> {
        let tokens = self.texts.content(query)?.len() + self.texts.content(document)?.len();
        Ok((tokens + self.texts.around_pair()).min(self.options.max_length))
    }

    /// How well each of `documents` answers `query`, in their order; the higher, the better. Scores go through a sigmoid unless the
    /// checkpoint says otherwise. Pairs that are too long are cut, the longer text first.
    ///
    /// # Errors
    /// If the model is no cross-encoder with one label, or a text cannot be tokenised.
    pub fn rerank<S: AsRef<str>>(&self, query: &str, documents: &[S]) -> Result<Vec<f32>, EmbedError> {
        match self.options.labels {
            None => return Err(EmbedError::NoCrossEncoder),
            Some(1) => {}
            Some(labels) => return Err(EmbedError::Labels { labels }),
        }
        let query = self.texts.content(query)?;
        let room = self.options.max_length - self.texts.around_pair();
        let mut worker = self.worker();
        let encoder = &mut worker.encoder;
        let (mut tokens, mut types, mut lens) = (Vec::new(), Vec::new(), Vec::new());
        let (mut scores, mut logits) = (Vec::with_capacity(documents.len()), Vec::new());
        for (i, document) in documents.iter().enumerate() {
            let document = self.texts.content(document.as_ref())?;
            let (first, second) = longest_first(query.len(), document.len(), room);
            lens.push(self.texts.append_pair(&query[..first], &document[..second], &mut tokens, &mut types));
            if tokens.len() < self.options.batch_tokens && i + 1 < documents.len() {
                continue;
            }
            if encoder.token_types() < 2 {
                types.fill(0);
            }
            encoder.run(&TokenBatch { tokens: &tokens, token_types: Some(&types), positions: None, lens: &lens })?;
            encoder.read(names::LOGITS, &mut logits)?;
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            scores.extend(logits.iter().map(|&x| if self.options.sigmoid { sigmoid(x) } else { x }));
            tokens.clear();
            types.clear();
            lens.clear();
        }
        Ok(scores)
    }
}
