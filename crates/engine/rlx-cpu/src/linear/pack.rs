//! Weight matrices in the order the kernels read them.

use half::{bf16, f16};
use rlx_ir::DType;
use rlx_mem::AlignedBuf;

use super::format::{BLOCK_GROUPS, Format, GROUP, Ints, PANEL, quad, scale_min, with_format};
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
        let mut data = AlignedBuf::<u8>::zeroed(bytes);
        let shared = SharedSlice::new(&mut data);
        pool.run(&|ctx| {
            for unit in ctx.share(units, 1) {
                // SAFETY: each unit belongs to one thread.
                let dst = unsafe { shared.part(unit * stride..(unit + 1) * stride) };
                if storage == Storage::Rows {
                    dst.copy_from_slice(&src[unit * row_bytes..(unit + 1) * row_bytes]);
                    continue;
                }
                let last = ((unit + 1) * PANEL).min(rows);
                pack_panel(dtype, &src[unit * PANEL * row_bytes..last * row_bytes], row_bytes, cols, dst, isa);
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
        &self.data[index * self.stride..(index + 1) * self.stride]
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
    let (len, bytes) = (F::DTYPE.block_len(), F::DTYPE.block_bytes());
    let per_block = len / GROUP;
    let mut lines = [[[0u32; PANEL]; 8]; BLOCK_GROUPS];
    let mut ints = Ints { q: [0; 256], scale: [0; 16], min: [0; 16] };
    let mut at = 0;
    let mut file_block = 0;
    let mut left = cols / GROUP;
    while left > 0 {
        let groups = left.min(BLOCK_GROUPS);
        let header = F::header_bytes(groups);
        for first in (0..groups).step_by(per_block) {
            for (r, row) in src.chunks_exact(row_bytes).enumerate() {
                let block = &row[file_block * bytes..(file_block + 1) * bytes];
                unpack_block::<F>(block, first, r, &mut ints, &mut lines, &mut dst[at..at + header]);
            }
            file_block += 1;
        }
        for g in 0..groups {
            let quants = at + header + g * F::QUANT_BYTES;
            store_lines::<F>(&lines[g], &mut dst[quants..quants + F::QUANT_BYTES]);
        }
        at += F::block_bytes(groups);
        left -= groups;
    }
}

/// Spreads one block of the file, row `r`, over the lines of the groups from `first` on, and its scales over the header.
#[inline(always)]
fn unpack_block<F: Format>(
    block: &[u8],
    first: usize,
    r: usize,
    ints: &mut Ints,
    lines: &mut [[[u32; PANEL]; 8]; BLOCK_GROUPS],
    header: &mut [u8],
) {
    let len = F::DTYPE.block_len();
    let groups = len / GROUP;
    let found = F::unpack(block, ints);
    let Ints { q, scale, min } = ints;
    if F::CODES {
        rlx_quant::unpack_codes(F::DTYPE, block, &mut q[..len]).expect("the format is a code");
    }
    for g in 0..groups {
        for j in 0..8 {
            let at = g * GROUP + 4 * j;
            lines[first + g][j][r] = u32::from_le_bytes([q[at], q[at + 1], q[at + 2], q[at + 3]]);
        }
    }
    let mut put = |at: usize, half: u16| header[at..at + 2].copy_from_slice(&half.to_le_bytes());
    if !F::SUPER {
        let own = first * F::GROUP_SCALE_BYTES;
        put(own + 2 * r, found.d);
        if F::MIN_SIGN != 0 {
            put(own + 2 * PANEL + 2 * r, found.dmin);
        }
        return;
    }
    put(2 * r, found.d);
    if F::MIN_SIGN != 0 {
        put(2 * PANEL + 2 * r, found.dmin);
    }
    if !F::SUBSCALES {
        return;
    }
    for g in 0..groups {
        let own = F::SUPER_BYTES + g * F::GROUP_SCALE_BYTES;
        for s in 0..F::SCALES {
            let (scale, min) = (scale[g * F::SCALES + s], min[g * F::SCALES + s]);
            if F::NIBBLE_SCALES {
                header[own + PANEL * s + r] = scale as u8 | min << 4;
                continue;
            }
            header[own + PANEL * s + r] = scale as u8;
            if F::MIN_SIGN != 0 {
                header[own + PANEL * (F::SCALES + s) + r] = min;
            }
        }
    }
}

/// Stores the eight lines of a group in as many bits as the format has.
#[inline(always)]
fn store_lines<F: Format>(lines: &[[u32; PANEL]; 8], dst: &mut [u8]) {
    let mut put = |stored: usize, f: &dyn Fn(usize) -> u32| {
        let mut line = [0u32; PANEL];
        for r in 0..PANEL {
            line[r] = f(r).to_le();
        }
        dst[64 * stored..64 * stored + 64].copy_from_slice(bytemuck::bytes_of(&line));
    };
    const LOW4: u32 = 0x0F0F_0F0F;
    const LOW2: u32 = 0x0303_0303;
    const LOW1: u32 = 0x0101_0101;
    match F::BITS {
        8 => {
            for j in 0..8 {
                put(j, &|r| lines[j][r]);
            }
        }
        4..=6 => {
            for i in 0..4 {
                put(i, &|r| (lines[i][r] & LOW4) | (lines[i + 4][r] & LOW4) << 4);
            }
            if F::BITS == 5 {
                put(4, &|r| (0..8).fold(0, |word, j| word | ((lines[j][r] >> 4) & LOW1) << j));
            }
            if F::BITS == 6 {
                for h in 0..2 {
                    put(4 + h, &|r| (0..4).fold(0, |word, j| word | ((lines[4 * h + j][r] >> 4) & LOW2) << (2 * j)));
                }
            }
        }
        _ => {
            for i in 0..2 {
                put(i, &|r| (0..4).fold(0, |word, j| word | (lines[4 * i + j][r] & LOW2) << (2 * j)));
            }
            if F::BITS == 3 {
                put(2, &|r| (0..8).fold(0, |word, j| word | ((lines[j][r] >> 2) & LOW1) << j));
            }
        }
    }
}
