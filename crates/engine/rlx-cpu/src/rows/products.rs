//! Dot products of many rows with some vectors: exact search over embeddings.

use crate::math::simd::{Simd, simd_dispatch};

simd_dispatch! {
    /// Products of every row with every vector: `rows` is `[R, width]`, `vectors` `[N, width]`, `out` `[R, N]`. A product has the same
    /// bits however many rows and vectors there are.
    ///
    /// # Panics
    /// If `width` is 0, or the lengths do not fit together.
    pub fn row_products(rows: &[f32], vectors: &[f32], width: usize, out: &mut [f32]) = row_products_v
}

simd_dispatch! {
    /// The product of every row with itself: `rows` is `[R, width]`, `out` `[R]`.
    ///
    /// # Panics
    /// If `width` is 0, or the lengths do not fit together.
    pub fn row_squares(rows: &[f32], width: usize, out: &mut [f32]) = row_squares_v
}

/// Vectors that a row is multiplied with while it is in registers.
const TOGETHER: usize = 4;

#[inline(always)]
fn row_products_v<V: Simd>(rows: &[f32], vectors: &[f32], width: usize, out: &mut [f32]) {
    let count = vectors.len() / width;
    assert!(rows.len().is_multiple_of(width) && vectors.len() == count * width, "rows of {width} elements are needed");
    assert_eq!(out.len(), rows.len() / width * count, "one product for each row and vector");
    if count == 0 {
        return;
    }
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(count)) {
        let groups = vectors.chunks(TOGETHER * width).zip(out.chunks_mut(TOGETHER));
        for (group, out) in groups {
            if out.len() == TOGETHER {
                out.copy_from_slice(&products::<V, TOGETHER>(
                    row,
                    std::array::from_fn(|i| &group[i * width..][..width]),
                ));
            } else {
                for (vector, out) in group.chunks_exact(width).zip(out) {
                    [*out] = products::<V, 1>(row, [vector]);
                }
            }
        }
    }
}

#[inline(always)]
fn row_squares_v<V: Simd>(rows: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(rows.len(), out.len() * width, "one product for each row");
    for (row, out) in rows.chunks_exact(width).zip(out) {
        [*out] = products::<V, 1>(row, [row]);
    }
}

/// The products of one row with `N` vectors of its length, each in two chains of lanes.
#[inline(always)]
fn products<V: Simd, const N: usize>(row: &[f32], vectors: [&[f32]; N]) -> [f32; N] {
    let width = row.len();
    assert!(vectors.iter().all(|vector| vector.len() == width));
    let mut even = [V::zero(); N];
    let mut odd = [V::zero(); N];
    let mut i = 0;
    // SAFETY: all slices have `width` elements, and every access is to LANES elements that end at or before `width`, or to the last
    // `width - i < LANES`.
    unsafe {
        while i + 2 * V::LANES <= width {
            let (a, b) = (V::load(row.as_ptr().add(i)), V::load(row.as_ptr().add(i + V::LANES)));
            for n in 0..N {
                even[n] = a.fma(V::load(vectors[n].as_ptr().add(i)), even[n]);
                odd[n] = b.fma(V::load(vectors[n].as_ptr().add(i + V::LANES)), odd[n]);
            }
            i += 2 * V::LANES;
        }
        if i + V::LANES <= width {
            let a = V::load(row.as_ptr().add(i));
            for n in 0..N {
                even[n] = a.fma(V::load(vectors[n].as_ptr().add(i)), even[n]);
            }
            i += V::LANES;
        }
        if i < width {
            let a = V::load_part(row.as_ptr().add(i), width - i);
            for n in 0..N {
                odd[n] = a.fma(V::load_part(vectors[n].as_ptr().add(i), width - i), odd[n]);
            }
        }
    }
    std::array::from_fn(|n| (even[n] + odd[n]).sum())
}
