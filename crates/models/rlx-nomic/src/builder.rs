//! Config to graph.

use rlx_core::CoreError;
use rlx_core::encoder::{EncoderModel, names};
use rlx_flow::{Activation, Flow, FlowError, Graph, NormKind, NormSpec, RopeTable, Taps, Tensor};
use rlx_ir::AttentionSpec;
use rlx_weights::Checkpoint;

use crate::{NomicBertConfig, weights};

/// The encoder of `checkpoint`. Outputs: `last_hidden_state`, and with [`Taps::Hidden`] `hidden.0` (what enters layer 0) to
/// `hidden.N`.
///
/// # Errors
/// If the config is incomplete or impossible.
pub fn encoder(checkpoint: &Checkpoint, taps: Taps) -> Result<EncoderModel, CoreError> {
    let config = NomicBertConfig::from_checkpoint(checkpoint)?;
    Ok(EncoderModel {
        graph: build(&config, taps)?,
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        max_positions: config.max_position_embeddings,
        token_types: config.type_vocab_size.max(1),
        layers: config.num_hidden_layers,
        head_dim: config.head_dim,
        rules: weights::rules(&config),
        prefixes: weights::PREFIXES,
    })
}

fn build(config: &NomicBertConfig, taps: Taps) -> Result<Graph, FlowError> {
    let mut g = Flow::new();
    let tokens = g.index_input(names::TOKENS, names::TOKEN_COUNT);
    let positions = g.index_input(names::POSITIONS, names::TOKEN_COUNT);
    let rope = g.rope_table(&config.rope, positions);
    let mut x = g.embedding(tokens, "embeddings.word_embeddings", config.vocab_size, config.hidden_size);
    if config.type_vocab_size > 0 {
        let types = g.index_input(names::TOKEN_TYPES, names::TOKEN_COUNT);
        let types = g.embedding(types, "embeddings.token_type_embeddings", config.type_vocab_size, config.hidden_size);
        x = g.add(x, types);
    }
    let norm = NormSpec { kind: NormKind::Layer { bias: true }, eps: config.layer_norm_eps };
    x = g.norm(&norm, x, "emb_ln");
    for i in 0..config.num_hidden_layers {
        if taps == Taps::Hidden {
            g.output(&format!("hidden.{i}"), x);
        }
        x = g.scope(&format!("encoder.layers.{i}"), |g| layer(g, config, &norm, &rope, x));
    }
    if taps == Taps::Hidden {
        g.output(&format!("hidden.{}", config.num_hidden_layers), x);
    }
    g.output(names::LAST_HIDDEN_STATE, x);
    g.finish()
}

/// `x = norm1(x + attention(x)); norm2(x + mlp(x))`.
fn layer(g: &mut Flow, config: &NomicBertConfig, norm: &NormSpec, rope: &RopeTable, x: Tensor) -> Tensor {
    let (width, head_dim) = (config.hidden_size, config.head_dim);
    let qkv = g.linear(x, "attn.Wqkv", 3 * width, config.qkv_proj_bias);
    let [q, k, v] = [0, 1, 2].map(|i| g.columns(qkv, i * width, width));
    let [q, k] = [q, k].map(|x| g.rope(x, rope, head_dim));
    let attended = g.attention(q, k, v, AttentionSpec::bidirectional(config.num_attention_heads, head_dim));
    let attended = g.linear(attended, "attn.out_proj", width, config.qkv_proj_bias);
    let x = g.add(attended, x);
    let x = g.norm(norm, x, "norm1");

    let up = g.linear(x, "mlp.fc11", config.intermediate_size, config.mlp_fc1_bias);
    let gate = g.linear(x, "mlp.fc12", config.intermediate_size, config.mlp_fc1_bias);
    let gate = g.activation(gate, Activation::Silu);
    let inner = g.mul(gate, up);
    let out = g.linear(inner, "mlp.fc2", width, config.mlp_fc2_bias);
    let x = g.add(out, x);
    g.norm(norm, x, "norm2")
}
