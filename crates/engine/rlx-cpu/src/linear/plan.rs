//! Which kernels a call runs, and where its scratch memory lies.

use rlx_ir::DType;

use super::format::{BLOCK_GROUPS, Format, GROUP, GROUP_QUANTS, PANEL, with_format};
use super::kernels;
use super::lines::{FIXED_LINE, FIXED_WORDS, LINE};
use super::pack::Storage;
use super::prepare::{FixedMeta, GroupMeta};
use super::{Epilogue, LinearArgs, Precision, Prologue};
use crate::Isa;

/// Weight rows of a unit of work: two panels.
pub(crate) const UNIT: usize = 2 * PANEL;
/// Most tokens of a tile, over all methods; a tile of results is `[MAX_TILE][UNIT]`.
pub(crate) const MAX_TILE: usize = 32;
/// f32 of a tile of results, and bytes of those of two parts.
pub(crate) const TILE: usize = MAX_TILE * UNIT;
const TILES_BYTES: usize = 2 * TILE * size_of::<f32>();
/// Units of a run of a single token's: a tile of results holds many, so that what is done once for a run costs little.
pub(crate) const RUN_UNITS: usize = 8;
const _: () = assert!(RUN_UNITS <= MAX_TILE);
/// Tokens of a full int8 tile.
pub(crate) const INT8_TILE: usize = 8;

/// The arithmetic of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// 15-bit activations, as two int8, against packed quants.
    Int8,
    /// f32 activations; weights converted to f32 in registers, or dequantised first.
    Float,
    /// bf16 activations and weights in AMX tiles, f32 sums.
    Bf16,
    /// Fixed-point activations and weights, exact sums in blocks.
    Fixed,
}

/// Strips of 32 rows of weights that an item of bf16 tiles has at most, over its parts.
pub(crate) const MAX_STRIPS: usize = 4;
/// Tokens of an item of bf16 tiles at most; each block dequantises the weights anew.
pub(crate) const TOKEN_BLOCK: usize = 512;
/// Bytes of activations that stay in a second-level cache next to the weights.
const CACHED_ACTIVATIONS: usize = 1 << 20;
/// Tiles of columns after which the sums go to memory: four strips of them are half a second-level cache.
const LARGEST_CHUNK: usize = 64;

/// Columns that share a scale in the fixed-point form: a block of quants. Few tokens convert the weights of so many at a time.
pub(crate) const FIXED_BLOCK: usize = BLOCK_GROUPS * GROUP;
/// Largest integer there.
pub(crate) const FIXED_MAX: f32 = i16::MAX as f32;
/// Largest length of a row of a block of weights that are converted from floats.
pub(crate) const FIXED_WEIGHT_LENGTH: f32 = 32_700.0;
/// What rounding adds to the length of a row of a block at most: a half to each number.
const FIXED_ROUNDING: f64 = 8.0;
const _: () = assert!(FIXED_ROUNDING * FIXED_ROUNDING >= FIXED_BLOCK as f64 / 4.0);

/// Largest length of a row of a block of activations that meets weights of `dtype`: by Cauchy and Schwarz no sum of products then
/// exceeds 32 bits. So numbers are as fine as their row allows, and one whose numbers are alike is rounded less than one where a few
/// tower over the others.
fn fixed_length(dtype: DType) -> f32 {
    let weights = with_format!(dtype, F => F::LARGEST_PRODUCT as f64 * (fixed_run::<F>().0 as f64).sqrt(),
        else f64::from(FIXED_WEIGHT_LENGTH) + FIXED_ROUNDING);
    (f64::from(i32::MAX) / weights - FIXED_ROUNDING) as f32
}

/// Columns and minima of a run of `F` in the fixed-point form: types with a scale per group end runs there, others have one run a
/// block.
pub(crate) const fn fixed_run<F: Format>() -> (usize, usize) {
    let columns = if F::SUPER { FIXED_BLOCK } else { GROUP };
    (columns, if F::MIN_SIGN == 0 { 0 } else { F::SCALES * columns / GROUP })
}
/// Fewest tokens of a run for which weights are converted to fixed point. A run of fewer has the arithmetic of a single token, so that
/// drafts that are checked together change nothing.
const FEWEST_FIXED_ROWS: usize = 17;
/// Fewest rows of such a run (those of an expert) for which converting packed quants pays.
const FEWEST_FIXED_QUANT_ROWS: usize = 3;
/// Fewest tokens for which converting the weights to bf16 tiles pays.
const FEWEST_TILE_ROWS: usize = 17;
/// Tokens of a row of tiles, and columns of a tile.
pub(crate) const TILE_ROWS: usize = 16;
pub(crate) const TILE_COLS: usize = 32;

/// Bytes of a way of a first-level cache: lines so far apart share a set.
const CACHE_WAY: usize = 4096;
/// Lines of activations that a set of at least eight holds besides weights.
const ROWS_PER_SET: usize = 6;

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Method {
    fn of(dtype: DType, rows: usize, batch: usize, precision: Precision, isa: Isa) -> Method {
        if precision == Precision::F32 {
            return Method::Float;
        }
        let exact = matches!(dtype, DType::F32 | DType::F64) && precision != Precision::Bf16;
        if rows >= FEWEST_TILE_ROWS && !exact && has_tiles(isa) {
            return Method::Bf16;
        }
        let storage = Storage::of(dtype);
        let fewest = match storage {
            Storage::Quant => FEWEST_FIXED_QUANT_ROWS,
            Storage::Float => FEWEST_FIXED_ROWS,
            Storage::Rows => usize::MAX,
        };
        if batch >= FEWEST_FIXED_ROWS && rows >= fewest && !exact && matches!(isa, Isa::Avx2 | Isa::Avx512) {
            return Method::Fixed;
        }
        if storage == Storage::Quant { Method::Int8 } else { Method::Float }
    }
}

/// Whether groups of the type have a minimum besides a scale.
fn has_minima(dtype: DType) -> bool {
    with_format!(dtype, F => F::MIN_SIGN != 0, else false)
}

/// Whether the AMX kernels run; every processor with AMX has these extensions too, but a virtual one may hide them.
fn has_tiles(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        isa == Isa::Amx && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vbmi")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}

/// Type and shape of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Type of the elements.
    pub dtype: DType,
    /// Out features.
    pub rows: usize,
    /// In features.
    pub cols: usize,
}

/// Bytes of scratch that a call of [`linear`](super::linear) needs, shared by all threads: `rows` tokens times the matrices
/// `parts`, on `threads` threads. `gated` says whether the epilogue is [`Epilogue::Gated`].
pub fn scratch_bytes(
    rows: usize,
    parts: &[LinearShape],
    gated: bool,
    precision: Precision,
    isa: Isa,
    threads: usize,
) -> usize {
    scratch_bytes_in(rows, rows, parts, gated, precision, isa, threads)
}

/// As [`scratch_bytes`], of `rows` of the `batch` tokens of a run.
pub(crate) fn scratch_bytes_in(
    rows: usize,
    batch: usize,
    parts: &[LinearShape],
    gated: bool,
    precision: Precision,
    isa: Isa,
    threads: usize,
) -> usize {
    let cols = parts.first().map_or(0, |part| part.cols);
    Plan::new(rows, batch, cols, parts.iter().map(|part| part.dtype), gated, precision, isa, threads).total_bytes()
}

/// How the bf16 tiles of a call are walked: an item is up to `strips` strips of 32 weight rows times a block of tokens, `chunk`
/// tiles of columns at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tiling {
    /// Strips of a part in an item. Several where the activations exceed the second-level cache: each pass over them serves all
    /// strips.
    pub(crate) strips: usize,
    /// Tiles in a row of weights.
    pub(crate) total: usize,
    /// Tiles of a row that are multiplied in one go, at most: a multiple of a block of quants.
    pub(crate) chunk: usize,
    /// Bytes of sums that are kept between chunks; 0 with a single one.
    pub(crate) sum_bytes: usize,
}

impl Tiling {
    fn new(rows: usize, tile_cols: usize, gated: bool, row_order: bool) -> Tiling {
        let total = tile_cols / TILE_COLS;
        let parts = if gated { 2 } else { 1 };
        let strips = if rows * tile_cols * size_of::<u16>() <= CACHED_ACTIVATIONS { 1 } else { MAX_STRIPS / parts };
        // Types in row order are dequantised by whole rows.
        let chunks = if row_order { 1 } else { total.div_ceil(LARGEST_CHUNK).max(1) };
        let chunk = total.div_ceil(chunks).next_multiple_of(BLOCK_GROUPS);
        let tokens = rows.min(TOKEN_BLOCK).next_multiple_of(MAX_TILE);
        let sum_bytes = if chunk < total { tokens * strips * parts * UNIT * size_of::<f32>() } else { 0 };
        Tiling { strips, total, chunk, sum_bytes }
    }
}

/// The decisions of one call; every thread makes the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rows: usize,
    batch: usize,
    pub(crate) cols: usize,
    threads: usize,
    isa: Isa,
    /// [`Precision::F32`] also for a gated pair of two methods.
    precision: Precision,
    /// Each thread prepares its own copy of the activations, without a barrier.
    pub(crate) redundant: bool,
    /// Tokens of an f32 tile.
    pub(crate) float_tile: usize,
    /// Byte offsets in a copy of the prepared activations, by form, and where the next would start.
    pub(crate) int8_at: Option<usize>,
    pub(crate) float_at: Option<usize>,
    pub(crate) bf16_at: Option<usize>,
    pub(crate) fixed_at: Option<usize>,
    /// Whether any fixed-point weights have minima, which meet sums of activations.
    pub(crate) fixed_sums: bool,
    /// Largest length of a row of a block of fixed-point activations.
    pub(crate) fixed_length: f32,
    copy_bytes: usize,
    /// Bytes of dequantised weights that a part of an item takes.
    pub(crate) weight_bytes: usize,
    pub(crate) tiling: Tiling,
    thread_bytes: usize,
}

impl Plan {
    pub(crate) fn of(args: &LinearArgs<'_>, isa: Isa, threads: usize) -> Plan {
        let gated = matches!(args.epilogue, Epilogue::Gated(_));
        let cols = args.parts[0].weight.cols();
        let dtypes = args.parts.iter().map(|part| part.weight.dtype());
        Plan::new(args.rows, args.batch, cols, dtypes, gated, args.precision, isa, threads)
    }

    #[allow(clippy::too_many_arguments)]
    fn new(
        rows: usize,
        batch: usize,
        cols: usize,
        dtypes: impl Iterator<Item = DType> + Clone,
        gated: bool,
        precision: Precision,
        isa: Isa,
        threads: usize,
    ) -> Plan {
        let mut methods = dtypes.clone().map(|dtype| Method::of(dtype, rows, batch, precision, isa));
        let first = methods.next();
        let mixed = gated && methods.any(|method| Some(method) != first);
        let mut plan = Plan {
            rows,
            batch,
            cols,
            threads,
            isa,
            precision: if mixed { Precision::F32 } else { precision },
            redundant: rows == 1 || threads == 1,
            float_tile: 0,
            int8_at: None,
            float_at: None,
            bf16_at: None,
            fixed_at: None,
            fixed_sums: false,
            fixed_length: f32::INFINITY,
            copy_bytes: 0,
            weight_bytes: 0,
            tiling: Tiling::default(),
            thread_bytes: 0,
        };
        plan.fixed_sums = dtypes.clone().any(|dtype| plan.method(dtype) == Method::Fixed && has_minima(dtype));
        plan.float_tile = kernels::float_tile(isa, rows, plan.fixed_sums);
        let row_order = dtypes.clone().any(|dtype| Storage::of(dtype) == Storage::Rows);
        plan.tiling = Tiling::new(rows, plan.tile_cols(), gated, row_order);
        for dtype in dtypes {
            match plan.method(dtype) {
                Method::Int8 => plan.int8_at = plan.int8_at.or(Some(0)),
                Method::Float => {
                    plan.float_at = plan.float_at.or(Some(0));
                    if Storage::of(dtype) != Storage::Float {
                        plan.weight_bytes = plan.weight_bytes.max(UNIT * plan.even_cols() * size_of::<f32>());
                    }
                }
                Method::Fixed => {
                    plan.fixed_at = plan.fixed_at.or(Some(0));
                    plan.fixed_length = plan.fixed_length.min(fixed_length(dtype));
                    plan.weight_bytes = plan.weight_bytes.max(2 * plan.fixed_panel_bytes());
                }
                Method::Bf16 => {
                    plan.bf16_at = plan.bf16_at.or(Some(0));
                    if !plan.is_tiled(dtype) {
                        let cols = plan.tiling.chunk.min(plan.tiling.total) * TILE_COLS;
                        plan.weight_bytes = plan.weight_bytes.max(plan.tiling.strips * UNIT * cols * size_of::<u16>());
                    }
                }
            }
        }
        let mut at = 0;
        if plan.int8_at.is_some() {
            plan.int8_at = Some(at);
            at += plan.int8_quant_bytes() + plan.int8_rows() * plan.groups() * size_of::<GroupMeta>();
        }
        if plan.float_at.is_some() {
            plan.float_at = Some(at);
            at += plan.float_tiles() * plan.float_tile * plan.cols.next_multiple_of(LINE) * size_of::<f32>();
        }
        if plan.fixed_at.is_some() {
            plan.fixed_at = Some(at);
            at += plan.fixed_bytes() + plan.fixed_meta_count() * size_of::<FixedMeta>();
            at = at.next_multiple_of(64);
        }
        if plan.bf16_at.is_some() {
            plan.bf16_at = Some(at);
            at += plan.rows.next_multiple_of(TILE_ROWS) * plan.tile_cols() * size_of::<u16>();
        }
        plan.copy_bytes = at;
        plan.thread_bytes =
            plan.row_bytes() + TILES_BYTES + plan.sums() + plan.weight_bytes * if gated { 2 } else { 1 };
        plan
    }

    /// Whether the f32 kernels read the activations of `args` where they are: nothing is computed on them, the last tile can
    /// overlap the one before, and the lines of a tile's rows do not displace one another from the first-level cache.
    pub(crate) fn reads_rows(&self, args: &LinearArgs<'_>) -> bool {
        let float_alone = self.int8_at.or(self.fixed_at).or(self.bf16_at).is_none();
        let repeat = CACHE_WAY / gcd(CACHE_WAY, args.x.stride * size_of::<f32>());
        float_alone
            && matches!(args.prologue, Prologue::None)
            && self.rows >= self.float_tile
            && self.cols.is_multiple_of(2)
            && self.float_tile <= ROWS_PER_SET * repeat
    }

    /// Whether all parts are products of bf16 tiles.
    pub(crate) fn is_tiles_alone(&self) -> bool {
        self.bf16_at.is_some() && self.int8_at.or(self.float_at).or(self.fixed_at).is_none()
    }

    pub(crate) fn method(&self, dtype: DType) -> Method {
        Method::of(dtype, self.rows, self.batch, self.precision, self.isa)
    }

    /// Columns rounded up to whole tiles.
    pub(crate) fn tile_cols(&self) -> usize {
        self.cols.next_multiple_of(TILE_COLS)
    }

    /// Whether panels of this type already are bf16 tiles.
    pub(crate) fn is_tiled(&self, dtype: DType) -> bool {
        dtype == DType::BF16 && self.cols.is_multiple_of(TILE_COLS)
    }

    /// Columns rounded up to pairs, as float panels have them.
    pub(crate) fn even_cols(&self) -> usize {
        self.cols.next_multiple_of(2)
    }

    pub(crate) fn groups(&self) -> usize {
        self.cols / GROUP
    }

    pub(crate) fn float_tiles(&self) -> usize {
        self.rows.div_ceil(self.float_tile)
    }

    /// Blocks of columns of the fixed-point form.
    pub(crate) fn fixed_blocks(&self) -> usize {
        self.cols.div_ceil(FIXED_BLOCK)
    }

    /// Lines of a whole cache line or more of a row of the fixed-point form.
    pub(crate) fn fixed_lines(&self) -> usize {
        self.cols.div_ceil(FIXED_LINE)
    }

    /// Whether lines of the fixed-point form are short ones.
    pub(crate) fn short_lines(&self) -> bool {
        self.isa == Isa::Avx2
    }

    /// Bytes of the integers of the fixed-point form, before the scales.
    pub(crate) fn fixed_bytes(&self) -> usize {
        self.float_tiles() * self.float_tile * self.fixed_lines() * FIXED_WORDS * size_of::<i32>()
    }

    fn fixed_meta_count(&self) -> usize {
        self.float_tiles() * self.float_tile * self.fixed_blocks()
    }

    /// Bytes of a panel of fixed-point weights: the integers, then scales of runs of a group or more, and at most two minima a group
    /// of each block.
    pub(crate) fn fixed_panel_bytes(&self) -> usize {
        self.even_cols() * PANEL * size_of::<i16>() + 3 * self.fixed_blocks() * BLOCK_GROUPS * PANEL * size_of::<f32>()
    }

    /// Rows of the int8 form, with the last tile rounded up.
    fn int8_rows(&self) -> usize {
        let full = self.rows / INT8_TILE * INT8_TILE;
        full + int8_tile_rows(self.rows - full)
    }

    /// Bytes of the int8 values, before the scales.
    pub(crate) fn int8_quant_bytes(&self) -> usize {
        (self.int8_rows() * self.groups() * GROUP_QUANTS).next_multiple_of(64)
    }

    fn row_bytes(&self) -> usize {
        (self.even_cols() * size_of::<f32>()).next_multiple_of(64)
    }

    fn total_bytes(&self) -> usize {
        let copies = if self.redundant { self.threads } else { 1 };
        // The start of the scratch is aligned by hand.
        64 + copies * self.copy_bytes.next_multiple_of(64) + self.threads * self.thread_bytes.next_multiple_of(64)
    }

    /// Bytes of the sums between chunks of tiles.
    fn sums(&self) -> usize {
        if self.bf16_at.is_some() { self.tiling.sum_bytes } else { 0 }
    }

    /// Where in the scratch (aligned to 64) thread `thread` finds its parts.
    pub(crate) fn offsets(&self, thread: usize) -> Offsets {
        let copy = self.copy_bytes.next_multiple_of(64);
        let own = self.thread_bytes.next_multiple_of(64);
        let copies = if self.redundant { self.threads } else { 1 };
        let activations = if self.redundant { thread * copy } else { 0 };
        let row = copies * copy + thread * own;
        let tiles = row + self.row_bytes();
        let sums = tiles + TILES_BYTES;
        Offsets {
            activations,
            row,
            tiles,
            sums,
            weights: sums + self.sums(),
            total: copies * copy + self.threads * own,
        }
    }
}

/// Byte offsets in the scratch.
pub(crate) struct Offsets {
    /// The prepared activations.
    pub(crate) activations: usize,
    /// One f32 row.
    pub(crate) row: usize,
    /// Two tiles of results.
    pub(crate) tiles: usize,
    /// Sums between chunks of tiles.
    pub(crate) sums: usize,
    /// Dequantised weights.
    pub(crate) weights: usize,
    /// The end.
    pub(crate) total: usize,
}

/// Tokens that an int8 tile of `tokens` tokens is computed as: the sizes that kernels are made for.
pub(crate) fn int8_tile_rows(tokens: usize) -> usize {
    [0, 1, 2, 4, 4, 8, 8, 8, 8][tokens]
}
