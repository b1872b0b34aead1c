//! Text encoders: models that turn tokens into vectors, all tokens of a text at once.
//!
//! A family reads an [`EncoderModel`] from a checkpoint: a graph and the names of its weights. [`Encoder`] runs it on ragged
//! batches: the tokens of several texts one after the other, with no padding. [`pool`] makes one vector of a text's.

mod forward;
mod modules;
mod pooling;
mod sizes;

use rlx_ir::Graph;
use rlx_runtime::{CompileOptions, InputData};
use rlx_weights::Checkpoint;
use rlx_weights::names::{MapOptions, NameRule};

pub use modules::SentenceModules;
pub use pooling::{Pooling, l2_normalise, pool};
pub use sizes::EncoderSizes;

use crate::{CoreError, GgufHeader, Network, SpanOf, StoredModel};

/// Names by which an encoder's graph and [`Encoder`] know each other.
pub mod names {
    /// Symbol: tokens of all texts of a batch.
    pub const TOKEN_COUNT: &str = "T";
    /// Symbol: texts of a batch.
    pub const TEXT_COUNT: &str = "S";
    /// Input, I32 `[T]`: token ids.
    pub const TOKENS: &str = "tokens";
    /// Input, I32 `[T]`: position of each token in its text.
    pub const POSITIONS: &str = "positions";
    /// Input, I32 `[T]`: which of two texts a token belongs to. A graph may do without.
    pub const TOKEN_TYPES: &str = "token_types";
    /// Input, I32 `[S]`: the first token of each text. Graphs with an output per text have it.
    pub const FIRST_ROWS: &str = "first_rows";
    /// Output, F32 `[T, hidden]`: what leaves the last layer.
    pub const LAST_HIDDEN_STATE: &str = "last_hidden_state";
    /// Output, F32 `[S, hidden]`: tanh of a dense layer on the first token (BERT's pooler).
    pub const POOLER_OUTPUT: &str = "pooler_output";
    /// Output, F32 `[S, labels]`: scores of a classification head.
    pub const LOGITS: &str = "logits";
    /// Output, F32 `[T, vocab]`: scores of a masked-language-model head.
    pub const MLM_LOGITS: &str = "mlm_logits";
}

/// A text encoder read from a checkpoint's config: what it computes, and where its weights are.
#[derive(Clone, Debug)]
pub struct EncoderModel {
    /// The mathematics, between the inputs and outputs of [`names`].
    pub graph: Graph,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Longest text, in tokens.
    pub max_positions: usize,
    /// Kinds of texts that tokens may be of; at least 1.
    pub token_types: usize,
    /// Layers.
    pub layers: usize,
    /// Width of an attention head.
    pub head_dim: usize,
    /// Canonical names, GGUF names and transforms of every tensor.
    pub rules: Vec<NameRule>,
    /// Other spellings of the beginning of canonical names; see [`MapOptions::prefixes`].
    pub prefixes: &'static [(&'static str, &'static str)],
}

impl EncoderModel {
    fn map_options(&self) -> MapOptions<'static> {
        MapOptions { layers: self.layers, experts: 0, head_dim: self.head_dim, prefixes: self.prefixes }
    }

    /// The model for conversion to GGUF, which [`gguf_source`](crate::gguf_source) does.
    pub fn stored(self, header: GgufHeader) -> StoredModel {
        let names = self.map_options();
        StoredModel { header, graph: self.graph, vocab_size: self.vocab_size, rules: self.rules, names }
    }
}

/// A batch of texts as tokens, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch<'a> {
    /// Token ids of all texts.
    pub tokens: &'a [i32],
    /// Which of two texts each token belongs to; none is 0 for all.
    pub token_types: Option<&'a [i32]>,
    /// Position of each token in its text; none counts each text from 0.
    pub positions: Option<&'a [i32]>,
    /// Tokens of each text.
    pub lens: &'a [usize],
}

/// A compiled text encoder with working memory of its own. Clones share the weights.
#[derive(Clone)]
pub struct Encoder {
    network: Network,
    vocab_size: usize,
    hidden_size: usize,
    max_positions: usize,
    token_types: usize,
    /// Inputs of the last batch, kept for their memory.
    positions: Vec<i32>,
    types: Vec<i32>,
    first_rows: Vec<i32>,
}

impl Encoder {
    /// Compiles `model` with the weights of `checkpoint`.
    ///
    /// # Errors
    /// If a parameter is missing or of another shape, a tensor is neither used nor ignored, or the device is not there.
    pub fn load(checkpoint: &Checkpoint, model: EncoderModel, options: &CompileOptions) -> Result<Encoder, CoreError> {
        let names = model.map_options();
        let EncoderModel { graph, vocab_size, hidden_size, max_positions, token_types, rules, .. } = model;
        let network = Network::load(graph, checkpoint, &rules, &names, options)?;
        let (positions, types, first_rows) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Encoder { network, vocab_size, hidden_size, max_positions, token_types, positions, types, first_rows })
    }

    /// Entries of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Width of a token's vector.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Longest text, in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Kinds of texts that tokens may be of.
    pub fn token_types(&self) -> usize {
        self.token_types
    }

    /// The compiled graph and its working memory.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Whether the graph has an output of this name.
    pub fn has_output(&self, name: &str) -> bool {
        self.network.executable().graph().outputs().iter().any(|(output, _)| output == name)
    }

    /// Runs a batch. Tokens of one text see each other and no others.
    ///
    /// # Errors
    /// If there are no tokens, a text is longer than [`Encoder::max_positions`], the lengths do not add up, or an id or type is
    /// out of range.
    pub fn run(&mut self, batch: &TokenBatch<'_>) -> Result<(), CoreError> {
        let total = batch.tokens.len();
        let fail = |name: &str, what: String| Err(CoreError::Input { name: name.to_string(), what });
        let sum = batch.lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
        if total == 0 || sum != Some(total) || batch.lens.contains(&0) {
            return fail(names::TOKENS, format!("are {total}, which are no texts of {:?} tokens", head(batch.lens)));
        }
        if let Some(&len) = batch.lens.iter().find(|&&len| len > self.max_positions) {
            return Err(CoreError::TextTooLong { tokens: len, max: self.max_positions });
        }
        let aligned = [batch.token_types, batch.positions].into_iter().flatten().all(|ids| ids.len() == total);
        if !aligned {
            return fail(names::TOKENS, "are not as many as their types or positions".into());
        }
        // Graphs that look positions up know their limit; those that turn by them must be told.
        let in_range = |&position: &i32| usize::try_from(position).is_ok_and(|p| p < self.max_positions);
        if let Some(bad) = batch.positions.and_then(|all| all.iter().find(|position| !in_range(position))) {
            return fail(names::POSITIONS, format!("holds {bad}, which is not below {}", self.max_positions));
        }
        self.positions.clear();
        self.first_rows.clear();
        let mut first = 0;
        for &len in batch.lens {
            // Bounded by the arena's size, which is checked to fit long before 2^31 tokens.
            self.first_rows.push(first as i32);
            self.positions.extend(0..len as i32);
            first += len;
        }
        if batch.token_types.is_none() {
            self.types.clear();
            self.types.resize(total, 0);
        }
        let symbols = [(names::TOKEN_COUNT, total), (names::TEXT_COUNT, batch.lens.len())];
        let inputs = [
            (names::TOKENS, InputData::I32(batch.tokens)),
            (names::POSITIONS, InputData::I32(batch.positions.unwrap_or(&self.positions))),
            (names::TOKEN_TYPES, InputData::I32(batch.token_types.unwrap_or(&self.types))),
            (names::FIRST_ROWS, InputData::I32(&self.first_rows)),
        ];
        self.network.run(&symbols, &inputs, &SpanOf::ragged(batch.lens.iter().copied()))
    }

    /// Copies an output of the last batch into `out`, whose earlier content is replaced.
    ///
    /// # Errors
    /// If there is no such output, or nothing has run.
    pub fn read(&mut self, name: &str, out: &mut Vec<f32>) -> Result<(), CoreError> {
        self.network.read(name, out)
    }
}

/// Enough of a list to recognise it by.
fn head(lens: &[usize]) -> &[usize] {
    &lens[..lens.len().min(8)]
}
