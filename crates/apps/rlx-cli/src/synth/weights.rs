//! Random weights, from a pool of chunks.

use std::collections::HashMap;
use std::io::Write;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::RngCore;
use rlx_ir::DType;
use rlx_weights::WeightsError;
use rlx_weights::gguf::GgufStream;

use super::tensors::{Tensor, Values};

/// Most chunks in the pool; a small model has fewer.
pub const CHUNKS: usize = 1 << 12;
/// Elements of a chunk: the longest block there is.
const CHUNK_LEN: usize = 256;
/// Bytes gathered before they are written.
const BATCH_BYTES: usize = 1 << 20;

/// A stream of weights; the same for the same seed and sequence of tensors, whatever their types.
pub(super) struct Weights {
    rng: Pcg64Mcg,
    /// Chunks, a power of two.
    chunks: usize,
    /// `chunks * CHUNK_LEN` numbers, mean 0, variance 1.
    pool: Vec<f32>,
    /// The pool at the scale of this many columns, in this type.
    packed: HashMap<(DType, usize), Vec<u8>>,
}

impl Weights {
    /// A stream for a model of about this many elements.
    pub(super) fn new(seed: u64, elements: usize) -> Weights {
        let chunks = (elements / CHUNK_LEN / 8).next_power_of_two().clamp(64, CHUNKS);
        // An odd state is best for this generator.
        let mut rng = Pcg64Mcg::new((u128::from(seed) << 1) | 1);
        // The first outputs of neighbouring seeds are alike.
        (0..16).for_each(|_| _ = rng.next_u64());
        let pool = (0..chunks * CHUNK_LEN).map(|_| normal(&mut rng)).collect();
        Weights { rng, chunks, pool, packed: HashMap::new() }
    }

    /// Writes the next tensor of `stream`, which is this one.
    pub(super) fn write<W: Write>(
        &mut self,
        tensor: &Tensor,
        dtype: DType,
        stream: &mut GgufStream<W>,
    ) -> Result<(), WeightsError> {
        match &tensor.values {
            Values::Matrix => self.write_matrix(tensor, dtype, stream),
            Values::Around { mean, deviation } => {
                let values: Vec<f32> =
                    (0..tensor.elements()).map(|_| mean + deviation * normal(&mut self.rng)).collect();
                stream.write(&pack(DType::F32, &values)?)
            }
            Values::Exactly(values) => stream.write(&pack(DType::F32, values)?),
        }
    }

    fn write_matrix<W: Write>(
        &mut self,
        tensor: &Tensor,
        dtype: DType,
        stream: &mut GgufStream<W>,
    ) -> Result<(), WeightsError> {
        let columns = tensor.columns();
        let packed = match self.packed.entry((dtype, columns)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let scale = 1.0 / (columns as f32).sqrt();
                let scaled: Vec<f32> = self.pool.iter().map(|x| x * scale).collect();
                entry.insert(pack(dtype, &scaled)?)
            }
        };
        let chunk_bytes = packed.len() / self.chunks;
        let mut batch = Vec::with_capacity(BATCH_BYTES + chunk_bytes);
        for _row in 0..tensor.elements() / columns {
            let mut left = columns;
            while left > 0 {
                let n = left.min(CHUNK_LEN);
                let bytes = n / dtype.block_len() * dtype.block_bytes();
                let chunk = (self.rng.next_u64() >> 32) as usize % self.chunks;
                batch.extend_from_slice(&packed[chunk * chunk_bytes..][..bytes]);
                left -= n;
            }
            if batch.len() >= BATCH_BYTES {
                stream.write(&batch)?;
                batch.clear();
            }
        }
        stream.write(&batch)
    }
}

/// Whole blocks of `dtype`.
fn pack(dtype: DType, values: &[f32]) -> Result<Vec<u8>, WeightsError> {
    let failed = |what: String| WeightsError::Usage(format!("cannot make random weights: {what}"));
    let len = dtype.bytes_for(values.len()).ok_or_else(|| failed(format!("no whole blocks of {dtype}")))?;
    let mut bytes = vec![0; len];
    rlx_quant::quantize(dtype, values, &mut bytes).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

/// Nearly normal, mean 0, variance 1: the sum of twelve uniform numbers. Exact integer arithmetic until the end, so that
/// every machine draws the same.
fn normal(rng: &mut Pcg64Mcg) -> f32 {
    let mut sum = 0i32;
    for _ in 0..3 {
        let bits = rng.next_u64();
        sum += (0..4).map(|i| (bits >> (16 * i)) as u16 as i32).sum::<i32>();
    }
    (sum - 6 * 65_535) as f32 / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_normal() {
        let weights = Weights::new(7, 1 << 30);
        let n = weights.pool.len() as f64;
        let mean = weights.pool.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = weights.pool.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let beyond = weights.pool.iter().filter(|x| x.abs() > 2.0).count() as f64 / n;
        assert!(mean.abs() < 0.005 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
        assert!((beyond - 0.0455).abs() < 0.002, "{beyond}");
        assert_eq!(Weights::new(7, 1000).chunks, 64);
        assert_ne!(weights.pool[..8], Weights::new(8, 1 << 30).pool[..8]);
    }
}
