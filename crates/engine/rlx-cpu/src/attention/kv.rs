//! Where keys and values are kept: the layout of a block, and the blocks of one layer's cache.

use half::f16;

use crate::RowsIn;

/// Elements of a [`KvDType::Q8`] row that share a scale.
pub(super) const Q8_GROUP: usize = 32;
/// Sections of a block start at multiples of this many bytes.
const SECTION: usize = 64;

/// How the elements of keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvDType {
    /// f32: exact.
    F32,
    /// IEEE half precision.
    F16,
    /// int8, with one f32 scale (largest magnitude / 127) per 32 elements.
    Q8,
}

impl KvDType {
    pub(super) fn element_bytes(self) -> usize {
        match self {
            KvDType::F32 => 4,
            KvDType::F16 => 2,
            KvDType::Q8 => 1,
        }
    }

    /// `dim` rounded up to what rows are padded to (with zeros), so that kernels read whole registers.
    pub(super) fn padded(self, dim: usize) -> usize {
        dim.next_multiple_of(if self == KvDType::Q8 { Q8_GROUP } else { 16 })
    }
}

/// The bytes of one block of one layer.
///
/// A block holds `block_len` tokens in four sections, each starting at a multiple of 64 bytes:
/// `K [kv_heads, block_len, k_pad]`, its scales `[kv_heads, block_len, k_pad / 32]` f32 (Q8 only),
/// `V [kv_heads, block_len, v_pad]`, its scales likewise. `k_pad` and `v_pad` are the head widths rounded up to 16 elements (32
/// for Q8), the rest zeros. So one head's tokens lie one after the other: decoding streams them, and a tile of them is a plain
/// matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// How elements are kept.
    pub dtype: KvDType,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a key head.
    pub k_dim: usize,
    /// Width of a value head.
    pub v_dim: usize,
    /// Tokens per block.
    pub block_len: usize,
}

impl KvLayout {
    /// Bytes of one block of one layer.
    pub fn bytes_per_block(&self) -> usize {
        self.v_start() + self.section(self.v_dim)
    }

    /// Bytes of the K or V sections with heads of `dim` elements.
    fn section(&self, dim: usize) -> usize {
        self.scales_start(dim) + self.scale_section(dim)
    }

    /// Bytes of a row's elements.
    fn row_bytes(&self, dim: usize) -> usize {
        self.dtype.padded(dim) * self.dtype.element_bytes()
    }

    fn row_scales(&self, dim: usize) -> usize {
        if self.dtype == KvDType::Q8 { self.dtype.padded(dim) / Q8_GROUP } else { 0 }
    }

    fn scales_start(&self, dim: usize) -> usize {
        (self.kv_heads * self.block_len * self.row_bytes(dim)).next_multiple_of(SECTION)
    }

    fn scale_section(&self, dim: usize) -> usize {
        (self.kv_heads * self.block_len * self.row_scales(dim) * size_of::<f32>()).next_multiple_of(SECTION)
    }

    fn v_start(&self) -> usize {
        self.section(self.k_dim)
    }

    /// Rows of `head` from token `index` of the block at `block`, keys or values.
    ///
    /// # Safety
    /// `block` points to a whole block of this layout.
    unsafe fn rows(&self, block: *mut u8, which: Which, head: usize, index: usize) -> KvRows {
        let (start, dim) = match which {
            Which::Key => (0, self.k_dim),
            Which::Value => (self.v_start(), self.v_dim),
        };
        debug_assert!(head < self.kv_heads && index < self.block_len);
        let row = head * self.block_len + index;
        let (row_bytes, row_scales) = (self.row_bytes(dim), self.row_scales(dim));
        // SAFETY: head and index are below their limits, so both addresses lie in the block. Without scales the second is
        // never followed.
        unsafe {
            KvRows {
                data: block.add(start + row * row_bytes),
                row_bytes,
                stride: row_bytes,
                scales: block.add(start + self.scales_start(dim) + row * row_scales * size_of::<f32>()).cast(),
                row_scales,
            }
        }
    }
}

/// Keys or values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Key,
    Value,
}

/// Rows of one head, at an even distance from each other.
#[derive(Clone, Copy)]
pub(super) struct KvRows {
    data: *mut u8,
    row_bytes: usize,
    /// Bytes from a row to the next.
    stride: usize,
    scales: *mut f32,
    row_scales: usize,
}

impl KvRows {
    /// Elements of row `i`.
    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> *mut u8 {
        self.data.wrapping_add(i * self.stride)
    }

    /// Bytes from a row to the next.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// The first row's elements and scales, to write.
    ///
    /// # Safety
    /// No other thread touches them until the next barrier.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn first_mut(&self) -> (&mut [u8], &mut [f32]) {
        // SAFETY: both lie in a block, which is initialised and aligned for f32; exclusive by the caller's promise. Without
        // scales the second slice is empty, and its address only has to be aligned.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.data, self.row_bytes),
                std::slice::from_raw_parts_mut(self.scales, self.row_scales),
            )
        }
    }

    /// Asks for row `i` to come to the cache.
    #[inline(always)]
    pub(super) fn prefetch<V: crate::math::simd::Simd>(&self, i: usize) {
        self.lines(i).for_each(V::prefetch);
    }

    /// Asks for row `i` to come to the first-level cache, where [`KvRows::prefetch`] asks for the second.
    #[inline(always)]
    pub(super) fn prefetch_first<V: crate::math::simd::Simd>(&self, i: usize) {
        self.lines(i).for_each(V::prefetch_first);
    }

    /// An address in each cache line of row `i` and of its scales.
    #[inline(always)]
    fn lines(&self, i: usize) -> impl Iterator<Item = *const u8> {
        let (row, scales) = (self.row(i).cast_const(), self.row_scales(i).cast_const().cast());
        let scales = (self.row_scales > 0).then_some(scales);
        (0..self.row_bytes).step_by(64).map(move |line| row.wrapping_add(line)).chain(scales)
    }

    /// Scales of row `i`; only to be followed for Q8.
    #[inline(always)]
    pub(super) fn row_scales(&self, i: usize) -> *mut f32 {
        self.scales.wrapping_add(i * self.row_scales)
    }
}

/// The blocks of one layer's cache.
#[derive(Clone, Copy)]
pub struct KvLayerView<'a> {
    layout: KvLayout,
    blocks: &'a [*mut u8],
    offset: usize,
}

// SAFETY: the pointers are only followed by kernels, which write disjoint parts between barriers; the maker of the view
// promised that nothing else touches the memory.
unsafe impl Send for KvLayerView<'_> {}
// SAFETY: as above.
unsafe impl Sync for KvLayerView<'_> {}

impl<'a> KvLayerView<'a> {
    /// A view of blocks `0..blocks.len()`: block `b` of this layer is the [`KvLayout::bytes_per_block`] bytes at
    /// `blocks[b] + offset`.
    ///
    /// # Safety
    /// Each of them is valid for reads and writes for `'a`, initialised, aligned to 4 bytes, and not used otherwise meanwhile.
    pub unsafe fn new(layout: KvLayout, blocks: &'a [*mut u8], offset: usize) -> KvLayerView<'a> {
        KvLayerView { layout, blocks, offset }
    }

    /// The layout of each block.
    pub fn layout(&self) -> KvLayout {
        self.layout
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }
}

/// What attention reads keys and values from: a cache, rows prepared in the scratch memory of this call, or the call's own
/// rows where nothing is to be done to them.
#[derive(Clone, Copy)]
pub(super) enum KvSource<'a> {
    /// Blocks of a cache.
    Cache(&'a KvLayerView<'a>),
    /// One block as long as the batch; token `t` of a sequence is row `start + t`.
    Batch(KvLayout, *mut u8),
    /// Keys and values as they came, F32; rows are as with `Batch`, and heads have no padding. Never written.
    Given(KvLayout, [RowsIn<'a>; 2]),
}

impl KvSource<'_> {
    /// As [`KvSource::rows`], or nothing where the context has ended.
    pub(super) fn rows_ahead(
        &self,
        span: &super::SeqSpan<'_>,
        which: Which,
        head: usize,
        t: usize,
        end: usize,
    ) -> Option<KvRows> {
        (t < end).then(|| self.rows(span, which, head, t).0)
    }

    pub(super) fn layout(&self) -> KvLayout {
        match self {
            KvSource::Cache(view) => view.layout,
            KvSource::Batch(layout, _) | KvSource::Given(layout, _) => *layout,
        }
    }

    /// Rows of `head` from token `t` of the sequence on, and how many of them lie together.
    pub(super) fn rows(&self, span: &super::SeqSpan<'_>, which: Which, head: usize, t: usize) -> (KvRows, usize) {
        match *self {
            KvSource::Cache(view) => {
                let len = view.layout.block_len;
                let id = span.blocks[t / len] as usize;
                let block = view.blocks[id].wrapping_add(view.offset);
                // SAFETY: a whole block by the promise of `KvLayerView::new`.
                (unsafe { view.layout.rows(block, which, head, t % len) }, len - t % len)
            }
            KvSource::Batch(layout, block) => {
                let row = span.start + t;
                // SAFETY: a block of all rows of the batch, which `row` is one of.
                (unsafe { layout.rows(block, which, head, row) }, layout.block_len - row)
            }
            KvSource::Given(layout, [k, v]) => {
                let row = span.start + t;
                let (x, dim) = if which == Which::Key { (k, layout.k_dim) } else { (v, layout.v_dim) };
                let own = &x.row(row, layout.kv_heads * dim)[head * dim..][..dim];
                let rows = KvRows {
                    data: own.as_ptr().cast_mut().cast(),
                    row_bytes: size_of_val(own),
                    stride: x.stride * size_of::<f32>(),
                    scales: std::ptr::null_mut(),
                    row_scales: 0,
                };
                (rows, layout.block_len - row)
            }
        }
    }
}

/// How kernels read one element type.
pub(super) trait KvElement {
    /// Elements `i..i + LANES` of a row as f32; `i` is a multiple of LANES.
    ///
    /// # Safety
    /// `row` and (for Q8) `scales` point to a padded row with those elements.
    unsafe fn load<V: crate::math::simd::Simd>(row: *const u8, scales: *const f32, i: usize) -> V;
}

/// [`KvDType::F32`]
pub(super) struct F32Element;
/// [`KvDType::F16`]
pub(super) struct F16Element;
/// [`KvDType::Q8`]
pub(super) struct Q8Element;

impl KvElement for F32Element {
    #[inline(always)]
    unsafe fn load<V: crate::math::simd::Simd>(row: *const u8, _: *const f32, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(row.cast::<f32>().add(i)) }
    }
}

impl KvElement for F16Element {
    #[inline(always)]
    unsafe fn load<V: crate::math::simd::Simd>(row: *const u8, _: *const f32, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(row.cast::<f16>().add(i)) }
    }
}

impl KvElement for Q8Element {
    #[inline(always)]
    unsafe fn load<V: crate::math::simd::Simd>(row: *const u8, scales: *const f32, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_i8(row.cast::<i8>().add(i)) * V::splat(*scales.add(i / Q8_GROUP)) }
    }
}
