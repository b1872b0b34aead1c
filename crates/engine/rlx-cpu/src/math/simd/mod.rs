//! One register of f32 lanes, per instruction set: kernels are written once over [`Simd`] and compiled per level by
//! [`simd_dispatch!`](crate::math::simd::simd_dispatch).
//!
//! The methods are `#[inline(always)]` wrappers of single instructions. They are only correct (and only fast) inside a
//! function compiled with the instruction set's features, which `simd_dispatch!` provides: naming [`Avx2`] or [`Avx512`]
//! anywhere else is a bug.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, halves_to_floats};
pub(crate) use portable::Portable;

/// A register of f32 lanes. Arithmetic is lane by lane, rounded once per operation.
pub(crate) trait Simd:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Number of lanes: a power of two, 4 to 16.
    const LANES: usize;
    /// Whether mathematics goes through [`Simd::map`] and the scalar functions (the reference level).
    const REFERENCE: bool = false;
    /// The result of a comparison.
    type Mask: Copy;

    /// `x` in every lane.
    fn splat(x: f32) -> Self;
    /// Zero in every lane.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// Reads `LANES` elements.
    /// # Safety
    /// `p` is valid for reads of `LANES` elements; no alignment is needed.
    unsafe fn load(p: *const f32) -> Self;
    /// Reads `n <= LANES` elements; the other lanes are zero.
    /// # Safety
    /// `p` is valid for reads of `n` elements.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    /// Writes `LANES` elements.
    /// # Safety
    /// `p` is valid for writes of `LANES` elements.
    unsafe fn store(self, p: *mut f32);
    /// Writes the first `n <= LANES` elements.
    /// # Safety
    /// `p` is valid for writes of `n` elements.
    unsafe fn store_part(self, p: *mut f32, n: usize);
    /// Reads `LANES` halves.
    /// # Safety
    /// `p` is valid for reads of `LANES` elements.
    unsafe fn load_f16(p: *const f16) -> Self;
    /// Writes `LANES` halves, rounded to nearest even.
    /// # Safety
    /// `p` is valid for writes of `LANES` elements.
    unsafe fn store_f16(self, p: *mut f16);
    /// Writes `LANES` bf16, rounded to nearest even; a NaN stays one.
    /// # Safety
    /// `p` is valid for writes of `LANES` elements.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16) {
        let mut lanes = [0.0; 16];
        // SAFETY: there are at most 16 lanes, and the caller's promise.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, &x) in lanes[..Self::LANES].iter().enumerate() {
                *p.add(i) = bf16::from_f32(x);
            }
        }
    }
    /// Reads `LANES` bytes.
    /// # Safety
    /// `p` is valid for reads of `LANES` elements.
    unsafe fn load_i8(p: *const i8) -> Self;

    /// `self * b + c`; rounded once where the hardware has fused multiply-add.
    fn fma(self, b: Self, c: Self) -> Self;
    /// The larger; a NaN in `self` stays.
    fn max(self, other: Self) -> Self;
    /// The smaller; a NaN in `self` stays.
    fn min(self, other: Self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// `self * 2^n` for integral `n` in -160..=128.
    fn scale2(self, n: Self) -> Self;
    /// `self < other`.
    fn lt(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is set, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Sum of the lanes.
    fn sum(self) -> f32;
    /// Largest lane.
    fn max_lane(self) -> f32;
    /// Writes the four sums of lanes of `v`.
    /// # Safety
    /// `p` is valid for writes of 4 elements.
    unsafe fn store_sums(v: [Self; 4], p: *mut f32);
    /// Transposes `LANES` rows of `LANES` elements: `src` rows `src_stride` apart to `dst` rows `dst_stride` apart, which are written in
    /// ascending order.
    /// # Safety
    /// Both are valid for `LANES` rows of `LANES` elements at their strides, and one does not overlap the other.
    unsafe fn transpose(src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize);
    /// Asks for the cache line at `p`, which may be any address.
    #[inline(always)]
    fn prefetch(_p: *const u8) {}
    /// Asks for the cache line at `p` in the first-level cache, if [`Simd::prefetch`] asks for the second.
    #[inline(always)]
    fn prefetch_first(_p: *const u8) {}
    /// `f` of every lane, one at a time.
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the array holds 16 elements and LANES <= 16.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for x in &mut lanes[..Self::LANES] {
                *x = f(*x);
            }
            Self::load(lanes.as_ptr())
        }
    }
}

/// Asks for the cache lines of `x`.
#[inline(always)]
pub(crate) fn prefetch(x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching has no effect but on speed, and SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Asks for `bytes` bytes from `p` on, wherever that is, in the second-level cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch_second(p: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for line in (0..bytes).step_by(64) {
        // SAFETY: prefetching never faults, and SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(line).cast()) }
    }
}

/// Makes a function that runs `body::<V>` compiled for the instruction set its first argument names.
///
/// ```text
/// simd_dispatch! {
///     /// Documentation.
///     pub fn sum(x: &[f32]) -> f32 = sum_v
/// }
/// #[inline(always)]
/// fn sum_v<V: Simd>(x: &[f32]) -> f32 { .. }
/// ```
/// gives `pub fn sum(isa: Isa, x: &[f32]) -> f32`. The level must be one the machine has ([`Isa::require`](crate::Isa::require)).
macro_rules! simd_dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name (isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2")]
            fn avx2 ($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::math::simd::Avx2>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            fn avx512 ($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::math::simd::Avx512>($($arg),*)
            }
            debug_assert!(isa.is_available());
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the caller holds a level that this machine has, so the features are there.
                $crate::Isa::Avx2 => unsafe { avx2 ($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::Isa::Avx512 | $crate::Isa::Amx => unsafe { avx512 ($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::Isa::Neon => $body::<$crate::math::simd::Neon>($($arg),*),
                _ => $body::<$crate::math::simd::Portable>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_dispatch;
