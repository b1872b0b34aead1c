//! Element types: plain numbers and ggml block types.

use std::fmt;

/// Element type of a tensor.
///
/// Block types hold [`DType::block_len`] consecutive elements of a row in [`DType::block_bytes`] bytes; their layout is
/// that of ggml (`ggml-common.h`), which is what GGUF files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
}

use DType::*;

/// One row per type: name, ggml id (if ggml has it), elements per block, bytes per block.
const TABLE: [(DType, &str, Option<u32>, usize, usize); 34] = [
    (F32, "F32", Some(0), 1, 4),
    (F16, "F16", Some(1), 1, 2),
    (BF16, "BF16", Some(30), 1, 2),
    (F64, "F64", Some(28), 1, 8),
    (I8, "I8", Some(24), 1, 1),
    (I16, "I16", Some(25), 1, 2),
    (I32, "I32", Some(26), 1, 4),
    (I64, "I64", Some(27), 1, 8),
    (U8, "U8", None, 1, 1),
    (Bool, "BOOL", None, 1, 1),
    (Q4_0, "Q4_0", Some(2), 32, 18),
    (Q4_1, "Q4_1", Some(3), 32, 20),
    (Q5_0, "Q5_0", Some(6), 32, 22),
    (Q5_1, "Q5_1", Some(7), 32, 24),
    (Q8_0, "Q8_0", Some(8), 32, 34),
    (Q8_1, "Q8_1", Some(9), 32, 36),
    (Q2_K, "Q2_K", Some(10), 256, 84),
    (Q3_K, "Q3_K", Some(11), 256, 110),
    (Q4_K, "Q4_K", Some(12), 256, 144),
    (Q5_K, "Q5_K", Some(13), 256, 176),
    (Q6_K, "Q6_K", Some(14), 256, 210),
    (Q8_K, "Q8_K", Some(15), 256, 292),
    (IQ1_S, "IQ1_S", Some(19), 256, 50),
    (IQ1_M, "IQ1_M", Some(29), 256, 56),
    (IQ2_XXS, "IQ2_XXS", Some(16), 256, 66),
    (IQ2_XS, "IQ2_XS", Some(17), 256, 74),
    (IQ2_S, "IQ2_S", Some(22), 256, 82),
    (IQ3_XXS, "IQ3_XXS", Some(18), 256, 98),
    (IQ3_S, "IQ3_S", Some(21), 256, 110),
    (IQ4_NL, "IQ4_NL", Some(20), 32, 18),
    (IQ4_XS, "IQ4_XS", Some(23), 256, 136),
    (TQ1_0, "TQ1_0", Some(34), 256, 54),
    (TQ2_0, "TQ2_0", Some(35), 256, 66),
    (MXFP4, "MXFP4", Some(39), 32, 17),
];

impl DType {
    /// Every type, in the order of the declaration.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (DType, &'static str, Option<u32>, usize, usize) {
        &TABLE[self as usize]
    }

    /// Name as ggml spells it (`"Q4_K"`); `"BOOL"` and `"U8"` for the two that ggml lacks.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Number of the type in a GGUF tensor record.
    pub fn ggml_id(self) -> Option<u32> {
        self.row().2
    }

    /// The type with this number in a GGUF tensor record.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        TABLE.iter().find(|row| row.2 == Some(id)).map(|row| row.0)
    }

    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// Elements per block; 1 for plain numbers.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes per block; the element size for plain numbers.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Whether this is a ggml block type.
    pub fn is_block(self) -> bool {
        self.block_len() > 1
    }

    /// Whether this is F32, F16, BF16 or F64.
    pub fn is_float(self) -> bool {
        matches!(self, F32 | F16 | BF16 | F64)
    }

    /// Bytes of `elements` consecutive elements, or `None` if they are no whole number of blocks or overflow.
    pub fn bytes_for(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_declaration_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.1);
            assert_eq!(DType::from_name(row.1), Some(row.0));
            if let Some(id) = row.2 {
                assert_eq!(DType::from_ggml_id(id), Some(row.0));
            }
        }
    }

    #[test]
    fn bytes_are_counted_in_blocks() {
        assert_eq!(Q4_K.bytes_for(512), Some(288));
        assert_eq!(Q4_K.bytes_for(100), None);
        assert_eq!(F64.bytes_for(usize::MAX), None);
    }
}
