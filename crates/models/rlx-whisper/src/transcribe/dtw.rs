//! When each token was said, from what it attends to in the sound (openai/whisper, `timing.py`).

use crate::decode::Alignment;

/// Width of the median filter over time.
const MEDIAN_WIDTH: usize = 7;

/// The first position of sound of each of the tokens `first..last`. Of the positions only the first `positions` count, the
/// others are padding.
///
/// Attention is brought to mean 0 and deviation 1 over the tokens, smoothed by a median filter over time, averaged over the
/// heads; then dynamic time warping finds the monotonic path through it.
pub(super) fn token_positions(alignment: &Alignment, first: usize, last: usize, positions: usize) -> Vec<usize> {
    let width = positions.min(alignment.positions);
    let last = last.min(alignment.tokens);
    let rows = last.saturating_sub(first);
    if width == 0 || rows == 0 || alignment.heads == 0 {
        return vec![0; rows];
    }
    let mut sum = vec![0.0f32; rows * width];
    let mut head = vec![0.0f32; alignment.tokens * width];
    let mut window = Vec::with_capacity(MEDIAN_WIDTH);
    for weights in alignment.weights.chunks_exact(alignment.tokens * alignment.positions) {
        for (row, out) in weights.chunks_exact(alignment.positions).zip(head.chunks_exact_mut(width)) {
            // The softmax over what is left.
            let total: f32 = row[..width].iter().sum();
            let scale = if total > 0.0 { total.recip() } else { 0.0 };
            out.iter_mut().zip(row).for_each(|(out, &w)| *out = w * scale);
        }
        standardise(&mut head, width);
        for (row, sum) in head.chunks_exact(width).skip(first).zip(sum.chunks_exact_mut(width)) {
            for (at, sum) in sum.iter_mut().enumerate() {
                *sum += median(row, at, &mut window);
            }
        }
    }
    let scale = 1.0 / alignment.heads as f32;
    sum.iter_mut().for_each(|x| *x *= scale);
    path(&sum, width)
}

/// Brings each column of `[rows, width]` to mean 0 and deviation 1.
fn standardise(values: &mut [f32], width: usize) {
    let count = (values.len() / width) as f32;
    let mut mean = vec![0.0f32; width];
    for row in values.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / count);
    }
    let mut scale = vec![0.0f32; width];
    for row in values.chunks_exact_mut(width) {
        for ((x, mean), square) in row.iter_mut().zip(&mean).zip(&mut scale) {
            *x -= mean;
            *square += *x * *x / count;
        }
    }
    // A column of equal values says nothing.
    scale.iter_mut().for_each(|s| *s = if *s > 0.0 { s.sqrt().recip() } else { 0.0 });
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().zip(&scale).for_each(|(x, scale)| *x *= scale);
    }
}

/// The median of the values around `at`; beyond the ends they are reflected.
fn median(row: &[f32], at: usize, window: &mut Vec<f32>) -> f32 {
    let half = MEDIAN_WIDTH / 2;
    if row.len() <= half {
        return row[at];
    }
    window.clear();
    for offset in 0..MEDIAN_WIDTH {
        let place = at + offset;
        let place = place.abs_diff(half);
        let place = if place < row.len() { place } else { 2 * (row.len() - 1) - place };
        window.push(row[place]);
    }
    window.sort_unstable_by(f32::total_cmp);
    window[half]
}

/// Dynamic time warping through `[rows, width]` for the largest sum: the first column of each row on the path.
fn path(values: &[f32], width: usize) -> Vec<usize> {
    #[derive(Clone, Copy)]
    enum From {
        Both,
        Row,
        Column,
    }
    let rows = values.len() / width;
    // Costs of the column before and of this one, with a row of infinities above.
    let mut before = vec![f32::INFINITY; rows + 1];
    before[0] = 0.0;
    let mut now = vec![f32::INFINITY; rows + 1];
    let mut trace = vec![From::Column; rows * width];
    for column in 0..width {
        now[0] = f32::INFINITY;
        for row in 0..rows {
            let (both, above, left) = (before[row], now[row], before[row + 1]);
            let (cost, from) = if both < above && both < left {
                (both, From::Both)
            } else if above < both && above < left {
                (above, From::Row)
            } else {
                (left, From::Column)
            };
            now[row + 1] = cost - values[row * width + column];
            trace[row * width + column] = from;
        }
        std::mem::swap(&mut before, &mut now);
        now[0] = f32::INFINITY;
    }
    let mut first = vec![0; rows];
    let (mut row, mut column) = (rows - 1, width - 1);
    loop {
        first[row] = column;
        match trace[row * width + column] {
            _ if row == 0 && column == 0 => break,
            From::Row if row > 0 => row -= 1,
            From::Column if column > 0 => column -= 1,
            // The edges leave one way only.
            _ if row == 0 => column -= 1,
            _ if column == 0 => row -= 1,
            _ => {
                row -= 1;
                column -= 1;
            }
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_reflects_at_the_ends() {
        let row = [5.0, 1.0, 4.0, 2.0, 3.0];
        let mut window = Vec::new();
        // Around 0: 2 4 1 [5] 1 4 2.
        assert_eq!(median(&row, 0, &mut window), 2.0);
        // Around 4: 1 4 2 [3] 2 4 1.
        assert_eq!(median(&row, 4, &mut window), 2.0);
        assert_eq!(median(&row[..3], 1, &mut window), 1.0, "too short to filter");
    }

    #[test]
    fn paths_are_those_of_the_reference() {
        #[derive(serde::Deserialize)]
        struct Case {
            rows: usize,
            columns: usize,
            values: Vec<f32>,
            first: Vec<usize>,
        }
        // scripts/reference/record_whisper_text.py
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/data/dtw.json")).unwrap();
        assert!(cases.len() > 4);
        for case in cases {
            assert_eq!(path(&case.values, case.columns), case.first, "{} x {}", case.rows, case.columns);
        }
    }

    #[test]
    fn the_path_follows_the_attention() {
        // Token 0 is said in 0..3, token 1 in 3..4, token 2 in 4..8.
        let spans = [0..3, 3..4, 4..8];
        let weight = |inside| if inside { 1.0 } else { -0.5 };
        let values: Vec<f32> = spans.iter().flat_map(|s| (0..8).map(move |i| weight(s.contains(&i)))).collect();
        assert_eq!(path(&values, 8), [0, 3, 4]);
        // More tokens than positions: several begin at the same one.
        assert_eq!(path(&[0.0; 6], 2).len(), 3);
        // Broken weights give some path.
        assert_eq!(path(&[f32::NAN; 6], 3).len(), 2);
    }

    #[test]
    fn padding_and_other_tokens_do_not_count() {
        let (heads, tokens, positions) = (2, 5, 60);
        let mut weights = vec![0.001f32; heads * tokens * positions];
        for head in 0..heads {
            for token in 0..tokens {
                let row = (head * tokens + token) * positions;
                // Much of the attention lies in the padding from 40 on.
                weights[row + 55] = 0.5;
                for at in 0..8 {
                    weights[row + token * 8 + at] = 0.05;
                }
            }
        }
        let alignment = Alignment { heads, tokens, positions, weights, logits: Vec::new() };
        let found = token_positions(&alignment, 1, 5, 40);
        assert_eq!(found.len(), 4);
        for (i, at) in found.iter().enumerate().skip(1) {
            assert!(at.abs_diff((i + 1) * 8) <= 2, "{found:?}");
        }
        assert_eq!(token_positions(&alignment, 0, 0, 40), [0usize; 0]);
        assert_eq!(token_positions(&alignment, 0, 2, 0), [0, 0]);
    }
}
