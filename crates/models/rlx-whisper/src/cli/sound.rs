//! Sound files as the model takes them.

use std::ops::Range;
use std::path::Path;

use anyhow::bail;
use rlx_audio::{AudioError, MonoReader, WhisperMel};
use rlx_cli::Context;
use rlx_vad::{Backend, SegmentOptions, VadRunner};

use super::args::RegionArgs;

/// Sound that is kept around speech, in ms, as faster-whisper does.
const SPEECH_PAD_MS: u32 = 400;

/// A sound, mono at 16 kHz.
pub(super) struct Sound {
    pub(super) samples: Vec<f32>,
}

impl Sound {
    /// Reads a whole file; what is wrong with it but can be lived with is told.
    ///
    /// # Errors
    /// If it is no sound file, or has no sound in it.
    pub(super) fn read(path: &Path, ctx: &Context<'_>) -> anyhow::Result<Sound> {
        let audio = rlx_audio::load(path, WhisperMel::SAMPLE_RATE)?;
        let name = path.display();
        if audio.samples.is_empty() {
            bail!(AudioError::NoSamples { name: name.to_string() });
        }
        let report = audio.report;
        if report.truncated {
            ctx.note(&format!("note: {name} ends earlier than it says: {:.1} s are there", audio.seconds()));
        }
        if report.bad_packets > 0 {
            ctx.note(&format!("note: {name}: {} damaged packets are left out", report.bad_packets));
        }
        if report.bad_samples > 0 {
            ctx.note(&format!("note: {name}: {} samples are no numbers and are read as silence", report.bad_samples));
        }
        Ok(Sound { samples: audio.samples })
    }

    /// The length of a file in seconds, if it says it.
    ///
    /// # Errors
    /// If it is no sound file.
    pub(super) fn check(path: &Path) -> anyhow::Result<Option<f64>> {
        let samples = MonoReader::open(path, WhisperMel::SAMPLE_RATE)?.expected_samples();
        Ok(samples.map(|n| n as f64 / f64::from(WhisperMel::SAMPLE_RATE)))
    }

    /// Where there is speech, in frames of log-mel spectrogram.
    ///
    /// # Errors
    /// If an option is out of range.
    pub(super) fn speech(&self, args: &RegionArgs) -> anyhow::Result<Vec<Range<usize>>> {
        // No longer than a window, so that speech is cut where it is quietest; a word's ends may be quiet.
        let options = SegmentOptions {
            threshold: args.vad_threshold,
            max_speech_s: WhisperMel::WINDOW as f64 / f64::from(WhisperMel::SAMPLE_RATE),
            speech_pad_ms: SPEECH_PAD_MS,
            ..SegmentOptions::default()
        };
        let mut vad = VadRunner::builder().backend(Backend::Silero).options(options).build()?;
        let frame = |sample: u64| usize::try_from(sample).unwrap_or(usize::MAX) / WhisperMel::HOP;
        Ok(vad.segments(&self.samples).iter().map(|s| frame(s.start)..frame(s.end)).collect())
    }
}
