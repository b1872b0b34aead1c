//! Names by which a language model's graph and the runtime that feeds it know each other.
//!
//! The graph takes a ragged batch: the new tokens of any number of sequences, one after the other.

/// Symbol: tokens in the batch.
pub const TOKEN_COUNT: &str = "T";
/// Symbol: rows that want logits.
pub const LOGIT_COUNT: &str = "R";
/// Input, I32 `[T]`: token ids.
pub const TOKENS: &str = "tokens";
/// Input, I32 `[T]`: position of each token in its sequence.
pub const POSITIONS: &str = "positions";
/// Input, I32 `[R]`: which tokens' logits are wanted.
pub const LOGIT_ROWS: &str = "logit_rows";
/// Symbol: tokens that want to know what they attend to in the encoded input.
pub const CROSS_WEIGHT_COUNT: &str = "A";
/// Input, I32 `[A]`, in decoders of encoders that can tell: which tokens.
pub const CROSS_WEIGHT_ROWS: &str = "cross_weight_rows";
/// Name of the output, F32 `[A, heads * rows]`, of what they attend to in some heads of a layer, one head after the other.
pub fn cross_weights(layer: usize) -> String {
    format!("cross_weights.{layer}")
}
/// Output, F32 `[R, vocab]`.
pub const LOGITS: &str = "logits";
