//! Kinds of GGUF files.

use std::fmt;
use std::str::FromStr;

use rlx_ir::DType;

/// A kind of GGUF file (`llama_ftype` in `llama.h`): one type for all matrices, or a mix of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q2_K_S,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4_MOE,
}

use FileType::*;

/// One row per kind: name, `general.file_type`, type of most matrices.
const TABLE: &[(FileType, &str, u32, DType)] = &[
    (F32, "F32", 0, DType::F32),
    (F16, "F16", 1, DType::F16),
    (BF16, "BF16", 32, DType::BF16),
    (Q4_0, "Q4_0", 2, DType::Q4_0),
    (Q4_1, "Q4_1", 3, DType::Q4_1),
    (Q5_0, "Q5_0", 8, DType::Q5_0),
    (Q5_1, "Q5_1", 9, DType::Q5_1),
    (Q8_0, "Q8_0", 7, DType::Q8_0),
    (Q2_K, "Q2_K", 10, DType::Q2_K),
    (Q2_K_S, "Q2_K_S", 21, DType::Q2_K),
    (Q3_K_S, "Q3_K_S", 11, DType::Q3_K),
    (Q3_K_M, "Q3_K_M", 12, DType::Q3_K),
    (Q3_K_L, "Q3_K_L", 13, DType::Q3_K),
    (Q4_K_S, "Q4_K_S", 14, DType::Q4_K),
    (Q4_K_M, "Q4_K_M", 15, DType::Q4_K),
    (Q5_K_S, "Q5_K_S", 16, DType::Q5_K),
    (Q5_K_M, "Q5_K_M", 17, DType::Q5_K),
    (Q6_K, "Q6_K", 18, DType::Q6_K),
    (IQ4_NL, "IQ4_NL", 25, DType::IQ4_NL),
    (IQ4_XS, "IQ4_XS", 30, DType::IQ4_XS),
    (TQ1_0, "TQ1_0", 36, DType::TQ1_0),
    (TQ2_0, "TQ2_0", 37, DType::TQ2_0),
    (MXFP4_MOE, "MXFP4_MOE", 38, DType::MXFP4),
];

/// Shorter names of the medium mixes.
const ALIASES: &[(&str, FileType)] = &[("Q3_K", Q3_K_M), ("Q4_K", Q4_K_M), ("Q5_K", Q5_K_M)];

impl FileType {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = FileType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (FileType, &'static str, u32, DType) {
        &TABLE[self as usize]
    }

    /// Name as in file names.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Value of `general.file_type`.
    pub fn id(self) -> u32 {
        self.row().2
    }

    /// Type of most matrices.
    pub fn base(self) -> DType {
        self.row().3
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileType {
    type Err = String;

    fn from_str(text: &str) -> Result<FileType, String> {
        let alias = || ALIASES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, kind)| *kind);
        let known = FileType::all().find(|kind| kind.name().eq_ignore_ascii_case(text));
        known.or_else(alias).ok_or_else(|| {
            let names: Vec<&str> = FileType::all().map(FileType::name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_declaration_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
            assert_eq!(row.1.to_lowercase().parse(), Ok(row.0));
            assert!(rlx_quant::can_quantize(row.3));
        }
        assert_eq!("q4_k".parse(), Ok(Q4_K_M));
        assert!("Q4_K_X".parse::<FileType>().unwrap_err().contains("Q4_K_M"));
    }
}
