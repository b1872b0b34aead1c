//! Groups of the packed layout in registers, 4 rows at a time.

use std::arch::aarch64::*;

use crate::linear::format::{CODEBOOK, Format, PANEL};
use crate::math::simd::halves_to_floats;

/// Rows of a quarter of a line, and how many there are.
pub(super) const QUARTER: usize = 4;
pub(super) const QUARTERS: usize = PANEL / QUARTER;

/// Whether signed quants are stored with 128 added: [`lines`] takes it off.
pub(super) const fn is_offset<F: Format>() -> bool {
    F::BITS == 8 || F::CODES
}

/// One quarter of the eight logical lines of a group as signed bytes, a row per 32-bit lane.
///
/// # Safety
/// `quants` points to a group of `F`, plus 16 for each quarter before this one.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn lines<F: Format>(quants: *const u8) -> [int8x16_t; 8] {
    let mut out = [vdupq_n_u8(0); 8];
    // SAFETY: a group has `BITS` lines.
    let load = |i: usize| unsafe { vld1q_u8(quants.add(64 * i)) };
    match F::BITS {
        8 => {
            for (j, out) in out.iter_mut().enumerate() {
                *out = load(j);
            }
        }
        4..=6 => {
            for i in 0..4 {
                let line = load(i);
                out[i] = vandq_u8(line, vdupq_n_u8(15));
                out[i + 4] = vshrq_n_u8::<4>(line);
            }
        }
        _ => {
            let low2 = vdupq_n_u8(3);
            for i in 0..2 {
                let line = load(i);
                out[4 * i] = vandq_u8(line, low2);
                out[4 * i + 1] = vandq_u8(vshrq_n_u8::<2>(line), low2);
                out[4 * i + 2] = vandq_u8(vshrq_n_u8::<4>(line), low2);
                out[4 * i + 3] = vshrq_n_u8::<6>(line);
            }
        }
    }
    match F::BITS {
        // One more bit a line: where bit j is set, the test gives all ones, of which one bit is kept.
        3 | 5 => {
            let (high, bit) = if F::BITS == 5 { (load(4), vdupq_n_u8(16)) } else { (load(2), vdupq_n_u8(4)) };
            for (j, out) in out.iter_mut().enumerate() {
                *out = vorrq_u8(*out, vandq_u8(vtstq_u8(high, vdupq_n_u8(1 << j)), bit));
            }
        }
        6 => {
            for h in 0..2 {
                let high = load(4 + h);
                let pairs = [vshlq_n_u8::<4>(high), vshlq_n_u8::<2>(high), high, vshrq_n_u8::<2>(high)];
                for (j, pair) in pairs.into_iter().enumerate() {
                    out[4 * h + j] = vorrq_u8(out[4 * h + j], vandq_u8(pair, vdupq_n_u8(0x30)));
                }
            }
        }
        _ => {}
    }
    out.map(|mut line| {
        if F::CODES {
            // SAFETY: the codebook has 16 bytes.
            line = vqtbl1q_u8(unsafe { vld1q_u8(CODEBOOK.as_ptr()) }, line);
        }
        vreinterpretq_s8_u8(if is_offset::<F>() { veorq_u8(line, vdupq_n_u8(0x80)) } else { line })
    })
}

/// 4 f16 as f32.
///
/// # Safety
/// `p` points to 8 readable bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn load_f16(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    halves_to_floats(unsafe { vreinterpret_u16_u8(vld1_u8(p)) })
}

/// 4 bytes as 32-bit lanes.
///
/// # Safety
/// `p` points to 4 readable bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_bytes(p: *const u8) -> uint32x4_t {
    // SAFETY: the caller's promise.
    let word = unsafe { p.cast::<u32>().read_unaligned() };
    vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word)))))
}

/// `d` and `dmin` (0 without minima) of the rows of a quarter, of a block whose scales belong to 256 columns; zeros for other types.
///
/// # Safety
/// `header` points to a block of `F`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn super_scales<F: Format>(header: *const u8, quarter: usize) -> (float32x4_t, float32x4_t) {
    let zero = vdupq_n_f32(0.0);
    if !F::SUPER {
        return (zero, zero);
    }
    // SAFETY: the header starts with 16 f16 `d`, then `dmin` if there are minima.
    unsafe {
        let own = header.add(2 * QUARTER * quarter);
        (load_f16(own), if F::MIN_SIGN != 0 { load_f16(own.add(2 * PANEL)) } else { zero })
    }
}

/// Scale and unsigned minimum (`d * scale`, `dmin * min`) of the rows of a quarter for scale `s` of group `group`, given
/// [`super_scales`].
///
/// # Safety
/// `header` points to a block of `F` with more than `group` groups.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn group_scales<F: Format>(
    header: *const u8,
    quarter: usize,
    group: usize,
    s: usize,
    (d, dmin): (float32x4_t, float32x4_t),
) -> (float32x4_t, float32x4_t) {
    let zero = vdupq_n_f32(0.0);
    let times = |d: float32x4_t, integers: uint32x4_t| vmulq_f32(d, vcvtq_f32_u32(integers));
    // SAFETY: the group's scales lie in the header.
    unsafe {
        let own = header.add(F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES);
        if !F::SUPER {
            let own = own.add(2 * QUARTER * quarter);
            return (load_f16(own), if F::MIN_SIGN != 0 { load_f16(own.add(2 * PANEL)) } else { zero });
        }
        if !F::SUBSCALES {
            return (d, zero);
        }
        if F::SIX_BIT_SCALES {
            // See `put_twelve_bits`.
            let words = vmovl_u16(vreinterpret_u16_u8(vld1_u8(own.add(8 * (quarter % 2)))));
            let bits = if quarter < 2 {
                words
            } else {
                let bytes = load_bytes(own.add(PANEL + 4 * (quarter % 2)));
                vorrq_u32(vshrq_n_u32::<12>(words), vshlq_n_u32::<4>(bytes))
            };
            let six = vdupq_n_u32(63);
            return (times(d, vandq_u32(bits, six)), times(dmin, vandq_u32(vshrq_n_u32::<6>(bits), six)));
        }
        let own = own.add(QUARTER * quarter);
        let bytes = load_bytes(own.add(PANEL * s));
        if F::NIBBLE_SCALES {
            return (times(d, vandq_u32(bytes, vdupq_n_u32(15))), times(dmin, vshrq_n_u32::<4>(bytes)));
        }
        // Signed bytes: the sign moves up and down again.
        let signed = vshrq_n_s32::<24>(vreinterpretq_s32_u32(vshlq_n_u32::<24>(bytes)));
        let scale = vmulq_f32(d, vcvtq_f32_s32(signed));
        let min = if F::MIN_SIGN == 0 { zero } else { times(dmin, load_bytes(own.add(PANEL * (F::SCALES + s)))) };
        (scale, min)
    }
}
