//! Parameters back into the tensors of a GGUF file.

use rlx_mem::AlignedBuf;

use crate::names::{NameRule, Presence, Transform, expand, match_pattern};
use crate::{TensorView, WeightsError};

/// The tensors in which a GGUF file holds `params` (under their canonical names, as
/// [`WeightMap::take`](crate::names::WeightMap::take) gives them), in the order of the first parameter of each. Experts are
/// stacked, which copies them; all else that is stored as it is stays a view.
///
/// # Errors
/// [`WeightsError::Usage`] if `rules` has no GGUF name for a parameter, or experts are missing or of different types or
/// shapes; the errors of [`Transform::to_stored`].
pub fn gguf_tensors(
    rules: &[NameRule],
    params: &[TensorView],
    head_dim: usize,
) -> Result<Vec<TensorView>, WeightsError> {
    let mut tensors: Vec<TensorView> = Vec::new();
    let mut stacks: Vec<(usize, Vec<(usize, &TensorView)>)> = Vec::new();
    for param in params {
        let found = rules.iter().filter(|rule| rule.presence != Presence::Ignored && !rule.gguf.is_empty());
        let mut found = found.filter_map(|rule| Some((rule, match_pattern(rule.canonical, &param.name)?)));
        let Some((rule, numbers)) = found.next() else {
            return Err(WeightsError::Usage(format!("parameter {} has no name in GGUF files", param.name)));
        };
        let name = expand(rule.gguf, &numbers);
        // The place of an expert's piece in its stack.
        let place = match (rule.transform, numbers.get(1)) {
            (Transform::Expert, Some(expert)) => Some(*expert),
            (Transform::ExpertFirstHalf, Some(expert)) => Some(2 * expert),
            (Transform::ExpertSecondHalf, Some(expert)) => Some(2 * expert + 1),
            _ => None,
        };
        let Some(place) = place else {
            tensors.push(TensorView { name, ..rule.transform.to_stored(param, head_dim)? });
            continue;
        };
        match stacks.iter_mut().find(|(index, _)| tensors[*index].name == name) {
            Some((_, pieces)) => pieces.push((place, param)),
            None => {
                stacks.push((tensors.len(), vec![(place, param)]));
                tensors.push(TensorView { name, ..param.clone() });
            }
        }
    }
    for (index, mut pieces) in stacks {
        pieces.sort_by_key(|(place, _)| *place);
        let halves = rules.iter().any(|rule| {
            rule.transform == Transform::ExpertFirstHalf && match_pattern(rule.gguf, &tensors[index].name).is_some()
        });
        let stacked = stack(&tensors[index].name, &pieces, if halves { 2 } else { 1 })?;
        tensors[index] = stacked;
    }
    Ok(tensors)
}

/// One tensor `[experts, rows, columns]` of pieces in order, `parts` of them to an expert.
fn stack(name: &str, pieces: &[(usize, &TensorView)], parts: usize) -> Result<TensorView, WeightsError> {
    let first = pieces[0].1;
    let fits = |(index, (place, piece)): (usize, &(usize, &TensorView))| {
        *place == index && piece.dtype == first.dtype && piece.shape == first.shape
    };
    if !pieces.iter().enumerate().all(fits) || !pieces.len().is_multiple_of(parts) || first.shape.is_empty() {
        return Err(WeightsError::Usage(format!(
            "the experts of {name} are not all there, or not of one type and shape"
        )));
    }
    let mut data = AlignedBuf::<u8>::zeroed(first.data.len() * pieces.len());
    for (target, (_, piece)) in data.chunks_exact_mut(first.data.len().max(1)).zip(pieces) {
        target.copy_from_slice(&piece.data);
    }
    let mut shape = first.shape.clone();
    shape[0] *= parts;
    shape.insert(0, pieces.len() / parts);
    TensorView::new(name.to_owned(), first.dtype, shape, data.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_ir::DType;
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
