//! Dequantisation and the integer view against recorded reference blocks (`scripts/reference/record_quants.py`).

use rlx_ir::DType;
use rlx_quant::{
    QuantError, codebooks, dequantize, group_len, has_ints, min_sign, unpack_codes, unpack_ints, zero_point,
};
use safetensors::SafeTensors;

const DATA: &[u8] = include_bytes!("data/dequantize.safetensors");

fn recorded() -> Vec<(DType, Vec<u8>, Vec<f32>)> {
    let file = SafeTensors::deserialize(DATA).unwrap();
    DType::all()
        .filter(|t| t.is_block())
        .map(|t| {
            let bytes = file.tensor(&format!("{t}.bytes")).unwrap().data().to_vec();
            let values = file.tensor(&format!("{t}.values")).unwrap();
            (t, bytes, values.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        })
        .collect()
}

fn assert_bit_equal(what: DType, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert_eq!(g.to_bits(), w.to_bits(), "{what} element {i}: {g} instead of {w}");
    }
}

#[test]
fn every_block_type_is_bit_equal_to_the_reference() {
    for (dtype, bytes, want) in recorded() {
        let mut got = vec![f32::NAN; want.len()];
        dequantize(dtype, &bytes, &mut got).unwrap();
        assert_bit_equal(dtype, &got, &want);
    }
}

#[test]
fn integer_view_gives_the_values() {
    let mut seen = 0;
    for (dtype, bytes, want) in recorded().into_iter().filter(|r| has_ints(r.0)) {
        let (len, group) = (dtype.block_len(), group_len(dtype));
        let (mut q, mut scale, mut min) = (vec![0; len], vec![0; len / group], vec![0; len / group]);
        let mut got = Vec::new();
        for block in bytes.chunks_exact(dtype.block_bytes()) {
            let s = unpack_ints(dtype, block, &mut q, &mut scale, &mut min).unwrap();
            let (d, dmin) = (half::f16::from_bits(s.d).to_f32(), half::f16::from_bits(s.dmin).to_f32());
            got.extend((0..len).map(|i| {
                let g = i / group;
                let v = (d * scale[g] as f32) * (q[i] as i32 - zero_point(dtype)) as f32;
                match min_sign(dtype) {
                    -1 => v - dmin * min[g] as f32,
                    1 => v + dmin * min[g] as f32,
                    _ => v,
                }
            }));
        }
        assert_bit_equal(dtype, &got, &want);
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn codes_index_the_codebook() {
    for (dtype, bytes, _) in recorded() {
        let mut codes = vec![0; dtype.block_len()];
        let block = &bytes[..dtype.block_bytes()];
        let Some(book) = codebooks::codebook(dtype) else {
            assert!(matches!(unpack_codes(dtype, block, &mut codes), Err(QuantError::UnsupportedType { .. })));
            continue;
        };
        unpack_codes(dtype, block, &mut codes).unwrap();
        if has_ints(dtype) {
            let groups = dtype.block_len() / 32;
            let (mut q, mut scale, mut min) = (vec![0; codes.len()], vec![0; groups], vec![0; groups]);
            unpack_ints(dtype, block, &mut q, &mut scale, &mut min).unwrap();
            for (&c, &q) in codes.iter().zip(&q) {
                assert_eq!(book[c as usize] as i32 + 128, q as i32);
            }
        } else {
            let mut values = vec![0.0; codes.len()];
            dequantize(dtype, block, &mut values).unwrap();
            for (&c, &v) in codes.iter().zip(&values) {
                assert_eq!(codebooks::e8m0_half(block[0]) * book[c as usize] as f32, v);
            }
        }
    }
}

#[test]
fn plain_types_convert() {
    let mut out = [0.0; 2];
    let mut check = |dtype, bytes: &[u8], want: [f32; 2]| {
        dequantize(dtype, bytes, &mut out).unwrap();
        assert_eq!(out, want, "{dtype}");
    };
    check(DType::F32, &[1.5f32.to_le_bytes(), (-0.1f32).to_le_bytes()].concat(), [1.5, -0.1]);
    check(DType::F64, &[1e300f64.to_le_bytes(), 0.1f64.to_le_bytes()].concat(), [f32::INFINITY, 0.1]);
    check(DType::F16, &[0x00, 0x3C, 0x01, 0x80], [1.0, -(0.5f32.powi(24))]);
    check(DType::BF16, &[0x80, 0x3F, 0x00, 0xC0], [1.0, -2.0]);
    check(DType::I8, &[0x80, 0x7F], [-128.0, 127.0]);
    check(DType::U8, &[0x80, 0xFF], [128.0, 255.0]);
    check(DType::Bool, &[0, 2], [0.0, 1.0]);
    check(DType::I16, &[i16::MIN.to_le_bytes(), 7i16.to_le_bytes()].concat(), [-32768.0, 7.0]);
    check(DType::I32, &[i32::MAX.to_le_bytes(), (-5i32).to_le_bytes()].concat(), [2147483648.0, -5.0]);
    check(DType::I64, &[i64::MIN.to_le_bytes(), 3i64.to_le_bytes()].concat(), [-9223372036854775808.0, 3.0]);
}

#[test]
fn wrong_lengths_are_errors() {
    for dtype in DType::all() {
        let (len, size) = (dtype.block_len(), dtype.block_bytes());
        let mut out = vec![0.0; 2 * len];
        dequantize(dtype, &[], &mut []).unwrap();
        for bytes in [0, size, 2 * size - 1, 2 * size + 1, 3 * size] {
            let got = dequantize(dtype, &vec![0; bytes], &mut out);
            let want = QuantError::Size { dtype, what: "packed bytes", expected: 2 * size, found: bytes };
            assert_eq!(got, Err(want));
        }
        if len > 1 {
            let got = dequantize(dtype, &vec![0; 2 * size], &mut out[..2 * len - 1]);
            assert_eq!(got, Err(QuantError::PartialBlock { dtype, elements: 2 * len - 1 }));
        }
        if has_ints(dtype) {
            let groups = len / group_len(dtype);
            let try_sizes = |b, q, s, m| {
                unpack_ints(dtype, &vec![0; b], &mut vec![0; q], &mut vec![0; s], &mut vec![0; m]).is_err()
            };
            assert!(!try_sizes(size, len, groups, groups));
            assert!(try_sizes(size + 1, len, groups, groups));
            assert!(try_sizes(size, len - 1, groups, groups));
            assert!(try_sizes(size, len, groups + 1, groups));
            assert!(try_sizes(size, len, groups, 0));
        } else {
            let got = unpack_ints(dtype, &vec![0; size], &mut vec![0; len], &mut [0], &mut [0]);
            assert!(matches!(got, Err(QuantError::UnsupportedType { .. })), "{dtype}");
        }
    }
}

#[test]
fn any_bytes_dequantise_without_panic() {
    for dtype in DType::all() {
        for byte in [0x00, 0x7F, 0x80, 0xFF, 0x55] {
            let mut out = vec![0.0; 3 * dtype.block_len()];
            dequantize(dtype, &vec![byte; 3 * dtype.block_bytes()], &mut out).unwrap();
        }
    }
}
