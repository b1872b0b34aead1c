//! The dispatch: which function serves an instruction set, a type and a tile size.

use rlx_ir::DType;

use super::fetch::Fetch;
use super::format::{BLOCK_GROUPS, Format, GROUP, PANEL, with_format};
use super::lines::FloatLines;
#[cfg(target_arch = "x86_64")]
use super::plan::{FIXED_BLOCK, fixed_run};
use super::prepare::{FixedMeta, GroupMeta};
use super::scalar;
use crate::Isa;

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Int8 tile times panels; see [`scalar::int8`]. The last is the panel that is read next, or any that is in the cache; null where these
/// panels are in the cache themselves, so that nothing is fetched ahead.
pub(crate) type Int8Kernel =
    unsafe fn(*const u8, usize, usize, *const i8, *const GroupMeta, usize, *mut f32, *const u8);
/// f32 tile times two float panels; see [`scalar::float`].
pub(crate) type FloatKernel = unsafe fn([*const u8; 2], usize, FloatLines, usize, *mut f32, Fetch);
/// Fixed-point tile times two panels; see [`avx2::fixed`].
#[cfg(target_arch = "x86_64")]
pub(crate) type FixedKernel =
    unsafe fn([*const i16; 2], [*const f32; 2], usize, *const i32, *const FixedMeta, *mut f32, bool);
/// Panel to f32 columns; see [`scalar::dequantise`].
pub(crate) type DequantiseKernel = unsafe fn(*const u8, usize, *mut f32);
/// The types of float panels as const parameters.
pub(crate) const F32: u8 = 0;
pub(crate) const F16: u8 = 1;
pub(crate) const BF16: u8 = 2;

/// The type that a const parameter stands for.
pub(crate) const fn float_dtype(code: u8) -> DType {
    match code {
        F32 => DType::F32,
        F16 => DType::F16,
        _ => DType::BF16,
    }
}

/// The int8 kernel for tiles of `tokens` tokens (one of the sizes of [`int8_tile_rows`](super::plan::int8_tile_rows)).
pub(crate) fn int8(isa: Isa, dtype: DType, tokens: usize) -> Int8Kernel {
    with_format!(dtype, F => match (isa, tokens) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Amx, 1) => avx512::int8::<F, 1> as Int8Kernel,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Amx, 2) => avx512::int8::<F, 2>,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Amx, 4) => avx512::int8::<F, 4>,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Amx, _) => avx512::int8::<F, 8>,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => avx2::int8::<F>,
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, _) => neon::int8::<F>,
        _ => scalar::int8::<F>,
    }, else unreachable!("{dtype} has no packed layout"))
}

/// The sizes of f32 tiles that an instruction set has kernels for, in tokens, ascending.
pub(crate) fn float_tiles(isa: Isa) -> &'static [usize] {
    match isa {
        Isa::Avx512 | Isa::Amx => &[1, 2, 4, 6, 8, 10, 12, 14],
        _ => &[1, 2, 3, 4, 5, 6],
    }
}

/// The size of tiles for `rows` tokens, one of [`float_tiles`]; `minima` says whether fixed-point weights have any.
pub(crate) fn float_tile(isa: Isa, rows: usize, minima: bool) -> usize {
    let sizes = float_tiles(isa);
    // What minima are multiplied with takes registers, too.
    let sizes = if minima { &sizes[..sizes.partition_point(|&size| size <= 8)] } else { sizes };
    // A tile costs its tokens, and an eighth of one for reading the weights. One or two tokens have other kernels than more.
    let cost = |size: usize| rows.div_ceil(size) * (8 * size + 1);
    let fitting = sizes.iter().filter(|&&size| size >= rows.min(3));
    *fitting.min_by_key(|&&size| cost(size)).expect("the largest size does")
}

macro_rules! by_float_tile {
    ($dtype:expr, $tokens:expr, $module:ident, [$($t:literal)*]) => {
        match ($dtype, $tokens) {
            $((DType::F16, $t) => $module::float::<F16, $t> as FloatKernel,)*
            $((DType::BF16, $t) => $module::float::<BF16, $t>,)*
            $((_, $t) => $module::float::<F32, $t>,)*
            _ => unreachable!("no f32 tile of {} tokens", $tokens),
        }
    };
}

/// The f32 kernel for float panels of `dtype` (F32 for dequantised ones) and tiles of `tokens` tokens, a size of [`float_tiles`].
pub(crate) fn float(isa: Isa, dtype: DType, tokens: usize) -> FloatKernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => by_float_tile!(dtype, tokens, avx512, [1 2 4 6 8 10 12 14]),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => by_float_tile!(dtype, tokens, avx2, [1 2 3 4 5 6]),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => by_float_tile!(dtype, tokens, neon, [1 2 3 4 5 6]),
        _ => match dtype {
            DType::F16 => scalar::float::<F16>,
            DType::BF16 => scalar::float::<BF16>,
            _ => scalar::float::<F32>,
        },
    }
}

/// The fixed-point kernel for weights of `dtype` and tiles of `tokens` tokens, a size of [`float_tiles`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn fixed(isa: Isa, dtype: DType, tokens: usize) -> FixedKernel {
    let (run, mins) = with_format!(dtype, F => const { fixed_run::<F>() }, else (FIXED_BLOCK, 0));
    macro_rules! by_tile {
        ($run:tt, $mins:literal) => {
            match (isa, tokens) {
                (Isa::Avx512, 4) => avx512::fixed::<4, $run, $mins> as FixedKernel,
                (Isa::Avx512, 6) => avx512::fixed::<6, $run, $mins>,
                (Isa::Avx512, 8) => avx512::fixed::<8, $run, $mins>,
                (Isa::Avx512, 10) => avx512::fixed::<10, $run, $mins>,
                (Isa::Avx512, 12) => avx512::fixed::<12, $run, $mins>,
                (Isa::Avx512, 14) => avx512::fixed::<14, $run, $mins>,
                (Isa::Avx2, 3) => avx2::fixed::<3, $run, $mins>,
                (Isa::Avx2, 4) => avx2::fixed::<4, $run, $mins>,
                (Isa::Avx2, 5) => avx2::fixed::<5, $run, $mins>,
                (Isa::Avx2, 6) => avx2::fixed::<6, $run, $mins>,
                _ => unreachable!("no fixed-point tile of {tokens} tokens on {isa}"),
            }
        };
    }
    match (run, mins) {
        (GROUP, 0) => by_tile!(GROUP, 0),
        (GROUP, 1) => by_tile!(GROUP, 1),
        (FIXED_BLOCK, 0) => by_tile!(FIXED_BLOCK, 0),
        (FIXED_BLOCK, 8) => by_tile!(FIXED_BLOCK, 8),
        (FIXED_BLOCK, 16) => by_tile!(FIXED_BLOCK, 16),
        _ => unreachable!("no fixed-point kernel for {dtype}"),
    }
}

/// Converts a panel of `cols` columns to fixed point; see [`avx2::fixed`].
///
/// # Safety
/// The machine has AVX2, FMA and F16C; the panel is stored in blocks of quants or as floats; `out` and `scales` have room.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn to_fixed(dtype: DType, panel: *const u8, cols: usize, out: *mut i16, scales: *mut f32) {
    let pairs = cols.div_ceil(2);
    // SAFETY: passed on.
    unsafe {
        match dtype {
            DType::F32 => avx2::floats_to_fixed::<F32>(panel, pairs, out, scales),
            DType::F16 => avx2::floats_to_fixed::<F16>(panel, pairs, out, scales),
            DType::BF16 => avx2::floats_to_fixed::<BF16>(panel, pairs, out, scales),
            _ => with_format!(dtype, F => avx2::quants_to_fixed::<F>(panel, cols / GROUP, out, scales),
                else unreachable!("{dtype} has no packed layout")),
        }
    }
}

/// Bytes of the next [`BLOCK_GROUPS`] groups of columns of a panel that is stored in blocks of quants or as floats.
pub(crate) fn block_bytes(dtype: DType) -> usize {
    with_format!(dtype, F => F::block_bytes(BLOCK_GROUPS), else BLOCK_GROUPS * GROUP * PANEL * dtype.block_bytes())
}

/// The function that dequantises panels of `dtype` to f32.
pub(crate) fn dequantise(isa: Isa, dtype: DType) -> DequantiseKernel {
    with_format!(dtype, F => match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => avx512::dequantise::<F> as DequantiseKernel,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::dequantise::<F>,
        _ => scalar::dequantise::<F>,
    }, else unreachable!("{dtype} has no packed layout"))
}

/// Converts the tiles `first..first + count` of a panel of `cols` columns to bf16; see [`avx512::bf16`].
///
/// # Safety
/// The machine has AVX-512 with VBMI and BF16; `first` starts a block of quants; `out` has room.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn to_tiles(dtype: DType, panel: *const u8, cols: usize, first: usize, count: usize, out: *mut u16) {
    // SAFETY: passed on.
    unsafe {
        match dtype {
            DType::F32 => avx512::bf16::float_tiles::<F32>(panel, cols, first, count, out),
            DType::F16 => avx512::bf16::float_tiles::<F16>(panel, cols, first, count, out),
            DType::BF16 => avx512::bf16::float_tiles::<BF16>(panel, cols, first, count, out),
            _ => with_format!(dtype, F => avx512::bf16::quant_tiles::<F>(panel, first, count, out),
                else unreachable!("{dtype} has no packed layout")),
        }
    }
}
