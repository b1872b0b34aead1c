//! The typed one-call API.

use std::path::{Path, PathBuf};

use rlx_audio::KaldiFbank;
use rlx_core::{CoreError, Families, LoadOptions, Network, SpanOf};
use rlx_runtime::{CompileOptions, Device, InputData, Isa, Precision};
use rlx_text::CtcVocabulary;
use rlx_weights::Checkpoint;

use crate::weights::{map_options, rules};
use crate::{FAMILY, GraphOptions, PositionEmbeddings, Wav2Vec2BertConfig, Wav2Vec2BertError, graph};

/// Features a row of Kaldi's filter bank has here: two frames of 80.
pub(crate) const FBANK_WIDTH: usize = 160;
/// Longest sequence, in rows of 20 ms: attention's cost grows with its square.
pub(crate) const MAX_ROWS: usize = 30_000;
/// Rows of a long sound that are recognised at a time, and those before and after that they are seen with.
const CHUNK_ROWS: usize = 1_000;
const CONTEXT_ROWS: usize = 250;

/// What the model makes of one sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// Rows: 20 ms each, times the adapter's strides.
    pub rows: usize,
    /// Numbers per row.
    pub width: usize,
    /// `[rows, width]`.
    pub data: Vec<f32>,
}

/// A loaded model with working memory of its own. Clones share the weights.
#[derive(Clone)]
pub struct Wav2Vec2BertRunner {
    config: Wav2Vec2BertConfig,
    network: Network,
    vocabulary: Option<CtcVocabulary>,
    fbank: KaldiFbank,
}

/// Builds a [`Wav2Vec2BertRunner`].
#[derive(Clone, Debug, Default)]
pub struct Wav2Vec2BertRunnerBuilder {
    weights: Option<PathBuf>,
    load: LoadOptions,
}

impl Wav2Vec2BertRunner {
    /// A builder with default options.
    pub fn builder() -> Wav2Vec2BertRunnerBuilder {
        Wav2Vec2BertRunnerBuilder::default()
    }

    /// The model of a checkpoint that is open already.
    ///
    /// # Errors
    /// If it is of another family, incomplete or unreadable, or the device is not there.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        options: &CompileOptions,
    ) -> Result<Wav2Vec2BertRunner, Wav2Vec2BertError> {
        let mut families = Families::new();
        families.register(FAMILY);
        families.expect(FAMILY.name, checkpoint)?;
        let config = Wav2Vec2BertConfig::from_checkpoint(checkpoint)?;
        let network = load_network(checkpoint, &config, GraphOptions::default(), options)?;
        let vocabulary = match config.vocab_size {
            Some(size) => vocabulary(checkpoint, size, config.pad_token_id)?,
            None => None,
        };
        Ok(Wav2Vec2BertRunner { config, network, vocabulary, fbank: KaldiFbank::new()? })
    }

    /// The model's config.
    pub fn config(&self) -> &Wav2Vec2BertConfig {
        &self.config
    }

    /// The compiled graph, to profile it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Size of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.network.executable().weight_bytes()
    }

    /// The last hidden states of a sound: samples at 16 kHz, full scale 1.
    ///
    /// # Errors
    /// If the sound is shorter than 35 ms or longer than 10 minutes, or the model takes other features than Kaldi's filter bank.
    pub fn features(&mut self, samples: &[f32]) -> Result<Hidden, Wav2Vec2BertError> {
        let mut hidden = self.features_batch(&[samples])?;
        Ok(hidden.remove(0))
    }

    /// As [`features`](Self::features) of several sounds at once, in their order. Sounds of different lengths cost no padding.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn features_batch(&mut self, sounds: &[&[f32]]) -> Result<Vec<Hidden>, Wav2Vec2BertError> {
        let inputs = self.fbanks(sounds)?;
        self.run_features(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// The last hidden states of feature rows of one's own making: for each sequence
    /// `[rows, feature_projection_input_dim]`.
    ///
    /// # Errors
    /// If one is no whole number of rows, or longer than 10 minutes.
    pub fn run_features(&mut self, inputs: &[&[f32]]) -> Result<Vec<Hidden>, Wav2Vec2BertError> {
        self.run(inputs, "last_hidden_state", self.config.output_width())
    }

    /// What is said in a sound, by the best token of every row (greedy CTC). A long sound is recognised in pieces of 20 s, each
    /// seen with 5 s before and after it.
    ///
    /// # Errors
    /// If the checkpoint has no CTC head or no vocabulary, and as [`features`](Self::features), but for the length.
    pub fn transcribe(&mut self, samples: &[f32]) -> Result<String, Wav2Vec2BertError> {
        let mut texts = self.transcribe_batch(&[samples], &mut |_, _| true)?;
        Ok(texts.pop().unwrap_or_default())
    }

    /// As [`transcribe`](Self::transcribe) of several sounds, in their order, up to a minute at a time. After each step `progress` is
    /// told how many rows of all are done; `false` stops, and what has been recognised so far is given.
    ///
    /// # Errors
    /// As [`transcribe`](Self::transcribe).
    pub fn transcribe_batch(
        &mut self,
        sounds: &[&[f32]],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<String>, Wav2Vec2BertError> {
        let vocab_size = self.config.vocab_size.ok_or(Wav2Vec2BertError::NoHead)?;
        let vocabulary = self.vocabulary.clone().ok_or(Wav2Vec2BertError::NoVocabulary)?;
        let inputs = self.fbanks(sounds)?;
        let pieces: Vec<Piece> =
            inputs.iter().enumerate().flat_map(|(sound, rows)| pieces_of(sound, rows.len() / FBANK_WIDTH)).collect();
        let total = pieces.iter().map(|piece| piece.core.len()).sum();
        let mut ids: Vec<Vec<u32>> = vec![vec![]; sounds.len()];
        let mut done = 0;
        for batch in pieces.chunks(3) {
            let rows: Vec<&[f32]> = batch
                .iter()
                .map(|piece| &inputs[piece.sound][piece.seen.start * FBANK_WIDTH..piece.seen.end * FBANK_WIDTH])
                .collect();
            let logits = self.run(&rows, "logits", vocab_size)?;
            for (piece, logits) in batch.iter().zip(logits) {
                // The rows that stand for the piece without its surroundings.
                let until = |row: usize| {
                    if row == piece.seen.start { 0 } else { self.config.output_len(row - piece.seen.start) }
                };
                let first = until(piece.core.start);
                let last = if piece.core.end == piece.seen.end { logits.rows } else { until(piece.core.end) };
                let rows = logits.data.chunks_exact(vocab_size).take(last).skip(first);
                ids[piece.sound].extend(rows.map(best));
                done += piece.core.len();
            }
            if !progress(done, total) {
                break;
            }
        }
        Ok(ids.iter().map(|ids| vocabulary.decode(ids)).collect())
    }

    /// The filter-bank rows of sounds.
    fn fbanks(&mut self, sounds: &[&[f32]]) -> Result<Vec<Vec<f32>>, Wav2Vec2BertError> {
        if self.config.feature_projection_input_dim != FBANK_WIDTH {
            return Err(Wav2Vec2BertError::OtherFeatures(self.config.feature_projection_input_dim));
        }
        let mut all = Vec::with_capacity(sounds.len());
        for (index, sound) in sounds.iter().enumerate() {
            let (mut fbank, whole) = self.fbank.stacked(sound, 0.0);
            if whole == 0 {
                return Err(Wav2Vec2BertError::TooShort(index));
            }
            // An odd last frame is padding in the reference, which nobody attends to.
            fbank.data.truncate(whole * FBANK_WIDTH);
            all.push(fbank.data);
        }
        Ok(all)
    }

    fn run(&mut self, inputs: &[&[f32]], output: &str, width: usize) -> Result<Vec<Hidden>, Wav2Vec2BertError> {
        let features = self.config.feature_projection_input_dim;
        for input in inputs {
            if !input.len().is_multiple_of(features) {
                return Err(Wav2Vec2BertError::FeatureShape { found: input.len(), width: features });
            }
            if input.len() / features > MAX_ROWS {
                return Err(Wav2Vec2BertError::TooLong { rows: input.len() / features, max: MAX_ROWS });
            }
        }
        let lens: Vec<usize> = inputs.iter().map(|input| input.len() / features).collect();
        let mut data = Inputs::new(&self.config, &lens);
        data.add("features", inputs.concat());
        self.network.run(&data.symbols(), &data.data(), &SpanOf::ragged(lens.iter().copied()))?;
        let all = self.network.output(output)?;
        let mut rest = all.as_slice();
        let hidden = lens.iter().map(|&len| {
            let rows = self.config.output_len(len);
            let (own, after) = rest.split_at(rows * width);
            rest = after;
            Hidden { rows, width, data: own.to_vec() }
        });
        Ok(hidden.collect())
    }
}

impl Wav2Vec2BertRunnerBuilder {
    /// The checkpoint: a `.safetensors` file, a directory, or one shard. Required.
    #[must_use]
    pub fn weights(mut self, path: impl AsRef<Path>) -> Self {
        self.weights = Some(path.as_ref().to_path_buf());
        self
    }

    /// Where to run.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.load.compile.device = device;
        self
    }

    /// Threads that run the model; all processors by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.load.compile.threads = threads.max(1);
        self
    }

    /// Instruction set of the kernels; the best by default.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.load.compile.isa = isa;
        self
    }

    /// How exactly to compute.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.load.compile.precision = precision;
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If no weights were named, they are of another family, incomplete or unreadable, or the device is not there.
    pub fn build(self) -> Result<Wav2Vec2BertRunner, Wav2Vec2BertError> {
        let path = self.weights.ok_or_else(|| CoreError::Config("no weights given to the builder".into()))?;
        let checkpoint = Checkpoint::open(&path, &self.load.open).map_err(CoreError::from)?;
        Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &self.load.compile)
    }
}

/// A stretch of a sound that is recognised, and the stretch that is seen for it.
struct Piece {
    sound: usize,
    core: std::ops::Range<usize>,
    seen: std::ops::Range<usize>,
}

/// The pieces of a sound of `rows` rows; one if that is little more than a piece with its surroundings.
fn pieces_of(sound: usize, rows: usize) -> impl Iterator<Item = Piece> {
    let step = if rows <= CHUNK_ROWS + 2 * CONTEXT_ROWS { rows } else { CHUNK_ROWS };
    (0..rows).step_by(step.max(1)).map(move |start| {
        let core = start..(start + step).min(rows);
        let seen = core.start.saturating_sub(CONTEXT_ROWS)..(core.end + CONTEXT_ROWS).min(rows);
        Piece { sound, core, seen }
    })
}

/// Rows of the longest of these pieces.
pub(crate) fn longest_piece(rows: usize) -> usize {
    pieces_of(0, rows).map(|piece| piece.seen.len()).max().unwrap_or(0)
}

/// The most likely token; of equals the first.
fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best }) as u32
}

/// The vocabulary of a CTC head; none if there is no `vocab.json`.
fn vocabulary(checkpoint: &Checkpoint, size: usize, blank: u32) -> Result<Option<CtcVocabulary>, CoreError> {
    let Some(vocab) = checkpoint.sidecar_json("vocab.json")? else { return Ok(None) };
    let tokenizer = checkpoint.sidecar_json("tokenizer_config.json")?;
    Ok(Some(CtcVocabulary::from_hf(&vocab, tokenizer.as_ref(), size, blank)?))
}

/// The compiled model of a checkpoint.
pub(crate) fn load_network(
    checkpoint: &Checkpoint,
    config: &Wav2Vec2BertConfig,
    options: GraphOptions,
    compile: &CompileOptions,
) -> Result<Network, CoreError> {
    Network::load(graph(config, options)?, checkpoint, &rules(), &map_options(config), compile)
}

/// Inputs of a graph by name, with those that follow from the lengths of the sequences.
pub(crate) struct Inputs {
    rows: usize,
    distances: usize,
    positions: Option<Vec<i32>>,
    named: Vec<(String, Vec<f32>)>,
}

impl Inputs {
    pub(crate) fn new(config: &Wav2Vec2BertConfig, lens: &[usize]) -> Inputs {
        let mut inputs = Inputs { rows: lens.iter().sum(), distances: 0, positions: None, named: vec![] };
        match config.position_embeddings {
            PositionEmbeddings::Rotary(_) => {
                inputs.positions = Some(lens.iter().flat_map(|&len| 0..len as i32).collect());
            }
            PositionEmbeddings::Relative => {
                let reach = lens.iter().copied().max().unwrap_or(0).saturating_sub(1);
                inputs.distances = 2 * reach + 1;
                inputs.named.push(("distances".into(), sinusoids(reach, config.hidden_size)));
            }
            PositionEmbeddings::None | PositionEmbeddings::RelativeKey { .. } => {}
        }
        inputs
    }

    pub(crate) fn add(&mut self, name: &str, data: Vec<f32>) {
        self.named.push((name.into(), data));
    }

    pub(crate) fn symbols(&self) -> [(&'static str, usize); 2] {
        [("T", self.rows), ("D", self.distances)]
    }

    pub(crate) fn data(&self) -> Vec<(&str, InputData<'_>)> {
        let named = self.named.iter().map(|(name, data)| (name.as_str(), InputData::F32(data)));
        named.chain(self.positions.as_deref().map(|positions| ("positions", InputData::I32(positions)))).collect()
    }
}

/// Sines and cosines, in turns, of how far a key is to the left, for keys from `reach` to the left to `reach` to the right:
/// `[2 reach + 1, width]` (`Wav2Vec2BertRelPositionalEmbedding`).
fn sinusoids(reach: usize, width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity((2 * reach + 1) * width);
    for left in (-(reach as i64)..=reach as i64).rev() {
        for i in 0..width / 2 {
            // In f32, as the reference has it.
            let step = (2 * i) as f32 * -(10_000f64.ln() / width as f64) as f32;
            let (sin, cos) = (left as f32 * step.exp()).sin_cos();
            rows.extend([sin, cos]);
        }
    }
    rows
}
