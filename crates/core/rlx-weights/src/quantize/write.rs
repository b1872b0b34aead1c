//! Carrying a plan out.

use std::fs::File;
use std::io::BufWriter;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Mutex;

use rlx_ir::DType;

use super::plan::{Plan, PlannedTensor};
use crate::WeightsError;
use crate::gguf::{GgufStream, GgufWriter};
use crate::names::StoredTensor;
use crate::replace_file;

/// Told how many bytes of the source are done, of how many; may ask to stop.
pub type Progress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// Elements that are converted between two writes: bounds the memory.
const SLAB: usize = 4 << 20;
/// Elements that a thread converts at a time.
const CHUNK: usize = 32 << 10;

impl Plan {
    /// Writes the file, with `threads` threads, and gives its length. It is there as a whole or not at all.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; [`WeightsError::Usage`] if there is a file already and `overwrite` is false;
    /// [`WeightsError::Interrupted`] if `progress` asked to stop; [`WeightsError::Dtype`] for tensors that cannot be dequantised.
    pub fn write(
        &self,
        path: &Path,
        overwrite: bool,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<u64, WeightsError> {
        if !overwrite && path.exists() {
            return Err(WeightsError::Usage(format!("{}: there is such a file; --force replaces it", path.display())));
        }
        let mut writer = GgufWriter::from_metadata(self.metadata.clone());
        for planned in &self.tensors {
            writer.add_tensor(&planned.tensor.name, planned.dtype, &planned.tensor.shape)?;
        }
        let total = self.tensors.iter().map(|planned| planned.tensor.bytes() as u64).sum();
        replace_file(path, |unfinished| {
            let mut stream = writer.create(unfinished)?;
            let mut done = 0;
            for planned in &self.tensors {
                let tensor = &planned.tensor;
                let slab = (SLAB / tensor.row_len().max(1)).max(1);
                let rows = tensor.rows();
                for start in (0..rows).step_by(slab) {
                    let end = (start + slab).min(rows);
                    write_rows(planned, start..end, threads, &mut stream)?;
                    let here = done + (tensor.bytes() as u128 * end as u128 / rows as u128) as u64;
                    if progress(here, total).is_break() {
                        return Err(WeightsError::Interrupted { path: path.to_path_buf() });
                    }
                }
                done += tensor.bytes() as u64;
                tensor.release();
            }
            let file = stream.finish()?;
            Ok(file.get_ref().metadata().map_err(|source| WeightsError::io(path, source))?.len())
        })
    }
}

fn write_rows(
    planned: &PlannedTensor,
    rows: Range<usize>,
    threads: usize,
    stream: &mut GgufStream<BufWriter<File>>,
) -> Result<(), WeightsError> {
    let tensor = &planned.tensor;
    let mut out = Vec::new();
    if planned.dtype == tensor.dtype {
        tensor.read(rows, &mut out);
        return stream.write(&out);
    }
    let row_bytes = planned.dtype.bytes_for(tensor.row_len()).unwrap_or(0);
    out.resize(rows.len() * row_bytes, 0);
    let chunk = (CHUNK / tensor.row_len().max(1)).max(1);
    let chunks = rows.clone().step_by(chunk).map(|start| start..(start + chunk).min(rows.end));
    let work = Mutex::new(chunks.zip(out.chunks_mut((chunk * row_bytes).max(1))));
    let failed = Mutex::new(None);
    let worker = || {
        let mut values = Vec::new();
        loop {
            // Nothing panics while the lock is held.
            let Some((rows, out)) = work.lock().ok().and_then(|mut work| work.next()) else { return };
            if let Err(error) = pack(planned, rows, &mut values, out) {
                if let Ok(mut failed) = failed.lock() {
                    *failed = Some(error);
                }
                return;
            }
        }
    };
    let needed = rows.len().div_ceil(chunk).min(threads.max(1));
    std::thread::scope(|scope| {
        for _ in 1..needed {
            scope.spawn(worker);
        }
        worker();
    });
    match failed.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => stream.write(&out),
    }
}

/// Converts some rows. Those of one matrix share their importance.
fn pack(
    planned: &PlannedTensor,
    rows: Range<usize>,
    values: &mut Vec<f32>,
    mut out: &mut [u8],
) -> Result<(), WeightsError> {
    let PlannedTensor { tensor, dtype, importance, .. } = planned;
    let (columns, per_matrix) = (tensor.row_len(), tensor.rows_per_matrix().max(1));
    let row_bytes = dtype.bytes_for(columns).unwrap_or(0);
    let mut start = rows.start;
    while start < rows.end {
        let matrix = start / per_matrix;
        let end = if importance.is_some() { rows.end.min((matrix + 1) * per_matrix) } else { rows.end };
        values.resize((end - start) * columns, 0.0);
        tensor.read_f32(start..end, values)?;
        let (here, rest) = out.split_at_mut((end - start) * row_bytes);
        let importance = importance.as_ref().map(|all| &all[matrix * columns..(matrix + 1) * columns]);
        convert(tensor, *dtype, values, importance, here)?;
        out = rest;
        start = end;
    }
    Ok(())
}

fn convert(
    tensor: &StoredTensor,
    dtype: DType,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), WeightsError> {
    let fail = |what: String| WeightsError::Dtype { tensor: tensor.name.clone(), dtype, what };
    // A block of such values would be nonsense as a whole.
    if dtype.is_block() && !values.iter().all(|x| x.is_finite()) {
        return Err(fail("it holds values that are not finite".into()));
    }
    rlx_quant::quantize_with_importance(dtype, values, tensor.row_len(), importance, out)
        .map_err(|error| fail(error.to_string()))
}
