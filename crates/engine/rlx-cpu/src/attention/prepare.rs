//! The first phase: norm and RoPE of heads, and keys and values into their store.

use std::ops::Range;

use half::f16;
use rlx_ir::RopeStyle;

use super::kv::{KvDType, KvLayout, KvSource, Q8_GROUP, Which};
use super::{HeadNorm, SeqSpan};
use crate::math::simd::{Simd, simd_dispatch};
use crate::rows::{rms_norm_row, rope_row};
use crate::{Isa, RowsIn};

/// One head of batch row `row` with its norm and RoPE, times `factor`, into `dst`; elements beyond the head become zero.
pub(super) fn prepare_head(
    isa: Isa,
    src: &[f32],
    norm: Option<HeadNorm<'_>>,
    rope: Option<(RopeStyle, &[f32], usize)>,
    row: usize,
    factor: f32,
    dst: &mut [f32],
) {
    let (head, rest) = dst.split_at_mut(src.len());
    rest.fill(0.0);
    if norm.is_none() && rope.is_none() {
        return scaled(isa, src, factor, head);
    }
    match norm {
        Some(norm) => rms_norm_row(isa, src, Some(norm.weight), norm.eps, head),
        None => head.copy_from_slice(src),
    }
    if let Some((style, table, pairs)) = rope {
        let (cos, sin) = table[row * 2 * pairs..][..2 * pairs].split_at(pairs);
        rope_row(isa, style, head, cos, sin);
    }
    if factor != 1.0 {
        head.iter_mut().for_each(|x| *x *= factor);
    }
}

simd_dispatch! {
    /// `out = src * factor`, equally long.
    fn scaled(src: &[f32], factor: f32, out: &mut [f32]) = scaled_v
}

#[inline(always)]
fn scaled_v<V: Simd>(src: &[f32], factor: f32, out: &mut [f32]) {
    let (src, rest) = src.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<16>();
    for (src, out) in src.iter().zip(out) {
        for i in (0..16).step_by(V::LANES) {
            // SAFETY: both have 16 elements, a multiple of LANES.
            unsafe { (V::load(src.as_ptr().add(i)) * V::splat(factor)).store(out.as_mut_ptr().add(i)) }
        }
    }
    for (x, out) in rest.iter().zip(out_rest) {
        *out = x * factor;
    }
}

/// Keys and values to be stored, and what is done to the keys before.
#[derive(Clone, Copy)]
pub(super) struct NewKv<'a> {
    pub(super) k: RowsIn<'a>,
    pub(super) v: RowsIn<'a>,
    pub(super) k_norm: Option<HeadNorm<'a>>,
    pub(super) rope: Option<(RopeStyle, &'a [f32], usize)>,
}

/// Stores the keys and values of `heads` of rows `rows` of `span`, of which `past` tokens are there already. `scratch` holds one
/// padded head.
///
/// # Safety
/// No other thread touches these rows of the store until the next barrier.
pub(super) unsafe fn store(
    isa: Isa,
    new: &NewKv<'_>,
    source: &KvSource<'_>,
    span: &SeqSpan<'_>,
    past: usize,
    rows: Range<usize>,
    heads: Range<usize>,
    scratch: &mut [f32],
) {
    let KvLayout { dtype, kv_heads, k_dim, v_dim, .. } = source.layout();
    let (k_pad, v_pad) = (dtype.padded(k_dim), dtype.padded(v_dim));
    for i in rows {
        let row = span.start + i;
        let token = past + i;
        for head in heads.clone() {
            let key = &new.k.row(row, kv_heads * k_dim)[head * k_dim..][..k_dim];
            let dst = &mut scratch[..k_pad];
            prepare_head(isa, key, new.k_norm, new.rope, row, 1.0, dst);
            let (rows, _) = source.rows(span, Which::Key, head, token);
            // SAFETY: this thread alone touches the row (the caller's promise).
            let (row_bytes, scales) = unsafe { rows.first_mut() };
            store_row(isa, dtype, dst, row_bytes, scales);

            let value = &new.v.row(row, kv_heads * v_dim)[head * v_dim..][..v_dim];
            let dst = &mut scratch[..v_pad];
            dst[..v_dim].copy_from_slice(value);
            dst[v_dim..].fill(0.0);
            let (rows, _) = source.rows(span, Which::Value, head, token);
            // SAFETY: as above.
            let (row_bytes, scales) = unsafe { rows.first_mut() };
            store_row(isa, dtype, dst, row_bytes, scales);
        }
    }
}

simd_dispatch! {
    /// `src` as elements of `dtype` into a row and its scales.
    fn store_row(dtype: KvDType, src: &[f32], row: &mut [u8], scales: &mut [f32]) = store_row_v
}

#[inline(always)]
fn store_row_v<V: Simd>(dtype: KvDType, src: &[f32], row: &mut [u8], scales: &mut [f32]) {
    assert!(src.len().is_multiple_of(16) && row.len() == src.len() * dtype.element_bytes());
    match dtype {
        KvDType::F32 => row.copy_from_slice(bytemuck::cast_slice(src)),
        KvDType::F16 => {
            let row = row.as_mut_ptr().cast::<f16>();
            for i in (0..src.len()).step_by(V::LANES) {
                // SAFETY: the length is a multiple of 16, so i + LANES stays within both.
                unsafe { V::load(src.as_ptr().add(i)).store_f16(row.add(i)) }
            }
        }
        KvDType::Q8 => {
            let groups = src.chunks_exact(Q8_GROUP).zip(row.chunks_exact_mut(Q8_GROUP)).zip(scales);
            for ((group, bytes), scale) in groups {
                let largest = group.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                *scale = largest / 127.0;
                for (byte, x) in bytes.iter_mut().zip(group) {
                    *byte = (x * inverse).round_ties_even() as i8 as u8;
                }
            }
        }
    }
}
