//! Weight matrices in the order the kernels read them.

use std::ops::Range;

use half::{bf16, f16};
use rlx_ir::DType;
use rlx_mem::{AlignedBuf, Bytes, PageArena};
use rlx_quant::BlockScales;

use super::format::{BLOCK_GROUPS, Format, GROUP, PANEL, put_twelve_bits, quad, scale_min, with_format};
use crate::{Isa, SharedSlice, ThreadPool};

/// Why a weight matrix cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinearError {
    /// A dimension is zero.
    #[error("a weight matrix of {rows} x {cols} is empty")]
    Empty {
        /// Out features.
        rows: usize,
        /// In features.
        cols: usize,
    },
    /// A row is no whole number of blocks.
    #[error("rows of {cols} elements are no whole number of {dtype} blocks of {} elements", .dtype.block_len())]
    PartialBlock {
        /// The block type.
        dtype: DType,
        /// In features.
        cols: usize,
    },
    /// The data has the wrong size.
    #[error("a {rows} x {cols} matrix of {dtype} takes {expected} bytes, but {found} were given")]
    Size {
        /// The element type.
        dtype: DType,
        /// Out features.
        rows: usize,
        /// In features.
        cols: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The size does not fit the address space.
    #[error("a {rows} x {cols} matrix of {dtype} exceeds the address space")]
    TooLarge {
        /// The element type.
        dtype: DType,
        /// Out features.
        rows: usize,
        /// In features.
        cols: usize,
    },
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Panels of interleaved quants, see [`super::format`].
    Quant,
    /// Panels of 16 rows: for each column (rounded up to an even number, the last one zero) the 16 values side by side;
    /// BF16 keeps pairs of columns together, `[cols / 2][16][2]`, which is the order of an AMX tile.
    Float,
    /// Row after row as in the file, for types without kernels of their own.
    Rows,
}

impl Storage {
    pub(crate) fn of(dtype: DType) -> Storage {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Storage::Float,
            _ => with_format!(dtype, F => { let _ = F::BITS; Storage::Quant }, else Storage::Rows),
        }
    }
}

/// Bytes of a file that all threads together pack before they give their pages back: few enough to be no second copy, enough to make
/// the calls rare.
const RELEASE: usize = 8 << 20;

/// Weight matrix `[rows = out features, cols = in features]` packed for the kernels: panels of 16 rows, each one sequential
/// stream, the last padded with zeros.
pub struct PackedMatrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    storage: Storage,
    /// Bytes from one panel (or row) to the next.
    stride: usize,
    data: AlignedBuf<u8>,
}

impl PackedMatrix {
    /// Packs `rows x cols` elements of `dtype`, given row after row as in a GGUF or safetensors file, on all threads of `pool`.
    ///
    /// # Errors
    /// If the size of `src` is not that of the matrix, or rows are no whole number of blocks.
    pub fn pack(
        dtype: DType,
        rows: usize,
        cols: usize,
        src: &[u8],
        isa: Isa,
        pool: &ThreadPool,
    ) -> Result<PackedMatrix, LinearError> {
        PackedMatrix::pack_into(AlignedBuf::zeroed, dtype, rows, cols, src, &|_| {}, isa, pool)
    }

    /// As [`pack`](Self::pack), in pages that the matrix shares with others of `arena`.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_in(
        arena: &mut PageArena,
        dtype: DType,
        rows: usize,
        cols: usize,
        src: &[u8],
        isa: Isa,
        pool: &ThreadPool,
    ) -> Result<PackedMatrix, LinearError> {
        PackedMatrix::pack_into(|bytes| AlignedBuf::zeroed_in(arena, bytes), dtype, rows, cols, src, &|_| {}, isa, pool)
    }

    /// As [`pack_in`](Self::pack_in), giving the file's pages back on the way, so that of a large matrix never much more than one
    /// copy is in memory.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_file(
        arena: &mut PageArena,
        dtype: DType,
        rows: usize,
        cols: usize,
        src: &Bytes,
        isa: Isa,
        pool: &ThreadPool,
    ) -> Result<PackedMatrix, LinearError> {
        let zeroed = |bytes| AlignedBuf::zeroed_in(arena, bytes);
        let done = |range| {
            if let Some(part) = src.slice(range) {
                part.release();
            }
        };
        let packed = PackedMatrix::pack_into(zeroed, dtype, rows, cols, src, &done, isa, pool)?;
        // Pages that lie in two parts.
        src.release();
        Ok(packed)
    }

    fn pack_into(
        zeroed: impl FnOnce(usize) -> AlignedBuf<u8>,
        dtype: DType,
        rows: usize,
        cols: usize,
        src: &[u8],
        done: &(dyn Fn(Range<usize>) + Sync),
        isa: Isa,
        pool: &ThreadPool,
    ) -> Result<PackedMatrix, LinearError> {
        if rows == 0 || cols == 0 {
            return Err(LinearError::Empty { rows, cols });
        }
        if !cols.is_multiple_of(dtype.block_len()) {
            return Err(LinearError::PartialBlock { dtype, cols });
        }
        let too_large = LinearError::TooLarge { dtype, rows, cols };
        let row_bytes = dtype.bytes_for(cols).ok_or(too_large.clone())?;
        let expected = row_bytes.checked_mul(rows).ok_or(too_large.clone())?;
        if expected != src.len() {
            return Err(LinearError::Size { dtype, rows, cols, expected, found: src.len() });
        }
        let storage = Storage::of(dtype);
        let panels = rows.div_ceil(PANEL);
        let (units, stride) = match storage {
            Storage::Quant => (panels, with_format!(dtype, F => F::panel_bytes(cols / GROUP), else unreachable!())),
            Storage::Float => (panels, cols.next_multiple_of(2) * PANEL * dtype.block_bytes()),
            Storage::Rows => (rows, row_bytes),
        };
        let bytes = units.checked_mul(stride).filter(|&n| n <= isize::MAX as usize).ok_or(too_large)?;
        let mut data = zeroed(bytes);
        let shared = SharedSlice::new(&mut data);
        let unit_rows = if storage == Storage::Rows { 1 } else { PANEL };
        let from = |unit: usize| (unit * unit_rows).min(rows) * row_bytes;
        pool.run(&|ctx| {
            let share = ctx.share(units, 1);
            let mut kept = from(share.start);
            let step = RELEASE / ctx.count();
            for unit in share.clone() {
                let src = &src[from(unit)..from(unit + 1)];
                // SAFETY: each unit belongs to one thread.
                let dst = unsafe { shared.part(unit * stride..(unit + 1) * stride) };
                match storage {
                    Storage::Rows => dst.copy_from_slice(src),
                    _ => pack_panel(dtype, src, row_bytes, cols, dst, isa),
                }
                let end = from(unit + 1);
                if end - kept >= step || unit + 1 == share.end {
                    done(kept..end);
                    kept = end;
                }
            }
        });
        Ok(PackedMatrix { dtype, rows, cols, storage, stride, data })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Out features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// In features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn storage(&self) -> Storage {
        self.storage
    }

    /// The bytes of a panel (of a row, for [`Storage::Rows`]).
    pub(crate) fn unit(&self, index: usize) -> &[u8] {
        self.units(index..index + 1)
    }

    /// The bytes of several, one after the other.
    pub(crate) fn units(&self, range: Range<usize>) -> &[u8] {
        &self.data[range.start * self.stride..range.end * self.stride]
    }

    /// Writes row `row` as f32: bit for bit what [`rlx_quant::dequantize`] makes of it.
    ///
    /// # Panics
    /// If `row` is not below [`rows`](Self::rows) or `dst` not [`cols`](Self::cols) long.
    pub fn unpack_row(&self, row: usize, dst: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(dst.len(), self.cols, "length of the destination");
        match self.storage {
            Storage::Quant => with_format!(self.dtype, F => {
                unpack_quant_row::<F>(self.unit(row / PANEL), row % PANEL, dst);
            }, else unreachable!()),
            Storage::Float => unpack_float_row(self.dtype, self.unit(row / PANEL), row % PANEL, dst),
            Storage::Rows => {
                rlx_quant::dequantize(self.dtype, self.unit(row), dst).expect("sizes were checked when packing");
            }
        }
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix({} {} x {}, {} bytes)", self.dtype, self.rows, self.cols, self.bytes())
    }
}

fn unpack_quant_row<F: Format>(panel: &[u8], row: usize, dst: &mut [f32]) {
    let mut at = 0;
    for block in dst.chunks_mut(BLOCK_GROUPS * GROUP) {
        let groups = block.len() / GROUP;
        let header = &panel[at..];
        let quants = &header[F::header_bytes(groups)..];
        for (g, group) in block.chunks_exact_mut(GROUP).enumerate() {
            for (line, out) in group.chunks_exact_mut(4).enumerate() {
                let (scale, min) = scale_min::<F>(header, g, line * F::SCALES / 8, row);
                let q = quad::<F>(&quants[g * F::QUANT_BYTES..], line, row);
                for (out, q) in out.iter_mut().zip(q) {
                    *out = scale * (q as i32 - F::ZERO) as f32;
                    if F::MIN_SIGN != 0 {
                        *out += min;
                    }
                }
            }
        }
        at += F::block_bytes(groups);
    }
}

fn unpack_float_row(dtype: DType, panel: &[u8], row: usize, dst: &mut [f32]) {
    for (k, out) in dst.iter_mut().enumerate() {
        *out = match dtype {
            DType::F32 => {
                let at = 4 * (k * PANEL + row);
                f32::from_ne_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]])
            }
            DType::F16 => {
                let at = 2 * (k * PANEL + row);
                f16::from_ne_bytes([panel[at], panel[at + 1]]).to_f32()
            }
            _ => {
                let at = 4 * (k / 2 * PANEL + row) + 2 * (k % 2);
                bf16::from_ne_bytes([panel[at], panel[at + 1]]).to_f32()
            }
        };
    }
}

/// Packs up to 16 rows (`src` holds fewer in the last panel) into the zeroed `dst`.
fn pack_panel(dtype: DType, src: &[u8], row_bytes: usize, cols: usize, dst: &mut [u8], isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512(dtype: DType, src: &[u8], row_bytes: usize, cols: usize, dst: &mut [u8]) {
            pack_any(dtype, src, row_bytes, cols, dst);
        }
        #[target_feature(enable = "avx2")]
        fn avx2(dtype: DType, src: &[u8], row_bytes: usize, cols: usize, dst: &mut [u8]) {
            pack_any(dtype, src, row_bytes, cols, dst);
        }
        if isa >= Isa::Avx512 {
            // SAFETY: the level says that the machine has these features.
            return unsafe { avx512(dtype, src, row_bytes, cols, dst) };
        }
        if isa == Isa::Avx2 {
            // SAFETY: as above.
            return unsafe { avx2(dtype, src, row_bytes, cols, dst) };
        }
    }
    let _ = isa;
    pack_any(dtype, src, row_bytes, cols, dst);
}

#[inline(always)]
fn pack_any(dtype: DType, src: &[u8], row_bytes: usize, cols: usize, dst: &mut [u8]) {
    match dtype {
        DType::F32 => pack_columns::<4>(src, row_bytes, dst),
        DType::F16 => pack_columns::<2>(src, row_bytes, dst),
        // A pair of columns moves as one; an odd last column is a pair whose second half stays zero.
        DType::BF16 => pack_columns::<4>(src, row_bytes, dst),
        _ => with_format!(dtype, F => pack_quants::<F>(src, row_bytes, cols, dst), else unreachable!()),
    }
}

/// Interleaves elements of `N` bytes: element `e` of row `r` goes to slot `16 e + r`.
#[inline(always)]
fn pack_columns<const N: usize>(src: &[u8], row_bytes: usize, dst: &mut [u8]) {
    let rows = src.len() / row_bytes;
    // Sixteen elements at a time, so that both sides stay in the first-level cache.
    for first in (0..row_bytes / N).step_by(16) {
        let count = (row_bytes / N - first).min(16);
        for r in 0..rows {
            let from = &src[r * row_bytes + first * N..][..count * N];
            for (e, value) in from.as_chunks::<N>().0.iter().enumerate() {
                let at = ((first + e) * PANEL + r) * N;
                dst[at..at + N].copy_from_slice(value);
            }
        }
    }
    let rest = row_bytes % N;
    if rest != 0 {
        let element = row_bytes / N;
        for r in 0..rows {
            let at = (element * PANEL + r) * N;
            dst[at..at + rest].copy_from_slice(&src[r * row_bytes + element * N..][..rest]);
        }
    }
}

#[inline(always)]
fn pack_quants<F: Format>(src: &[u8], row_bytes: usize, cols: usize, dst: &mut [u8]) {
    let bytes = F::DTYPE.block_bytes();
    let per_block = F::DTYPE.block_len() / GROUP;
    let mut ints = Ints::default();
    let mut rest = dst;
    let mut file_block = 0;
    let mut left = cols / GROUP;
    while left > 0 {
        let groups = left.min(BLOCK_GROUPS);
        let (block, after) = rest.split_at_mut(F::block_bytes(groups));
        let (header, quants) = block.split_at_mut(F::header_bytes(groups));
        for first in (0..groups).step_by(per_block) {
            for (r, row) in src.chunks_exact(row_bytes).enumerate() {
                let block = &row[file_block * bytes..(file_block + 1) * bytes];
                ints.read::<F>(block);
                put_scales::<F>(&ints, first, r, header);
                for g in 0..per_block {
                    let group = &mut quants[(first + g) * F::QUANT_BYTES..][..F::QUANT_BYTES];
                    let words = if F::SUPER && !F::CODES {
                        stored_words::<F>(&ints.q.as_chunks::<GROUP>().0[g])
                    } else {
                        copied_words::<F>(block, g)
                    };
                    for (line, word) in group.as_chunks_mut::<64>().0.iter_mut().zip(words) {
                        line[4 * r..4 * r + 4].copy_from_slice(&word.to_le_bytes());
                    }
                }
            }
            file_block += 1;
        }
        rest = after;
        left -= groups;
    }
}

/// The integers of a block of the file, in arrays that fit every type.
struct Ints {
    scales: BlockScales,
    /// Filled where the quants need rearranging.
    q: [u8; BLOCK_GROUPS * GROUP],
    scale: [i8; 2 * BLOCK_GROUPS],
    min: [u8; 2 * BLOCK_GROUPS],
}

impl Default for Ints {
    fn default() -> Ints {
        Ints { scales: BlockScales::default(), q: [0; 256], scale: [0; 16], min: [0; 16] }
    }
}

impl Ints {
    #[inline(always)]
    fn read<F: Format>(&mut self, block: &[u8]) {
        let word = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        if F::SUPER && !F::CODES {
            let scales = BLOCK_GROUPS * F::SCALES;
            let (scale, min) = (&mut self.scale[..scales], &mut self.min[..scales]);
            self.scales = rlx_quant::unpack_ints(F::DTYPE, block, &mut self.q, scale, min)
                .expect("every format has the integer view");
            return;
        }
        self.scales = BlockScales { d: word(0), dmin: if F::MIN_SIGN != 0 { word(2) } else { 0 } };
        if F::SUPER {
            let low = block[4..8].first_chunk().expect("four bytes");
            self.scale[..BLOCK_GROUPS].copy_from_slice(&rlx_quant::blocks::iq4_xs_scales(word(2), low));
        }
    }
}

/// The stored words of a row's group `g` (as [`stored_words`]) of the types whose files hold them as they are: nibbles of columns
/// 16 apart in a byte, or whole bytes.
#[inline(always)]
fn copied_words<F: Format>(block: &[u8], g: usize) -> [u32; 8] {
    let size = F::DTYPE.block_bytes();
    let mut out = [0; 8];
    let mut copy = |from: &[u8]| {
        for (out, word) in out.iter_mut().zip(from.as_chunks::<4>().0) {
            *out = u32::from_le_bytes(*word);
        }
    };
    if F::BITS == 8 {
        copy(&block[2..size]);
        return out.map(|word| word ^ 0x8080_8080);
    }
    let end = if F::SUPER { 8 + 16 * (g + 1) } else { size };
    copy(&block[end - 16..end]);
    if F::BITS == 5 {
        let high = u32::from_le_bytes(*block[size - 20..].first_chunk().expect("four bytes"));
        // Four bits of columns 4j.. spread to four bytes (the product moves bit b up by 7b), as bit j of each.
        out[4] = (0..8).fold(0, |word, j| word | ((((high >> (4 * j)) & 15) * 0x0020_4081) & 0x0101_0101) << j);
    }
    out
}

/// Puts the scales of one block of the file, row `r`, into the header of a packed block, from group `first` on.
#[inline(always)]
fn put_scales<F: Format>(ints: &Ints, first: usize, r: usize, header: &mut [u8]) {
    let mut put = |at: usize, half: u16| header[at..at + 2].copy_from_slice(&half.to_le_bytes());
    let at = if F::SUPER { 0 } else { first * F::GROUP_SCALE_BYTES };
    put(at + 2 * r, ints.scales.d);
    if F::MIN_SIGN != 0 {
        put(at + 2 * PANEL + 2 * r, ints.scales.dmin);
    }
    if !F::SUPER || !F::SUBSCALES {
        return;
    }
    for g in 0..BLOCK_GROUPS {
        let own = &mut header[F::SUPER_BYTES + g * F::GROUP_SCALE_BYTES..][..F::GROUP_SCALE_BYTES];
        for s in 0..F::SCALES {
            let (scale, min) = (ints.scale[g * F::SCALES + s] as u8, ints.min[g * F::SCALES + s]);
            if F::NIBBLE_SCALES {
                own[PANEL * s + r] = scale | min << 4;
                continue;
            }
            if F::SIX_BIT_SCALES {
                put_twelve_bits(own, r, u16::from(scale) | u16::from(min) << 6);
                continue;
            }
            own[PANEL * s + r] = scale;
            if F::MIN_SIGN != 0 {
                own[PANEL * (F::SCALES + s) + r] = min;
            }
        }
    }
}

/// A row's 32 quants as the four bytes it has in each stored line of a group; the first `BITS` words are used.
#[inline(always)]
fn stored_words<F: Format>(q: &[u8; GROUP]) -> [u32; 8] {
    const LOW4: u32 = 0x0F0F_0F0F;
    const LOW2: u32 = 0x0303_0303;
    const LOW1: u32 = 0x0101_0101;
    let line: [u32; 8] =
        std::array::from_fn(|j| u32::from_le_bytes([q[4 * j], q[4 * j + 1], q[4 * j + 2], q[4 * j + 3]]));
    let bits = |shift: usize, from: usize, count: usize, mask: u32, step: usize| {
        (0..count).fold(0, |word, j| word | ((line[from + j] >> shift) & mask) << (step * j))
    };
    let mut out = [0; 8];
    match F::BITS {
        8 => return line,
        4..=6 => {
            for i in 0..4 {
                out[i] = (line[i] & LOW4) | (line[i + 4] & LOW4) << 4;
            }
            if F::BITS == 5 {
                out[4] = bits(4, 0, 8, LOW1, 1);
            }
            if F::BITS == 6 {
                out[4] = bits(4, 0, 4, LOW2, 2);
                out[5] = bits(4, 4, 4, LOW2, 2);
            }
        }
        _ => {
            out[0] = bits(0, 0, 4, LOW2, 2);
            out[1] = bits(0, 4, 4, LOW2, 2);
            if F::BITS == 3 {
                out[2] = bits(2, 0, 8, LOW1, 1);
            }
        }
    }
    out
}
