//! Stretches of speech, side by side.

use std::ops::Range;

use rlx_core::CoreError;

use super::sequential::{History, Place, seconds};
use super::types::{Segment, Transcript};
use super::{Event, Listener, LogMel, Speech, Transcriber};
use crate::decode::{Request, SpeechModel, WindowId};

/// Joins stretches of speech, and the silence between them, to windows that are as long as possible but not longer than
/// `longest`; cuts stretches that are longer. Stretches are in order (Bain et al. 2023, WhisperX: "cut and merge").
///
/// ```
/// let speech = [10..400, 500..900, 1400..2500, 9000..9100];
/// assert_eq!(rlx_whisper::merge_spans(&speech, 1000), [10..900, 1400..2400, 2400..2500, 9000..9100]);
/// ```
pub fn merge_spans(spans: &[Range<usize>], longest: usize) -> Vec<Range<usize>> {
    let longest = longest.max(1);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        let start = span.start.max(merged.last().map_or(0, |last| last.end));
        if span.end <= start {
            continue;
        }
        match merged.last_mut().filter(|last| span.end - last.start <= longest) {
            Some(last) => last.end = span.end,
            None => merged.extend((start..span.end).step_by(longest).map(|at| at..(at + longest).min(span.end))),
        }
    }
    merged
}

impl<M: SpeechModel> Transcriber<M> {
    /// Transcribes stretches of speech (frames of `mel`, in order) without regard to each other, so that `batch` windows of them
    /// are encoded and decoded at once. What lies between them is not read. The listener may stop it; what was done until
    /// then is given.
    ///
    /// # Errors
    /// If the model fails, or the spectrogram is not of its kind.
    pub fn transcribe_spans(
        &mut self,
        mel: &LogMel,
        spans: &[Range<usize>],
        batch: usize,
        on: Listener<'_>,
    ) -> Result<Transcript, CoreError> {
        let facts = self.model.facts();
        let content = mel.frames();
        let inside: Vec<Range<usize>> = spans.iter().map(|s| s.start.min(content)..s.end.min(content)).collect();
        let windows = merge_spans(&inside, facts.window_frames);
        let mut all = Vec::new();
        let Some(first) = windows.first() else {
            return Ok(Transcript::new(all, self.options.language_code()?.unwrap_or_default().to_owned()));
        };
        let beginning = LogMel::new(facts.n_mels, mel.window(first.start, first.len(), &facts)?)?;
        let Some(speech) = self.speech(&beginning, on)? else { return Ok(Transcript::default()) };
        let mut history = self.history()?;
        for windows in windows.chunks(batch.max(1)) {
            let places: Vec<Place> = windows.iter().map(|w| Place { seek: w.start, size: w.len(), content }).collect();
            let mels = places.iter().map(|p| mel.window(p.seek, p.size, &facts)).collect::<Result<Vec<_>, _>>()?;
            let ids = self.model.encode(&mels.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            let read = self.read_batch(&ids, &places, &speech, &mut history, &mut all, on);
            for id in ids {
                self.model.release(id)?;
            }
            if !read? {
                break;
            }
            let done = windows.last().map_or(0, |w| w.end);
            if on(Event::Progress { done: seconds(done), total: seconds(content) }).is_break() {
                break;
            }
        }
        Ok(Transcript::new(all, speech.language))
    }

    /// Decodes encoded windows; whether to go on.
    fn read_batch(
        &mut self,
        ids: &[WindowId],
        places: &[Place],
        speech: &Speech,
        history: &mut History,
        all: &mut Vec<Segment>,
        on: Listener<'_>,
    ) -> Result<bool, CoreError> {
        let prompt = history.initial_prompt();
        let requests: Vec<Request<'_>> = ids
            .iter()
            .map(|&window| Request { window, prompt: &prompt, language_and_task: &speech.language_and_task })
            .collect();
        let Some(decoded) = self.decoder.decode(&mut self.model, &requests, &mut || on(Event::Step))? else {
            return Ok(false);
        };
        for ((&id, &place), decoded) in ids.iter().zip(places).zip(&decoded) {
            let reading = self.segments_of(id, decoded, place, speech, history.last_speech, true)?;
            if self.accept(reading, history, all, on).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
