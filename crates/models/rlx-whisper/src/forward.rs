//! One pass on named tensors, for parity with a reference.

use rlx_audio::WhisperMel;
use rlx_core::{CoreError, LoadOptions, NamedTensor, NamedTensors, TensorData, Trace};
use rlx_ir::batch;
use rlx_runtime::{Entry, Logits};
use rlx_weights::Checkpoint;

use crate::builder::{ENCODED, FRAME_COUNT, hidden};
use crate::decode::SpeechModel;
use crate::{WhisperConfig, WhisperModel};

/// Frames of a spectrogram that are compared.
const FIRST_FRAMES: usize = 200;

/// Reads the config and finds what is missing or impossible.
pub(crate) fn check(checkpoint: &Checkpoint) -> Result<(), CoreError> {
    WhisperConfig::from_checkpoint(checkpoint).map(drop)
}

/// `in.input_features` `[batch, mels, frames]` and `in.decoder_input_ids` `[batch, tokens]` to `out.enc_hidden.N`,
/// `out.encoder_last_hidden_state`, `out.dec_hidden.N` and `out.logits`, as `WhisperForConditionalGeneration` has them. With
/// `in.wav16k` also the log-mel spectrograms `WhisperFeatureExtractor` makes of it: the first 200 frames of a window in 80 and 128
/// bands, and the value of its last frame, which is silence.
pub(crate) fn forward(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    inputs: &NamedTensors,
    trace: &mut Trace,
) -> Result<NamedTensors, CoreError> {
    let fail = |name: &str, what: &str| CoreError::Input { name: name.into(), what: what.into() };
    let mut model = WhisperModel::build(checkpoint, &options.compile, true)?;
    model.set_profiling(trace.profile);
    let config = model.config().clone();
    let (features, windows) = match inputs.get("in.input_features") {
        Some(NamedTensor { shape, data: TensorData::F32(data) }) => match shape[..] {
            [windows, mels, frames] if mels == config.num_mel_bins && frames == config.window_frames() => {
                (data, windows)
            }
            _ => return Err(fail("in.input_features", "is not [batch, num_mel_bins, 2 max_source_positions]")),
        },
        _ => return Err(fail("in.input_features", "is missing, or not of real numbers")),
    };
    let (ids, tokens) = match inputs.get("in.decoder_input_ids") {
        Some(NamedTensor { shape, data: TensorData::I64(data) }) => match shape[..] {
            [rows, tokens] if rows == windows && tokens > 0 && rows > 0 => (data, tokens),
            _ => return Err(fail("in.decoder_input_ids", "is not [batch, tokens]")),
        },
        _ => return Err(fail("in.decoder_input_ids", "is missing, or not of whole numbers")),
    };
    let ids = ids.iter().map(|&id| u32::try_from(id).map_err(|_| fail("in.decoder_input_ids", "holds no token id")));
    let ids = ids.collect::<Result<Vec<u32>, CoreError>>()?;

    let (mels, frames) = (config.num_mel_bins, config.window_frames());
    let rows = (0..windows * frames).flat_map(|row| {
        let (window, frame) = (row / frames, row % frames);
        (0..mels).map(move |mel| features[(window * mels + mel) * frames + frame])
    });
    let encoded = model.encode_run(&rows.collect::<Vec<f32>>(), windows)?;
    let mut outputs = NamedTensors::new();
    let names = (0..=config.encoder_layers).map(|layer| hidden("enc", layer)).chain([ENCODED.to_owned()]);
    for name in names {
        let data = model.encoder.output(&name)?;
        let shape = [windows, config.max_source_positions, config.d_model];
        outputs.insert(format!("out.{name}"), NamedTensor::f32(&shape, data));
    }
    let sequences = encoded.into_iter().map(|window| model.add_sequence(window)).collect::<Result<Vec<_>, _>>()?;
    let entries = sequences.into_iter().zip(ids.chunks_exact(tokens)).map(|(sequence, tokens)| {
        Ok(Entry { sequence: model.runtime_sequence(sequence)?, tokens, logits: Logits::All })
    });
    let entries = entries.collect::<Result<Vec<_>, CoreError>>()?;
    model.session.step(&entries)?;
    let names = (0..=config.decoder_layers).map(|layer| (hidden("dec", layer), config.d_model));
    for (name, width) in names.chain([(batch::LOGITS.to_owned(), config.vocab_size)]) {
        let mut data = Vec::new();
        model.session.read_output(&name, &mut data)?;
        outputs.insert(format!("out.{name}"), NamedTensor::f32(&[windows, tokens, width], data));
    }
    let symbols = [(batch::TOKEN_COUNT, ids.len()), (batch::LOGIT_COUNT, ids.len()), (batch::CROSS_WEIGHT_COUNT, 0)];
    let [encoder, decoder] = model.executables();
    let [encoder_times, decoder_times] = model.profile();
    trace.add("encoder", encoder.as_ref(), &[(FRAME_COUNT, windows * frames)], encoder_times)?;
    trace.add("decoder", decoder.as_ref(), &symbols, decoder_times)?;
    if let Some(sound) = inputs.get("in.wav16k") {
        spectrograms(&sound.to_f32(), &mut outputs)?;
    }
    Ok(outputs)
}

fn spectrograms(samples: &[f32], outputs: &mut NamedTensors) -> Result<(), CoreError> {
    for bands in [80, 128] {
        let fail =
            |error: rlx_audio::AudioError| CoreError::Input { name: "in.wav16k".into(), what: error.to_string() };
        let mel = WhisperMel::new(bands).map_err(fail)?.log_mel_padded(samples, WhisperMel::WINDOW);
        let first = (0..bands).flat_map(|band| mel.band(band)[..FIRST_FRAMES].to_vec()).collect();
        outputs.insert(format!("out.logmel{bands}_first200"), NamedTensor::f32(&[bands, FIRST_FRAMES], first));
        let last = mel.data[mel.frames - 1];
        outputs.insert(format!("out.logmel{bands}_padvalue"), NamedTensor::f32(&[1], vec![last]));
    }
    Ok(())
}
