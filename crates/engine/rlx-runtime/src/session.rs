//! Sequences in flight: tokens, their KV blocks, and the batches that run them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rlx_ir::batch;

use crate::blocks::BlockAllocator;
use crate::{
    CrossCache, CrossEntry, CrossRef, Executable, InputData, RuntimeError, SessionOptions, Span, State, Step,
    StepProfile,
};

/// A sequence of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub(crate) u32);

/// Which of a batch entry's tokens want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None of them.
    None,
    /// The last one.
    Last,
    /// All.
    All,
}

/// New tokens of one sequence in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The sequence; at most once per batch.
    pub sequence: SequenceId,
    /// Tokens to append, at least one.
    pub tokens: &'a [u32],
    /// Which of them want logits.
    pub logits: Logits,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    pub(crate) cross: Option<CrossEntry>,
}

/// Where the graph's conventional inputs and outputs stand.
#[derive(Clone, Copy, Debug)]
struct Layout {
    tokens: usize,
    positions: usize,
    logit_rows: usize,
    logits: usize,
    token_count: usize,
    logit_count: usize,
    vocab: usize,
    /// Input and symbol of the rows that want what they attend to in the encoded input.
    cross_rows: Option<(usize, usize)>,
}

/// Runs a language model on any number of sequences at once.
///
/// All state is here: sequences can be forked (sharing their prefix's blocks), cut, saved and restored.
pub struct Session {
    executable: Arc<dyn Executable>,
    pub(crate) state: Box<dyn State>,
    pub(crate) options: SessionOptions,
    layout: Layout,
    cross: Option<CrossCache>,
    pub(crate) blocks: BlockAllocator,
    sequences: BTreeMap<SequenceId, Sequence>,
    next: u32,
}

impl Session {
    /// A session on `executable`, whose graph follows [`rlx_ir::batch`].
    ///
    /// # Errors
    /// If the graph is not a language model's, or an option is out of range.
    pub fn new(executable: Arc<dyn Executable>, options: SessionOptions) -> Result<Session, RuntimeError> {
        Session::build(executable, options, None)
    }

    /// A session on a decoder that attends to what an encoder left in `cross`.
    ///
    /// # Errors
    /// As [`Session::new`], and if the cache is another model's.
    pub fn with_cross_cache(
        executable: Arc<dyn Executable>,
        options: SessionOptions,
        cross: CrossCache,
    ) -> Result<Session, RuntimeError> {
        Session::build(executable, options, Some(cross))
    }

    fn build(
        executable: Arc<dyn Executable>,
        options: SessionOptions,
        cross: Option<CrossCache>,
    ) -> Result<Session, RuntimeError> {
        for (name, value) in
            [("max_seq", options.max_seq), ("block_len", options.block_len), ("prefill_chunk", options.prefill_chunk)]
        {
            if value == 0 || value > i32::MAX as usize {
                return Err(RuntimeError::Options(format!("{name} = {value} is out of range")));
            }
        }
        let layout = Layout::of(executable.as_ref())?;
        if cross.is_none() && !executable.graph().cross_kvs().is_empty() {
            return Err(RuntimeError::Cross(
                "the decoder needs its encoder's cache (Session::with_cross_cache)".into(),
            ));
        }
        let state = executable.new_state(&options, cross.as_ref())?;
        Ok(Session {
            executable,
            state,
            options,
            layout,
            cross,
            blocks: BlockAllocator::default(),
            sequences: BTreeMap::new(),
            next: 0,
        })
    }

    /// The model.
    pub fn executable(&self) -> &Arc<dyn Executable> {
        &self.executable
    }

    /// The session's options.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Entries of the vocabulary: the width of a logits row.
    pub fn vocab(&self) -> usize {
        self.layout.vocab
    }

    /// A new, empty sequence.
    pub fn add_sequence(&mut self) -> SequenceId {
        self.insert(Sequence::default())
    }

    /// A new, empty sequence about an encoded input, which it and its forks hold.
    ///
    /// # Errors
    /// If the input is encoded for another session.
    pub fn add_sequence_about(&mut self, entry: &CrossEntry) -> Result<SequenceId, RuntimeError> {
        if !self.cross.as_ref().is_some_and(|cache| entry.is_of(cache)) {
            return Err(RuntimeError::Cross("the input is encoded for another session".into()));
        }
        Ok(self.insert(Sequence { cross: Some(entry.clone()), ..Sequence::default() }))
    }

    pub(crate) fn insert(&mut self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        self.sequences.insert(id, sequence);
        id
    }

    pub(crate) fn sequence(&self, id: SequenceId) -> Result<&Sequence, RuntimeError> {
        self.sequences.get(&id).ok_or(RuntimeError::NoSequence(id.0))
    }

    fn sequence_mut(&mut self, id: SequenceId) -> Result<&mut Sequence, RuntimeError> {
        self.sequences.get_mut(&id).ok_or(RuntimeError::NoSequence(id.0))
    }

    /// The tokens of a sequence that have been run.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn tokens(&self, id: SequenceId) -> Result<&[u32], RuntimeError> {
        Ok(&self.sequence(id)?.tokens)
    }

    /// Forgets a sequence.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn remove(&mut self, id: SequenceId) -> Result<(), RuntimeError> {
        self.truncate(id, 0)?;
        self.sequences.remove(&id);
        Ok(())
    }

    /// A second sequence with the same tokens; both share their blocks until one of them appends.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, RuntimeError> {
        let copy = self.sequence(id)?.clone();
        for &block in &copy.blocks {
            self.blocks.share(block);
        }
        Ok(self.insert(copy))
    }

    /// Cuts a sequence to its first `len` tokens.
    ///
    /// # Errors
    /// If there is no such sequence, or it is shorter.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), RuntimeError> {
        let block_len = self.options.block_len;
        let sequence = self.sequence_mut(id)?;
        if len > sequence.tokens.len() {
            return Err(RuntimeError::Truncate { len: sequence.tokens.len(), to: len });
        }
        sequence.tokens.truncate(len);
        let dropped = sequence.blocks.split_off(len.div_ceil(block_len));
        for block in dropped {
            self.blocks.release(block);
        }
        Ok(())
    }

    /// Runs one batch; afterwards [`Session::logits`] holds the rows asked for, in the order of the entries.
    ///
    /// # Errors
    /// If an entry is empty, unknown, listed twice, too long, or has a token outside the vocabulary. Nothing has run then.
    pub fn step(&mut self, entries: &[Entry<'_>]) -> Result<(), RuntimeError> {
        self.run(entries, false, false)
    }

    /// As [`Session::step`]; the outputs [`batch::cross_weights`] then have a row for every token of the batch.
    ///
    /// # Errors
    /// As [`Session::step`], and if the graph has no such outputs.
    pub fn step_with_cross_weights(&mut self, entries: &[Entry<'_>]) -> Result<(), RuntimeError> {
        if self.layout.cross_rows.is_none() {
            return Err(RuntimeError::NotALanguageModel(batch::CROSS_WEIGHT_ROWS));
        }
        self.run(entries, false, true)
    }

    /// Appends a draft to a sequence and asks for the logits of every token of it, as [`Session::step`] with [`Logits::All`], but
    /// each token attends to its past by itself, as in a step of its own. The logits are so those of decoding the tokens one
    /// by one, up to the order of sums in long contexts. What is not accepted is taken back by [`Session::truncate`].
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn verify(&mut self, sequence: SequenceId, tokens: &[u32]) -> Result<(), RuntimeError> {
        self.run(&[Entry { sequence, tokens, logits: Logits::All }], true, false)
    }

    /// Runs `entries`; with `apart` each token is a span of its own, with `weights` each tells what it attends to.
    fn run(&mut self, entries: &[Entry<'_>], apart: bool, weights: bool) -> Result<(), RuntimeError> {
        self.check(entries)?;
        for entry in entries {
            self.make_room(entry)?;
        }
        self.state.reserve_blocks(self.blocks.count());

        let total = entries.iter().map(|entry| entry.tokens.len()).sum();
        let mut tokens = Vec::with_capacity(total);
        let mut positions = Vec::with_capacity(total);
        let mut logit_rows: Vec<i32> = Vec::new();
        let mut spans = Vec::with_capacity(entries.len());
        for entry in entries {
            let sequence = self.sequence(entry.sequence)?;
            let (start, past, len) = (tokens.len(), sequence.tokens.len(), entry.tokens.len());
            tokens.extend(entry.tokens.iter().map(|&id| id as i32));
            positions.extend((past..past + len).map(|position| position as i32));
            match entry.logits {
                Logits::None => {}
                Logits::Last => logit_rows.push((start + len - 1) as i32),
                Logits::All => logit_rows.extend((start..start + len).map(|row| row as i32)),
            }
            match apart {
                false => spans.push((start, len, past, entry.sequence)),
                true => spans.extend((0..len).map(|i| (start + i, 1, past + i, entry.sequence))),
            }
        }
        let cross: Vec<CrossRef> =
            spans.iter().filter_map(|(_, _, _, id)| Some(self.sequences[id].cross.as_ref()?.at())).collect();
        let spans: Vec<Span<'_>> = spans
            .into_iter()
            .map(|(start, len, past, id)| Span { start, len, past, blocks: &self.sequences[&id].blocks })
            .collect();

        let layout = self.layout;
        let weight_rows: Vec<i32> = if weights { (0..total as i32).collect() } else { vec![] };
        let count = if layout.cross_rows.is_some() { 4 } else { 3 };
        let mut bindings = [0; 3];
        bindings[layout.token_count] = total;
        bindings[layout.logit_count] = logit_rows.len();
        let mut inputs = [InputData::I32(&[]); 4];
        inputs[layout.tokens] = InputData::I32(&tokens);
        inputs[layout.positions] = InputData::I32(&positions);
        inputs[layout.logit_rows] = InputData::I32(&logit_rows);
        if let Some((input, symbol)) = layout.cross_rows {
            inputs[input] = InputData::I32(&weight_rows);
            bindings[symbol] = weight_rows.len();
        }
        self.state.run(&Step {
            bindings: &bindings[..count - 1],
            inputs: &inputs[..count],
            spans: &spans,
            cross: &cross,
        })?;
        for entry in entries {
            self.sequence_mut(entry.sequence)?.tokens.extend_from_slice(entry.tokens);
        }
        Ok(())
    }

    /// The logits of the last step, one row of [`Session::vocab`] per token that asked; empty before the first.
    pub fn logits(&self) -> &[f32] {
        self.state.output(self.layout.logits).unwrap_or_default()
    }

    /// The logits of the last step, to be changed in place by a sampler.
    pub fn logits_mut(&mut self) -> &mut [f32] {
        self.state.output_mut(self.layout.logits).unwrap_or_default()
    }

    /// Appends `tokens` to a sequence in chunks of [`SessionOptions::prefill_chunk`]. After each chunk `progress` is told how
    /// many tokens have run; `false` stops early. [`Session::logits`] then holds the last token's row.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn prefill(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<bool, RuntimeError> {
        // Looked at as a whole first, so that a prompt that is too long fails at once.
        self.check(&[Entry { sequence: id, tokens, logits: Logits::Last }])?;
        let mut done = 0;
        for chunk in tokens.chunks(self.options.prefill_chunk) {
            done += chunk.len();
            let logits = if done == tokens.len() { Logits::Last } else { Logits::None };
            self.step(&[Entry { sequence: id, tokens: chunk, logits }])?;
            if !progress(done) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Output `name` of the last step.
    ///
    /// # Errors
    /// If the graph has no such output.
    pub fn read_output(&mut self, name: &str, out: &mut Vec<f32>) -> Result<(), RuntimeError> {
        let index = self.executable.graph().outputs().iter().position(|(known, _)| known == name);
        self.state.read_output(index.ok_or(RuntimeError::NotALanguageModel("such output"))?, out)
    }

    /// Starts or ends the recording of times per step of the plan.
    pub fn set_profiling(&mut self, on: bool) {
        self.state.set_profiling(on);
    }

    /// Times per step of the plan since profiling was turned on.
    pub fn profile(&self) -> Vec<StepProfile> {
        self.state.profile()
    }

    /// Bytes of working memory and KV cache.
    pub fn bytes(&self) -> usize {
        self.state.bytes()
    }

    /// Bytes of the KV cache: of all blocks that were ever in use at once.
    pub fn kv_bytes(&self) -> usize {
        self.blocks.count() * self.state.block_bytes()
    }

    /// Blocks of the KV cache in use.
    pub fn blocks_in_use(&self) -> usize {
        self.blocks.in_use()
    }

    fn check(&self, entries: &[Entry<'_>]) -> Result<(), RuntimeError> {
        if entries.is_empty() {
            return Err(RuntimeError::Empty);
        }
        for (i, entry) in entries.iter().enumerate() {
            let sequence = self.sequence(entry.sequence)?;
            if sequence.cross.is_some() != self.cross.is_some() {
                return Err(RuntimeError::Cross(format!("sequence {} is about no encoded input", entry.sequence.0)));
            }
            if entries[..i].iter().any(|other| other.sequence == entry.sequence) {
                return Err(RuntimeError::Options(format!("sequence {} stands twice in a batch", entry.sequence.0)));
            }
            if entry.tokens.is_empty() {
                return Err(RuntimeError::Empty);
            }
            let len = sequence.tokens.len() + entry.tokens.len();
            if len > self.options.max_seq {
                return Err(RuntimeError::TooLong { len, max: self.options.max_seq });
            }
            if let Some(&id) = entry.tokens.iter().find(|&&id| id as usize >= self.layout.vocab) {
                return Err(RuntimeError::TokenId { id, vocab: self.layout.vocab });
            }
        }
        Ok(())
    }

    /// Gives the entry's sequence blocks for its new tokens, none of them shared with another sequence.
    fn make_room(&mut self, entry: &Entry<'_>) -> Result<(), RuntimeError> {
        let block_len = self.options.block_len;
        let sequence = self.sequences.get_mut(&entry.sequence).ok_or(RuntimeError::NoSequence(entry.sequence.0))?;
        let past = sequence.tokens.len();
        if !past.is_multiple_of(block_len) {
            let last = &mut sequence.blocks[past / block_len];
            if self.blocks.is_shared(*last) {
                let copy = self.blocks.allocate();
                self.state.reserve_blocks(self.blocks.count());
                self.state.copy_block(*last, copy);
                self.blocks.release(std::mem::replace(last, copy));
            }
        }
        while sequence.blocks.len() * block_len < past + entry.tokens.len() {
            sequence.blocks.push(self.blocks.allocate());
        }
        Ok(())
    }
}

impl Layout {
    fn of(executable: &dyn Executable) -> Result<Layout, RuntimeError> {
        let graph = executable.graph();
        let missing = RuntimeError::NotALanguageModel;
        let find = |names: &[(String, rlx_ir::ValueId)], name: &'static str| {
            names.iter().position(|(known, _)| known == name).ok_or(missing(name))
        };
        let symbol = |name: &'static str| graph.symbols().iter().position(|known| known == name).ok_or(missing(name));
        let cross_rows = match find(graph.inputs(), batch::CROSS_WEIGHT_ROWS) {
            Ok(input) => Some((input, symbol(batch::CROSS_WEIGHT_COUNT)?)),
            Err(_) => None,
        };
        let more = usize::from(cross_rows.is_some());
        if graph.inputs().len() != 3 + more || graph.symbols().len() != 2 + more {
            return Err(missing("ragged batch (tokens, positions, logit_rows)"));
        }
        let logits = find(graph.outputs(), batch::LOGITS)?;
        let width = graph.value(graph.outputs()[logits].1).shape.width();
        Ok(Layout {
            tokens: find(graph.inputs(), batch::TOKENS)?,
            positions: find(graph.inputs(), batch::POSITIONS)?,
            logit_rows: find(graph.inputs(), batch::LOGIT_ROWS)?,
            logits,
            token_count: symbol(batch::TOKEN_COUNT)?,
            logit_count: symbol(batch::LOGIT_COUNT)?,
            vocab: width.ok_or(missing("vocabulary"))?,
            cross_rows,
        })
    }
}
