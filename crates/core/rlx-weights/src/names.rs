//! Name tables: what a family calls its parameters, what GGUF calls them, and how the two differ in content.

use rlx_ir::DType;
use rlx_mem::AlignedBuf;

use crate::{TensorView, WeightsError};

pub use crate::to_gguf::{StoredTensor, gguf_tensors, stored_tensors};
pub use crate::weight_map::{MapOptions, WeightMap};

/// One row of a family's table.
///
/// `{}` stands for a number: the first is the layer, the second the expert. An ignored row may end in `*`, which stands
/// for anything.
///
/// ```
/// use rlx_weights::names::{NameRule, Transform};
/// const TABLE: &[NameRule] = &[
///     NameRule::required("model.embed_tokens.weight", "token_embd.weight"),
///     NameRule::required("model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight")
///         .with(Transform::LlamaRopePermute),
///     NameRule::optional("lm_head.weight", "output.weight"),
///     NameRule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq", ""),
/// ];
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// Canonical name: that of the Hugging Face checkpoint. Empty if only GGUF files have it.
    pub canonical: &'static str,
    /// Name in GGUF files. Empty if they do not have it.
    pub gguf: &'static str,
    /// How the GGUF tensor differs from the parameter.
    pub transform: Transform,
    /// How the Hugging Face tensor of the canonical name differs from the parameter.
    pub hf_transform: Transform,
    /// Name and transform of the Hugging Face tensor that some checkpoints hold instead.
    pub hf_instead: Option<(&'static str, Transform)>,
    /// Whether a checkpoint must hold it.
    pub presence: Presence,
}

/// Whether a checkpoint must hold a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// In every layer of every checkpoint.
    Required,
    /// In some.
    Optional,
    /// In some, even where the model has no use for it: taken where it is asked for.
    Spare,
    /// In some, and of no use here.
    Ignored,
}

/// How the content of a stored tensor differs from that of the parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transform {
    /// Not at all.
    #[default]
    None,
    /// The converter of arch `llama` reorders the rows of each head of the q and k projections (weights and biases), so
    /// that RoPE turns neighbours (2i, 2i+1) where Hugging Face turns halves (i, i + d/2). Undone on whole packed rows,
    /// without dequantising; needs [`MapOptions::head_dim`].
    LlamaRopePermute,
    /// The tensor holds the parameter less one: a norm that multiplies by `1 + weight`. Read as F32.
    AddOne,
    /// The tensor stacks the matrices `[experts, rows, columns]` of all experts; the parameter is the expert's. A slice of the
    /// file, not a copy.
    Expert,
    /// As [`Transform::Expert`], of which the parameter is the first half of the rows: the gate of a fused gate and up.
    ExpertFirstHalf,
    /// As [`Transform::Expert`], of which the parameter is the second half of the rows.
    ExpertSecondHalf,
}

impl NameRule {
    /// A parameter that every checkpoint holds.
    pub const fn required(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule::new(canonical, gguf, Presence::Required)
    }

    /// A parameter that some checkpoints hold.
    pub const fn optional(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule::new(canonical, gguf, Presence::Optional)
    }

    /// A parameter that some checkpoints hold, in some layers without use.
    pub const fn spare(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule::new(canonical, gguf, Presence::Spare)
    }

    /// A tensor that some checkpoints hold and the model does not need.
    pub const fn ignored(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule::new(canonical, gguf, Presence::Ignored)
    }

    const fn new(canonical: &'static str, gguf: &'static str, presence: Presence) -> NameRule {
        let (transform, hf_transform) = (Transform::None, Transform::None);
        NameRule { canonical, gguf, transform, hf_transform, hf_instead: None, presence }
    }

    /// The same row with a transform of the GGUF tensor.
    #[must_use]
    pub const fn with(mut self, transform: Transform) -> NameRule {
        self.transform = transform;
        self
    }

    /// The same row with a transform of the Hugging Face tensor.
    #[must_use]
    pub const fn with_hf(mut self, transform: Transform) -> NameRule {
        self.hf_transform = transform;
        self
    }

    /// The same row, which some Hugging Face checkpoints keep in the tensor `name`.
    #[must_use]
    pub const fn or_hf(mut self, name: &'static str, transform: Transform) -> NameRule {
        self.hf_instead = Some((name, transform));
        self
    }

    /// The GGUF name of the canonical `name`, if it is of this row.
    pub fn gguf_name(&self, name: &str) -> Option<String> {
        let numbers = match_pattern(self.canonical, name)?;
        (!self.gguf.is_empty()).then(|| expand(self.gguf, &numbers))
    }
}

impl Transform {
    /// The parameter that a stored tensor holds. `expert` is its number among those that are stacked.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if the rows are no whole heads, or there is no such expert; [`WeightsError::Dtype`] for a packed
    /// vector.
    pub fn to_canonical(self, tensor: &TensorView, head_dim: usize, expert: usize) -> Result<TensorView, WeightsError> {
        match self {
            Transform::None => Ok(tensor.clone()),
            Transform::LlamaRopePermute => permute_heads(tensor, head_dim, |half, row| (row % half) * 2 + row / half),
            Transform::AddOne => shift(tensor, 1.0),
            Transform::Expert => piece(tensor, expert, 0, 1),
            Transform::ExpertFirstHalf => piece(tensor, expert, 0, 2),
            Transform::ExpertSecondHalf => piece(tensor, expert, 1, 2),
        }
    }

    /// The tensor that holds a parameter: the inverse of [`Transform::to_canonical`]. Of stacked experts it is the piece: the
    /// caller stacks them.
    ///
    /// # Errors
    /// As [`Transform::to_canonical`].
    pub fn to_stored(self, tensor: &TensorView, head_dim: usize) -> Result<TensorView, WeightsError> {
        match self {
            Transform::LlamaRopePermute => permute_heads(tensor, head_dim, interleaved_row),
            Transform::AddOne => shift(tensor, -1.0),
            Transform::None | Transform::Expert | Transform::ExpertFirstHalf | Transform::ExpertSecondHalf => {
                Ok(tensor.clone())
            }
        }
    }
}

/// Every element plus `offset`, as F32.
fn shift(tensor: &TensorView, offset: f32) -> Result<TensorView, WeightsError> {
    let values: Vec<f32> = tensor.to_f32()?.into_iter().map(|x| x + offset).collect();
    let mut data = AlignedBuf::<u8>::zeroed(values.len() * size_of::<f32>());
    for (bytes, x) in data.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = x.to_le_bytes();
    }
    Ok(TensorView { dtype: DType::F32, data: data.into(), ..tensor.clone() })
}

/// Part number `part` of `parts` equal ones of the rows of matrix number `expert` of a stack.
fn piece(tensor: &TensorView, expert: usize, part: usize, parts: usize) -> Result<TensorView, WeightsError> {
    let fail = |what: String| WeightsError::Shape { tensor: tensor.name.clone(), what };
    let (experts, matrix) = match tensor.shape[..] {
        [experts, ref matrix @ ..] if !matrix.is_empty() => (experts, matrix),
        _ => return Err(fail(format!("of shape {:?} is no stack of experts", tensor.shape))),
    };
    if expert >= experts {
        return Err(fail(format!("stacks {experts} experts, number {expert} is not among them")));
    }
    if !matrix[0].is_multiple_of(parts) {
        return Err(fail(format!("has {} rows per expert, not a multiple of {parts}", matrix[0])));
    }
    let len = tensor.data.len() / experts / parts;
    let start = (expert * parts + part) * len;
    let data = tensor.data.slice(start..start + len).ok_or_else(|| fail("is shorter than its shape".into()))?;
    let mut shape = matrix.to_vec();
    shape[0] /= parts;
    TensorView::new(tensor.name.clone(), tensor.dtype, shape, data)
}

/// The canonical row of a head that the converter of arch `llama` stores as row `row`.
pub(crate) fn interleaved_row(half: usize, row: usize) -> usize {
    (row % 2) * half + row / 2
}

/// The number of rows, if they are whole heads.
pub(crate) fn check_heads(tensor: &TensorView, head_dim: usize) -> Result<usize, WeightsError> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if head_dim == 0 || !head_dim.is_multiple_of(2) || rows == 0 || !rows.is_multiple_of(head_dim) {
        let what = format!("has {rows} rows, not a whole number of heads of (even) dim {head_dim}");
        return Err(WeightsError::Shape { tensor: tensor.name.clone(), what });
    }
    Ok(rows)
}

/// Reorders the rows of every head: row `r` of a head comes from row `source(head_dim / 2, r)`.
fn permute_heads(
    tensor: &TensorView,
    head_dim: usize,
    source: impl Fn(usize, usize) -> usize,
) -> Result<TensorView, WeightsError> {
    let rows = check_heads(tensor, head_dim)?;
    if tensor.shape.len() == 1 && tensor.dtype.is_block() {
        let what = "elements of a packed vector cannot be reordered".to_owned();
        return Err(WeightsError::Dtype { tensor: tensor.name.clone(), dtype: tensor.dtype, what });
    }
    let row_bytes = tensor.data.len() / rows;
    let mut out = AlignedBuf::<u8>::zeroed(tensor.data.len());
    if row_bytes > 0 {
        for (row, target) in out.chunks_exact_mut(row_bytes).enumerate() {
            let from = row / head_dim * head_dim + source(head_dim / 2, row % head_dim);
            target.copy_from_slice(&tensor.data[from * row_bytes..(from + 1) * row_bytes]);
        }
    }
    // The originals are not needed again.
    tensor.data.release();
    Ok(TensorView { data: out.into(), ..tensor.clone() })
}

/// The numbers in `name` if it is of the form `pattern`.
pub fn match_pattern(pattern: &str, name: &str) -> Option<Vec<usize>> {
    if pattern.is_empty() {
        return None;
    }
    let (pattern, open_end) = match pattern.strip_suffix('*') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut numbers = Vec::new();
    let mut parts = pattern.split("{}");
    let mut rest = name.strip_prefix(parts.next()?)?;
    for literal in parts {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        numbers.push(rest[..digits].parse().ok()?);
        rest = rest[digits..].strip_prefix(literal)?;
    }
    (open_end || rest.is_empty()).then_some(numbers)
}

/// The pattern with its `{}` replaced by the numbers in order; a pattern with fewer `{}` leaves the last ones out.
pub fn expand(pattern: &str, numbers: &[usize]) -> String {
    let mut parts = pattern.split("{}");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (i, literal) in parts.enumerate() {
        match numbers.get(i) {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push_str("{}"),
        }
        out.push_str(literal);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_mem::Bytes;

    #[test]
    fn patterns_match_and_expand() {
        let pattern = "model.layers.{}.mlp.experts.{}.up_proj.weight";
        assert_eq!(match_pattern(pattern, "model.layers.12.mlp.experts.3.up_proj.weight"), Some(vec![12, 3]));
        assert_eq!(match_pattern(pattern, "model.layers.x.mlp.experts.3.up_proj.weight"), None);
        assert_eq!(match_pattern(pattern, "model.layers..mlp.experts.3.up_proj.weight"), None);
        assert_eq!(match_pattern("a", "ab"), None);
        assert_eq!(match_pattern("mtp.*", "mtp.layers.0"), Some(vec![]));
        assert_eq!(match_pattern("", ""), None);
        assert_eq!(match_pattern("blk.{}", "blk.99999999999999999999999"), None);
        assert_eq!(expand(pattern, &[1, 2]), "model.layers.1.mlp.experts.2.up_proj.weight");
        let rule = NameRule::required("a.{}.w", "blk.{}.a");
        assert_eq!(rule.gguf_name("a.7.w").as_deref(), Some("blk.7.a"));
    }

    #[test]
    fn rope_permutation_is_that_of_the_converter_and_inverts() {
        // Two heads of dim 4: canonical rows 0 1 2 3 become 0 2 1 3 in each head.
        let data: Vec<u8> = (0..8).flat_map(|row| [row, 100 + row]).collect();
        let tensor = TensorView::new("q".into(), DType::U8, vec![8, 2], Bytes::copy_from(&data)).unwrap();
        let gguf = Transform::LlamaRopePermute.to_stored(&tensor, 4).unwrap();
        assert_eq!(gguf.data.iter().step_by(2).copied().collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
        let back = Transform::LlamaRopePermute.to_canonical(&gguf, 4, 0).unwrap();
        assert_eq!(&*back.data, &data[..]);
        // Dim 6 tells the permutation from its inverse.
        let data: Vec<u8> = (0..6).collect();
        let tensor = TensorView::new("k.bias".into(), DType::U8, vec![6], Bytes::copy_from(&data)).unwrap();
        let gguf = Transform::LlamaRopePermute.to_stored(&tensor, 6).unwrap();
        assert_eq!(&*gguf.data, &[0, 3, 1, 4, 2, 5]);
        assert_eq!(&*Transform::LlamaRopePermute.to_canonical(&gguf, 6, 0).unwrap().data, &data[..]);
        for bad in [0, 3, 4] {
            assert!(Transform::LlamaRopePermute.to_canonical(&tensor, bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_norm_less_one_is_shifted() {
        let data: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = TensorView::new("n".into(), DType::F32, vec![2], Bytes::copy_from(&data)).unwrap();
        let norm = Transform::AddOne.to_canonical(&tensor, 0, 0).unwrap();
        assert_eq!(norm.to_f32().unwrap(), [1.5, 0.0]);
        assert_eq!(Transform::AddOne.to_stored(&norm, 0).unwrap().to_f32().unwrap(), [0.5, -1.0]);
        let half = TensorView::new("n".into(), DType::BF16, vec![1], Bytes::copy_from(&[0x80, 0x3f])).unwrap();
        assert_eq!(Transform::AddOne.to_canonical(&half, 0, 0).unwrap().to_f32().unwrap(), [2.0]);
    }

    #[test]
    fn experts_are_slices_of_their_stack() {
        // Three experts of 4 rows of 2.
        let data: Vec<u8> = (0..24).collect();
        let tensor = TensorView::new("e".into(), DType::U8, vec![3, 4, 2], Bytes::copy_from(&data)).unwrap();
        let take = |transform: Transform, expert| transform.to_canonical(&tensor, 0, expert).unwrap();
        assert_eq!(take(Transform::Expert, 2).shape, [4, 2]);
        assert_eq!(&*take(Transform::Expert, 2).data, &data[16..]);
        assert_eq!(&*take(Transform::ExpertFirstHalf, 1).data, &data[8..12]);
        assert_eq!(&*take(Transform::ExpertSecondHalf, 1).data, &data[12..16]);
        assert_eq!(take(Transform::ExpertSecondHalf, 1).shape, [2, 2]);
        assert!(Transform::Expert.to_canonical(&tensor, 0, 3).is_err());
        let odd = TensorView::new("e".into(), DType::U8, vec![1, 3, 2], Bytes::copy_from(&data[..6])).unwrap();
        assert!(Transform::ExpertFirstHalf.to_canonical(&odd, 0, 0).is_err());
        let flat = TensorView::new("e".into(), DType::U8, vec![6], Bytes::copy_from(&data[..6])).unwrap();
        assert!(Transform::Expert.to_canonical(&flat, 0, 0).is_err());
    }
}
