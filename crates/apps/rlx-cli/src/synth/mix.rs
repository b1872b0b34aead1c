//! Which type each tensor gets: the mixes of llama.cpp's quantiser (`llama-quant.cpp`), without importance matrix.

use std::fmt;
use std::str::FromStr;

use rlx_ir::DType;

use super::Shape;
use super::tensors::{Role, Tensor};

/// A kind of GGUF file (`llama_ftype` in `llama.h`).
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
];

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
        FileType::all().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names: Vec<&str> = FileType::all().map(FileType::name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// The type of `tensor` in a file of this kind.
pub(super) fn dtype(kind: FileType, shape: &Shape, tensor: &Tensor) -> DType {
    if tensor.role == Role::Vector {
        return DType::F32;
    }
    if !kind.base().is_block() {
        return kind.base();
    }
    let columns = tensor.columns();
    fallback(wanted(kind, shape, tensor, columns), columns)
}

fn wanted(kind: FileType, shape: &Shape, tensor: &Tensor, columns: usize) -> DType {
    let base = kind.base();
    let layers = shape.num_hidden_layers;
    let layer = tensor.layer;
    let many_queries = shape.num_attention_heads >= 4 * shape.num_key_value_heads;
    let output = tensor.role == Role::Output || (tensor.role == Role::Embedding && shape.tie_word_embeddings);
    if output {
        return match base {
            DType::Q8_0 => DType::Q8_0,
            _ if !columns.is_multiple_of(base.block_len()) => DType::Q8_0,
            _ => DType::Q6_K,
        };
    }
    match (tensor.role, kind) {
        (Role::V, Q2_K) if many_queries => DType::Q4_K,
        (Role::V | Role::O | Role::Down, Q2_K) => DType::Q3_K,
        (Role::V, Q3_K_M) if layer < 2 => DType::Q5_K,
        (Role::Down, Q3_K_M) if layer < layers / 16 => DType::Q5_K,
        (Role::V | Role::O | Role::Down, Q3_K_M) => DType::Q4_K,
        (Role::V | Role::O | Role::Down, Q3_K_L) => DType::Q5_K,
        (Role::V, Q4_K_S) if layer < 4 => DType::Q5_K,
        (Role::Down, Q4_K_S) if layer < layers / 8 => DType::Q5_K,
        (Role::V | Role::Down, Q4_K_M | Q5_K_M) if use_more_bits(layer, layers) => DType::Q6_K,
        (Role::V, IQ4_NL | IQ4_XS) if many_queries => DType::Q5_K,
        (Role::Down, IQ4_NL | IQ4_XS) if layer < layers / 8 => DType::Q5_K,
        _ => base,
    }
}

/// The first and last eighth of the layers, and every third between.
fn use_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// The type that stands in for `dtype` where a row is no whole number of its blocks.
fn fallback(dtype: DType, columns: usize) -> DType {
    if columns.is_multiple_of(dtype.block_len()) {
        return dtype;
    }
    let small = match dtype {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::IQ4_XS => DType::IQ4_NL,
        other => other,
    };
    if columns.is_multiple_of(small.block_len()) { small } else { DType::F16 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tensors;
    use super::*;

    fn counts(shape: &str, kind: FileType) -> BTreeMap<DType, usize> {
        let shape = Shape::named(shape).unwrap();
        let mut counts = BTreeMap::new();
        for tensor in tensors::of(shape) {
            *counts.entry(dtype(kind, shape, &tensor)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn table_is_in_declaration_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
            assert_eq!(row.1.to_lowercase().parse(), Ok(row.0));
        }
        assert!("Q4_K_X".parse::<FileType>().unwrap_err().contains("Q4_K_M"));
    }

    /// The types that the published files have.
    #[test]
    fn mixes_are_those_of_published_files() {
        let published = [
            ("smollm2-135m", Q4_1, vec![(DType::F32, 61), (DType::Q4_1, 210), (DType::Q8_0, 1)]),
            (
                "gemma3-270m",
                Q4_K_M,
                vec![(DType::F32, 109), (DType::Q5_0, 81), (DType::Q8_0, 10), (DType::Q4_K, 27), (DType::Q6_K, 9)],
            ),
        ];
        for (shape, kind, types) in published {
            assert_eq!(counts(shape, kind), types.into_iter().collect(), "{shape} {kind}");
        }
    }
}
