//! Rows that one product hands on to another as tiles, `[rows / 16][columns / 32][16][32]` in bf16.

use half::bf16;
use rlx_cpu::{Isa, Layout, Precision};
use rlx_ir::DType;

use crate::cases::Rng;
use crate::suite::{Case, sized_case};

/// Where element `(t, c)` of `cols` columns is.
fn place(t: usize, c: usize, cols: usize) -> usize {
    ((t / 16 * cols.div_ceil(32) + c / 32) * 16 + t % 16) * 32 + c % 32
}

/// f32 of the memory of so many tiles.
fn floats(tokens: usize, cols: usize) -> usize {
    tokens.next_multiple_of(16) * cols.next_multiple_of(32) / 2
}

/// Rows, `stride` apart, as tiles. The places of tokens that there are not hold NaNs, which must not matter.
fn tiles(x: &[f32], tokens: usize, cols: usize, stride: usize) -> Vec<f32> {
    let mut words = vec![0xFFFFu16; 2 * floats(tokens, cols)];
    for t in 0..tokens {
        for c in 0..cols.next_multiple_of(32) {
            words[place(t, c, cols)] = if c < cols { bf16::from_f32(x[t * stride + c]).to_bits() } else { 0 };
        }
    }
    words.chunks(2).map(|pair| f32::from_bits(u32::from(pair[0]) | u32::from(pair[1]) << 16)).collect()
}

fn word(tiles: &[f32], index: usize) -> u16 {
    (tiles[index / 2].to_bits() >> (index % 2 * 16)) as u16
}

fn cases(rng: &mut Rng, isa: Isa) -> Vec<Case> {
    let mut cases = vec![];
    for (dtypes, precision) in [
        (vec![DType::Q4_K], Precision::Auto),
        (vec![DType::Q4_K; 2], Precision::Auto),
        (vec![DType::Q8_0], Precision::Auto),
        (vec![DType::F16], Precision::Auto),
        (vec![DType::BF16], Precision::Auto),
        (vec![DType::F32], Precision::Auto),
        (vec![DType::F32], Precision::Bf16),
        (vec![DType::IQ2_S], Precision::Auto),
    ] {
        for [tokens, rows] in [[2, 40], [16, 32], [17, 83], [33, 31], [64, 64], [150, 97], [1030, 33]] {
            let unit = dtypes[0].block_len();
            let cols = if unit == 1 { rng.pick(&[33, 64, 250]) } else { unit * rng.pick(&[1, 3]) };
            let mut case = sized_case(rng, isa, &dtypes, precision, [tokens, rows, cols]);
            // Outputs are whole values, and nothing is accumulated.
            case.epilogue = if dtypes.len() == 2 { 5 } else { rng.pick(&[0, 1, 3, 4]) };
            if case.parts.iter().any(|part| part.packed.rows() != rows) {
                case.parts.truncate(1);
                case.epilogue = 4;
            }
            case.out_stride = case.parts[0].packed.rows();
            case.before = rng.normals((tokens * case.out_stride).max(floats(tokens, case.out_stride)));
            cases.push(case);
        }
    }
    cases
}

#[test]
fn outputs_as_tiles_are_rows_rounded() {
    for isa in Isa::available() {
        for case in cases(&mut Rng(41), isa) {
            let (rows, width) = (case.run(), case.out_stride);
            let tiles = case.run_as(None, Layout::Tiles).expect("rows are read by every kernel");
            for t in 0..case.tokens {
                for c in 0..width.next_multiple_of(32) {
                    let want = if c < width { bf16::from_f32(rows[0][t * width + c]).to_bits() } else { 0 };
                    assert_eq!(word(&tiles[0], place(t, c, width)), want, "token {t} column {c}: {}", case.describe());
                }
            }
        }
    }
}

#[test]
fn tiles_as_inputs_are_rows_rounded() {
    if let Err(why) = Isa::Amx.require() {
        println!("skipped: {why}");
        return;
    }
    let mut read = 0;
    for mut case in cases(&mut Rng(43), Isa::Amx) {
        case.norm = 0;
        let tiles = tiles(&case.x, case.tokens, case.cols, case.x_stride);
        let Some(got) = case.run_as(Some(&tiles), Layout::Rows) else {
            // Few tokens are not multiplied as tiles, nor are F32 weights unless told.
            assert!(case.tokens <= 16 || case.precision_is_exact(), "{}", case.describe());
            continue;
        };
        assert!(got == case.run(), "{}", case.describe());
        read += 1;
    }
    assert!(read > 0);
}
