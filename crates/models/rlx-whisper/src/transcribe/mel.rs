//! Log-mel spectrograms as windows of the encoder.

use rlx_core::CoreError;

use crate::decode::SpeechFacts;

/// A log-mel spectrogram of any length, frame after frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogMel {
    n_mels: usize,
    data: Vec<f32>,
}

impl LogMel {
    /// `data` is `[frames, n_mels]`.
    ///
    /// # Errors
    /// If it is no whole number of frames.
    pub fn new(n_mels: usize, data: Vec<f32>) -> Result<LogMel, CoreError> {
        if n_mels == 0 || !data.len().is_multiple_of(n_mels) {
            let what = format!("{} values are no frames of {n_mels} bands", data.len());
            return Err(CoreError::Input { name: "log-mel".into(), what });
        }
        Ok(LogMel { n_mels, data })
    }

    /// Number of frames, 10 ms each.
    pub fn frames(&self) -> usize {
        self.data.len().checked_div(self.n_mels).unwrap_or(0)
    }

    /// `size` frames from `seek` on, and zeros up to the length of a window.
    pub(super) fn window(&self, seek: usize, size: usize, facts: &SpeechFacts) -> Result<Vec<f32>, CoreError> {
        if self.n_mels != facts.n_mels && !self.data.is_empty() {
            let what = format!("has {} bands, the model reads {}", self.n_mels, facts.n_mels);
            return Err(CoreError::Input { name: "log-mel".into(), what });
        }
        let size = size.min(facts.window_frames);
        let from = (seek * self.n_mels).min(self.data.len());
        let to = (seek.saturating_add(size).saturating_mul(self.n_mels)).min(self.data.len());
        let mut window = self.data[from..to].to_vec();
        window.resize(facts.window_frames * facts.n_mels, 0.0);
        Ok(window)
    }
}

impl From<&rlx_audio::Mel> for LogMel {
    fn from(mel: &rlx_audio::Mel) -> LogMel {
        let mut data = vec![0.0; mel.mels * mel.frames];
        for (band, values) in mel.data.chunks_exact(mel.frames.max(1)).enumerate() {
            for (value, frame) in values.iter().zip(data.chunks_exact_mut(mel.mels)) {
                frame[band] = *value;
            }
        }
        LogMel { n_mels: mel.mels, data }
    }
}

impl LogMel {
    /// The spectrogram of a whole sound, mono at 16 kHz, for [`Transcriber::transcribe`](super::Transcriber::transcribe). The
    /// loudest value, which the others are held against, is that of the whole sound.
    ///
    /// # Errors
    /// If the number of mel bands is impossible.
    pub fn of(samples: &[f32], n_mels: usize) -> Result<LogMel, CoreError> {
        let mut mel = rlx_audio::WhisperMel::new(n_mels).map_err(|e| CoreError::Config(e.to_string()))?;
        let frames = samples.len() / rlx_audio::WhisperMel::HOP;
        // Silence follows the sound; it is not mirrored at its end.
        let padded = mel.log_mel_padded(samples, samples.len().saturating_add(rlx_audio::WhisperMel::WINDOW));
        let mut mel = LogMel::from(&padded);
        mel.data.truncate(frames * n_mels);
        Ok(mel)
    }
}
