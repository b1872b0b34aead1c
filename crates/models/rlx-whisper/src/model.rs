//! The network: [`SpeechModel`] on the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use rlx_core::{CoreError, LoadOptions, Network, SpanOf};
use rlx_ir::{Graph, batch};
use rlx_runtime::{
    CompileOptions, CrossCache, CrossEntry, Entry, Executable, InputData, KvType, Logits, Precision, Session,
    SessionOptions, StepProfile,
};
use rlx_weights::{Checkpoint, TensorView};

use crate::builder::{self, FEATURES, FRAME_COUNT, PLACES};
use crate::decode::{Alignment, Feed, SequenceId, SpeechFacts, SpeechModel, WindowId};
use crate::{WhisperConfig, weights};

/// Windows that are encoded in one run. More gain nothing: one fills the matrix products.
const WINDOWS_PER_RUN: usize = 2;

/// A Whisper model in memory, with the windows and sequences that are in work.
pub struct WhisperModel {
    config: WhisperConfig,
    pub(crate) encoder: Network,
    pub(crate) session: Session,
    cache: CrossCache,
    windows: BTreeMap<WindowId, CrossEntry>,
    sequences: BTreeMap<SequenceId, rlx_runtime::SequenceId>,
    next: u32,
}

impl WhisperModel {
    /// Loads the model of `checkpoint`.
    ///
    /// # Errors
    /// If the config is incomplete or impossible, a weight is missing or of another shape, or the device is not there.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<WhisperModel, CoreError> {
        WhisperModel::build(checkpoint, &options.compile, false)
    }

    /// As [`WhisperModel::load`]; with `taps` the hidden states are outputs.
    pub(crate) fn build(
        checkpoint: &Checkpoint,
        options: &CompileOptions,
        taps: bool,
    ) -> Result<WhisperModel, CoreError> {
        let config = WhisperConfig::from_checkpoint(checkpoint)?;
        let graphs = [builder::encoder(&config, taps)?, builder::decoder(&config, taps)?];
        let params = weights::params(checkpoint, &config, &graphs.each_ref())?;
        let mut executables = graphs.into_iter().zip(params).map(|(graph, params)| compile(graph, params, options));
        let (Some(encoder), Some(decoder)) = (executables.next(), executables.next()) else {
            return Err(CoreError::Config("a model has an encoder and a decoder".into()));
        };
        let (encoder, decoder) = (encoder?, decoder?);
        // `Precision::F32` promises f32 throughout.
        let kv_type = if options.precision == Precision::F32 { KvType::F32 } else { KvType::F16 };
        let cache = CrossCache::new(decoder.as_ref(), kv_type)?;
        let encoder = Network::encoder(encoder, &cache)?;
        let max_seq = config.max_target_positions;
        let session = SessionOptions { max_seq, kv_type, ..SessionOptions::default() };
        let session = Session::with_cross_cache(decoder, session, cache.clone())?;
        let (windows, sequences) = (BTreeMap::new(), BTreeMap::new());
        Ok(WhisperModel { config, encoder, session, cache, windows, sequences, next: 0 })
    }

    /// Names and shapes of all parameters of a model of these sizes.
    ///
    /// # Errors
    /// If the sizes do not fit together.
    pub fn parameters(config: &WhisperConfig) -> Result<Vec<(String, Vec<usize>)>, CoreError> {
        let graphs = [builder::encoder(config, false)?, builder::decoder(config, false)?];
        let mut all: Vec<(String, Vec<usize>)> = Vec::new();
        for param in graphs.iter().flat_map(Graph::params) {
            if !all.iter().any(|(name, _)| *name == param.name) {
                all.push((param.name.clone(), param.shape.clone()));
            }
        }
        Ok(all)
    }

    /// The sizes.
    pub fn config(&self) -> &WhisperConfig {
        &self.config
    }

    /// The compiled encoder and decoder.
    pub fn executables(&self) -> [&Arc<dyn Executable>; 2] {
        [self.encoder.executable(), self.session.executable()]
    }

    /// Bytes of encoded windows.
    pub fn window_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Starts or ends the recording of times per step.
    pub fn set_profiling(&mut self, on: bool) {
        self.encoder.set_profiling(on);
        self.session.set_profiling(on);
    }

    /// Times of the encoder's steps, then of the decoder's, since profiling was turned on.
    pub fn profile(&self) -> [Vec<StepProfile>; 2] {
        [self.encoder.profile(), self.session.profile()]
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn window(&self, window: WindowId) -> Result<&CrossEntry, CoreError> {
        self.windows.get(&window).ok_or_else(|| unknown("window", window.0))
    }

    /// The session's name of a sequence.
    pub(crate) fn runtime_sequence(&self, sequence: SequenceId) -> Result<rlx_runtime::SequenceId, CoreError> {
        self.sequences.get(&sequence).copied().ok_or_else(|| unknown("sequence", sequence.0))
    }

    /// Encodes windows that lie one after the other in `frames`.
    pub(crate) fn encode_run(&mut self, frames: &[f32], count: usize) -> Result<Vec<WindowId>, CoreError> {
        let (rows, len) = (self.config.max_source_positions, self.config.window_frames());
        let places: Vec<i32> = (0..count).flat_map(|_| 0..rows as i32).collect();
        let entries = (0..count).map(|_| self.cache.add_entry(rows)).collect::<Result<Vec<_>, _>>()?;
        self.encoder.run_into(
            &[(FRAME_COUNT, count * len)],
            &[(FEATURES, InputData::F32(frames)), (PLACES, InputData::I32(&places))],
            &SpanOf::ragged((0..count).map(|_| len)),
            &entries,
        )?;
        let windows = entries.into_iter().map(|entry| {
            let id = WindowId(self.id());
            self.windows.insert(id, entry);
            id
        });
        Ok(windows.collect())
    }
}

fn compile(graph: Graph, params: Vec<TensorView>, options: &CompileOptions) -> Result<Arc<dyn Executable>, CoreError> {
    Ok(Arc::clone(Network::compile(graph, params, options)?.executable()))
}

fn unknown(what: &str, id: u32) -> CoreError {
    CoreError::Input { name: what.into(), what: format!("number {id} is not there") }
}

impl SpeechModel for WhisperModel {
    fn facts(&self) -> SpeechFacts {
        SpeechFacts {
            vocab: self.config.vocab_size,
            n_mels: self.config.num_mel_bins,
            window_frames: self.config.window_frames(),
            audio_positions: self.config.max_source_positions,
            max_tokens: self.config.max_target_positions,
        }
    }

    fn encode(&mut self, windows: &[&[f32]]) -> Result<Vec<WindowId>, CoreError> {
        let size = self.config.window_frames() * self.config.num_mel_bins;
        if let Some(window) = windows.iter().find(|window| window.len() != size) {
            let what = format!("of {} values is no window of {size}", window.len());
            return Err(CoreError::Input { name: FEATURES.into(), what });
        }
        let mut ids = Vec::with_capacity(windows.len());
        for some in windows.chunks(WINDOWS_PER_RUN) {
            let run = match some {
                [one] => self.encode_run(one, 1),
                several => self.encode_run(&several.concat(), several.len()),
            };
            match run {
                Ok(run) => ids.extend(run),
                Err(error) => {
                    // Nobody would know of those that are done.
                    ids.iter().for_each(|id| drop(self.windows.remove(id)));
                    return Err(error);
                }
            }
        }
        Ok(ids)
    }

    fn release(&mut self, window: WindowId) -> Result<(), CoreError> {
        self.windows.remove(&window).map(drop).ok_or_else(|| unknown("window", window.0))
    }

    fn add_sequence(&mut self, window: WindowId) -> Result<SequenceId, CoreError> {
        let entry = self.window(window)?.clone();
        let sequence = self.session.add_sequence_about(&entry)?;
        let id = SequenceId(self.id());
        self.sequences.insert(id, sequence);
        Ok(id)
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, CoreError> {
        let copy = self.session.fork(self.runtime_sequence(sequence)?)?;
        let id = SequenceId(self.id());
        self.sequences.insert(id, copy);
        Ok(id)
    }

    fn remove(&mut self, sequence: SequenceId) -> Result<(), CoreError> {
        let inner = self.runtime_sequence(sequence)?;
        self.session.remove(inner)?;
        self.sequences.remove(&sequence);
        Ok(())
    }

    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<&mut [f32], CoreError> {
        let entries = feeds.iter().map(|feed| {
            Ok(Entry { sequence: self.runtime_sequence(feed.sequence)?, tokens: feed.tokens, logits: Logits::Last })
        });
        let entries = entries.collect::<Result<Vec<_>, CoreError>>()?;
        self.session.step(&entries)?;
        Ok(self.session.logits_mut())
    }

    fn align(&mut self, window: WindowId, tokens: &[u32]) -> Result<Alignment, CoreError> {
        let entry = self.window(window)?.clone();
        let sequence = self.session.add_sequence_about(&entry)?;
        let done = self.session.step_with_cross_weights(&[Entry { sequence, tokens, logits: Logits::All }]);
        let logits = self.session.logits().to_vec();
        self.session.remove(sequence)?;
        done?;
        let (positions, count) = (self.config.max_source_positions, tokens.len());
        let mut weights = Vec::with_capacity(self.config.alignment_heads.len() * count * positions);
        let mut layer_weights = Vec::new();
        for layer in 0..self.config.decoder_layers {
            let heads = self.config.alignment_heads.iter().filter(|(of, _)| *of == layer).count();
            if heads == 0 {
                continue;
            }
            // `[tokens, heads, positions]` to `[heads, tokens, positions]`.
            self.session.read_output(&batch::cross_weights(layer), &mut layer_weights)?;
            for head in 0..heads {
                let rows = layer_weights.chunks_exact(heads * positions);
                rows.for_each(|row| weights.extend_from_slice(&row[head * positions..][..positions]));
            }
        }
        let heads = self.config.alignment_heads.len();
        Ok(Alignment { heads, tokens: count, positions, weights, logits })
    }
}
