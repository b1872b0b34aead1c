//! Weights to bf16 tiles: `[columns / 32][16 pairs][16 rows][2]`, rounded to nearest even.

use std::arch::x86_64::*;

use half::bf16;

use super::amx::TILE;
use super::unpack::{group_scales, lines, load_f16, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, PANEL};
use crate::linear::kernels;

/// Dequantises the tiles `first..first + count` of a panel; `first` starts a block.
///
/// A byte becomes a float by being put into the mantissa of a constant; one FMA takes the constant and the zero point off
/// and applies scale and minimum. The bytes are permuted such that two registers of (row, column pair) convert to one line
/// of a tile.
///
/// # Safety
/// `panel` holds as many groups of `F`, `out` has room for `count` tiles; the machine has AVX-512 with VBMI and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,fma")]
pub(crate) unsafe fn quant_tiles<F: Format>(panel: *const u8, first: usize, count: usize, mut out: *mut u16) {
    // Bytes of 128 + q (quants of up to 7 bits in the second highest byte) or 32768 + q (8 bits, in the second lowest).
    let wide = F::BITS == 8 || F::CODES;
    let (base, constant) = if wide { (32768.0, 0x4700_0000) } else { (128.0, 0x4300_0000) };
    let constant = _mm512_set1_epi32(constant);
    let place = if wide { 1 } else { 2 };
    let mask: u64 = if wide { 0x2222_2222_2222_2222 } else { 0x4444_4444_4444_4444 };
    // For lane `2r + c` of half `h` and pair `p`: byte `2p + c` of row `8h + r`.
    let indices: [[__m512i; 2]; 2] = std::array::from_fn(|p| {
        std::array::from_fn(|h| {
            let mut bytes = [0u8; 64];
            for lane in 0..16 {
                bytes[4 * lane + place] = (4 * (8 * h + lane / 2) + 2 * p + lane % 2) as u8;
            }
            // SAFETY: 64 bytes on the stack.
            unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
        })
    });
    let halves = [
        _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),
        _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15),
    ];
    let zero = _mm512_set1_ps(-(base + F::ZERO as f32));
    let mut header = panel.wrapping_add(first / BLOCK_GROUPS * F::block_bytes(BLOCK_GROUPS));
    let mut left = count;
    // SAFETY: all addresses lie in the panel and the output, whose lengths the caller promises.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared = super_scales::<F>(header);
            for g in 0..count {
                let weights = lines::<F>(quants);
                for s in 0..F::SCALES {
                    let (scale, min) = group_scales::<F>(header, g, s, shared);
                    let offset = match F::MIN_SIGN {
                        0 => _mm512_mul_ps(scale, zero),
                        1 => _mm512_fmadd_ps(scale, zero, min),
                        _ => _mm512_fmsub_ps(scale, zero, min),
                    };
                    let scales = halves.map(|half| _mm512_permutexvar_ps(half, scale));
                    let offsets = halves.map(|half| _mm512_permutexvar_ps(half, offset));
                    let per_scale = 8 / F::SCALES;
                    for j in s * per_scale..(s + 1) * per_scale {
                        for (p, indices) in indices.iter().enumerate() {
                            let value = |h: usize| {
                                let q = _mm512_mask_permutexvar_epi8(constant, mask, indices[h], weights[j]);
                                _mm512_fmadd_ps(_mm512_castsi512_ps(q), scales[h], offsets[h])
                            };
                            let pairs = _mm512_cvtne2ps_pbh(value(1), value(0));
                            let pairs: __m512i = std::mem::transmute(pairs);
                            _mm512_storeu_si512(out.add((2 * j + p) * 2 * PANEL).cast(), pairs);
                        }
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                out = out.add(TILE);
            }
            header = quants;
            left -= count;
        }
    }
}

/// Converts the tiles `first..first + count` of a float panel of `cols` columns; columns beyond are zero.
///
/// # Safety
/// `out` has room for `count` tiles; the machine has AVX-512 with BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn float_tiles<const DTYPE: u8>(
    panel: *const u8,
    cols: usize,
    first: usize,
    count: usize,
    out: *mut u16,
) {
    const PAIRS: usize = TILE / (2 * PANEL);
    let interleave: [u16; 32] = std::array::from_fn(|i| (i / 2 + 16 * (i % 2)) as u16);
    let pairs = cols.div_ceil(2);
    // SAFETY: pairs below `pairs` lie in the panel; the output has whole tiles.
    unsafe {
        let interleave = _mm512_loadu_si512(interleave.as_ptr().cast());
        for (slot, pair) in (first * PAIRS..(first + count) * PAIRS).enumerate() {
            let value = if pair >= pairs {
                _mm512_setzero_si512()
            } else {
                let at = panel.add(pair * 2 * PANEL * kernels::float_dtype(DTYPE).block_bytes());
                if DTYPE == kernels::BF16 {
                    _mm512_loadu_si512(at.cast())
                } else {
                    let (even, odd) = if DTYPE == kernels::F16 {
                        (load_f16(at), load_f16(at.add(32)))
                    } else {
                        (_mm512_loadu_ps(at.cast()), _mm512_loadu_ps(at.add(64).cast()))
                    };
                    let words: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(odd, even));
                    _mm512_permutexvar_epi16(interleave, words)
                }
            };
            _mm512_storeu_si512(out.add(slot * 2 * PANEL).cast(), value);
        }
    }
}

/// Puts one f32 row into place `row` of a panel of tiles that was zeroed before.
pub(crate) fn put_row(values: &[f32], row: usize, out: &mut [u16]) {
    for (k, &v) in values.iter().enumerate() {
        out[(k / 2) * 2 * PANEL + 2 * row + k % 2] = bf16::from_f32(v).to_bits();
    }
}
