//! Packing keeps every weight, and refuses what is no matrix.

use rlx_cpu::{Isa, LinearError, PackedMatrix, ThreadPool};
use rlx_ir::DType;

use crate::cases::{Rng, values, weight_types, weights};

#[test]
fn unpacked_rows_are_bit_equal_to_dequantised_ones() {
    let mut rng = Rng(1);
    for dtype in weight_types() {
        for isa in Isa::available() {
            for threads in [1, 3] {
                let pool = ThreadPool::new(threads);
                let blocks = [1, 3, 9, 10];
                for (rows, blocks) in [1, 15, 16, 17, 33].into_iter().zip(blocks.iter().cycle()) {
                    let cols = blocks * dtype.block_len();
                    let src = weights(&mut rng, dtype, rows * cols);
                    let want = values(dtype, &src, rows * cols);
                    let packed = PackedMatrix::pack(dtype, rows, cols, &src, isa, &pool).unwrap();
                    assert_eq!((packed.dtype(), packed.rows(), packed.cols()), (dtype, rows, cols));
                    assert!(packed.bytes() >= src.len());
                    let mut row = vec![0.0f32; cols];
                    for r in 0..rows {
                        packed.unpack_row(r, &mut row);
                        for k in 0..cols {
                            let want = want[r * cols + k];
                            assert_eq!(row[k].to_bits(), want.to_bits(), "{dtype} {isa} row {r} column {k}: {want}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let pool = ThreadPool::new(1);
    let pack = |dtype, rows, cols, bytes: usize| {
        PackedMatrix::pack(dtype, rows, cols, &vec![0; bytes], Isa::Scalar, &pool).map(|_| ()).unwrap_err()
    };
    assert!(matches!(pack(DType::Q4_K, 2, 256, 287), LinearError::Size { expected: 288, found: 287, .. }));
    assert!(matches!(pack(DType::Q4_K, 2, 128, 144), LinearError::PartialBlock { cols: 128, .. }));
    assert!(matches!(pack(DType::F32, 0, 4, 0), LinearError::Empty { .. }));
    assert!(matches!(pack(DType::F32, usize::MAX, 4, 0), LinearError::TooLarge { .. }));
    assert!(matches!(pack(DType::F32, 1, usize::MAX, 0), LinearError::TooLarge { .. }));
}

#[test]
fn large_matrices_cost_at_most_four_per_cent_more_than_in_the_file() {
    let pool = ThreadPool::new(2);
    for dtype in weight_types() {
        let bytes = dtype.bytes_for(64 * 1024).unwrap();
        let packed = PackedMatrix::pack(dtype, 64, 1024, &vec![0; bytes], Isa::detect(), &pool).unwrap();
        assert!(packed.bytes() as f64 <= 1.04 * bytes as f64, "{dtype}: {} for {bytes}", packed.bytes());
    }
}
