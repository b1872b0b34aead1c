//! Quantisation against recorded reference blocks (`scripts/reference/record_quants.py`) and its error bounds.

use proptest::prelude::*;
use rlx_ir::DType;
use rlx_quant::{QuantError, can_quantize, dequantize, quantize, quantize_with_importance};
use safetensors::SafeTensors;

const DATA: &[u8] = include_bytes!("data/quantize.safetensors");

fn quantised_blocks() -> impl Iterator<Item = DType> {
    DType::all().filter(|&t| t.is_block() && can_quantize(t))
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn packed(dtype: DType, x: &[f32], row_len: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let mut out = vec![0xAA; dtype.bytes_for(x.len()).unwrap()];
    quantize_with_importance(dtype, x, row_len, importance, &mut out).unwrap();
    out
}

fn unpacked(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, bytes, &mut out).unwrap();
    out
}

#[test]
fn blocks_are_byte_equal_to_the_reference() {
    let file = SafeTensors::deserialize(DATA).unwrap();
    let (x, importance) = (floats(&file, "x"), floats(&file, "importance"));
    let row_len = importance.len();
    let mut wrong = Vec::new();
    for dtype in quantised_blocks() {
        for (name, importance) in [("plain", None), ("weighted", Some(&importance[..]))] {
            // ggml makes Q8_1 and Q8_K for activations, without importance.
            let recorded = file.tensor(&format!("{dtype}.{name}"));
            let Ok(want) = recorded else {
                assert!(matches!(dtype, DType::Q8_1 | DType::Q8_K) && importance.is_some(), "{dtype}.{name}");
                continue;
            };
            let got = packed(dtype, &x, row_len, importance);
            let size = dtype.block_bytes();
            let differing: Vec<usize> = got
                .chunks(size)
                .zip(want.data().chunks(size))
                .enumerate()
                .filter(|(_, (g, w))| g != w)
                .map(|(i, _)| i * dtype.block_len() / row_len)
                .collect();
            if !differing.is_empty() {
                wrong.push(format!("{dtype}.{name}: {} blocks, in rows {differing:?}", differing.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Largest error of a block of this type, relative to the largest magnitude in the block: about one and a half steps,
/// since the end of the range opposite to the extreme value is clipped by one step.
fn bound(dtype: DType) -> f32 {
    match dtype {
        DType::Q8_0 | DType::Q8_1 | DType::Q8_K => 0.005,
        DType::Q6_K => 0.05,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 0.1,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K | DType::IQ4_NL | DType::IQ4_XS => 0.2,
        DType::Q3_K => 0.4,
        DType::MXFP4 => 0.27,
        DType::Q2_K => 0.6,
        _ => 0.51,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn round_trip_error_is_bounded(
        unit in prop::collection::vec(-1.0f32..1.0, 512),
        exponent in -2i32..8,
        importance in prop::collection::vec(0.01f32..10.0, 256),
    ) {
        let x: Vec<f32> = unit.iter().map(|v| v * 2f32.powi(exponent)).collect();
        for dtype in quantised_blocks() {
            for importance in [None, Some(&importance[..])] {
                let got = unpacked(dtype, &packed(dtype, &x, 256, importance));
                // Importance moves error to unimportant columns.
                let bound = bound(dtype) * if importance.is_some() { 2.0 } else { 1.0 };
                for (x, got) in x.chunks(dtype.block_len()).zip(got.chunks(dtype.block_len())) {
                    let max = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    for (x, got) in x.iter().zip(got) {
                        prop_assert!((x - got).abs() <= bound * max, "{dtype}: {x} became {got}, largest is {max}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_floats_quantise_without_panic(bits in prop::collection::vec(any::<u32>(), 256)) {
        let x: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for dtype in quantised_blocks() {
            for importance in [None, Some(&x[..])] {
                unpacked(dtype, &packed(dtype, &x, 256, importance));
            }
        }
    }
}

#[test]
fn non_finite_input_spoils_only_its_block() {
    for dtype in quantised_blocks() {
        let len = dtype.block_len();
        let x: Vec<f32> = (0..3 * len).map(|i| (i as f32 * 0.7).sin()).collect();
        let want = packed(dtype, &x, x.len(), None);
        for v in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            for range in [len..len + 1, len + 5..len + 6, len..2 * len] {
                let mut x = x.clone();
                x[range].fill(v);
                let got = packed(dtype, &x, x.len(), None);
                let size = dtype.block_bytes();
                assert_eq!(got[..size], want[..size]);
                assert_eq!(got[2 * size..], want[2 * size..]);
            }
        }
    }
}

#[test]
fn importance_lowers_the_weighted_error() {
    let file = SafeTensors::deserialize(DATA).unwrap();
    let (x, importance) = (floats(&file, "x"), floats(&file, "importance"));
    let x = &x[..importance.len()];
    let error = |dtype, bytes: &[u8]| -> f32 {
        let got = unpacked(dtype, bytes);
        (0..x.len()).map(|i| importance[i] * (x[i] - got[i]).powi(2)).sum()
    };
    for dtype in
        [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K]
    {
        let plain = error(dtype, &packed(dtype, x, x.len(), None));
        let weighted = error(dtype, &packed(dtype, x, x.len(), Some(&importance)));
        assert!(weighted < plain, "{dtype}: {weighted} is not below {plain}");
    }
}

#[test]
fn plain_types_round_to_nearest_even() {
    let x =
        [1.0, 1.0 + f32::powi(2.0, -11), 1.0 + 3.0 * f32::powi(2.0, -11), 1e6, -0.0, f32::NAN, 1e-8, -f32::INFINITY];
    let f16 = unpacked(DType::F16, &packed(DType::F16, &x, 8, None));
    assert_eq!(f16[..5], [1.0, 1.0, 1.0 + f32::powi(2.0, -9), f32::INFINITY, -0.0]);
    assert!(f16[5].is_nan() && f16[6] == 0.0 && f16[7] == f32::NEG_INFINITY);
    let bf16 = unpacked(
        DType::BF16,
        &packed(DType::BF16, &[1.0 + f32::powi(2.0, -8), 1.0 + 3.0 * f32::powi(2.0, -8), f32::NAN], 3, None),
    );
    assert_eq!(bf16[..2], [1.0, 1.015625]);
    assert!(bf16[2].is_nan());
    for dtype in [DType::F32, DType::F64] {
        let got = unpacked(dtype, &packed(dtype, &x, 8, None));
        assert!(got.iter().zip(&x).all(|(g, x)| g.to_bits() == x.to_bits()), "{dtype}");
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let x = [0.5; 512];
    for dtype in DType::all() {
        if !can_quantize(dtype) {
            let got = quantize(dtype, &x, &mut vec![0; dtype.bytes_for(512).unwrap()]);
            assert_eq!(got, Err(QuantError::UnsupportedType { dtype, operation: "quantisation" }));
            continue;
        }
        let size = dtype.bytes_for(512).unwrap();
        let mut out = vec![0; size + 1];
        quantize(dtype, &[], &mut []).unwrap();
        quantize_with_importance(dtype, &[], 256, Some(&x[..256]), &mut []).unwrap();
        assert_eq!(
            quantize(dtype, &x, &mut out),
            Err(QuantError::Size { dtype, what: "packed bytes", expected: size, found: size + 1 })
        );
        let out = &mut out[..size];
        for row_len in [0, 768, 1024] {
            assert_eq!(
                quantize_with_importance(dtype, &x, row_len, None, out),
                Err(QuantError::PartialRow { dtype, elements: 512, row_len })
            );
        }
        assert_eq!(
            quantize_with_importance(dtype, &x, 256, Some(&x[..255]), out),
            Err(QuantError::Size { dtype, what: "importance", expected: 256, found: 255 })
        );
        if dtype.is_block() {
            assert_eq!(quantize(dtype, &x[..511], out), Err(QuantError::PartialBlock { dtype, elements: 511 }));
            assert_eq!(
                quantize_with_importance(dtype, &x, 8, None, out),
                Err(QuantError::PartialBlock { dtype, elements: 8 })
            );
        }
    }
}
