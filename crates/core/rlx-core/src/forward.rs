//! One forward pass on named tensors: what parity with a reference is measured on.

use rlx_flow::Taps;
use rlx_ir::batch;
use rlx_runtime::{Entry, KvType, Logits, Session, SessionOptions};
use rlx_weights::Checkpoint;

use crate::tensors::{NamedTensor, NamedTensors, TensorData};
use crate::{CausalLm, CoreError, Families, Family, LoadOptions, Task, Trace};

/// How to run [`forward`].
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// Tokens to pick greedily after the inputs, one by one.
    pub greedy: usize,
    /// Element type of the KV cache; F32 by default.
    pub kv_type: KvType,
}

impl Default for ForwardOptions {
    fn default() -> ForwardOptions {
        ForwardOptions { greedy: 0, kv_type: KvType::F32 }
    }
}

/// Loads the model of `checkpoint`, whichever family it is of, and runs it once on named inputs; see
/// [`CausalLm::forward`]. `trace` gets what it asks for.
///
/// # Errors
/// As [`Families::find`], [`CausalLm::load`] and [`CausalLm::forward`].
pub fn forward(
    checkpoint: &Checkpoint,
    families: &Families,
    load: &LoadOptions,
    inputs: &NamedTensors,
    options: &ForwardOptions,
    trace: &mut Trace,
) -> Result<NamedTensors, CoreError> {
    let family = families.find(checkpoint)?;
    if let Task::Network { forward, .. } = family.task {
        return forward(checkpoint, load, inputs, trace);
    }
    CausalLm::load_for_forward(checkpoint, family, load)?.forward(inputs, options, trace)
}

impl CausalLm {
    /// Loads a model for [`CausalLm::forward`]: with every hidden state as an output.
    ///
    /// # Errors
    /// As [`CausalLm::load`].
    pub fn load_for_forward(
        checkpoint: &Checkpoint,
        family: &Family,
        options: &LoadOptions,
    ) -> Result<CausalLm, CoreError> {
        let options = LoadOptions { taps: Taps::Hidden, ..options.clone() };
        CausalLm::load(checkpoint, family, &options)
    }

    /// Runs `in.input_ids` I64 `[batch, T]` (and `in.attention_mask` `[batch, T]`, 0 where there is padding) and gives
    /// `out.logits` F32 `[batch, T, vocab]` and `out.hidden.N` F32 `[batch, T, hidden]`; rows of padding are zero. With
    /// `greedy > 0` also `out.greedy_ids` I64 `[batch, T + greedy]` (the input with that many tokens picked one by one) and
    /// `out.greedy_step_logits` F32 `[batch, greedy, vocab]`.
    ///
    /// # Errors
    /// If an input is missing, of wrong shape, or has ids outside the vocabulary.
    pub fn forward(
        &self,
        inputs: &NamedTensors,
        options: &ForwardOptions,
        trace: &mut Trace,
    ) -> Result<NamedTensors, CoreError> {
        let greedy = options.greedy;
        let (batch, len, rows) = token_rows(inputs)?;
        let mut session = self.session(SessionOptions {
            max_seq: len + greedy.max(1),
            kv_type: options.kv_type,
            prefill_chunk: len.max(1),
            ..SessionOptions::default()
        })?;
        session.set_profiling(trace.profile);
        let vocab = session.vocab();
        let names: Vec<String> = self.executable().graph().outputs().iter().map(|(name, _)| name.clone()).collect();
        let mut results: Vec<Vec<f32>> = vec![vec![]; names.len()];
        let (mut greedy_ids, mut step_logits) = (Vec::new(), Vec::new());
        // All rows in one step: dynamic RoPE scaling goes by the longest of them. A row of padding alone has nothing to run.
        let real: Vec<Vec<u32>> = rows.iter().map(|row| row.iter().flatten().copied().collect()).collect();
        let sequences: Vec<_> = real.iter().map(|_| session.add_sequence()).collect();
        let entries = sequences.iter().zip(&real).filter(|(_, tokens)| !tokens.is_empty());
        let entries: Vec<Entry<'_>> =
            entries.map(|(&sequence, tokens)| Entry { sequence, tokens, logits: Logits::All }).collect();
        if entries.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        session.step(&entries)?;
        let total: usize = real.iter().map(Vec::len).sum();
        let mut raw = Vec::new();
        for (name, result) in names.iter().zip(&mut results) {
            session.read_output(name, &mut raw)?;
            let width = raw.len() / total;
            let mut at = 0;
            for (row, tokens) in rows.iter().zip(&real) {
                let end = at + tokens.len() * width;
                scatter(row, &raw[at..end], width, result);
                at = end;
            }
        }
        for (&sequence, tokens) in sequences.iter().zip(&real).filter(|(_, tokens)| greedy > 0 && !tokens.is_empty()) {
            // The logits of the row's last token, once more and alone.
            session.truncate(sequence, tokens.len() - 1)?;
            let last = &tokens[tokens.len() - 1..];
            session.step(&[Entry { sequence, tokens: last, logits: Logits::Last }])?;
            let generated = greedy_tokens(&mut session, sequence, greedy, &mut step_logits)?;
            greedy_ids.extend(tokens.iter().chain(&generated).map(|&id| i64::from(id)));
        }
        let symbols = [(batch::TOKEN_COUNT, total), (batch::LOGIT_COUNT, total)];
        trace.add("decoder", self.executable().as_ref(), &symbols, session.profile())?;
        let mut outputs = NamedTensors::new();
        for (name, data) in names.into_iter().zip(results) {
            let width = data.len() / (batch * len).max(1);
            outputs.insert(format!("out.{name}"), NamedTensor::f32(&[batch, len, width], data));
        }
        if greedy > 0 && greedy_ids.len() == batch * (len + greedy) {
            outputs.insert("out.greedy_ids".into(), NamedTensor::i64(&[batch, len + greedy], greedy_ids));
            outputs.insert("out.greedy_step_logits".into(), NamedTensor::f32(&[batch, greedy, vocab], step_logits));
        }
        Ok(outputs)
    }
}

/// Batch, length, and for each row its tokens with none where there is padding.
pub(crate) type TokenRows = (usize, usize, Vec<Vec<Option<u32>>>);

pub(crate) fn token_rows(inputs: &NamedTensors) -> Result<TokenRows, CoreError> {
    let fail = |name: &str, what: &str| CoreError::Input { name: name.into(), what: what.into() };
    let integers = |name: &str| match inputs.get(name) {
        None => Ok(None),
        Some(NamedTensor { shape, data: TensorData::I64(data) }) => Ok(Some((shape, data))),
        Some(_) => Err(fail(name, "is not of whole numbers")),
    };
    let (shape, ids) = integers("in.input_ids")?.ok_or_else(|| fail("in.input_ids", "is missing"))?;
    let [batch, len] = shape[..] else { return Err(fail("in.input_ids", "is not [batch, tokens]")) };
    if batch == 0 || len == 0 {
        return Err(CoreError::EmptyPrompt);
    }
    let mask = integers("in.attention_mask")?;
    if mask.is_some_and(|(mask_shape, _)| mask_shape != shape) {
        return Err(fail("in.attention_mask", "is not of the shape of in.input_ids"));
    }
    let mut rows = vec![Vec::with_capacity(len); batch];
    for (i, &id) in ids.iter().enumerate() {
        let padding = mask.is_some_and(|(_, mask)| mask[i] == 0);
        let id = u32::try_from(id).map_err(|_| fail("in.input_ids", "holds a number that is no token id"))?;
        rows[i / len].push((!padding).then_some(id));
    }
    Ok((batch, len, rows))
}

/// Appends the rows of `values`, each of `width`, to `out`, with zeros where the tokens have padding.
pub(crate) fn scatter(tokens: &[Option<u32>], values: &[f32], width: usize, out: &mut Vec<f32>) {
    let mut rows = values.chunks_exact(width.max(1));
    for token in tokens {
        match token.and_then(|_| rows.next()) {
            Some(row) => out.extend_from_slice(row),
            None => out.resize(out.len() + width, 0.0),
        }
    }
}

fn greedy_tokens(
    session: &mut Session,
    sequence: rlx_runtime::SequenceId,
    count: usize,
    step_logits: &mut Vec<f32>,
) -> Result<Vec<u32>, CoreError> {
    let vocab = session.vocab();
    let mut ids = Vec::with_capacity(count);
    for i in 0..count {
        let all = session.logits();
        let row = &all[all.len() - vocab..];
        step_logits.extend_from_slice(row);
        // Of equals the lowest id, as torch's argmax.
        let best = (0..vocab).fold(0, |best, id| if row[id] > row[best] { id } else { best });
        ids.push(best as u32);
        if i + 1 < count {
            session.step(&[Entry { sequence, tokens: &[best as u32], logits: Logits::Last }])?;
        }
    }
    Ok(ids)
}
