//! From a source through a model to a sink.

use std::ops::ControlFlow;

use crate::{Progress, Text, TextSource, VectorSink, VectorsError};

/// How many texts are handed to the model at once: enough to fill its batches, few enough that a wish to stop is soon heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// At most so many texts.
    pub texts: usize,
    /// No further text once they have so many bytes.
    pub bytes: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        ChunkLimits { texts: 256, bytes: 64 << 10 }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Texts embedded.
    pub rows: u64,
    /// Bytes of these texts.
    pub bytes: u64,
    /// `progress` asked to stop before the source ended.
    pub stopped: bool,
}

/// Embeds all texts of `source` into `sink`, in order, chunk by chunk; memory is that of one chunk. `embed` fills `[texts, dims]` (its
/// second argument, empty at first); `progress` is told after each chunk how far the source and how many texts are done, and may stop.
/// The sink is left to the caller, who finishes or drops it.
///
/// # Errors
/// Those of the source, of `embed` and of the sink.
pub fn embed_stream<E: From<VectorsError>>(
    source: &mut dyn TextSource,
    sink: &mut dyn VectorSink,
    limits: ChunkLimits,
    mut embed: impl FnMut(&[&str], &mut Vec<f32>) -> Result<(), E>,
    mut progress: impl FnMut(Progress, u64) -> ControlFlow<()>,
) -> Result<Outcome, E> {
    let mut outcome = Outcome::default();
    let (mut chunk, mut vectors) = (Vec::<Text>::new(), Vec::new());
    loop {
        chunk.clear();
        let (mut bytes, mut ended) = (0, false);
        while chunk.len() < limits.texts.max(1) && bytes < limits.bytes && (chunk.is_empty() || source.ready()) {
            match source.next() {
                Some(text) => {
                    let text = text?;
                    bytes += text.text.len();
                    chunk.push(text);
                }
                None => {
                    ended = true;
                    break;
                }
            }
        }
        if !chunk.is_empty() {
            let texts: Vec<&str> = chunk.iter().map(|text| text.text.as_str()).collect();
            vectors.clear();
            embed(&texts, &mut vectors)?;
            sink.write(&chunk, &vectors)?;
            outcome.rows += chunk.len() as u64;
            outcome.bytes += bytes as u64;
        }
        outcome.stopped = progress(source.progress(), outcome.rows).is_break() && !ended;
        if ended || outcome.stopped {
            return Ok(outcome);
        }
    }
}
