//! Four lanes of AArch64 Advanced SIMD. Run under an emulator only (`scripts/test-aarch64.sh`): the project's machines have no such
//! processor.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::{Add, Div, Mul, Sub};

use half::f16;

use super::Simd;

/// A Q register. Advanced SIMD is part of every AArch64 target that Rust has, so no dispatch is needed.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

/// 4 f16, as their bits, as f32. (Intrinsics for this are newer than the oldest Rust that the project supports.)
#[inline(always)]
pub(crate) fn halves_to_floats(halves: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: registers alone; the instruction is part of the target.
    unsafe {
        asm!("fcvtl {floats:v}.4s, {halves:v}.4h", floats = out(vreg) floats, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

/// 4 f32 as the bits of f16, rounded to nearest even.
#[inline(always)]
fn floats_to_halves(floats: float32x4_t) -> uint16x4_t {
    let halves;
    // SAFETY: registers alone; the instruction is part of the target.
    unsafe {
        asm!("fcvtn {halves:v}.4h, {floats:v}.4s", halves = out(vreg) halves, floats = in(vreg) floats,
            options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for Neon {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the instruction is part of the target.
                Neon(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add, add, vaddq_f32);
operator!(Sub, sub, vsubq_f32);
operator!(Mul, mul, vmulq_f32);
operator!(Div, div, vdivq_f32);

// SAFETY of every block below: the instructions are part of the target, and pointers are valid by the caller's promise.
impl Simd for Neon {
    const LANES: usize = 4;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vld1q_f32(p) })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 4];
        // SAFETY: see above for the first n <= 4.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n.min(4));
            Neon(vld1q_f32(lanes.as_ptr()))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 4];
        // SAFETY: see above for the first n <= 4.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), self.0);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n.min(4));
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: see above.
        Neon(halves_to_floats(unsafe { vld1_u16(p.cast()) }))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: see above.
        unsafe { vst1_u16(p.cast(), floats_to_halves(self.0)) }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see above.
        unsafe {
            let bytes = vreinterpret_s8_s32(vdup_n_s32(p.cast::<i32>().read_unaligned()));
            Neon(vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes)))))
        }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(self.lt(other), other, self)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(other.lt(self), other, self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vabsq_f32(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        // SAFETY: see above. Two steps, so that each power of two is a normal number.
        unsafe {
            let n = vcvtq_s32_f32(n.0);
            let half = vshrq_n_s32::<1>(n);
            let bias = vdupq_n_s32(127);
            let a = vshlq_n_s32::<23>(vaddq_s32(half, bias));
            let b = vshlq_n_s32::<23>(vaddq_s32(vsubq_s32(n, half), bias));
            Neon(vmulq_f32(vmulq_f32(self.0, vreinterpretq_f32_s32(a)), vreinterpretq_f32_s32(b)))
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> uint32x4_t {
        // SAFETY: see above.
        unsafe { vcltq_f32(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: uint32x4_t, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        Neon(unsafe { vbslq_f32(mask, yes.0, no.0) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(self.0) }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn store_sums(v: [Self; 4], p: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(p, vpaddq_f32(vpaddq_f32(v[0].0, v[1].0), vpaddq_f32(v[2].0, v[3].0))) }
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
