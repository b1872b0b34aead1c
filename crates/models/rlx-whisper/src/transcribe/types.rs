//! What a transcription is made of.

use serde::{Deserialize, Serialize, Serializer};

/// A word and when it was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// The word with the space before it and its punctuation.
    pub word: String,
    /// Seconds from the beginning of the sound.
    pub start: f64,
    /// Seconds from the beginning of the sound.
    pub end: f64,
    /// Mean probability of its tokens.
    pub probability: f64,
}

/// A piece of a transcription between two timestamps. Fields and their order are those of openai/whisper's JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Number, counted from 0.
    pub id: usize,
    /// Frame at which its window begins, 100 a second.
    pub seek: usize,
    /// Seconds from the beginning of the sound.
    pub start: f64,
    /// Seconds from the beginning of the sound.
    pub end: f64,
    /// Text, with the space before it.
    pub text: String,
    /// Tokens, timestamps among them.
    pub tokens: Vec<u32>,
    /// Temperature that its window was decoded at.
    #[serde(serialize_with = "shortest")]
    pub temperature: f32,
    /// Mean log probability of its window's tokens.
    pub avg_logprob: f64,
    /// Length of its window's text over that of its zlib stream.
    pub compression_ratio: f64,
    /// Probability that there is no speech in its window.
    pub no_speech_prob: f32,
    /// Its words, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<Word>>,
}

/// A transcription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// All text.
    pub text: String,
    /// Its pieces in order.
    pub segments: Vec<Segment>,
    /// Code of the language that was spoken.
    pub language: String,
}

impl Transcript {
    /// A transcription of these segments.
    pub fn new(segments: Vec<Segment>, language: String) -> Transcript {
        Transcript { text: segments.iter().map(|s| s.text.as_str()).collect(), segments, language }
    }
}

/// Writes 0.2 as 0.2, not as the nearest `f32`.
fn shortest<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or(f64::from(*value)))
}
