//! Decoder-only language models as data.

use rlx_ir::{Activation, AttentionSpec, Cache, Graph, batch};

use crate::flow::RopeTable;
use crate::{Flow, FlowError, RopeSpec, Tensor};

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm.
    Rms,
    /// LayerNorm.
    Layer {
        /// Whether it has a bias.
        bias: bool,
    },
}

/// A normalisation and its epsilon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Which.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub eps: f32,
}

/// Self-attention of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionLayer {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub o_bias: bool,
    /// RMS norm of every query and key head before RoPE (`q_norm`, `k_norm`).
    pub qk_norm: bool,
    /// Which of [`DecoderSpec::ropes`] turns queries and keys; none turns nothing.
    pub rope: Option<usize>,
    /// Sliding window in tokens.
    pub window: Option<usize>,
    /// Soft cap on scores.
    pub softcap: Option<f32>,
}

impl AttentionLayer {
    /// Attention without biases, norms, window or cap, with scores over `sqrt(head_dim)` and the first RoPE.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionLayer {
        AttentionLayer {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            rope: Some(0),
            window: None,
            softcap: None,
        }
    }
}

/// Feed-forward of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Mlp {
    /// `down(act(gate(x)) * up(x))`.
    Gated {
        /// Width of gate and up.
        intermediate_size: usize,
        /// Applied to gate.
        activation: Activation,
        /// Biases on all three.
        bias: bool,
    },
}

impl Mlp {
    /// A gated feed-forward without biases.
    pub fn gated(intermediate_size: usize, activation: Activation) -> Mlp {
        Mlp::Gated { intermediate_size, activation, bias: false }
    }
}

/// Where a layer's norms stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before each block: `x += attention(input_layernorm(x)); x += mlp(post_attention_layernorm(x))`.
    #[default]
    Pre,
    /// Before and after each block: `x += post_attention_layernorm(attention(input_layernorm(x)));
    /// x += post_feedforward_layernorm(mlp(pre_feedforward_layernorm(x)))`.
    Sandwich,
}

/// One layer: attention and feed-forward, each added to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Mixes tokens.
    pub attention: AttentionLayer,
    /// Works on each token by itself.
    pub mlp: Mlp,
    /// Where norms stand.
    pub norms: NormPlacement,
}

/// A decoder-only language model: everything that makes its graph.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Multiplies the rows of `embed_tokens`.
    pub embed_scale: Option<f32>,
    /// All layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// All norms.
    pub norm: NormSpec,
    /// The kinds of RoPE that layers refer to.
    pub ropes: Vec<RopeSpec>,
    /// `cap * tanh(logits / cap)`.
    pub logit_softcap: Option<f32>,
    /// Whether `lm_head` is `embed_tokens`.
    pub tie_word_embeddings: bool,
}

/// What a decoder's graph puts out besides logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Taps {
    /// Nothing.
    #[default]
    None,
    /// `hidden.0` (what enters layer 0) to `hidden.N` (what leaves the last, after the final norm), each F32 `[T, hidden]`.
    Hidden,
}

impl DecoderSpec {
    /// The model's graph, for ragged batches as [`rlx_ir::batch`] names them. Parameter names are those of Hugging Face
    /// (`model.layers.0.self_attn.q_proj.weight`).
    ///
    /// # Errors
    /// If sizes do not fit together.
    pub fn build(&self, taps: Taps) -> Result<Graph, FlowError> {
        let mut g = Flow::new();
        let tokens = g.index_input(batch::TOKENS, batch::TOKEN_COUNT);
        let positions = g.index_input(batch::POSITIONS, batch::TOKEN_COUNT);
        let logit_rows = g.index_input(batch::LOGIT_ROWS, batch::LOGIT_COUNT);
        let ropes: Vec<RopeTable> = self.ropes.iter().map(|rope| g.rope_table(rope, positions)).collect();

        let x = g.scope("model", |g| {
            let mut x = g.embedding(tokens, "embed_tokens", self.vocab_size, self.hidden_size);
            if let Some(factor) = self.embed_scale {
                x = g.scale(x, factor);
            }
            for (i, layer) in self.layers.iter().enumerate() {
                if taps == Taps::Hidden {
                    g.output(&format!("hidden.{i}"), x);
                }
                x = g.scope(&format!("layers.{i}"), |g| self.layer(g, layer, &ropes, x));
            }
            if taps == Taps::Hidden {
                let last = g.norm(&self.norm, x, "norm");
                g.output(&format!("hidden.{}", self.layers.len()), last);
            }
            let x = g.select_rows(x, logit_rows);
            g.norm(&self.norm, x, "norm")
        });
        let head = if self.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
        let mut logits = g.linear(x, head, self.vocab_size, false);
        if let Some(cap) = self.logit_softcap {
            logits = g.soft_cap(logits, cap);
        }
        g.output(batch::LOGITS, logits);
        g.finish()
    }

    fn layer(&self, g: &mut Flow, layer: &LayerSpec, ropes: &[RopeTable], x: Tensor) -> Tensor {
        let sandwich = layer.norms == NormPlacement::Sandwich;
        let h = g.norm(&self.norm, x, "input_layernorm");
        let mut h = g.scope("self_attn", |g| self.attention(g, &layer.attention, ropes, h));
        if sandwich {
            h = g.norm(&self.norm, h, "post_attention_layernorm");
        }
        let x = g.add(x, h);
        let h = g.norm(&self.norm, x, if sandwich { "pre_feedforward_layernorm" } else { "post_attention_layernorm" });
        let mut h = g.scope("mlp", |g| self.mlp(g, &layer.mlp, h));
        if sandwich {
            h = g.norm(&self.norm, h, "post_feedforward_layernorm");
        }
        g.add(x, h)
    }

    fn attention(&self, g: &mut Flow, a: &AttentionLayer, ropes: &[RopeTable], x: Tensor) -> Tensor {
        let mut q = g.linear(x, "q_proj", a.heads * a.head_dim, a.qkv_bias);
        let mut k = g.linear(x, "k_proj", a.kv_heads * a.head_dim, a.qkv_bias);
        let v = g.linear(x, "v_proj", a.kv_heads * a.head_dim, a.qkv_bias);
        if a.qk_norm {
            q = g.head_norm(&self.norm, q, "q_norm", a.head_dim);
            k = g.head_norm(&self.norm, k, "k_norm", a.head_dim);
        }
        if let Some(index) = a.rope {
            match ropes.get(index) {
                Some(rope) => {
                    q = g.rope(q, rope, a.head_dim);
                    k = g.rope(k, rope, a.head_dim);
                }
                None => g.fail(FlowError::Spec(format!("a layer names RoPE {index} of {}", ropes.len()))),
            }
        }
        let cache = g.cache(Cache { kv_heads: a.kv_heads, k_dim: a.head_dim, v_dim: a.head_dim });
        let spec = AttentionSpec {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            v_head_dim: a.head_dim,
            scale: a.scale,
            causal: true,
            window: a.window,
            softcap: a.softcap,
            cache: Some(cache),
        };
        let o = g.attention(q, k, v, spec);
        g.linear(o, "o_proj", self.hidden_size, a.o_bias)
    }

    fn mlp(&self, g: &mut Flow, mlp: &Mlp, x: Tensor) -> Tensor {
        match *mlp {
            Mlp::Gated { intermediate_size, activation, bias } => {
                let gate = g.linear(x, "gate_proj", intermediate_size, bias);
                let up = g.linear(x, "up_proj", intermediate_size, bias);
                let gate = g.activation(gate, activation);
                let h = g.mul(gate, up);
                g.linear(h, "down_proj", self.hidden_size, bias)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RopeScaling;

    fn spec() -> DecoderSpec {
        let attention = AttentionLayer { qkv_bias: true, qk_norm: true, ..AttentionLayer::new(6, 2, 16) };
        let mlp = Mlp::gated(92, Activation::Silu);
        DecoderSpec {
            vocab_size: 311,
            hidden_size: 54,
            embed_scale: None,
            layers: vec![LayerSpec { attention, mlp, norms: NormPlacement::Pre }; 2],
            norm: NormSpec { kind: NormKind::Rms, eps: 1e-5 },
            ropes: vec![RopeSpec::new(1e4, 16, &RopeScaling::None).unwrap()],
            logit_softcap: None,
            tie_word_embeddings: false,
        }
    }

    #[test]
    fn parameters_carry_hugging_face_names() {
        let graph = spec().build(Taps::Hidden).unwrap();
        let shape =
            |name: &str| graph.params().iter().find(|param| param.name == name).map(|param| param.shape.clone());
        assert_eq!(shape("model.embed_tokens.weight"), Some(vec![311, 54]));
        assert_eq!(shape("model.layers.1.self_attn.k_proj.bias"), Some(vec![32]));
        assert_eq!(shape("model.layers.0.self_attn.q_norm.weight"), Some(vec![16]));
        assert_eq!(shape("model.layers.1.mlp.down_proj.weight"), Some(vec![54, 92]));
        assert_eq!(shape("lm_head.weight"), Some(vec![311, 54]));
        let outputs: Vec<&str> = graph.outputs().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(outputs, ["hidden.0", "hidden.1", "hidden.2", "logits"]);
    }

    #[test]
    fn sandwiched_blocks_have_four_norms() {
        let mut spec = spec();
        spec.embed_scale = Some(7.0);
        spec.logit_softcap = Some(30.0);
        spec.layers.iter_mut().for_each(|layer| layer.norms = NormPlacement::Sandwich);
        let graph = spec.build(Taps::None).unwrap();
        let norms = |infix: &str| graph.params().iter().filter(|param| param.name.contains(infix)).count();
        for name in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
            assert_eq!(norms(&format!("layers.1.{name}_layernorm")), 1, "{name}");
        }
        let text = graph.to_string();
        assert!(text.contains("Scale(7.0)") && text.contains("SoftCap(30.0)"), "{text}");
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error() {
        let mut bad = spec();
        bad.layers[1].attention.kv_heads = 4;
        assert!(bad.build(Taps::None).is_err());
        let mut bad = spec();
        bad.layers[0].attention.rope = Some(3);
        assert!(bad.build(Taps::None).unwrap_err().to_string().contains("RoPE 3"));
    }
}
