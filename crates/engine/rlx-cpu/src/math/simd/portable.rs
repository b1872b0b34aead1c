//! Four lanes in plain Rust: the reference level, on every machine.

use std::ops::{Add, Div, Mul, Sub};

use half::f16;

use super::Simd;

/// Four f32 in an array.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Portable {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        }
    };
}
operator!(Add, add, +);
operator!(Sub, sub, -);
operator!(Mul, mul, *);
operator!(Div, div, /);

impl Simd for Portable {
    const LANES: usize = 4;
    const REFERENCE: bool = true;
    type Mask = [bool; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise; an array has the alignment of its element.
        Portable(unsafe { *p.cast() })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        // SAFETY: the caller's promise for the first n.
        Portable(std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *p.cast() = self.0 }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(n) {
            // SAFETY: the caller's promise for the first n.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller's promise.
        Portable(std::array::from_fn(|i| unsafe { *p.add(i) }.to_f32_const()))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        for (i, x) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = f16::from_f32(x) }
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Portable(std::array::from_fn(|i| f32::from(unsafe { *p.add(i) })))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self * b + c
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { b } else { a })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { b } else { a })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn round(self) -> Self {
        Portable(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        self.zip(n, |x, n| (f64::from(x) * f64::from(n).exp2()) as f32)
    }
    #[inline(always)]
    fn lt(self, other: Self) -> [bool; 4] {
        std::array::from_fn(|i| self.0[i] < other.0[i])
    }
    #[inline(always)]
    fn select(mask: [bool; 4], yes: Self, no: Self) -> Self {
        Portable(std::array::from_fn(|i| if mask[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn store_sums(v: [Self; 4], p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *p.cast() = v.map(Simd::sum) }
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize) {
        for col in 0..4 {
            for row in 0..4 {
                // SAFETY: the caller's promise for 4 rows of 4.
                unsafe { *dst.add(col * dst_stride + row) = *src.add(row * src_stride + col) }
            }
        }
    }
}
