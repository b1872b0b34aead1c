//! A weight format of one's own: after `register_format` every command opens `.f32` files, which hold lines
//! `name dim,dim,... value value ...`.
//!
//! ```text
//! printf 'model.norm.weight 3 1 2 3\n' > tiny.f32
//! cargo run --release -p rlx-models --example custom_weight_format -- inspect tiny.f32
//! ```

use std::path::Path;
use std::process::ExitCode;

use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::{Checkpoint, CustomFormat, TensorView, WeightsError, register_format};

struct PlainText;

impl CustomFormat for PlainText {
    fn name(&self) -> &str {
        "plain-text"
    }

    fn extensions(&self) -> &[&str] {
        &["f32"]
    }

    fn open(&self, path: &Path) -> Result<Checkpoint, WeightsError> {
        let bad = |what: String| WeightsError::Format { path: path.to_owned(), what };
        let text =
            std::fs::read_to_string(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        let mut tensors = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(dims)) = (words.next(), words.next()) else { continue };
            let shape: Result<Vec<usize>, _> = dims.split(',').map(str::parse).collect();
            let shape = shape.map_err(|e| bad(format!("line {}: dims: {e}", number + 1)))?;
            let mut bytes = Vec::new();
            for word in words {
                let value: f32 = word.parse().map_err(|e| bad(format!("line {}: {e}", number + 1)))?;
                bytes.extend(value.to_le_bytes());
            }
            tensors.push(TensorView::new(name.to_owned(), DType::F32, shape, Bytes::copy_from(&bytes))?);
        }
        Checkpoint::custom(self.name(), path, vec![path.to_owned()], tensors)
    }
}

fn main() -> ExitCode {
    if let Err(error) = register_format(Box::new(PlainText)) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    rlx_models::run(std::env::args_os())
}
