//! The formats, by name and by the ends of file names.

use std::path::Path;
use std::str::FromStr;

/// How texts are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// One text a line.
    Lines,
    /// One JSON value a line: an object with a field that is the text, or a string.
    Jsonl,
    /// Comma-separated values with a column of texts.
    Csv,
    /// Tab-separated values with a column of texts.
    Tsv,
    /// A Parquet file with a column of texts.
    Parquet,
}

/// How vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorFormat {
    /// One JSON object a line: `index`, `text` if asked for, `embedding`.
    Jsonl,
    /// NumPy's array file, F32 `[rows, dims]`.
    Npy,
    /// safetensors with the tensor `embeddings`, F32 `[rows, dims]`, and if asked for the texts: U8 `text_bytes`, one text after
    /// another, and I64 `text_offsets` `[rows + 1]`, where each begins.
    Safetensors,
    /// Parquet with the columns `index` (int64), `text` if asked for, `embedding` (list of float).
    Parquet,
}

impl TextFormat {
    /// All of them.
    pub const ALL: [TextFormat; 5] =
        [TextFormat::Lines, TextFormat::Jsonl, TextFormat::Csv, TextFormat::Tsv, TextFormat::Parquet];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            TextFormat::Lines => "lines",
            TextFormat::Jsonl => "jsonl",
            TextFormat::Csv => "csv",
            TextFormat::Tsv => "tsv",
            TextFormat::Parquet => "parquet",
        }
    }

    /// What the end of a file's name says; lines if it says nothing else.
    pub fn of_path(path: &Path) -> TextFormat {
        match extension(path).as_deref() {
            Some("jsonl" | "ndjson") => TextFormat::Jsonl,
            Some("csv") => TextFormat::Csv,
            Some("tsv" | "tab") => TextFormat::Tsv,
            Some("parquet" | "pq") => TextFormat::Parquet,
            _ => TextFormat::Lines,
        }
    }
}

impl VectorFormat {
    /// All of them.
    pub const ALL: [VectorFormat; 4] =
        [VectorFormat::Jsonl, VectorFormat::Npy, VectorFormat::Safetensors, VectorFormat::Parquet];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            VectorFormat::Jsonl => "jsonl",
            VectorFormat::Npy => "npy",
            VectorFormat::Safetensors => "safetensors",
            VectorFormat::Parquet => "parquet",
        }
    }

    /// What the end of a file's name says.
    pub fn of_path(path: &Path) -> Option<VectorFormat> {
        Some(match extension(path)?.as_str() {
            "jsonl" | "ndjson" => VectorFormat::Jsonl,
            "npy" => VectorFormat::Npy,
            "safetensors" => VectorFormat::Safetensors,
            "parquet" | "pq" => VectorFormat::Parquet,
            _ => return None,
        })
    }
}

impl FromStr for TextFormat {
    type Err = String;
    fn from_str(name: &str) -> Result<TextFormat, String> {
        named(&TextFormat::ALL, TextFormat::name, name)
    }
}

impl FromStr for VectorFormat {
    type Err = String;
    fn from_str(name: &str) -> Result<VectorFormat, String> {
        named(&VectorFormat::ALL, VectorFormat::name, name)
    }
}

fn named<T: Copy>(all: &[T], name_of: impl Fn(T) -> &'static str, name: &str) -> Result<T, String> {
    all.iter().copied().find(|&format| name_of(format).eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&format| name_of(format)).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_tell() {
        assert_eq!(TextFormat::of_path(Path::new("a.NDJSON")), TextFormat::Jsonl);
        assert_eq!(TextFormat::of_path(Path::new("a.b.tsv")), TextFormat::Tsv);
        assert_eq!(TextFormat::of_path(Path::new("README")), TextFormat::Lines);
        assert_eq!(VectorFormat::of_path(Path::new("x.npy")), Some(VectorFormat::Npy));
        assert_eq!(VectorFormat::of_path(Path::new("x.txt")), None);
        for format in TextFormat::ALL {
            assert_eq!(format.name().to_uppercase().parse(), Ok(format));
        }
        for format in VectorFormat::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!("npz".parse::<VectorFormat>().unwrap_err(), "expected one of jsonl, npy, safetensors, parquet");
    }
}
