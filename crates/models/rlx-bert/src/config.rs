//! Sizes and switches of a BERT, from `config.json` or GGUF metadata.

use rlx_core::encoder::EncoderSizes;
use rlx_core::{CoreError, GgufHeader, HfConfig};
use rlx_flow::Activation;
use rlx_weights::Checkpoint;
use serde_json::Value;

use crate::BertHead;

/// A BERT's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Nonlinearity of the feed-forward and of the masked-language-model head.
    pub hidden_act: Activation,
    /// Epsilon of all norms.
    pub layer_norm_eps: f32,
    /// Longest text.
    pub max_position_embeddings: usize,
    /// Kinds of texts; 0 if the model knows none.
    pub type_vocab_size: usize,
    /// Whether the masked-language-model head is tied to the embedding.
    pub tie_word_embeddings: bool,
}

impl BertConfig {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<BertConfig, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            BertConfig::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            BertConfig::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// If a field is missing, of the wrong type, or says that this is another model.
    pub fn from_hf(json: &Value) -> Result<BertConfig, CoreError> {
        let config = HfConfig::new(json);
        if let Some(kind) = config.str("position_embedding_type")?.filter(|kind| *kind != "absolute") {
            return Err(CoreError::Config(format!("position_embedding_type `{kind}` is not supported (absolute)")));
        }
        if config.bool("is_decoder")? == Some(true) {
            return Err(CoreError::Config("is_decoder: BERT as a decoder is not supported".into()));
        }
        Ok(BertConfig {
            vocab_size: config.require_usize("vocab_size")?,
            hidden_size: config.require_usize("hidden_size")?,
            intermediate_size: config.require_usize("intermediate_size")?,
            num_hidden_layers: config.require_usize("num_hidden_layers")?,
            num_attention_heads: config.require_usize("num_attention_heads")?,
            hidden_act: config.activation("hidden_act", Activation::GeluErf)?,
            layer_norm_eps: config.f64("layer_norm_eps")?.unwrap_or(1e-12) as f32,
            max_position_embeddings: config.usize("max_position_embeddings")?.unwrap_or(512),
            type_vocab_size: config.usize("type_vocab_size")?.unwrap_or(2),
            tie_word_embeddings: config.bool("tie_word_embeddings")?.unwrap_or(true),
        })
    }

    /// Reads the metadata of a GGUF file of architecture `bert`. Sizes of tables are seen from its tensors.
    ///
    /// # Errors
    /// If a key is missing or of the wrong type.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<BertConfig, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let key = |suffix: &str| metadata.arch_key(suffix);
        let size = |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&key(suffix))? as usize) };
        if metadata.get_bool(&key("attention.causal")) == Some(true) {
            return Err(CoreError::Config("a BERT with causal attention is not supported".into()));
        }
        let rows = |name: &str| checkpoint.tensor(name).and_then(|tensor| tensor.shape.first().copied());
        let vocab_size = match rows("token_embd.weight") {
            Some(rows) => rows,
            None => size("vocab_size")?,
        };
        Ok(BertConfig {
            vocab_size,
            hidden_size: size("embedding_length")?,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads: size("attention.head_count")?,
            hidden_act: Activation::GeluErf,
            layer_norm_eps: metadata.require_f32(&key("attention.layer_norm_epsilon"))?,
            max_position_embeddings: size("context_length")?,
            type_vocab_size: rows("token_types.weight").unwrap_or(0),
            tie_word_embeddings: true,
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`BertConfig::from_gguf`]. The files hold the encoder alone;
    /// `head` is what is left out.
    ///
    /// # Errors
    /// If the format has no words for it.
    pub fn to_gguf(&self, head: BertHead) -> Result<GgufHeader, CoreError> {
        if self.hidden_act != Activation::GeluErf {
            return Err(CoreError::Config(format!(
                "GGUF files of BERT have no hidden_act but gelu, not {:?}",
                self.hidden_act
            )));
        }
        let mut header = GgufHeader::new("bert");
        header.set_encoder_sizes(&self.sizes())?;
        match head {
            BertHead::None | BertHead::Pooler => {}
            BertHead::MaskedLm => {
                header.notes.push("GGUF files of BERT hold no masked-language-model head: it is left out".into())
            }
            BertHead::Classification { .. } => {
                return Err(CoreError::Config(
                    "GGUF files of BERT hold no classification head: convert the encoder alone".into(),
                ));
            }
        }
        Ok(header)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.sizes().validate()
    }

    fn sizes(&self) -> EncoderSizes {
        EncoderSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            layer_norm_eps: self.layer_norm_eps,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
        }
    }
}
