//! Decoder-only language models as data.

use rlx_ir::{Activation, AttentionSpec, Cache, CacheId, Graph, RouterScore, batch};

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
    /// RMS norm without weight of every value head.
    pub v_norm: bool,
    /// Values are the keys' projection (before its norm): there is no `v_proj`.
    pub keys_as_values: bool,
    /// Sees the keys and values of this earlier layer, and has none of its own. Both must be of the same sizes.
    pub kv_from: Option<usize>,
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
            v_norm: false,
            keys_as_values: false,
            kv_from: None,
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
    /// A mixture of experts: router `gate`, experts `experts.{e}`.
    Moe(MoeLayer),
}

/// A mixture of gated experts; see [`rlx_ir::MoeSpec`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoeLayer {
    /// Experts.
    pub experts: usize,
    /// Experts a token takes.
    pub top_k: usize,
    /// Width of an expert's gate and up.
    pub intermediate_size: usize,
    /// Applied to gate.
    pub activation: Activation,
    /// How the router's logits become scores.
    pub score: RouterScore,
    /// Whether a token's weights are made to sum to one.
    pub normalise: bool,
    /// Name of the parameter `[experts]` that multiplies each expert's weight.
    pub expert_scale: Option<&'static str>,
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
    /// A mixture of experts beside the feed-forward, fed by the residual stream itself: Gemma 4. Its router is
    /// `router.proj(rms_norm(x) * router.scale / sqrt(hidden_size))`; each of the two has norms of its own.
    pub beside_mlp: Option<MoeLayer>,
    /// Whether what leaves the layer is multiplied by the number `layer_scalar`.
    pub output_scale: bool,
}

impl LayerSpec {
    /// A layer with its norms before each block, and nothing besides.
    pub fn new(attention: AttentionLayer, mlp: Mlp) -> LayerSpec {
        LayerSpec { attention, mlp, norms: NormPlacement::Pre, beside_mlp: None, output_scale: false }
    }
}

/// A second embedding of each token for every layer, which is added to the residual stream through a gate: Gemma 3n and 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerLayerInputs {
    /// Entries of `embed_tokens_per_layer`.
    pub vocab_size: usize,
    /// Width of one layer's part.
    pub width: usize,
    /// Applied to the gate.
    pub activation: Activation,
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
    /// A second embedding for every layer.
    pub per_layer_inputs: Option<PerLayerInputs>,
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
            let per_layer = self.per_layer_inputs.map(|inputs| (inputs, self.per_layer_rows(g, &inputs, tokens, x)));
            let mut kept = Vec::with_capacity(self.layers.len());
            for (i, layer) in self.layers.iter().enumerate() {
                if taps == Taps::Hidden {
                    g.output(&format!("hidden.{i}"), x);
                }
                x = g.scope(&format!("layers.{i}"), |g| {
                    let mut x = self.layer(g, layer, &ropes, &mut kept, x);
                    if let Some((inputs, rows)) = &per_layer {
                        let part = g.columns(*rows, i * inputs.width, inputs.width);
                        x = self.add_per_layer_input(g, inputs, part, x);
                    }
                    if layer.output_scale { g.mul_param(x, "layer_scalar", 1) } else { x }
                });
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

    /// Number of experts of the layer that has most.
    pub fn experts(&self) -> usize {
        let of = |layer: &LayerSpec| match (&layer.mlp, &layer.beside_mlp) {
            (Mlp::Moe(moe), _) | (_, Some(moe)) => moe.experts,
            _ => 0,
        };
        self.layers.iter().map(of).max().unwrap_or(0)
    }

    /// `[T, layers * width]`: what every layer adds of each token, from its second embedding and from its first.
    fn per_layer_rows(&self, g: &mut Flow, inputs: &PerLayerInputs, tokens: Tensor, x: Tensor) -> Tensor {
        let width = inputs.width * self.layers.len();
        let own = g.embedding(tokens, "embed_tokens_per_layer", inputs.vocab_size, width);
        let own = g.scale(own, (inputs.width as f32).sqrt());
        let projected = g.linear(x, "per_layer_model_projection", width, false);
        let projected = g.scale(projected, (self.hidden_size as f32).sqrt().recip());
        let projected = g.head_norm(&self.norm, projected, "per_layer_projection_norm", inputs.width);
        let sum = g.add(projected, own);
        g.scale(sum, 0.5f32.sqrt())
    }

    fn add_per_layer_input(&self, g: &mut Flow, inputs: &PerLayerInputs, part: Tensor, x: Tensor) -> Tensor {
        let gate = g.linear(x, "per_layer_input_gate", inputs.width, false);
        let gate = g.activation(gate, inputs.activation);
        let h = g.mul(gate, part);
        let h = g.linear(h, "per_layer_projection", self.hidden_size, false);
        let h = g.norm(&self.norm, h, "post_per_layer_input_norm");
        g.add(x, h)
    }

    fn layer(
        &self,
        g: &mut Flow,
        layer: &LayerSpec,
        ropes: &[RopeTable],
        kept: &mut Vec<KeysValues>,
        x: Tensor,
    ) -> Tensor {
        let sandwich = layer.norms == NormPlacement::Sandwich;
        let h = g.norm(&self.norm, x, "input_layernorm");
        let mut h = g.scope("self_attn", |g| self.attention(g, &layer.attention, ropes, kept, h));
        if sandwich {
            h = g.norm(&self.norm, h, "post_attention_layernorm");
        }
        let x = g.add(x, h);
        let h = g.norm(&self.norm, x, if sandwich { "pre_feedforward_layernorm" } else { "post_attention_layernorm" });
        let mut h = g.scope("mlp", |g| self.mlp(g, &layer.mlp, h));
        if let Some(moe) = &layer.beside_mlp {
            h = self.beside_mlp(g, moe, x, h);
        }
        if sandwich {
            h = g.norm(&self.norm, h, "post_feedforward_layernorm");
        }
        g.add(x, h)
    }

    /// Gemma 4's experts on the residual stream `x`, added to what the feed-forward made of it.
    fn beside_mlp(&self, g: &mut Flow, moe: &MoeLayer, x: Tensor, mlp: Tensor) -> Tensor {
        let mlp = g.norm(&self.norm, mlp, "post_feedforward_layernorm_1");
        let logits = g.rms_norm_by(x, "router.scale", self.norm.eps);
        let logits = g.linear(logits, "router.proj", moe.experts, false);
        let logits = g.scale(logits, (self.hidden_size as f32).sqrt().recip());
        let h = g.norm(&self.norm, x, "pre_feedforward_layernorm_2");
        let h = g.moe(h, logits, moe);
        let h = g.norm(&self.norm, h, "post_feedforward_layernorm_2");
        g.add(mlp, h)
    }

    fn attention(
        &self,
        g: &mut Flow,
        a: &AttentionLayer,
        ropes: &[RopeTable],
        kept: &mut Vec<KeysValues>,
        x: Tensor,
    ) -> Tensor {
        let mut q = g.linear(x, "q_proj", a.heads * a.head_dim, a.qkv_bias);
        if a.qk_norm {
            q = g.head_norm(&self.norm, q, "q_norm", a.head_dim);
        }
        let rope = a.rope.and_then(|index| {
            if index >= ropes.len() {
                g.fail(FlowError::Spec(format!("a layer names RoPE {index} of {}", ropes.len())));
            }
            ropes.get(index)
        });
        if let Some(rope) = rope {
            q = g.rope(q, rope, a.head_dim);
        }
        let own = match a.kv_from.map(|layer| kept.get(layer)) {
            Some(Some(earlier)) => *earlier,
            Some(None) => {
                g.fail(FlowError::Spec("a layer shares the keys and values of one that is not before it".into()));
                return x;
            }
            None => self.keys_values(g, a, rope, x),
        };
        kept.push(own);
        let spec = AttentionSpec {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            v_head_dim: a.head_dim,
            scale: a.scale,
            causal: true,
            window: a.window,
            softcap: a.softcap,
            cache: Some(own.cache),
        };
        // A layer that shares stores the same keys and values once more, which changes nothing.
        let o = g.attention(q, own.k, own.v, spec);
        g.linear(o, "o_proj", self.hidden_size, a.o_bias)
    }

    fn keys_values(&self, g: &mut Flow, a: &AttentionLayer, rope: Option<&RopeTable>, x: Tensor) -> KeysValues {
        let mut k = g.linear(x, "k_proj", a.kv_heads * a.head_dim, a.qkv_bias);
        let mut v = if a.keys_as_values { k } else { g.linear(x, "v_proj", a.kv_heads * a.head_dim, a.qkv_bias) };
        if a.qk_norm {
            k = g.head_norm(&self.norm, k, "k_norm", a.head_dim);
        }
        if let Some(rope) = rope {
            k = g.rope(k, rope, a.head_dim);
        }
        if a.v_norm {
            v = g.rms_norm_plain(v, self.norm.eps, a.head_dim);
        }
        let cache = g.cache(Cache { kv_heads: a.kv_heads, k_dim: a.head_dim, v_dim: a.head_dim });
        KeysValues { cache, k, v }
    }

    fn mlp(&self, g: &mut Flow, mlp: &Mlp, x: Tensor) -> Tensor {
        match mlp {
            Mlp::Gated { intermediate_size, activation, bias } => {
                let gate = g.linear(x, "gate_proj", *intermediate_size, *bias);
                let up = g.linear(x, "up_proj", *intermediate_size, *bias);
                let gate = g.activation(gate, *activation);
                let h = g.mul(gate, up);
                g.linear(h, "down_proj", self.hidden_size, *bias)
            }
            Mlp::Moe(moe) => {
                let logits = g.linear(x, "gate", moe.experts, false);
                g.moe(x, logits, moe)
            }
        }
    }
}

/// Keys (normalised and turned) and values of a layer, and where they are kept.
#[derive(Clone, Copy)]
struct KeysValues {
    cache: CacheId,
    k: Tensor,
    v: Tensor,
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
            per_layer_inputs: None,
            layers: vec![LayerSpec::new(attention, mlp); 2],
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
    fn experts_are_parameters_of_their_own() {
        let mut spec = spec();
        let moe = MoeLayer {
            experts: 5,
            top_k: 2,
            intermediate_size: 12,
            activation: Activation::Silu,
            score: RouterScore::Softmax,
            normalise: true,
            expert_scale: None,
        };
        spec.layers[1].mlp = Mlp::Moe(moe);
        spec.layers[0].beside_mlp = Some(MoeLayer { expert_scale: Some("router.per_expert_scale"), ..moe });
        assert_eq!(spec.experts(), 5);
        let graph = spec.build(Taps::None).unwrap();
        let shape = |name: &str| graph.params().iter().find(|param| param.name == name).map(|param| &param.shape[..]);
        assert_eq!(shape("model.layers.1.mlp.gate.weight"), Some(&[5, 54][..]));
        assert_eq!(shape("model.layers.1.mlp.experts.4.down_proj.weight"), Some(&[54, 12][..]));
        assert_eq!(shape("model.layers.0.router.per_expert_scale"), Some(&[5][..]));
        assert_eq!(shape("model.layers.0.experts.0.up_proj.weight"), Some(&[12, 54][..]));
        assert_eq!(shape("model.layers.0.post_feedforward_layernorm_1.weight"), Some(&[54][..]));
    }

    #[test]
    fn shared_keys_and_values_have_one_cache() {
        let mut spec = spec();
        spec.layers[1].attention.kv_from = Some(0);
        let graph = spec.build(Taps::None).unwrap();
        assert_eq!(graph.caches().len(), 1);
        assert!(!graph.params().iter().any(|param| param.name.contains("layers.1.self_attn.k_")));
        spec.layers[0].attention.kv_from = Some(1);
        assert!(spec.build(Taps::None).unwrap_err().to_string().contains("not before it"));
    }

    #[test]
    fn every_layer_adds_its_part_of_a_second_embedding() {
        let mut spec = spec();
        spec.per_layer_inputs = Some(PerLayerInputs { vocab_size: 99, width: 7, activation: Activation::GeluTanh });
        spec.layers[1].output_scale = true;
        let graph = spec.build(Taps::None).unwrap();
        let text = graph.to_string();
        assert!(text.contains("columns(") && text.contains("{7..14}"), "{text}");
        assert!(text.contains("model.layers.1.layer_scalar") && !text.contains("model.layers.0.layer_scalar"));
        let shape = |name: &str| graph.params().iter().find(|param| param.name == name).map(|param| &param.shape[..]);
        assert_eq!(shape("model.embed_tokens_per_layer.weight"), Some(&[99, 14][..]));
        assert_eq!(shape("model.per_layer_projection_norm.weight"), Some(&[7][..]));
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
