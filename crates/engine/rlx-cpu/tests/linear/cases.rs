//! Generated weights and activations.

use half::{bf16, f16};
use rlx_ir::DType;

/// A small generator (SplitMix64), so that every failure can be repeated.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Roughly normal, variance 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let uniform = |rng: &mut Rng| (rng.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        (uniform(self) + uniform(self) + uniform(self) + uniform(self)) * 3.0f32.sqrt()
    }

    pub(crate) fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// The types that a weight matrix can have here: all but wide integers and booleans, which no checkpoint uses for one.
pub(crate) fn weight_types() -> Vec<DType> {
    DType::all()
        .filter(|dtype| !matches!(dtype, DType::I16 | DType::I32 | DType::I64 | DType::U8 | DType::Bool))
        .collect()
}

/// Where a block holds its f16 scales.
fn scale_offsets(dtype: DType) -> &'static [usize] {
    use DType::*;
    match dtype {
        Q4_0 | Q5_0 | Q8_0 | IQ4_NL | IQ4_XS | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ1_S => &[0],
        Q4_1 | Q5_1 | Q8_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        TQ1_0 => &[52],
        TQ2_0 => &[64],
        _ => &[],
    }
}

/// Elements of a packed matrix with every bit pattern of the quants and integer scales, and scales of ordinary size.
pub(crate) fn weights(rng: &mut Rng, dtype: DType, elements: usize) -> Vec<u8> {
    let floats = |rng: &mut Rng| rng.normals(elements);
    match dtype {
        DType::F32 => return floats(rng).iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 => return floats(rng).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        DType::BF16 => return floats(rng).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        DType::F64 => return floats(rng).iter().flat_map(|&v| (v as f64).to_le_bytes()).collect(),
        _ => {}
    }
    let mut bytes: Vec<u8> = (0..dtype.bytes_for(elements).unwrap()).map(|_| rng.next() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in scale_offsets(dtype) {
            let sign = if rng.below(4) == 0 { -1.0 } else { 1.0 };
            let scale = f16::from_f32(sign * (0.01 + 0.05 * rng.normal().abs()));
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        match dtype {
            DType::Q8_K => block[..4].copy_from_slice(&(0.01 + 0.01 * rng.normal().abs()).to_le_bytes()),
            DType::MXFP4 => block[0] = 122 + rng.below(6) as u8,
            // The scale is spread over the top nibbles of four words; this makes it about 0.01.
            DType::IQ1_M => block[55] = 0x20 | (block[55] & 0xF),
            _ => {}
        }
    }
    bytes
}

/// The values of packed elements.
pub(crate) fn values(dtype: DType, bytes: &[u8], elements: usize) -> Vec<f32> {
    let mut out = vec![0.0; elements];
    rlx_quant::dequantize(dtype, bytes, &mut out).unwrap();
    assert!(out.iter().all(|v| v.is_finite()), "{dtype}: the generated weights are not finite");
    out
}
