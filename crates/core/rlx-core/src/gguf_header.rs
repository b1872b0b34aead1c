//! What a GGUF file says of a model besides its weights: the counterpart of reading it.

use rlx_flow::{RopeScaling, RopeSpec, Yarn};
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::gguf::GgufValue;
use rlx_weights::{GgufMetadata, TensorView};

use crate::{CoreError, DecoderSizes};

/// Keys of a GGUF file under its architecture, as llama.cpp's converter writes them, and tensors that are no weights.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// The keys.
    pub metadata: GgufMetadata,
    /// Tensors that the checkpoint does not hold: `rope_freqs.weight`.
    pub tensors: Vec<TensorView>,
    /// What other readers of the file will not know.
    pub notes: Vec<String>,
}

impl GgufHeader {
    /// A file of this architecture that says nothing else.
    pub fn new(architecture: &str) -> GgufHeader {
        let mut metadata = GgufMetadata::default();
        metadata.set("general.architecture", architecture);
        metadata.set("general.type", "model");
        GgufHeader { metadata, tensors: Vec::new(), notes: Vec::new() }
    }

    /// Sets a key under the architecture's name.
    pub fn set(&mut self, suffix: &str, value: impl Into<GgufValue>) {
        self.metadata.set(self.metadata.arch_key(suffix), value);
    }

    /// Sets a size or count.
    ///
    /// # Errors
    /// If it does not fit 32 bits.
    pub fn set_size(&mut self, suffix: &str, value: usize) -> Result<(), CoreError> {
        let value = u32::try_from(value).map_err(|_| CoreError::Config(format!("{suffix} = {value} is too large")))?;
        self.set(suffix, value);
        Ok(())
    }

    /// Sets sizes or counts of the layers: one number where all are the same.
    ///
    /// # Errors
    /// If one does not fit 32 bits.
    pub fn set_sizes(&mut self, suffix: &str, values: &[usize]) -> Result<(), CoreError> {
        if let Some((first, rest)) = values.split_first()
            && rest.iter().all(|value| value == first)
        {
            return self.set_size(suffix, *first);
        }
        let values: Result<Vec<i32>, _> = values.iter().map(|&value| i32::try_from(value)).collect();
        let values = values.map_err(|_| CoreError::Config(format!("{suffix} is too large")))?;
        self.set(suffix, values);
        Ok(())
    }

    /// The sizes of a decoder. The width of heads is said even where it could be told from the others.
    ///
    /// # Errors
    /// If a size does not fit 32 bits.
    pub fn set_decoder_sizes(&mut self, sizes: &DecoderSizes) -> Result<(), CoreError> {
        self.set_size("block_count", sizes.num_hidden_layers)?;
        self.set_size("context_length", sizes.max_position_embeddings)?;
        self.set_size("embedding_length", sizes.hidden_size)?;
        self.set_size("feed_forward_length", sizes.intermediate_size)?;
        self.set_size("attention.head_count", sizes.num_attention_heads)?;
        self.set_size("attention.head_count_kv", sizes.num_key_value_heads)?;
        self.set("attention.layer_norm_rms_epsilon", sizes.rms_norm_eps);
        self.set_size("attention.key_length", sizes.head_dim)?;
        self.set_size("attention.value_length", sizes.head_dim)?;
        self.set_size("vocab_size", sizes.vocab_size)
    }

    /// The RoPE of a model's layers, or of those that see everything: the counterpart of [`rope_from_gguf`](crate::rope_from_gguf).
    ///
    /// # Errors
    /// If the format has no words for the scaling.
    pub fn set_rope(&mut self, rope: &RopeSpec) -> Result<(), CoreError> {
        self.set("rope.freq_base", rope.theta as f32);
        match &rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                self.set("rope.scaling.type", "linear");
                self.set("rope.scaling.factor", *factor as f32);
            }
            RopeScaling::Yarn(yarn) => {
                if !yarn.truncate {
                    return Err(CoreError::Config(
                        "GGUF files cannot say that YaRN's correction range is not rounded (truncate: false)".into(),
                    ));
                }
                self.set("rope.scaling.type", "yarn");
                self.set("rope.scaling.factor", yarn.factor as f32);
                self.set_size("rope.scaling.original_context_length", yarn.original_max_positions)?;
                let default = Yarn::new(yarn.factor, yarn.original_max_positions);
                if yarn.beta_fast != default.beta_fast {
                    self.set("rope.scaling.yarn_beta_fast", yarn.beta_fast as f32);
                }
                if yarn.beta_slow != default.beta_slow {
                    self.set("rope.scaling.yarn_beta_slow", yarn.beta_slow as f32);
                }
                let own = if yarn.factor > 1.0 { 0.1 * yarn.factor.ln() + 1.0 } else { 1.0 };
                // The key holds a factor on top of YaRN's own.
                let extra = f64::from(rope.attention_factor) / own;
                if (extra - 1.0).abs() > 1e-6 {
                    self.set("rope.scaling.yarn_attn_factor", extra as f32);
                }
            }
            RopeScaling::Dynamic { .. } => {
                return Err(CoreError::Config("GGUF files have no dynamic RoPE scaling".into()));
            }
            RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {
                let factors = rope.frequency_factors().unwrap_or_default();
                let bytes: Vec<u8> = factors.iter().flat_map(|x| x.to_le_bytes()).collect();
                let name = "rope_freqs.weight".to_owned();
                let data = Bytes::copy_from(&bytes);
                self.tensors.push(TensorView::new(name, DType::F32, vec![factors.len()], data)?);
            }
        }
        Ok(())
    }
}
