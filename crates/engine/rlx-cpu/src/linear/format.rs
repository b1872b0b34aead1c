//! The packed layout of quantised weights: one scheme for every type, read by all kernels.
//!
//! Rows are taken 16 at a time (a *panel*); a panel is one sequential stream of *blocks* of up to 8 *groups* of 32 columns.
//!
//! A group of 16 rows x 32 columns has 8 *lines* of 64 bytes: byte `4r + b` of line `j` is the unsigned quant of row `r`,
//! column `4j + b`. So a line is one AVX-512 register of `vpdpbusd` operands, with a row per 32-bit lane. Narrow quants
//! share lines, at the same byte positions:
//!
//! | bits | stored lines (64 bytes each) |
//! |---|---|
//! | 8 | 8 lines |
//! | 4 | 4 nibble lines: low nibbles of line `i` are logical line `i`, high nibbles line `i + 4` |
//! | 5 | the nibble lines, then one line whose bit `j` is the fifth bit of logical line `j` |
//! | 6 | the nibble lines, then two lines whose bit pairs `j` are the top bits of logical lines `j` and `j + 4` |
//! | 2 | 2 lines: bit pairs `j` of line `i` are logical line `4i + j` |
//! | 3 | the 2-bit lines, then one line whose bit `j` is the third bit of logical line `j` |
//!
//! A block starts with its scales, 16 rows side by side. Types with one scale per 32 columns: for each group 16 x f16 `d`
//! (then 16 x f16 `m`). K types: 16 x f16 `d` (then 16 x f16 `dmin`), then for each group and each scale in it 16 bytes of
//! scales (then 16 bytes of minima); Q2_K has scale and minimum as nibbles of one byte, as in the file, and Q4_K and Q5_K have
//! them in 12 bits (see [`put_twelve_bits`]). The quants of the block's groups follow.
//!
//! The value of a quant `q` is `d * scale * (q - ZERO) + MIN_SIGN * dmin * min`.

use rlx_ir::DType;
use rlx_quant::codebooks::KVALUES_IQ4NL;

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;
/// Columns of a group.
pub(crate) const GROUP: usize = 32;
/// Int8 numbers of a group of activations: their high and their low parts.
pub(crate) const GROUP_QUANTS: usize = 2 * GROUP;
/// Groups of a full block.
pub(crate) const BLOCK_GROUPS: usize = 8;

/// A quantised type in the packed layout; see the module's documentation.
pub(crate) trait Format: Copy + 'static {
    /// The type.
    const DTYPE: DType;
    /// Bits of a stored quant.
    const BITS: usize;
    /// Whether stored quants are codes into the IQ4 codebook.
    const CODES: bool = false;
    /// Whether 256 columns share `d`, refined by integer scales.
    const SUPER: bool;
    /// Whether there are integer scales at all (the ternary types have none).
    const SUBSCALES: bool = Self::SUPER;
    /// Whether scale and minimum are two nibbles of one byte.
    const NIBBLE_SCALES: bool = false;
    /// Whether scale and minimum are six bits each.
    const SIX_BIT_SCALES: bool = false;

    /// Zero point of the (decoded) quants.
    const ZERO: i32 = rlx_quant::zero_point(Self::DTYPE);
    /// Largest magnitude of the integer scales.
    const LARGEST_SCALE: i32 = 1;

    /// Sign of the minima; 0 without.
    const MIN_SIGN: i32 = rlx_quant::min_sign(Self::DTYPE);
    /// Scales in a group of 32 columns: 1 or 2.
    const SCALES: usize = GROUP / rlx_quant::group_len(Self::DTYPE);
    /// Largest magnitude of a quant times its integer scale.
    const LARGEST_PRODUCT: i32 = {
        let above = if Self::CODES { 127 } else { (1 << Self::BITS) - 1 - Self::ZERO };
        Self::LARGEST_SCALE * if above > Self::ZERO { above } else { Self::ZERO }
    };
    /// Bytes of a group's quants.
    const QUANT_BYTES: usize = 64 * Self::BITS;
    /// Bytes of one group's own scales in the header.
    const GROUP_SCALE_BYTES: usize = {
        let min = Self::MIN_SIGN != 0;
        if Self::SUPER {
            match (Self::SUBSCALES, Self::SIX_BIT_SCALES) {
                (false, _) => 0,
                (true, true) => PANEL * 12 / 8,
                (true, false) => PANEL * Self::SCALES * if min && !Self::NIBBLE_SCALES { 2 } else { 1 },
            }
        } else {
            2 * PANEL * if min { 2 } else { 1 }
        }
    };
    /// Bytes of the header before the groups' scales.
    const SUPER_BYTES: usize = if Self::SUPER { 2 * PANEL * if Self::MIN_SIGN != 0 { 2 } else { 1 } } else { 0 };

    /// Bytes of the scales of a block of `groups` groups.
    #[inline(always)]
    fn header_bytes(groups: usize) -> usize {
        Self::SUPER_BYTES + groups * Self::GROUP_SCALE_BYTES
    }

    /// Bytes of a block of `groups` groups.
    #[inline(always)]
    fn block_bytes(groups: usize) -> usize {
        Self::header_bytes(groups) + groups * Self::QUANT_BYTES
    }

    /// Bytes of a panel of `groups` groups, rounded up to whole cache lines.
    #[inline(always)]
    fn panel_bytes(groups: usize) -> usize {
        let full = groups / BLOCK_GROUPS * Self::block_bytes(BLOCK_GROUPS);
        let rest = groups % BLOCK_GROUPS;
        let tail = if rest > 0 { Self::block_bytes(rest) } else { 0 };
        (full + tail).next_multiple_of(64)
    }
}

macro_rules! formats {
    ($($name:ident { $($body:tt)* })*) => {
        $(
            #[derive(Clone, Copy)]
            #[allow(non_camel_case_types)]
            pub(crate) struct $name;
            impl Format for $name {
                const DTYPE: DType = DType::$name;
                $($body)*
            }
        )*
    };
}

formats! {
    Q4_0 { const BITS: usize = 4; const SUPER: bool = false; }
    Q4_1 { const BITS: usize = 4; const SUPER: bool = false; }
    Q5_0 { const BITS: usize = 5; const SUPER: bool = false; }
    Q5_1 { const BITS: usize = 5; const SUPER: bool = false; }
    Q8_0 { const BITS: usize = 8; const SUPER: bool = false; }
    IQ4_NL { const BITS: usize = 4; const SUPER: bool = false; const CODES: bool = true; }
    Q2_K { const BITS: usize = 2; const SUPER: bool = true; const NIBBLE_SCALES: bool = true; const LARGEST_SCALE: i32 = 15; }
    Q3_K { const BITS: usize = 3; const SUPER: bool = true; const LARGEST_SCALE: i32 = 32; }
    Q4_K { const BITS: usize = 4; const SUPER: bool = true; const SIX_BIT_SCALES: bool = true; const LARGEST_SCALE: i32 = 63; }
    Q5_K { const BITS: usize = 5; const SUPER: bool = true; const SIX_BIT_SCALES: bool = true; const LARGEST_SCALE: i32 = 63; }
    Q6_K { const BITS: usize = 6; const SUPER: bool = true; const LARGEST_SCALE: i32 = 128; }
    IQ4_XS { const BITS: usize = 4; const SUPER: bool = true; const CODES: bool = true; const LARGEST_SCALE: i32 = 32; }
    TQ2_0 { const BITS: usize = 2; const SUPER: bool = true; const SUBSCALES: bool = false; }
}

/// Evaluates the body with the type alias `F` bound to the format of a dtype, or the fallback if it has none.
macro_rules! with_format {
    ($dtype:expr, $F:ident => $body:expr, else $fallback:expr) => {
        match $dtype {
            rlx_ir::DType::Q4_0 => {
                type $F = $crate::linear::format::Q4_0;
                $body
            }
            rlx_ir::DType::Q4_1 => {
                type $F = $crate::linear::format::Q4_1;
                $body
            }
            rlx_ir::DType::Q5_0 => {
                type $F = $crate::linear::format::Q5_0;
                $body
            }
            rlx_ir::DType::Q5_1 => {
                type $F = $crate::linear::format::Q5_1;
                $body
            }
            rlx_ir::DType::Q8_0 => {
                type $F = $crate::linear::format::Q8_0;
                $body
            }
            rlx_ir::DType::IQ4_NL => {
                type $F = $crate::linear::format::IQ4_NL;
                $body
            }
            rlx_ir::DType::Q2_K => {
                type $F = $crate::linear::format::Q2_K;
                $body
            }
            rlx_ir::DType::Q3_K => {
                type $F = $crate::linear::format::Q3_K;
                $body
            }
            rlx_ir::DType::Q4_K => {
                type $F = $crate::linear::format::Q4_K;
                $body
            }
            rlx_ir::DType::Q5_K => {
                type $F = $crate::linear::format::Q5_K;
                $body
            }
            rlx_ir::DType::Q6_K => {
                type $F = $crate::linear::format::Q6_K;
                $body
            }
            rlx_ir::DType::IQ4_XS => {
                type $F = $crate::linear::format::IQ4_XS;
                $body
            }
            rlx_ir::DType::TQ2_0 => {
                type $F = $crate::linear::format::TQ2_0;
                $body
            }
            _ => $fallback,
        }
    };
}
pub(crate) use with_format;

/// The IQ4 codebook plus 128, so that decoded quants are unsigned.
pub(crate) const CODEBOOK: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (KVALUES_IQ4NL[i] as i16 + 128) as u8;
        i += 1;
    }
    table
};

/// The four quants of row `row` in logical line `line` of a group, lowest column in the lowest byte.
#[inline(always)]
pub(crate) fn quad<F: Format>(quants: &[u8], line: usize, row: usize) -> [u8; 4] {
    let word = |stored: usize| {
        let at = 64 * stored + 4 * row;
        u32::from_le_bytes([quants[at], quants[at + 1], quants[at + 2], quants[at + 3]])
    };
    let nibbles = |line: usize| (word(line % 4) >> (4 * (line / 4))) & 0x0F0F_0F0F;
    let pairs = |line: usize| (word(line / 4) >> (2 * (line % 4))) & 0x0303_0303;
    let q = match F::BITS {
        8 => word(line),
        4 => nibbles(line),
        5 => nibbles(line) | ((word(4) >> line) & 0x0101_0101) << 4,
        6 => nibbles(line) | ((word(4 + line / 4) >> (2 * (line % 4))) & 0x0303_0303) << 4,
        2 => pairs(line),
        _ => pairs(line) | ((word(2) >> line) & 0x0101_0101) << 2,
    };
    let bytes = q.to_le_bytes();
    if F::CODES { bytes.map(|code| CODEBOOK[code as usize & 15]) } else { bytes }
}

/// Puts the 12 bits `scale | min << 6` of row `row` into the zeroed scales of a group: 16-bit words hold those of rows 0 to 7 and above
/// them the lowest four of rows 8 to 15, whose other eight follow as bytes.
pub(crate) fn put_twelve_bits(own: &mut [u8], row: usize, value: u16) {
    let word = 2 * (row % 8);
    if row < 8 {
        own[word] = value as u8;
        own[word + 1] |= (value >> 8) as u8;
    } else {
        own[word + 1] |= (value << 4) as u8;
        own[PANEL + row % 8] = (value >> 4) as u8;
    }
}

/// The 12 bits that [`put_twelve_bits`] put there.
#[inline(always)]
fn twelve_bits(own: &[u8], row: usize) -> u16 {
    let word = u16::from_le_bytes([own[2 * (row % 8)], own[2 * (row % 8) + 1]]);
    if row < 8 { word & 0xFFF } else { word >> 12 | u16::from(own[PANEL + row % 8]) << 4 }
}

/// Scale and signed minimum of row `row` for the scale `s` (0 or 1) of group `group` of a block, evaluated as
/// `rlx_quant::dequantize` does: `(d * scale, ± dmin * min)`.
#[inline(always)]
pub(crate) fn scale_min<F: Format>(header: &[u8], group: usize, s: usize, row: usize) -> (f32, f32) {
    let half = |at: usize| half::f16::from_le_bytes([header[at], header[at + 1]]).to_f32();
    let sign = F::MIN_SIGN as f32;
    let own = F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES;
    if !F::SUPER {
        let d = half(own + 2 * row);
        let m = if F::MIN_SIGN != 0 { sign * half(own + 2 * PANEL + 2 * row) } else { 0.0 };
        return (d, m);
    }
    let d = half(2 * row);
    if !F::SUBSCALES {
        return (d, 0.0);
    }
    if F::NIBBLE_SCALES {
        let byte = header[own + PANEL * s + row];
        return (d * (byte & 15) as f32, sign * (half(2 * PANEL + 2 * row) * (byte >> 4) as f32));
    }
    if F::SIX_BIT_SCALES {
        let bits = twelve_bits(&header[own..], row);
        return (d * (bits & 63) as f32, sign * (half(2 * PANEL + 2 * row) * (bits >> 6) as f32));
    }
    let scale = header[own + PANEL * s + row] as i8 as f32;
    let min = if F::MIN_SIGN != 0 {
        let min = header[own + PANEL * (F::SCALES + s) + row] as f32;
        sign * (half(2 * PANEL + 2 * row) * min)
    } else {
        0.0
    };
    (d * scale, min)
}

/// What comes `distance` bytes after byte `at` of a panel of `len`: in it, or in the panel that is read next.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn ahead(panel: *const u8, next: *const u8, at: usize, len: usize, distance: usize) -> *const u8 {
    match (at + distance).checked_sub(len) {
        None => panel.wrapping_add(at + distance),
        Some(beyond) => next.wrapping_add(beyond),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_costs_at_most_four_per_cent() {
        macro_rules! check {
            ($($F:ident)*) => {$(
                let packed = $F::panel_bytes(64) as f64;
                let file = ($F::DTYPE.bytes_for(64 * GROUP).unwrap() * PANEL) as f64;
                assert!(packed / file < 1.04, "{}: {}", $F::DTYPE, packed / file);
            )*};
        }
        check!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS TQ2_0);
        assert_eq!(Q4_0::panel_bytes(64), 64 * 18 * 16);
        assert_eq!(Q6_K::panel_bytes(64), 8 * 210 * 16);
        assert_eq!(Q4_K::panel_bytes(64), 8 * 144 * 16);
        assert_eq!(Q5_K::panel_bytes(64), 8 * 176 * 16);
    }

    #[test]
    fn twelve_bits_come_back() {
        let mut own = [0; PANEL * 12 / 8];
        let value = |row: usize| (0x5A5 + 0x123 * row as u16) & 0xFFF;
        (0..PANEL).for_each(|row| put_twelve_bits(&mut own, row, value(row)));
        (0..PANEL).for_each(|row| assert_eq!(twelve_bits(&own, row), value(row), "row {row}"));
    }
}
