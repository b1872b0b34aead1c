//! Searches for the scale (and minimum) that quantise a group of numbers with the least weighted error.
//!
//! These are the searches of ggml's reference quantiser. They try a fixed set of scales near the one that maps the
//! extreme value to the end of the range, round, and solve the least-squares problem for the rounded quants. The order
//! of the float operations is part of their definition: the packed bytes depend on it.

/// A group whose largest magnitude is below this is taken for zero.
pub(super) const GROUP_MAX_EPS: f32 = 1e-15;

/// Rounds half to even by letting the float adder do it; exact for magnitudes below 2^22. Beyond that, and for NaN, it
/// gives some 23-bit integer, so callers clamp.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
    ((x + MAGIC).to_bits() & 0x007F_FFFF) as i32 - 0x0040_0000
}

/// `nearest` limited to `lo..=hi`.
#[inline(always)]
pub(super) fn nearest_in(x: f32, lo: i32, hi: i32) -> i32 {
    nearest(x).clamp(lo, hi)
}

/// The value of largest magnitude (the first such), with its sign; 0 for none.
#[inline]
pub(super) fn extreme(x: &[f32]) -> f32 {
    let mut max = 0.0f32;
    for &v in x {
        if v.abs() > max.abs() {
            max = v;
        }
    }
    max
}

/// Sum of squares, first to last.
#[inline]
pub(super) fn sum_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |s, v| s + v * v)
}

/// Sums of the least-squares fit of one scale: `scale = xl / ll`.
#[derive(Clone, Copy, Default)]
struct Fit {
    xl: f32,
    ll: f32,
}

impl Fit {
    #[inline(always)]
    fn add(&mut self, w: f32, x: f32, l: i32) {
        self.xl += w * x * l as f32;
        self.ll += w * l as f32 * l as f32;
    }

    /// The same without one element.
    #[inline(always)]
    fn without(self, w: f32, x: f32, l: i32) -> Fit {
        Fit { xl: self.xl - w * x * l as f32, ll: self.ll - w * l as f32 * l as f32 }
    }

    /// Whether this fit leaves less error than `other`.
    #[inline(always)]
    fn beats(self, other: Fit) -> bool {
        self.xl * self.xl * other.ll > other.xl * other.xl * self.ll
    }

    fn scale(self) -> f32 {
        if self.ll > 0.0 { self.xl / self.ll } else { 0.0 }
    }
}

/// Fits `x ≈ scale * (l - nmax)` with `l` in `0..2 * nmax`; weights default to `x²`. ggml: `make_qx_quants`.
pub(super) fn fit_symmetric(x: &[f32], weights: Option<&[f32]>, nmax: i32, l: &mut [u8]) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        l.fill(0);
        return 0.0;
    }
    let weight = |i: usize| weights.map_or(x[i] * x[i], |w| w[i]);
    let fit_at = |iscale: f32| {
        let mut fit = Fit::default();
        for i in 0..x.len() {
            fit.add(weight(i), x[i], nearest_in(iscale * x[i], -nmax, nmax - 1));
        }
        fit
    };
    let mut iscale = -nmax as f32 / max;
    let fit = fit_at(iscale);
    let mut scale = if fit.ll != 0.0 { fit.xl / fit.ll } else { 0.0 };
    let mut best = scale * fit.xl;
    for step in (-9..=9).filter(|&s| s != 0) {
        let candidate = -(nmax as f32 + 0.1 * step as f32) / max;
        let fit = fit_at(candidate);
        if fit.ll > 0.0 && fit.xl * fit.xl > best * fit.ll {
            scale = fit.xl / fit.ll;
            best = scale * fit.xl;
            iscale = candidate;
        }
    }
    for i in 0..x.len() {
        l[i] = (nmax + nearest_in(iscale * x[i], -nmax, nmax - 1)) as u8;
    }
    scale
}

/// As [`fit_symmetric`] with weights `x²`, but improving one quant at a time. ggml: `make_q3_quants`.
pub(super) fn fit_symmetric_greedy(x: &[f32], nmax: i32, l: &mut [u8]) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        l.fill(0);
        return 0.0;
    }
    let iscale = -nmax as f32 / max;
    let mut fit = Fit::default();
    for i in 0..x.len() {
        let q = nearest_in(iscale * x[i], -nmax, nmax - 1);
        fit.add(x[i] * x[i], x[i], q);
        l[i] = (q + nmax) as u8;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..x.len() {
            let w = x[i] * x[i];
            let old = l[i] as i32 - nmax;
            let mut other = fit.without(w, x[i], old);
            if other.xl <= 0.0 {
                continue;
            }
            let new = nearest_in(x[i] * other.ll / other.xl, -nmax, nmax - 1);
            if new == old {
                continue;
            }
            other.add(w, x[i], new);
            if other.ll > 0.0 && other.beats(fit) {
                l[i] = (new + nmax) as u8;
                fit = other;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    fit.scale()
}

/// Fits `x ≈ scale * l` for non-negative `x`, with `l` in `0..=nmax`. ggml: `make_qp_quants`.
pub(super) fn fit_positive(x: &[f32], weights: &[f32], nmax: i32, l: &mut [u8]) -> f32 {
    let max = x.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
    if max < GROUP_MAX_EPS {
        l.fill(0);
        return 0.0;
    }
    let error_at = |iscale: f32| {
        let scale = 1.0 / iscale;
        let mut error = 0.0;
        for i in 0..x.len() {
            let diff = x[i] - scale * nearest(iscale * x[i]).min(nmax) as f32;
            error += weights[i] * diff * diff;
        }
        error
    };
    let mut iscale = nmax as f32 / max;
    let mut best = error_at(iscale);
    for step in (-4..=4).filter(|&s| s != 0) {
        let candidate = (0.1 * step as f32 + nmax as f32) / max;
        let error = error_at(candidate);
        if error < best {
            best = error;
            iscale = candidate;
        }
    }
    let mut fit = Fit::default();
    for i in 0..x.len() {
        let q = nearest_in(iscale * x[i], 0, nmax);
        fit.add(weights[i], x[i], q);
        l[i] = q as u8;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..x.len() {
            let old = l[i] as i32;
            let mut other = fit.without(weights[i], x[i], old);
            if !(other.xl > 0.0 && other.ll > 0.0) {
                continue;
            }
            let new = nearest_in(x[i] * other.ll / other.xl, 0, nmax);
            if new == old {
                continue;
            }
            other.add(weights[i], x[i], new);
            if other.beats(fit) {
                l[i] = new as u8;
                fit = other;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    fit.scale()
}

/// The scales that [`fit_affine`] tries: `nmax + first + step * k` for `k` in `0..=steps` map onto the group's range.
pub(super) struct Steps {
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: i32,
    /// Judge by absolute instead of squared error.
    pub(super) absolute: bool,
}

/// Fits `x ≈ scale * l - min` with `l` in `0..=nmax` and `min >= 0`; gives `(scale, min)`. At most 32 elements. ggml:
/// `make_qkx2_quants` and `make_qkx3_quants`.
pub(super) fn fit_affine(x: &[f32], weights: &[f32], nmax: i32, steps: &Steps, l: &mut [u8]) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
    for (&v, &w) in x.iter().zip(weights).skip(1) {
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
        sum_w += w;
        sum_x += w * v;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max <= min {
        l.fill(0);
        return (0.0, -min);
    }
    let error_of = |scale: f32, min: f32, l: &[u8]| {
        let mut error = 0.0;
        for i in 0..x.len() {
            let diff = scale * l[i] as f32 + min - x[i];
            error += weights[i] * if steps.absolute { diff.abs() } else { diff * diff };
        }
        error
    };
    let iscale = nmax as f32 / (max - min);
    let mut scale = 1.0 / iscale;
    for i in 0..x.len() {
        l[i] = nearest_in(iscale * (x[i] - min), 0, nmax) as u8;
    }
    let mut best = error_of(scale, min, l);
    let mut trial = [0u8; 32];
    let trial = &mut trial[..x.len()];
    for step in 0..=steps.steps {
        // `min` is the best so far, no longer that of the group.
        let iscale = (steps.first + steps.step * step as f32 + nmax as f32) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for i in 0..x.len() {
            let q = nearest_in(iscale * (x[i] - min), 0, nmax);
            trial[i] = q as u8;
            let (w, q) = (weights[i], q as f32);
            sum_l += w * q;
            sum_l2 += w * q * q;
            sum_xl += w * q * x[i];
        }
        let det = sum_w * sum_l2 - sum_l * sum_l;
        if det > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let error = error_of(this_scale, this_min, trial);
            if error < best {
                l.copy_from_slice(trial);
                (best, scale, min) = (error, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rounds_half_to_even() {
        for (x, want) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (2.500001, 3), (1e6 + 0.25, 1_000_000)] {
            assert_eq!(nearest(x), want, "{x}");
        }
        for x in [f32::NAN, f32::INFINITY, -1e30] {
            assert_eq!(nearest_in(x, 0, 3).clamp(0, 3), nearest_in(x, 0, 3));
        }
    }

    #[test]
    fn exact_grids_are_found() {
        let mut l = [0; 16];
        let x: [f32; 16] = std::array::from_fn(|i| (i as f32 - 8.0) * 0.25);
        let scale = fit_symmetric(&x, None, 8, &mut l);
        assert_eq!((scale, l), (0.25, std::array::from_fn(|i| i as u8)));

        let weights = [1.0; 16];
        let steps = Steps { first: -1.0, step: 0.1, steps: 20, absolute: false };
        let (scale, min) = fit_affine(&x, &weights, 15, &steps, &mut l);
        assert_eq!((scale, min, l), (0.25, 2.0, std::array::from_fn(|i| i as u8)));

        let x: [f32; 16] = std::array::from_fn(|i| i as f32 * 0.5);
        assert_eq!(fit_positive(&x, &weights, 15, &mut l), 0.5);
        assert_eq!(l, std::array::from_fn(|i| i as u8));
    }
}
