//! The two graphs: encoder and decoder. Mathematics only.

use rlx_flow::{Conv1d, Flow, FlowError, NormKind, NormSpec, Tensor, Window};
use rlx_ir::{Activation, AttentionSpec, Cache, CrossAttentionSpec, CrossKv, CrossKvId, Graph, batch};

use crate::WhisperConfig;

/// Symbol of the encoder: frames of the batch.
pub(crate) const FRAME_COUNT: &str = "F";
/// Input of the encoder, F32 `[F, num_mel_bins]`: log-mel spectrograms.
pub(crate) const FEATURES: &str = "input_features";
/// Input of the encoder, I32 `[F / 2]`: position of each encoded row in its window.
pub(crate) const PLACES: &str = "places";
/// Output of the encoder: what it makes of the frames.
pub(crate) const ENCODED: &str = "encoder_last_hidden_state";

/// Names of hidden states as outputs, for parity with a reference.
pub(crate) fn hidden(side: &str, index: usize) -> String {
    format!("{side}_hidden.{index}")
}

/// Epsilon of all norms.
const NORM: NormSpec = NormSpec { kind: NormKind::Layer { bias: true }, eps: 1e-5 };

/// The encoder: frames to keys and values of every decoder layer. With `taps` the hidden states are outputs.
pub(crate) fn encoder(config: &WhisperConfig, taps: bool) -> Result<Graph, FlowError> {
    let mut g = Flow::new();
    let frames = g.rows_input(FEATURES, FRAME_COUNT, config.num_mel_bins);
    let cross = cross_kvs(&mut g, config);
    g.scope("model", |g| {
        let encoded = g.scope("encoder", |g| {
            let conv = |g: &mut Flow, x: Tensor, name: &str, stride: usize| {
                let window = Window::new(3).pad(1, 1).stride(stride);
                let x = g.conv1d(x, name, Conv1d { out: config.d_model, window, groups: 1, bias: true });
                g.activation(x, Activation::GeluErf)
            };
            let x = conv(g, frames, "conv1", 1);
            let x = conv(g, x, "conv2", 2);
            let places = g.index_input_of(PLACES, x);
            let positions = g.embedding(places, "embed_positions", config.max_source_positions, config.d_model);
            let mut x = g.add(x, positions);
            for layer in 0..config.encoder_layers {
                if taps {
                    g.output(&hidden("enc", layer), x);
                }
                x = g.scope(&format!("layers.{layer}"), |g| {
                    let x = self_attention(g, x, config.d_model, config.encoder_attention_heads, None);
                    feed_forward(g, x, config, config.encoder_ffn_dim)
                });
            }
            g.norm(&NORM, x, "layer_norm")
        });
        if taps {
            g.output(&hidden("enc", config.encoder_layers), encoded);
            g.output(ENCODED, encoded);
        }
        for (layer, id) in cross.into_iter().enumerate() {
            g.scope(&format!("decoder.layers.{layer}.encoder_attn"), |g| {
                let k = g.linear(encoded, "k_proj", config.d_model, false);
                let v = g.linear(encoded, "v_proj", config.d_model, true);
                g.store_cross_kv(k, v, id);
            });
        }
    });
    g.finish()
}

/// The decoder: a ragged batch of tokens, each sequence about an encoded window, to logits. With `taps` the hidden states are outputs.
pub(crate) fn decoder(config: &WhisperConfig, taps: bool) -> Result<Graph, FlowError> {
    let mut g = Flow::new();
    let tokens = g.index_input(batch::TOKENS, batch::TOKEN_COUNT);
    let positions = g.index_input(batch::POSITIONS, batch::TOKEN_COUNT);
    let logit_rows = g.index_input(batch::LOGIT_ROWS, batch::LOGIT_COUNT);
    let weight_rows = g.index_input(batch::CROSS_WEIGHT_ROWS, batch::CROSS_WEIGHT_COUNT);
    let cross = cross_kvs(&mut g, config);
    g.scope("model.decoder", |g| {
        // transformers' class reads `scale_embedding` and scales nothing.
        let x = g.embedding(tokens, "embed_tokens", config.vocab_size, config.d_model);
        let places = g.embedding(positions, "embed_positions", config.max_target_positions, config.d_model);
        let mut x = g.add(x, places);
        for (layer, id) in cross.into_iter().enumerate() {
            if taps {
                g.output(&hidden("dec", layer), x);
            }
            x = g.scope(&format!("layers.{layer}"), |g| {
                let (heads, head_dim) =
                    (config.decoder_attention_heads, config.d_model / config.decoder_attention_heads);
                let cache = Cache { kv_heads: heads, k_dim: head_dim, v_dim: head_dim };
                let x = self_attention(g, x, config.d_model, heads, Some(cache));
                let x = cross_attention(g, x, config, layer, id, weight_rows);
                feed_forward(g, x, config, config.decoder_ffn_dim)
            });
        }
        if taps {
            let last = g.norm(&NORM, x, "layer_norm");
            g.output(&hidden("dec", config.decoder_layers), last);
        }
        let x = g.select_rows(x, logit_rows);
        let x = g.norm(&NORM, x, "layer_norm");
        let logits = g.linear(x, "embed_tokens", config.vocab_size, false);
        g.output(batch::LOGITS, logits);
    });
    g.finish()
}

/// The cross KV cache that both graphs declare.
fn cross_kvs(g: &mut Flow, config: &WhisperConfig) -> Vec<CrossKvId> {
    let head_dim = config.d_model / config.decoder_attention_heads;
    let kv = CrossKv {
        kv_heads: config.decoder_attention_heads,
        k_dim: head_dim,
        v_dim: head_dim,
        rows: config.max_source_positions,
    };
    (0..config.decoder_layers).map(|_| g.cross_kv(kv)).collect()
}

/// Causal with a cache, in both directions without one.
fn self_attention(g: &mut Flow, x: Tensor, d_model: usize, heads: usize, cache: Option<Cache>) -> Tensor {
    let h = g.norm(&NORM, x, "self_attn_layer_norm");
    let attended = g.scope("self_attn", |g| {
        let q = g.linear(h, "q_proj", d_model, true);
        let k = g.linear(h, "k_proj", d_model, false);
        let v = g.linear(h, "v_proj", d_model, true);
        let head_dim = d_model / heads;
        let spec = AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            v_head_dim: head_dim,
            scale: scale(head_dim),
            causal: cache.is_some(),
            window: None,
            softcap: None,
            cache: cache.map(|cache| g.cache(cache)),
        };
        let a = g.attention(q, k, v, spec);
        g.linear(a, "out_proj", d_model, true)
    });
    g.add(x, attended)
}

fn cross_attention(
    g: &mut Flow,
    x: Tensor,
    config: &WhisperConfig,
    layer: usize,
    source: CrossKvId,
    weight_rows: Tensor,
) -> Tensor {
    let h = g.norm(&NORM, x, "encoder_attn_layer_norm");
    let attended = g.scope("encoder_attn", |g| {
        let q = g.linear(h, "q_proj", config.d_model, true);
        let heads = config.decoder_attention_heads;
        let spec = CrossAttentionSpec { heads, scale: scale(config.d_model / heads), source };
        let chosen: Vec<usize> =
            config.alignment_heads.iter().filter(|(of, _)| *of == layer).map(|&(_, head)| head).collect();
        if !chosen.is_empty() {
            let weights = g.cross_weights(q, weight_rows, spec, chosen);
            g.output(&batch::cross_weights(layer), weights);
        }
        let a = g.cross_attention(q, spec);
        g.linear(a, "out_proj", config.d_model, true)
    });
    g.add(x, attended)
}

fn feed_forward(g: &mut Flow, x: Tensor, config: &WhisperConfig, width: usize) -> Tensor {
    let h = g.norm(&NORM, x, "final_layer_norm");
    let h = g.linear(h, "fc1", width, true);
    let h = g.activation(h, config.activation_function);
    let h = g.linear(h, "fc2", config.d_model, true);
    g.add(x, h)
}

fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
