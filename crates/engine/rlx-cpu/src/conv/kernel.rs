//! The weights of convolutions in the order the kernels read them.

use rlx_ir::DType;
use rlx_mem::{AlignedBuf, PageArena};

use crate::linear::{LinearError, PackedMatrix};
use crate::{Isa, ThreadPool};

/// A kernel `[out channels, in channels / groups, taps]`, packed.
#[derive(Debug)]
pub enum ConvKernel {
    /// A matrix `[out channels / groups, taps * in channels / groups]` per group.
    Groups(Vec<PackedMatrix>),
    /// One channel in and out per group.
    Depthwise(DepthwiseTaps),
}

/// Weights of a depthwise kernel.
#[derive(Debug)]
pub struct DepthwiseTaps {
    pub(super) channels: usize,
    /// `[taps + 1, channels]`: a row per tap, and a row of zeros that stands for rows outside a sequence.
    pub(super) weights: AlignedBuf<f32>,
}

impl DepthwiseTaps {
    pub(super) fn taps(&self) -> usize {
        self.weights.len() / self.channels - 1
    }

    pub(super) fn zeros(&self) -> &[f32] {
        &self.weights[self.weights.len() - self.channels..]
    }
}

impl ConvKernel {
    /// Packs a kernel of `shape` from the elements of a file. Plain types keep their type; block types become F32, since their
    /// blocks lie across the taps.
    ///
    /// # Errors
    /// If the size of `src` is not that of the shape, a dim is zero, or the groups do not divide the channels.
    pub fn pack(
        arena: &mut PageArena,
        dtype: DType,
        shape: [usize; 3],
        groups: usize,
        src: &[u8],
        isa: Isa,
        pool: &ThreadPool,
    ) -> Result<ConvKernel, LinearError> {
        let [out, inner, taps] = shape;
        let Some(cols) = inner.checked_mul(taps) else {
            return Err(LinearError::TooLarge { dtype, rows: out, cols: usize::MAX });
        };
        if out == 0 || cols == 0 || groups == 0 || !out.is_multiple_of(groups) {
            return Err(LinearError::Empty { rows: out / groups.max(1), cols });
        }
        let elements = out.checked_mul(cols);
        let Some((elements, expected)) = elements.and_then(|n| Some((n, dtype.bytes_for(n)?))) else {
            return Err(LinearError::TooLarge { dtype, rows: out, cols });
        };
        if src.len() != expected {
            return Err(LinearError::Size { dtype, rows: out, cols, expected, found: src.len() });
        }
        if inner == 1 && out == groups {
            let mut values = AlignedBuf::zeroed(elements);
            dequantise(dtype, src, &mut values);
            let mut weights = AlignedBuf::zeroed(elements + out);
            for (channel, row) in values.chunks_exact(taps).enumerate() {
                for (tap, &value) in row.iter().enumerate() {
                    weights[tap * out + channel] = value;
                }
            }
            return Ok(ConvKernel::Depthwise(DepthwiseTaps { channels: out, weights }));
        }
        let (dtype, matrix) = match dtype {
            DType::F16 | DType::BF16 => (dtype, taps_first::<2>(src, inner, taps)),
            DType::F32 => (dtype, taps_first::<4>(src, inner, taps)),
            _ => {
                let mut values = AlignedBuf::zeroed(elements);
                dequantise(dtype, src, &mut values);
                (DType::F32, taps_first::<4>(bytemuck::cast_slice(&values), inner, taps))
            }
        };
        let rows = out / groups;
        let packed = matrix
            .chunks_exact(matrix.len() / groups)
            .map(|group| PackedMatrix::pack_in(arena, dtype, rows, cols, group, isa, pool));
        Ok(ConvKernel::Groups(packed.collect::<Result<_, _>>()?))
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        match self {
            ConvKernel::Groups(groups) => groups.iter().map(PackedMatrix::bytes).sum(),
            ConvKernel::Depthwise(taps) => taps.weights.len() * size_of::<f32>(),
        }
    }
}

fn dequantise(dtype: DType, src: &[u8], values: &mut [f32]) {
    rlx_quant::dequantize(dtype, src, values).expect("the size was checked");
}

/// Elements of `N` bytes from `[out, inner, taps]` to `[out, taps, inner]`.
fn taps_first<const N: usize>(src: &[u8], inner: usize, taps: usize) -> Vec<u8> {
    let mut dst = vec![0; src.len()];
    let matrices = src.chunks_exact(inner * taps * N).zip(dst.chunks_exact_mut(inner * taps * N));
    for (src, dst) in matrices {
        for (i, row) in src.as_chunks::<N>().0.chunks_exact(taps).enumerate() {
            for (tap, element) in row.iter().enumerate() {
                dst[(tap * inner + i) * N..][..N].copy_from_slice(element);
            }
        }
    }
    dst
}
