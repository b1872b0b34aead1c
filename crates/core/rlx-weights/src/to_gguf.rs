//! Parameters back into the tensors of a GGUF file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use rlx_ir::DType;
use rlx_mem::AlignedBuf;

use crate::names::{NameRule, Presence, Transform, check_heads, expand, interleaved_row, match_pattern};
use crate::{TensorView, WeightsError};

/// A tensor of a GGUF file to be: a view of what it is made of, read a few rows at a time.
///
/// Rows are those of the innermost dim; the rows of all matrices of a stack of experts are counted through.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Element type of the pieces.
    pub dtype: DType,
    /// Row-major shape, outermost dim first.
    pub shape: Vec<usize>,
    /// Of equal length, one after the other.
    pieces: Vec<TensorView>,
    /// Dim of the heads whose rows are stored in another order; 0 for none.
    head_dim: usize,
}

impl From<TensorView> for StoredTensor {
    fn from(view: TensorView) -> StoredTensor {
        StoredTensor {
            name: view.name.clone(),
            dtype: view.dtype,
            shape: view.shape.clone(),
            pieces: vec![view],
            head_dim: 0,
        }
    }
}

impl StoredTensor {
    /// Elements per row (1 for a scalar).
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Rows of one matrix of a stack: of one expert.
    pub fn rows_per_matrix(&self) -> usize {
        self.shape.iter().rev().nth(1).copied().unwrap_or(1)
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.data.len()).sum()
    }

    /// Calls `take` with the bytes of each of `rows`, which are in range.
    fn each_row<E>(&self, rows: Range<usize>, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let per_piece = self.rows() / self.pieces.len();
        for row in rows {
            let (piece, row) = (&self.pieces[row / per_piece], row % per_piece);
            let row = match self.head_dim {
                0 => row,
                dim => row / dim * dim + interleaved_row(dim / 2, row % dim),
            };
            let len = piece.data.len() / per_piece;
            take(&piece.data[row * len..(row + 1) * len])?;
        }
        Ok(())
    }

    /// Appends the bytes of `rows` to `out`.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn read(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        let Ok(()) = self.each_row(rows, |row| {
            out.extend_from_slice(row);
            Ok::<(), Infallible>(())
        });
    }

    /// The elements of `rows` as `f32`, dequantised if need be.
    ///
    /// # Errors
    /// [`WeightsError::Dtype`] if the type cannot be dequantised, or `out` has another length than the rows.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn read_f32(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightsError> {
        let fail = |what: String| WeightsError::Dtype { tensor: self.name.clone(), dtype: self.dtype, what };
        if out.len() != rows.len() * self.row_len() {
            return Err(fail(format!("{} elements asked of {} rows", out.len(), rows.len())));
        }
        let mut out = out.chunks_exact_mut(self.row_len().max(1));
        self.each_row(rows, |row| match out.next() {
            Some(out) => rlx_quant::dequantize(self.dtype, row, out).map_err(|e| fail(e.to_string())),
            None => Ok(()),
        })
    }

    /// Gives the file's pages back to the system; they are read again when needed.
    pub fn release(&self) {
        for piece in &self.pieces {
            piece.data.release();
        }
    }

    /// The tensor as one view: a copy, unless it is stored as it is.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if the fields were changed into a tensor of another size.
    pub fn into_view(mut self) -> Result<TensorView, WeightsError> {
        if self.head_dim == 0 && self.pieces.len() == 1 {
            let data = self.pieces.remove(0).data;
            return TensorView::new(self.name, self.dtype, self.shape, data);
        }
        let mut data = Vec::with_capacity(self.bytes());
        self.read(0..self.rows(), &mut data);
        self.release();
        let mut aligned = AlignedBuf::<u8>::zeroed(data.len());
        aligned.copy_from_slice(&data);
        TensorView::new(self.name, self.dtype, self.shape, aligned.into())
    }
}

/// Experts to be stacked.
struct Stack<'a> {
    /// The tensor that they become.
    index: usize,
    /// Pieces of an expert.
    parts: usize,
    /// Each with its place.
    pieces: Vec<(usize, &'a TensorView)>,
}

/// The tensors in which a GGUF file holds `params` (under their canonical names, as
/// [`WeightMap::take`](crate::names::WeightMap::take) gives them), in the order of the first parameter of each. Nothing is copied
/// but biases whose elements are reordered.
///
/// # Errors
/// [`WeightsError::Usage`] if `rules` has no GGUF name for a parameter, or experts are missing or of different types or
/// shapes; the errors of [`Transform::to_stored`].
pub fn stored_tensors(
    rules: &[NameRule],
    params: &[TensorView],
    head_dim: usize,
) -> Result<Vec<StoredTensor>, WeightsError> {
    let mut tensors: Vec<StoredTensor> = Vec::new();
    let mut stacks: BTreeMap<String, Stack<'_>> = BTreeMap::new();
    for param in params {
        let found = rules.iter().filter(|rule| rule.presence != Presence::Ignored && !rule.gguf.is_empty());
        let mut found = found.filter_map(|rule| Some((rule, match_pattern(rule.canonical, &param.name)?)));
        let Some((rule, numbers)) = found.next() else {
            return Err(WeightsError::Usage(format!("parameter {} has no name in GGUF files", param.name)));
        };
        let name = expand(rule.gguf, &numbers);
        // The place of an expert's piece in its stack, of so many parts an expert.
        let place = match (rule.transform, numbers.get(1)) {
            (Transform::Expert, Some(expert)) => Some((*expert, 1)),
            (Transform::ExpertFirstHalf, Some(expert)) => Some((2 * expert, 2)),
            (Transform::ExpertSecondHalf, Some(expert)) => Some((2 * expert + 1, 2)),
            _ => None,
        };
        let Some((place, parts)) = place else {
            let permuted = rule.transform == Transform::LlamaRopePermute && param.shape.len() > 1;
            let tensor = if permuted {
                check_heads(param, head_dim)?;
                StoredTensor { head_dim, ..StoredTensor::from(param.clone()) }
            } else {
                rule.transform.to_stored(param, head_dim)?.into()
            };
            tensors.push(StoredTensor { name, ..tensor });
            continue;
        };
        match stacks.get_mut(&name) {
            Some(stack) => stack.pieces.push((place, param)),
            None => {
                stacks.insert(name.clone(), Stack { index: tensors.len(), parts, pieces: vec![(place, param)] });
                tensors.push(StoredTensor { name, ..StoredTensor::from(param.clone()) });
            }
        }
    }
    for mut pieces in stacks.into_values() {
        pieces.pieces.sort_by_key(|(place, _)| *place);
        stack(&mut tensors[pieces.index], &pieces.pieces, pieces.parts)?;
    }
    Ok(tensors)
}

/// As [`stored_tensors`], with the data of each in one piece: stacked experts and reordered heads are copied.
///
/// # Errors
/// As [`stored_tensors`].
pub fn gguf_tensors(
    rules: &[NameRule],
    params: &[TensorView],
    head_dim: usize,
) -> Result<Vec<TensorView>, WeightsError> {
    stored_tensors(rules, params, head_dim)?.into_iter().map(StoredTensor::into_view).collect()
}

/// Makes `tensor` one of shape `[experts, rows, columns]` of pieces in order, `parts` of them to an expert.
fn stack(tensor: &mut StoredTensor, pieces: &[(usize, &TensorView)], parts: usize) -> Result<(), WeightsError> {
    let first = pieces[0].1;
    let fits = |(index, (place, piece)): (usize, &(usize, &TensorView))| {
        *place == index && piece.dtype == first.dtype && piece.shape == first.shape
    };
    if !pieces.iter().enumerate().all(fits) || !pieces.len().is_multiple_of(parts) || first.shape.is_empty() {
        return Err(WeightsError::Usage(format!(
            "the experts of {} are not all there, or not of one type and shape",
            tensor.name
        )));
    }
    tensor.shape[0] *= parts;
    tensor.shape.insert(0, pieces.len() / parts);
    tensor.pieces = pieces.iter().map(|(_, piece)| (*piece).clone()).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_mem::Bytes;

    const RULES: &[NameRule] = &[
        NameRule::required("l.{}.n", "blk.{}.n"),
        NameRule::required("l.{}.e.{}.gate", "blk.{}.gate_up").with(Transform::ExpertFirstHalf),
        NameRule::required("l.{}.e.{}.up", "blk.{}.gate_up").with(Transform::ExpertSecondHalf),
        NameRule::required("l.{}.e.{}.down", "blk.{}.down").with(Transform::Expert),
    ];

    fn param(name: &str, shape: &[usize], first: u8) -> TensorView {
        let len: usize = shape.iter().product();
        let data: Vec<u8> = (0..len as u8).map(|i| first + i).collect();
        TensorView::new(name.into(), DType::U8, shape.to_vec(), Bytes::copy_from(&data)).unwrap()
    }

    #[test]
    fn experts_are_stacked_and_found_again() {
        let mut params = vec![param("l.0.n", &[2], 0)];
        for expert in 0..3 {
            for (i, kind) in ["down", "gate", "up"].into_iter().enumerate() {
                params.push(param(&format!("l.0.e.{expert}.{kind}"), &[2, 3], (10 * expert + 70 * i) as u8));
            }
        }
        let tensors = gguf_tensors(RULES, &params, 0).unwrap();
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["blk.0.n", "blk.0.down", "blk.0.gate_up"]);
        assert_eq!(tensors[1].shape, [3, 2, 3]);
        assert_eq!(tensors[2].shape, [3, 4, 3]);
        for expert in 0..3 {
            let up = Transform::ExpertSecondHalf.to_canonical(&tensors[2], 0, expert).unwrap();
            assert_eq!(*up.data, *params.iter().find(|p| p.name == format!("l.0.e.{expert}.up")).unwrap().data);
        }
    }

    #[test]
    fn rows_are_read_from_anywhere() {
        let rules = [NameRule::required("q", "q").with(Transform::LlamaRopePermute), RULES[1], RULES[2]];
        let params = [
            param("q", &[8, 2], 0),
            param("l.0.e.1.gate", &[2, 3], 100),
            param("l.0.e.0.gate", &[2, 3], 20),
            param("l.0.e.0.up", &[2, 3], 40),
            param("l.0.e.1.up", &[2, 3], 60),
        ];
        let stored = stored_tensors(&rules, &params, 4).unwrap();
        let whole = gguf_tensors(&rules, &params, 4).unwrap();
        assert_eq!((stored[1].rows(), stored[1].rows_per_matrix(), stored[1].row_len()), (8, 4, 3));
        for (stored, whole) in stored.iter().zip(&whole) {
            assert_eq!(stored.bytes(), whole.data.len());
            let len = stored.row_len();
            for start in 0..stored.rows() {
                for end in start..=stored.rows() {
                    let mut bytes = Vec::new();
                    stored.read(start..end, &mut bytes);
                    assert_eq!(bytes, whole.data[start * len..end * len]);
                    let mut values = vec![0.0; bytes.len()];
                    stored.read_f32(start..end, &mut values).unwrap();
                    assert!(values.iter().zip(&bytes).all(|(x, b)| *x == f32::from(*b)));
                }
            }
            assert!(stored.read_f32(0..2, &mut [0.0]).is_err());
        }
        assert_eq!(*whole[0].data, *Transform::LlamaRopePermute.to_stored(&params[0], 4).unwrap().data);
        assert!(stored_tensors(&rules, &params[..1], 3).is_err());
        assert!(stored_tensors(&rules, &params[..1], 6).is_err());
    }

    #[test]
    fn what_does_not_stack_is_an_error() {
        let missing = [param("l.0.e.1.down", &[2, 3], 0)];
        assert!(gguf_tensors(RULES, &missing, 0).is_err());
        let ragged = [param("l.0.e.0.down", &[2, 3], 0), param("l.0.e.1.down", &[3, 3], 0)];
        assert!(gguf_tensors(RULES, &ragged, 0).is_err());
        let half = [param("l.0.e.0.gate", &[2, 3], 0)];
        assert!(gguf_tensors(RULES, &half, 0).is_err());
        assert!(gguf_tensors(RULES, &[param("x", &[1], 0)], 0).is_err());
    }
}
