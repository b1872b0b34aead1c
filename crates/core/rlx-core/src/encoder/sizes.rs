//! What configs of encoders share.

use crate::{CoreError, GgufHeader, in_range};

/// Sizes of a BERT-shaped encoder; fields are named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct EncoderSizes {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub layer_norm_eps: f32,
    pub max_position_embeddings: usize,
    /// 0 if the model knows no kinds of texts.
    pub type_vocab_size: usize,
}

impl EncoderSizes {
    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 24),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 14),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
        ];
        sizes.into_iter().try_for_each(|(name, value, max)| in_range(name, value, max))?;
        if self.type_vocab_size > 1 << 16 {
            return Err(CoreError::Config(format!("type_vocab_size = {} is above 65536", self.type_vocab_size)));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(CoreError::Config(format!(
                "hidden_size = {} is no multiple of num_attention_heads = {}",
                self.hidden_size, self.num_attention_heads
            )));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(CoreError::Config(format!("layer_norm_eps = {} is not a small number", self.layer_norm_eps)));
        }
        Ok(())
    }
}

impl GgufHeader {
    /// The sizes of an encoder whose tokens see each other in both directions.
    ///
    /// # Errors
    /// If a size does not fit 32 bits.
    pub fn set_encoder_sizes(&mut self, sizes: &EncoderSizes) -> Result<(), CoreError> {
        self.set_size("block_count", sizes.num_hidden_layers)?;
        self.set_size("context_length", sizes.max_position_embeddings)?;
        self.set_size("embedding_length", sizes.hidden_size)?;
        self.set_size("feed_forward_length", sizes.intermediate_size)?;
        self.set_size("attention.head_count", sizes.num_attention_heads)?;
        self.set("attention.layer_norm_epsilon", sizes.layer_norm_eps);
        self.set("attention.causal", false);
        self.set_size("vocab_size", sizes.vocab_size)?;
        // Checked to be below 65536.
        self.metadata.set("tokenizer.ggml.token_type_count", sizes.type_vocab_size.max(1) as u32);
        Ok(())
    }
}
