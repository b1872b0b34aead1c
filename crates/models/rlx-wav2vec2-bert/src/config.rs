//! Sizes and switches of a wav2vec2-BERT model, from `config.json`.

use rlx_core::{CoreError, HfConfig, in_range};
use rlx_flow::{Activation, RopeScaling, RopeSpec, Window};
use rlx_weights::Checkpoint;

/// How attention knows positions.
#[derive(Clone, Debug, PartialEq)]
pub enum PositionEmbeddings {
    /// Not at all.
    None,
    /// `relative_key`: a vector per distance of key and query, clamped to `-left..=right` (Shaw et al. 2018).
    RelativeKey {
        /// `left_max_position_embeddings`
        left: usize,
        /// `right_max_position_embeddings`
        right: usize,
    },
    /// `relative`: projected sinusoids of the distance (Dai et al. 2019).
    Relative,
    /// `rotary`: RoPE, here on the inputs of the query and key projections.
    Rotary(RopeSpec),
}

/// A model's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Wav2Vec2BertConfig {
    /// Features of an input row.
    pub feature_projection_input_dim: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Conformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forwards.
    pub intermediate_size: usize,
    /// Of the feed-forwards and the convolution module.
    pub hidden_act: Activation,
    /// Epsilon of all norms.
    pub layer_norm_eps: f32,
    /// Rows that the depthwise convolution sees; odd.
    pub conv_depthwise_kernel_size: usize,
    /// `position_embeddings_type` with its sizes.
    pub position_embeddings: PositionEmbeddings,
    /// Half a feed-forward after the encoder.
    pub use_intermediate_ffn_before_adapter: bool,
    /// The adapter, if there is one.
    pub adapter: Option<AdapterConfig>,
    /// Entries of the CTC head, if there is one.
    pub vocab_size: Option<usize>,
    /// CTC's blank.
    pub pad_token_id: u32,
}

/// Layers after the encoder that lower the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Width of the adapter and of the model's output.
    pub output_hidden_size: usize,
    /// Layers.
    pub num_adapter_layers: usize,
    /// Rows a convolution sees.
    pub adapter_kernel_size: usize,
    /// Rows it moves by.
    pub adapter_stride: usize,
    /// Of the feed-forwards.
    pub adapter_act: Activation,
}

impl AdapterConfig {
    /// What the convolutions of a layer see.
    pub fn window(&self) -> Window {
        let pad = self.adapter_stride / 2;
        Window::new(self.adapter_kernel_size).stride(self.adapter_stride).pad(pad, pad)
    }
}

impl Wav2Vec2BertConfig {
    /// The config of a checkpoint. That it has a CTC head is seen from its tensors.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Wav2Vec2BertConfig, CoreError> {
        let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
        let mut config = Wav2Vec2BertConfig::from_hf(json)?;
        match checkpoint.tensor("lm_head.weight") {
            // The size is that of the tensor, which a config may leave out.
            Some(head) => config.vocab_size = config.vocab_size.or(head.shape.first().copied()),
            None => config.vocab_size = None,
        }
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`. Absent fields have the defaults of transformers' `Wav2Vec2BertConfig`.
    ///
    /// # Errors
    /// If a field is of the wrong type, or names something unknown.
    pub fn from_hf(json: &serde_json::Value) -> Result<Wav2Vec2BertConfig, CoreError> {
        let config = HfConfig::new(json);
        let size = |key: &str, default: usize| Ok::<_, CoreError>(config.usize(key)?.unwrap_or(default));
        let flag = |key: &str| Ok::<_, CoreError>(config.bool(key)?.unwrap_or(false));
        let hidden_size = size("hidden_size", 1024)?;
        let num_attention_heads = size("num_attention_heads", 16)?;
        let kind = if config.has("position_embeddings_type") {
            config.str("position_embeddings_type")?
        } else {
            Some("relative_key")
        };
        let position_embeddings = match kind {
            None => PositionEmbeddings::None,
            Some("relative_key") => PositionEmbeddings::RelativeKey {
                left: size("left_max_position_embeddings", 64)?,
                right: size("right_max_position_embeddings", 8)?,
            },
            Some("relative") => PositionEmbeddings::Relative,
            Some("rotary") => {
                let theta = config.f64("rotary_embedding_base")?.unwrap_or(10_000.0);
                let head_dim = hidden_size.checked_div(num_attention_heads).unwrap_or(0);
                PositionEmbeddings::Rotary(RopeSpec::new(theta, head_dim, &RopeScaling::None)?)
            }
            Some(other) => {
                return Err(CoreError::Config(format!(
                    "position_embeddings_type `{other}` is not supported (relative_key, relative, rotary, null)"
                )));
            }
        };
        let adapter = match flag("add_adapter")? {
            false => None,
            true => Some(AdapterConfig {
                output_hidden_size: size("output_hidden_size", hidden_size)?,
                num_adapter_layers: size("num_adapter_layers", 1)?,
                adapter_kernel_size: size("adapter_kernel_size", 3)?,
                adapter_stride: size("adapter_stride", 2)?,
                adapter_act: config.activation("adapter_act", Activation::Relu)?,
            }),
        };
        Ok(Wav2Vec2BertConfig {
            feature_projection_input_dim: size("feature_projection_input_dim", 160)?,
            hidden_size,
            num_hidden_layers: size("num_hidden_layers", 24)?,
            num_attention_heads,
            intermediate_size: size("intermediate_size", 4096)?,
            hidden_act: config.activation("hidden_act", Activation::Silu)?,
            layer_norm_eps: config.f64("layer_norm_eps")?.unwrap_or(1e-5) as f32,
            conv_depthwise_kernel_size: size("conv_depthwise_kernel_size", 31)?,
            position_embeddings,
            use_intermediate_ffn_before_adapter: flag("use_intermediate_ffn_before_adapter")?,
            adapter,
            vocab_size: config.usize("vocab_size")?,
            pad_token_id: u32::try_from(size("pad_token_id", 0)?)
                .map_err(|_| CoreError::Config("pad_token_id is no token id".into()))?,
        })
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        let fail = |what: String| Err(CoreError::Config(what));
        let mut sizes = vec![
            ("feature_projection_input_dim", self.feature_projection_input_dim, 1 << 16),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("conv_depthwise_kernel_size", self.conv_depthwise_kernel_size, 1 << 12),
        ];
        let mut widths = vec![("hidden_size", self.hidden_size)];
        if let Some(adapter) = &self.adapter {
            sizes.extend([
                ("output_hidden_size", adapter.output_hidden_size, 1 << 16),
                ("num_adapter_layers", adapter.num_adapter_layers, 64),
                ("adapter_kernel_size", adapter.adapter_kernel_size, 1 << 10),
                ("adapter_stride", adapter.adapter_stride, 1 << 10),
            ]);
            widths.push(("output_hidden_size", adapter.output_hidden_size));
        }
        if let PositionEmbeddings::RelativeKey { left, right } = self.position_embeddings {
            // Zero distances to one side are possible.
            sizes.push(("left_max_position_embeddings + 1", left.saturating_add(1), 1 << 16));
            sizes.push(("right_max_position_embeddings + 1", right.saturating_add(1), 1 << 16));
        }
        sizes.extend(self.vocab_size.map(|size| ("vocab_size", size, 1 << 20)));
        sizes.into_iter().try_for_each(|(name, value, max)| in_range(name, value, max))?;
        for (name, width) in widths {
            if !width.is_multiple_of(self.num_attention_heads) {
                return fail(format!("{name} = {width} is no multiple of the {} heads", self.num_attention_heads));
            }
        }
        if self.conv_depthwise_kernel_size.is_multiple_of(2) {
            return fail(format!("conv_depthwise_kernel_size = {} is not odd", self.conv_depthwise_kernel_size));
        }
        if self.position_embeddings == PositionEmbeddings::Relative && !self.hidden_size.is_multiple_of(2) {
            return fail(format!("hidden_size = {} has no pairs of sine and cosine", self.hidden_size));
        }
        if self.use_intermediate_ffn_before_adapter && self.adapter.is_none() {
            return fail("use_intermediate_ffn_before_adapter without add_adapter".into());
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return fail(format!("layer_norm_eps = {} is not a small number", self.layer_norm_eps));
        }
        Ok(())
    }

    /// Width of the model's output.
    pub fn output_width(&self) -> usize {
        self.adapter.map_or(self.hidden_size, |adapter| adapter.output_hidden_size)
    }

    /// Rows that a sequence of `rows` rows becomes.
    pub fn output_len(&self, rows: usize) -> usize {
        let Some(adapter) = &self.adapter else { return rows };
        (0..adapter.num_adapter_layers).fold(rows, |rows, _| adapter.window().output_len(rows))
    }
}
