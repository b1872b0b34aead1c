//! Name tables: what a family calls its parameters, what GGUF calls them, and how the two differ in content.

use rlx_mem::AlignedBuf;

use crate::{TensorView, WeightsError};

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
    /// How the GGUF tensor differs from the canonical one.
    pub transform: Transform,
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
    /// In some, and of no use here.
    Ignored,
}

/// How the content of a GGUF tensor differs from that of the canonical one. All are invertible.
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
}

impl NameRule {
    /// A parameter that every checkpoint holds.
    pub const fn required(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule { canonical, gguf, transform: Transform::None, presence: Presence::Required }
    }

    /// A parameter that some checkpoints hold.
    pub const fn optional(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule { canonical, gguf, transform: Transform::None, presence: Presence::Optional }
    }

    /// A tensor that some checkpoints hold and the model does not need.
    pub const fn ignored(canonical: &'static str, gguf: &'static str) -> NameRule {
        NameRule { canonical, gguf, transform: Transform::None, presence: Presence::Ignored }
    }

    /// The same row with a transform.
    #[must_use]
    pub const fn with(mut self, transform: Transform) -> NameRule {
        self.transform = transform;
        self
    }

    /// The GGUF name of the canonical `name`, if it is of this row.
    pub fn gguf_name(&self, name: &str) -> Option<String> {
        let numbers = match_pattern(self.canonical, name)?;
        (!self.gguf.is_empty()).then(|| expand(self.gguf, &numbers))
    }
}

impl Transform {
    /// From the row order of GGUF to the canonical one.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if the rows are no whole heads, [`WeightsError::Dtype`] for a packed vector.
    pub fn to_canonical(self, tensor: &TensorView, head_dim: usize) -> Result<TensorView, WeightsError> {
        match self {
            Transform::None => Ok(tensor.clone()),
            Transform::LlamaRopePermute => permute_heads(tensor, head_dim, |half, row| (row % half) * 2 + row / half),
        }
    }

    /// From the canonical row order to that of GGUF: the inverse of [`Transform::to_canonical`].
    ///
    /// # Errors
    /// As [`Transform::to_canonical`].
    pub fn to_gguf(self, tensor: &TensorView, head_dim: usize) -> Result<TensorView, WeightsError> {
        match self {
            Transform::None => Ok(tensor.clone()),
            Transform::LlamaRopePermute => permute_heads(tensor, head_dim, |half, row| (row % 2) * half + row / 2),
        }
    }
}

/// Reorders the rows of every head: row `r` of a head comes from row `source(head_dim / 2, r)`.
fn permute_heads(
    tensor: &TensorView,
    head_dim: usize,
    source: impl Fn(usize, usize) -> usize,
) -> Result<TensorView, WeightsError> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if head_dim == 0 || !head_dim.is_multiple_of(2) || rows == 0 || !rows.is_multiple_of(head_dim) {
        let what = format!("has {rows} rows, not a whole number of heads of (even) dim {head_dim}");
        return Err(WeightsError::Shape { tensor: tensor.name.clone(), what });
    }
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
    use rlx_ir::DType;
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
        let gguf = Transform::LlamaRopePermute.to_gguf(&tensor, 4).unwrap();
        assert_eq!(gguf.data.iter().step_by(2).copied().collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
        let back = Transform::LlamaRopePermute.to_canonical(&gguf, 4).unwrap();
        assert_eq!(&*back.data, &data[..]);
        // Dim 6 tells the permutation from its inverse.
        let data: Vec<u8> = (0..6).collect();
        let tensor = TensorView::new("k.bias".into(), DType::U8, vec![6], Bytes::copy_from(&data)).unwrap();
        let gguf = Transform::LlamaRopePermute.to_gguf(&tensor, 6).unwrap();
        assert_eq!(&*gguf.data, &[0, 3, 1, 4, 2, 5]);
        assert_eq!(&*Transform::LlamaRopePermute.to_canonical(&gguf, 6).unwrap().data, &data[..]);
        for bad in [0, 3, 4] {
            assert!(Transform::LlamaRopePermute.to_canonical(&tensor, bad).is_err(), "{bad}");
        }
    }
}
