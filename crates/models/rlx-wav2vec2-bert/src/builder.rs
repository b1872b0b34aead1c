//! Config to graph.

use rlx_flow::{Biases, Conv1d, Distances, Flow, FlowError, Graph, NormKind, NormSpec, RopeTable, Tensor, Window};
use rlx_ir::{Activation, AttentionSpec};

use crate::config::AdapterConfig;
use crate::{PositionEmbeddings, Wav2Vec2BertConfig};

/// What a graph is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphOptions {
    /// Outputs `hidden.0` (what enters the first block) to `hidden.N` (what leaves the last).
    pub hidden_states: bool,
    /// Sequences have rows of padding, which are computed as the reference does: nobody attends to them, the encoder's
    /// convolutions see zeros there, and the adapter's convolutions see what the encoder made of them. Takes the inputs `keep`
    /// `[T, hidden_size]`, `keys` `[T, 1]` and for each layer of the adapter `adapter_keys.N`.
    pub padded: bool,
}

/// The model's graph.
///
/// Inputs: `features` F32 `[T, feature_projection_input_dim]`, the rows of sequences one after the other; with rotary positions
/// `positions` I32 `[T]`; with relative ones `distances` F32 `[D, hidden_size]`, sinusoids of the distances `-(D-1)/2..=(D-1)/2`.
/// Outputs: `last_hidden_state`, with a CTC head `logits`.
///
/// # Errors
/// If sizes do not fit together.
pub fn graph(config: &Wav2Vec2BertConfig, options: GraphOptions) -> Result<Graph, FlowError> {
    let mut g = Flow::new();
    let features = g.rows_input("features", "T", config.feature_projection_input_dim);
    let builder = Builder {
        config,
        norm: NormSpec { kind: NormKind::Layer { bias: true }, eps: config.layer_norm_eps },
        keep: options.padded.then(|| g.rows_input("keep", "T", config.hidden_size)),
        keys: options.padded.then(|| g.rows_input("keys", "T", 1)),
        positions: match &config.position_embeddings {
            PositionEmbeddings::Rotary(rope) => {
                let positions = g.index_input("positions", "T");
                Positions::Rotary(g.rope_table(rope, positions))
            }
            PositionEmbeddings::Relative => Positions::Relative(g.rows_input("distances", "D", config.hidden_size)),
            PositionEmbeddings::RelativeKey { left, right } => Positions::Clamped { left: *left, right: *right },
            PositionEmbeddings::None => Positions::None,
        },
        padded: options.padded,
    };
    let mut x = g.scope("feature_projection", |g| {
        let h = g.norm(&builder.norm, features, "layer_norm");
        g.linear(h, "projection", config.hidden_size, true)
    });
    x = builder.kept(&mut g, x);
    let tap = |g: &mut Flow, index: usize, x: Tensor| {
        if options.hidden_states {
            g.output(&format!("hidden.{index}"), x);
        }
    };
    tap(&mut g, 0, x);
    for layer in 0..config.num_hidden_layers {
        x = g.scope(&format!("encoder.layers.{layer}"), |g| builder.block(g, x));
        tap(&mut g, layer + 1, x);
    }
    if config.use_intermediate_ffn_before_adapter {
        x = builder.half_ffn(&mut g, x, x, "intermediate_ffn", Activation::Relu);
    }
    if let Some(adapter) = &config.adapter {
        x = g.scope("adapter", |g| builder.adapter(g, adapter, x));
    }
    g.output("last_hidden_state", x);
    if let Some(vocab_size) = config.vocab_size {
        let logits = g.linear(x, "lm_head", vocab_size, true);
        g.output("logits", logits);
    }
    g.finish()
}

/// What blocks share.
struct Builder<'a> {
    config: &'a Wav2Vec2BertConfig,
    norm: NormSpec,
    /// 1 for rows of sound, 0 for padding.
    keep: Option<Tensor>,
    /// 0 for rows of sound, minus infinity for padding.
    keys: Option<Tensor>,
    positions: Positions,
    padded: bool,
}

enum Positions {
    None,
    Clamped { left: usize, right: usize },
    Relative(Tensor),
    Rotary(RopeTable),
}

impl Builder<'_> {
    /// A Conformer block: half a feed-forward, attention, convolution, half a feed-forward.
    fn block(&self, g: &mut Flow, x: Tensor) -> Tensor {
        let act = self.config.hidden_act;
        let h = g.norm(&self.norm, x, "ffn1_layer_norm");
        let x = self.half_ffn(g, x, h, "ffn1", act);
        let h = g.norm(&self.norm, x, "self_attn_layer_norm");
        let h = g.scope("self_attn", |g| self.attention(g, h));
        let x = g.add(x, h);
        let h = g.scope("conv_module", |g| self.convolution(g, x));
        let x = g.add(x, h);
        let h = g.norm(&self.norm, x, "ffn2_layer_norm");
        let x = self.half_ffn(g, x, h, "ffn2", act);
        g.norm(&self.norm, x, "final_layer_norm")
    }

    /// `x + 0.5 ffn(h)`.
    fn half_ffn(&self, g: &mut Flow, x: Tensor, h: Tensor, name: &str, act: Activation) -> Tensor {
        let h = self.ffn(g, h, name, act, self.config.hidden_size);
        let h = g.scale(h, 0.5);
        g.add(x, h)
    }

    fn ffn(&self, g: &mut Flow, x: Tensor, name: &str, act: Activation, width: usize) -> Tensor {
        g.scope(name, |g| {
            let h = g.linear(x, "intermediate_dense", self.config.intermediate_size, true);
            let h = g.activation(h, act);
            g.linear(h, "output_dense", width, true)
        })
    }

    fn attention(&self, g: &mut Flow, x: Tensor) -> Tensor {
        let width = self.config.hidden_size;
        let spec = self.attention_spec(width);
        // Rotary positions turn what the projections of queries and keys see.
        let turned = match &self.positions {
            Positions::Rotary(rope) => g.rope(x, rope, spec.head_dim),
            _ => x,
        };
        let q = g.linear(turned, "linear_q", width, true);
        let k = g.linear(turned, "linear_k", width, true);
        let v = g.linear(x, "linear_v", width, true);
        let distance = match self.positions {
            Positions::None | Positions::Rotary(_) => None,
            Positions::Clamped { left, right } => Some(Distances::Table { name: "distance_embedding", left, right }),
            Positions::Relative(distances) => {
                let table = g.linear(distances, "linear_pos", width, false);
                Some(Distances::Projected { table, content: "pos_bias_u", position: "pos_bias_v" })
            }
        };
        let h = g.biased_attention([q, k, v], spec, Biases { distance, key: self.keys });
        g.linear(h, "linear_out", width, true)
    }

    fn attention_spec(&self, width: usize) -> AttentionSpec {
        let heads = self.config.num_attention_heads;
        let head_dim = width / heads.max(1);
        AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            v_head_dim: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causal: false,
            window: None,
            softcap: None,
            cache: None,
        }
    }

    fn convolution(&self, g: &mut Flow, x: Tensor) -> Tensor {
        let (width, taps) = (self.config.hidden_size, self.config.conv_depthwise_kernel_size);
        let h = g.norm(&self.norm, x, "layer_norm");
        let h = self.kept(g, h);
        let h = g.pointwise_conv1d(h, "pointwise_conv1", 2 * width, false);
        let h = glu(g, h, width);
        let window = Window::new(taps).pad(taps - 1, 0);
        let h = g.conv1d(h, "depthwise_conv", Conv1d { out: width, window, groups: width, bias: false });
        let h = g.norm(&self.norm, h, "depthwise_layer_norm");
        let h = g.activation(h, self.config.hidden_act);
        g.pointwise_conv1d(h, "pointwise_conv2", width, false)
    }

    /// Rows of padding as zeros.
    fn kept(&self, g: &mut Flow, x: Tensor) -> Tensor {
        match self.keep {
            Some(keep) => g.mul(x, keep),
            None => x,
        }
    }

    fn adapter(&self, g: &mut Flow, adapter: &AdapterConfig, mut x: Tensor) -> Tensor {
        let width = adapter.output_hidden_size;
        if width != self.config.hidden_size {
            x = g.linear(x, "proj", width, true);
            x = g.norm(&self.norm, x, "proj_layer_norm");
        }
        for layer in 0..adapter.num_adapter_layers {
            x = g.scope(&format!("layers.{layer}"), |g| self.adapter_layer(g, adapter, layer, x));
        }
        x
    }

    fn adapter_layer(&self, g: &mut Flow, adapter: &AdapterConfig, layer: usize, x: Tensor) -> Tensor {
        let width = adapter.output_hidden_size;
        let pooled = |g: &mut Flow, name: &str| {
            let h = g.norm(&self.norm, x, &format!("{name}_layer_norm"));
            let conv = Conv1d { out: 2 * width, window: adapter.window(), groups: 1, bias: true };
            let h = g.conv1d(h, &format!("{name}_conv"), conv);
            glu(g, h, width)
        };
        let residual = pooled(g, "residual");
        let h = pooled(g, "self_attn");
        let key = self.padded.then(|| g.rows_input_of(&format!("adapter_keys.{layer}"), h, 1));
        let h = g.scope("self_attn", |g| {
            let q = g.linear(h, "linear_q", width, true);
            let k = g.linear(h, "linear_k", width, true);
            let v = g.linear(h, "linear_v", width, true);
            let h = g.biased_attention([q, k, v], self.attention_spec(width), Biases { distance: None, key });
            g.linear(h, "linear_out", width, true)
        });
        let x = g.add(residual, h);
        let h = g.norm(&self.norm, x, "ffn_layer_norm");
        let h = self.ffn(g, h, "ffn", adapter.adapter_act, width);
        g.add(x, h)
    }
}

/// The first `width` columns times the sigmoid of the others (Dauphin et al. 2017).
fn glu(g: &mut Flow, x: Tensor, width: usize) -> Tensor {
    let (up, gate) = (g.columns(x, 0, width), g.columns(x, width, width));
    g.gated(gate, up, Activation::Sigmoid)
}
