//! Errors of the runner.

use rlx_audio::AudioError;
use rlx_core::CoreError;

/// What can go wrong between a sound and its features or words.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Wav2Vec2BertError {
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error(transparent)]
    Audio(#[from] AudioError),
    #[error("the model takes {0} features a row, not the {made} of Kaldi's filter bank", made = crate::runner::FBANK_WIDTH)]
    OtherFeatures(usize),
    #[error("{found} numbers are no rows of {width} features")]
    FeatureShape { found: usize, width: usize },
    #[error("sound {0} is too short: at least 35 ms are needed")]
    TooShort(usize),
    #[error("{rows} rows of features in one sequence, more than {max} (10 minutes): cut the sound into pieces")]
    TooLong { rows: usize, max: usize },
    #[error("the checkpoint has no CTC head (lm_head): it gives features, not words")]
    NoHead,
    #[error("the checkpoint has a CTC head but no vocabulary: put the model's vocab.json beside the weights")]
    NoVocabulary,
}
