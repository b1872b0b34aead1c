//! One forward pass of an encoder on named tensors: what parity with a reference is measured on.

use super::{Encoder, Pooling, TokenBatch, l2_normalise, names, pool};
use crate::forward::{scatter, token_rows};
use crate::{CoreError, NamedTensor, NamedTensors, TensorData, Trace};

/// What [`Encoder::forward`] gives beside the graph's own outputs.
const POOLED: [(&str, Pooling, bool); 3] = [
    ("out.pooled_mean", Pooling::Mean, false),
    ("out.pooled_mean_l2", Pooling::Mean, true),
    ("out.pooled_cls_l2", Pooling::Cls, true),
];

impl Encoder {
    /// Runs `in.input_ids` I64 `[batch, T]`, with `in.attention_mask` (0 where there is padding) and `in.token_type_ids` where they
    /// are given, both `[batch, T]`. Positions count padding too, as in the reference classes.
    ///
    /// Gives every output of the graph as `out.NAME`, F32 `[batch, T, width]` or `[batch, width]`, and the pooled ones
    /// `out.pooled_mean`, `out.pooled_mean_l2`, `out.pooled_cls_l2` `[batch, hidden]`. Rows of padding are zero. `trace` gets what it
    /// asks for.
    ///
    /// # Errors
    /// If an input is missing, of wrong shape, or has ids outside the vocabulary.
    pub fn forward(&mut self, inputs: &NamedTensors, trace: &mut Trace) -> Result<NamedTensors, CoreError> {
        let (batch, len, rows) = token_rows(inputs)?;
        let types = token_types(inputs, batch, len)?;
        let (mut tokens, mut token_types, mut positions, mut lens) = (vec![], vec![], vec![], vec![]);
        for (r, row) in rows.iter().enumerate() {
            let before = tokens.len();
            for (i, token) in row.iter().enumerate() {
                let Some(token) = token else { continue };
                tokens.push(i32::try_from(*token).map_err(|_| no_token(*token))?);
                positions.push(i as i32);
                token_types.push(types.map_or(0, |types| types[r * len + i]));
            }
            lens.push(tokens.len() - before);
        }
        let token_types: Result<Vec<i32>, _> = token_types.into_iter().map(i32::try_from).collect();
        let token_types = token_types.map_err(|_| input("in.token_type_ids", "holds a number that is no type"))?;
        let texts: Vec<usize> = lens.iter().copied().filter(|&len| len > 0).collect();
        if texts.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        self.network.set_profiling(trace.profile);
        self.run(&TokenBatch {
            tokens: &tokens,
            token_types: Some(&token_types),
            positions: Some(&positions),
            lens: &texts,
        })?;
        let symbols = [(names::TOKEN_COUNT, tokens.len()), (names::TEXT_COUNT, texts.len())];
        trace.add("encoder", self.network.executable().as_ref(), &symbols, self.network.profile())?;

        let graph_outputs = self.network().executable().graph().outputs();
        let graph_outputs: Vec<String> = graph_outputs.iter().map(|(name, _)| name.clone()).collect();
        let mut outputs = NamedTensors::new();
        let mut raw = Vec::new();
        for name in graph_outputs {
            self.read(&name, &mut raw)?;
            let mut data = Vec::new();
            if matches!(name.as_str(), names::POOLER_OUTPUT | names::LOGITS) {
                let width = raw.len() / texts.len();
                let one_per_row: Vec<Option<u32>> = lens.iter().map(|&len| (len > 0).then_some(0)).collect();
                scatter(&one_per_row, &raw, width, &mut data);
                outputs.insert(format!("out.{name}"), NamedTensor::f32(&[batch, width], data));
                continue;
            }
            let width = raw.len() / tokens.len();
            if name == names::LAST_HIDDEN_STATE {
                outputs.extend(pooled(&raw, width, &lens));
            }
            let mut at = 0;
            for (row, len) in rows.iter().zip(&lens) {
                scatter(row, &raw[at * width..(at + len) * width], width, &mut data);
                at += len;
            }
            outputs.insert(format!("out.{name}"), NamedTensor::f32(&[batch, len, width], data));
        }
        Ok(outputs)
    }
}

/// The pooled vectors of texts of `lens` tokens, some perhaps of none.
fn pooled<'a>(hidden: &'a [f32], width: usize, lens: &'a [usize]) -> impl Iterator<Item = (String, NamedTensor)> + 'a {
    POOLED.into_iter().map(move |(name, pooling, normalise)| {
        let mut data = vec![0.0; lens.len() * width];
        let mut at = 0;
        for (out, len) in data.chunks_exact_mut(width.max(1)).zip(lens) {
            pool(pooling, &hidden[at * width..(at + len) * width], out);
            if normalise {
                l2_normalise(out);
            }
            at += len;
        }
        (name.to_string(), NamedTensor::f32(&[lens.len(), width], data))
    })
}

/// `in.token_type_ids`, if given.
fn token_types(inputs: &NamedTensors, batch: usize, len: usize) -> Result<Option<&[i64]>, CoreError> {
    match inputs.get("in.token_type_ids") {
        None => Ok(None),
        Some(NamedTensor { shape, data: TensorData::I64(data) }) if *shape == [batch, len] => Ok(Some(data)),
        Some(_) => Err(input("in.token_type_ids", "is not of whole numbers in the shape of in.input_ids")),
    }
}

fn input(name: &str, what: &str) -> CoreError {
    CoreError::Input { name: name.to_string(), what: what.to_string() }
}

fn no_token(id: u32) -> CoreError {
    CoreError::Input { name: "in.input_ids".into(), what: format!("holds {id}, which is no token id") }
}
