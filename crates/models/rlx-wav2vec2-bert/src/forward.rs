//! One pass on named tensors, as the reference class makes it of a padded batch.

use rlx_core::{CoreError, LoadOptions, NamedTensor, NamedTensors, SpanOf, TensorData, Trace};
use rlx_weights::Checkpoint;

use crate::runner::{Inputs, load_network};
use crate::{GraphOptions, Wav2Vec2BertConfig};

/// Runs `in.input_features` F32 `[batch, T, features]` (and `in.attention_mask` I64 `[batch, T]`, 0 where there is padding) and
/// gives `out.hidden.N`, `out.last_hidden_state` and with a CTC head `out.logits`, all F32 `[batch, rows, width]`. Rows of padding
/// hold what the reference computes for them.
///
/// # Errors
/// If the model does not load, or an input is missing or of the wrong shape.
pub(crate) fn forward(
    checkpoint: &Checkpoint,
    load: &LoadOptions,
    inputs: &NamedTensors,
    trace: &mut Trace,
) -> Result<NamedTensors, CoreError> {
    let config = Wav2Vec2BertConfig::from_checkpoint(checkpoint)?;
    let fail = |name: &str, what: &str| CoreError::Input { name: name.into(), what: what.into() };
    let features = inputs.get("in.input_features").ok_or_else(|| fail("in.input_features", "is missing"))?;
    let [batch, len, width] = features.shape[..] else {
        return Err(fail("in.input_features", "is not [batch, rows, features]"));
    };
    if width != config.feature_projection_input_dim || batch == 0 || len == 0 {
        let what = format!("is {:?}, not [batch, rows, {}]", features.shape, config.feature_projection_input_dim);
        return Err(fail("in.input_features", &what));
    }
    let mask = match inputs.get("in.attention_mask") {
        None => None,
        Some(NamedTensor { shape, data: TensorData::I64(data) }) if shape[..] == [batch, len] => Some(data),
        Some(_) => return Err(fail("in.attention_mask", "is not whole numbers [batch, rows]")),
    };
    if mask.is_some_and(|mask| mask.chunks_exact(len).any(|row| row.iter().all(|&m| m == 0))) {
        return Err(fail("in.attention_mask", "has a row of padding alone"));
    }

    let options = GraphOptions { hidden_states: true, padded: mask.is_some() };
    let mut network = load_network(checkpoint, &config, options, &load.compile)?;
    let mut data = Inputs::new(&config, &vec![len; batch]);
    data.add("features", features.to_f32());
    if let Some(mask) = mask {
        let kept = mask.iter().flat_map(|&m| std::iter::repeat_n(if m == 0 { 0.0 } else { 1.0 }, config.hidden_size));
        data.add("keep", kept.collect());
        data.add("keys", mask.iter().map(|&m| key_bias(m != 0)).collect());
        add_adapter_keys(&config, mask, len, &mut data);
    }
    network.set_profiling(trace.profile);
    network.run(&data.symbols(), &data.data(), &SpanOf::ragged(vec![len; batch]))?;
    trace.add("encoder", network.executable().as_ref(), &data.symbols(), network.profile())?;

    let names: Vec<String> = network.executable().graph().outputs().iter().map(|(name, _)| name.clone()).collect();
    let mut outputs = NamedTensors::new();
    for name in names {
        let data = network.output(&name)?;
        let rows = if name.starts_with("hidden.") { len } else { config.output_len(len) };
        let width = data.len().checked_div(batch * rows).unwrap_or(0);
        outputs.insert(format!("out.{name}"), NamedTensor::f32(&[batch, rows, width], data));
    }
    Ok(outputs)
}

/// What is added to the scores of a key that is sound or padding.
fn key_bias(sound: bool) -> f32 {
    if sound { 0.0 } else { f32::NEG_INFINITY }
}

/// Each layer of the adapter attends to the rows that its own count says are sound: the reference pads by half a kernel there, while
/// its convolutions pad by half a stride.
fn add_adapter_keys(config: &Wav2Vec2BertConfig, mask: &[i64], len: usize, data: &mut Inputs) {
    let Some(adapter) = &config.adapter else { return };
    let (kernel, stride) = (adapter.adapter_kernel_size as i64, adapter.adapter_stride as i64);
    let mut sound: Vec<i64> =
        mask.chunks_exact(len).map(|row| row.iter().filter(|&&m| m != 0).count() as i64).collect();
    let mut rows = len;
    for layer in 0..adapter.num_adapter_layers {
        rows = adapter.window().output_len(rows);
        for count in &mut sound {
            *count = (*count + 2 * (kernel / 2) - kernel).div_euclid(stride) + 1;
        }
        let keys = sound.iter().flat_map(|&count| (0..rows as i64).map(move |row| key_bias(row < count)));
        data.add(&format!("adapter_keys.{layer}"), keys.collect());
    }
}
