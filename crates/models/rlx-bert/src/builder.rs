//! Config to graph.

use rlx_core::CoreError;
use rlx_core::encoder::{EncoderModel, names};
use rlx_flow::{Activation, Flow, FlowError, Graph, NormKind, NormSpec, Taps, Tensor};
use rlx_ir::AttentionSpec;
use rlx_weights::Checkpoint;

use crate::{BertConfig, weights};

/// What stands on the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BertHead {
    /// Nothing: the output is every token's vector.
    None,
    /// tanh of a dense layer on the first token.
    Pooler,
    /// Scores of all words for each token.
    MaskedLm,
    /// The pooler, then scores of so many labels.
    Classification {
        /// Number of labels; 1 for most cross-encoders.
        labels: usize,
    },
}

impl BertHead {
    /// The head that the weights of `checkpoint` are for. GGUF files hold none.
    pub fn of(checkpoint: &Checkpoint) -> BertHead {
        let has = |name: &str| checkpoint.tensor(name);
        if let Some(labels) = has("classifier.weight").and_then(|tensor| tensor.shape.first().copied()) {
            BertHead::Classification { labels }
        } else if has("cls.predictions.transform.dense.weight").is_some() {
            BertHead::MaskedLm
        } else if has("pooler.dense.weight").or(has("bert.pooler.dense.weight")).is_some() {
            BertHead::Pooler
        } else {
            BertHead::None
        }
    }
}

/// The encoder of `checkpoint` with `head`. Outputs: `last_hidden_state`, the head's (`pooler_output`, `mlm_logits` or `logits`), and
/// with [`Taps::Hidden`] `hidden.0` (what enters layer 0) to `hidden.N`.
///
/// # Errors
/// If the config is incomplete or impossible.
pub fn encoder(checkpoint: &Checkpoint, head: BertHead, taps: Taps) -> Result<EncoderModel, CoreError> {
    let config = BertConfig::from_checkpoint(checkpoint)?;
    Ok(EncoderModel {
        graph: build(&config, head, taps)?,
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        max_positions: config.max_position_embeddings,
        token_types: config.type_vocab_size.max(1),
        layers: config.num_hidden_layers,
        head_dim: config.head_dim(),
        rules: weights::rules(&config, head),
        prefixes: weights::PREFIXES,
    })
}

fn build(config: &BertConfig, head: BertHead, taps: Taps) -> Result<Graph, FlowError> {
    let mut g = Flow::new();
    let mut x = embeddings(&mut g, config);
    let tap = |g: &mut Flow, layer: usize, x: Tensor| {
        if taps == Taps::Hidden {
            g.output(&format!("hidden.{layer}"), x);
        }
    };
    tap(&mut g, 0, x);
    for i in 0..config.num_hidden_layers {
        x = g.scope(&format!("encoder.layer.{i}"), |g| layer(g, config, x));
        tap(&mut g, i + 1, x);
    }
    g.output(names::LAST_HIDDEN_STATE, x);
    match head {
        BertHead::None => {}
        BertHead::Pooler => {
            let pooled = pooler(&mut g, config, x);
            g.output(names::POOLER_OUTPUT, pooled);
        }
        BertHead::MaskedLm => {
            let logits = masked_lm(&mut g, config, x);
            g.output(names::MLM_LOGITS, logits);
        }
        BertHead::Classification { labels } => {
            let pooled = pooler(&mut g, config, x);
            let logits = g.linear(pooled, "classifier", labels, true);
            g.output(names::LOGITS, logits);
        }
    }
    g.finish()
}

fn norm(config: &BertConfig) -> NormSpec {
    NormSpec { kind: NormKind::Layer { bias: true }, eps: config.layer_norm_eps }
}

fn embeddings(g: &mut Flow, config: &BertConfig) -> Tensor {
    let tokens = g.index_input(names::TOKENS, names::TOKEN_COUNT);
    let positions = g.index_input(names::POSITIONS, names::TOKEN_COUNT);
    let width = config.hidden_size;
    let mut x = g.embedding(tokens, "embeddings.word_embeddings", config.vocab_size, width);
    if config.type_vocab_size > 0 {
        let types = g.index_input(names::TOKEN_TYPES, names::TOKEN_COUNT);
        let types = g.embedding(types, "embeddings.token_type_embeddings", config.type_vocab_size, width);
        x = g.add(x, types);
    }
    let positions = g.embedding(positions, "embeddings.position_embeddings", config.max_position_embeddings, width);
    let x = g.add(x, positions);
    g.norm(&norm(config), x, "embeddings.LayerNorm")
}

/// `x = norm(x + attention(x)); norm(x + mlp(x))`.
fn layer(g: &mut Flow, config: &BertConfig, x: Tensor) -> Tensor {
    let width = config.hidden_size;
    let [q, k, v] = ["query", "key", "value"].map(|name| g.linear(x, &format!("attention.self.{name}"), width, true));
    let spec = AttentionSpec::bidirectional(config.num_attention_heads, config.head_dim());
    let attended = g.attention(q, k, v, spec);
    let attended = g.linear(attended, "attention.output.dense", width, true);
    let x = g.add(attended, x);
    let x = g.norm(&norm(config), x, "attention.output.LayerNorm");

    let inner = g.linear(x, "intermediate.dense", config.intermediate_size, true);
    let inner = g.activation(inner, config.hidden_act);
    let out = g.linear(inner, "output.dense", width, true);
    let x = g.add(out, x);
    g.norm(&norm(config), x, "output.LayerNorm")
}

fn pooler(g: &mut Flow, config: &BertConfig, x: Tensor) -> Tensor {
    let rows = g.index_input(names::FIRST_ROWS, names::TEXT_COUNT);
    let first = g.select_rows(x, rows);
    let pooled = g.linear(first, "pooler.dense", config.hidden_size, true);
    g.activation(pooled, Activation::Tanh)
}

fn masked_lm(g: &mut Flow, config: &BertConfig, x: Tensor) -> Tensor {
    let x = g.linear(x, "cls.predictions.transform.dense", config.hidden_size, true);
    let x = g.activation(x, config.hidden_act);
    let x = g.norm(&norm(config), x, "cls.predictions.transform.LayerNorm");
    let table = match config.tie_word_embeddings {
        true => "embeddings.word_embeddings.weight",
        false => "cls.predictions.decoder.weight",
    };
    g.linear_by(x, table, Some(weights::masked_lm_bias(config)), config.vocab_size)
}
