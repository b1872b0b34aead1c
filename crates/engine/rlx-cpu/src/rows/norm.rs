//! RMSNorm, LayerNorm and softmax over rows.

use crate::math::functions::exp;
use crate::math::simd::{Simd, simd_dispatch};
use crate::{Isa, RowsIn, RowsOut, ThreadCtx};

simd_dispatch! {
    /// One row: `x / sqrt(mean(x^2) + eps) * weight` into `out` of the same length. Sums in f32 lanes.
    ///
    /// # Panics
    /// If `weight` or `out` is shorter than `x`.
    pub fn rms_norm_row(x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) = rms_norm_row_v
}

simd_dispatch! {
    /// One row: `(x - mean) / sqrt(var + eps) * weight + bias` into `out` of the same length, the variance taken around the
    /// mean in a second pass.
    ///
    /// # Panics
    /// If `weight`, `bias` or `out` is shorter than `x`.
    pub fn layer_norm_row(
        x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32],
    ) = layer_norm_row_v
}

simd_dispatch! {
    /// One row in place: `e^(x - max) / sum`. A row of `-inf` alone becomes zeros.
    fn softmax_row(x: &[f32], out: &mut [f32]) = softmax_row_v
}

/// The sum of `f(x)` over the row, in four chains of lanes.
#[inline(always)]
fn sum_of<V: Simd>(x: &[f32], f: impl Fn(V) -> V) -> f32 {
    let mut sums = [V::zero(); 4];
    let p = x.as_ptr();
    let n = x.len();
    let mut i = 0;
    while i + 4 * V::LANES <= n {
        for (k, sum) in sums.iter_mut().enumerate() {
            // SAFETY: i + 4 LANES <= n.
            *sum = *sum + f(unsafe { V::load(p.add(i + k * V::LANES)) });
        }
        i += 4 * V::LANES;
    }
    while i + V::LANES <= n {
        // SAFETY: i + LANES <= n.
        sums[0] = sums[0] + f(unsafe { V::load(p.add(i)) });
        i += V::LANES;
    }
    let tail: f32 = if V::REFERENCE {
        // f(0) need not be 0, so the tail goes one by one.
        x[i..].iter().map(|&x| f(V::splat(x)).sum() / V::LANES as f32).sum()
    } else {
        let mut lanes = [0.0f32; 16];
        // SAFETY: fewer than LANES elements are left, and `lanes` holds LANES.
        unsafe { f(V::load_part(p.add(i), n - i)).store(lanes.as_mut_ptr()) };
        lanes[..n - i].iter().sum()
    };
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum() + tail
}

/// `out = f(x, weight, bias)` with weight 1 and bias 0 where they are missing.
#[inline(always)]
fn map_row<V: Simd>(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    out: &mut [f32],
    f: impl Fn(V, V, V) -> V,
) {
    let n = x.len();
    let out = &mut out[..n];
    let weight = weight.map(|w| w[..n].as_ptr());
    let bias = bias.map(|b| b[..n].as_ptr());
    let mut i = 0;
    // SAFETY: all slices have n elements, and every access is to i..i + LANES below n, or to the last n - i.
    unsafe {
        while i + V::LANES <= n {
            let w = weight.map_or(V::splat(1.0), |w| V::load(w.add(i)));
            let b = bias.map_or(V::zero(), |b| V::load(b.add(i)));
            f(V::load(x.as_ptr().add(i)), w, b).store(out.as_mut_ptr().add(i));
            i += V::LANES;
        }
        let rest = n - i;
        if rest > 0 {
            let w = weight.map_or(V::splat(1.0), |w| V::load_part(w.add(i), rest));
            let b = bias.map_or(V::zero(), |b| V::load_part(b.add(i), rest));
            f(V::load_part(x.as_ptr().add(i), rest), w, b).store_part(out.as_mut_ptr().add(i), rest);
        }
    }
}

#[inline(always)]
fn rms_norm_row_v<V: Simd>(x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let mean_square = sum_of::<V>(x, |x| x * x) / x.len() as f32;
    let scale = V::splat(1.0 / (mean_square + eps).sqrt());
    map_row::<V>(x, weight, None, out, |x, w, _| (x * scale) * w);
}

#[inline(always)]
fn layer_norm_row_v<V: Simd>(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = V::splat(sum_of::<V>(x, |x| x) / n);
    let variance = sum_of::<V>(x, |x| (x - mean) * (x - mean)) / n;
    let scale = V::splat(1.0 / (variance + eps).sqrt());
    map_row::<V>(x, weight, bias, out, |x, w, b| ((x - mean) * scale).fma(w, b));
}

#[inline(always)]
fn softmax_row_v<V: Simd>(x: &[f32], out: &mut [f32]) {
    let max = x.iter().copied().fold(f32::MIN, f32::max);
    let shift = V::splat(max);
    map_row::<V>(x, None, None, out, |x, _, _| exp(x - shift));
    let sum = sum_of::<V>(&out[..x.len()], |e| e);
    let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    for e in &mut out[..x.len()] {
        *e *= scale;
    }
}

/// Calls `row` for each of this thread's share of `rows` rows cut in runs of `group` elements.
fn each_group(
    ctx: &ThreadCtx<'_>,
    x: RowsIn<'_>,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
    group: usize,
    run: impl Fn(&[f32], &mut [f32]),
) {
    if width == 0 || rows == 0 {
        return;
    }
    assert!(group > 0 && width.is_multiple_of(group), "rows of {width} cannot be cut in runs of {group}");
    let groups = width / group;
    for item in ctx.share(rows * groups, 1) {
        let (t, start) = (item / groups, item % groups * group);
        // SAFETY: each run belongs to one item, and each item to one thread.
        let out = unsafe { out.part(t, start..start + group) };
        run(&x.row(t, width)[start..start + group], out);
    }
}

/// RMSNorm of each row: `x / sqrt(mean(x^2) + eps) * weight`. Shapes `[rows, width]`, weight `[width]`.
pub fn rms_norm(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    x: RowsIn<'_>,
    weight: Option<&[f32]>,
    eps: f32,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
) {
    rms_norm_groups(ctx, isa, x, weight, eps, out, rows, width, width);
}

/// RMSNorm of each run of `group` elements (a head) of each row by itself, with one weight `[group]` for all runs.
pub fn rms_norm_groups(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    x: RowsIn<'_>,
    weight: Option<&[f32]>,
    eps: f32,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
    group: usize,
) {
    each_group(ctx, x, out, rows, width, group, |x, out| rms_norm_row(isa, x, weight, eps, out));
}

/// LayerNorm of each row: `(x - mean) / sqrt(var + eps) * weight + bias`. Shapes `[rows, width]`, weight and bias `[width]`.
pub fn layer_norm(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    x: RowsIn<'_>,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
) {
    layer_norm_groups(ctx, isa, x, weight, bias, eps, out, rows, width, width);
}

/// LayerNorm of each run of `group` elements of each row by itself, with one weight and bias `[group]` for all runs.
pub fn layer_norm_groups(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    x: RowsIn<'_>,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
    group: usize,
) {
    each_group(ctx, x, out, rows, width, group, |x, out| layer_norm_row(isa, x, weight, bias, eps, out));
}

/// Softmax of each row `[rows, width]`. A row of `-inf` alone becomes zeros.
pub fn softmax_rows(ctx: &ThreadCtx<'_>, isa: Isa, x: RowsIn<'_>, out: RowsOut<'_>, rows: usize, width: usize) {
    each_group(ctx, x, out, rows, width, width, |x, out| softmax_row(isa, x, out));
}
