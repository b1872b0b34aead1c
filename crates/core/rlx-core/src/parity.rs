//! Comparing a model's outputs with recorded ones of a reference implementation.
//!
//! A fixture is a directory: `config.json` and weights, `expected.safetensors` with inputs (`in.*`) and outputs (`out.*`;
//! `out.f64.X`, where present, is the reference for `out.X`), `meta.json` with the tolerances. The model is run once for each
//! form its directory holds it in: `config.json`, `config.hub.json` (another spelling of the same), `model.f32.gguf`.

use std::fs;
use std::path::{Path, PathBuf};

use rlx_weights::{Checkpoint, OpenOptions, WeightsError};
use serde_json::Value;

use crate::{
    CoreError, Families, ForwardOptions, LoadOptions, NamedTensor, NamedTensors, TensorData, Trace, read_tensors,
};

/// Tolerance for tensors that `meta.json` gives none for, as a share of the largest expected magnitude.
const DEFAULT_RELATIVE_TOLERANCE: f64 = 2e-5;

/// Tolerance of log-mel spectrograms without one in `meta.json`: they were recorded from an f32 Fourier transform, whose rounding in
/// quiet bands moves the logarithm by up to 2.6e-5 (against the same computed in f64), whatever the magnitude of the others.
const LOG_MEL_TOLERANCE: f64 = 4e-5;

/// The sound that spectrograms were recorded of. It stands among the outputs, since the network does not take it, but is an input.
const SOUND: &str = "out.wav16k";

/// How the outputs of one fixture compare.
#[derive(Clone, Debug)]
pub struct ParityReport {
    /// The fixture's directory.
    pub dir: PathBuf,
    /// One per form of the model.
    pub cases: Vec<ParityCase>,
}

/// How the outputs of one form of the model compare.
#[derive(Clone, Debug)]
pub struct ParityCase {
    /// `config.json`, `config.hub.json` or `model.f32.gguf`.
    pub name: String,
    /// One per expected tensor; or why the model did not run.
    pub rows: Result<Vec<ParityRow>, String>,
}

/// How one tensor compares.
#[derive(Clone, Debug)]
pub struct ParityRow {
    /// Its name without `out.`.
    pub tensor: String,
    /// Expected shape.
    pub shape: Vec<usize>,
    /// The figures; none if the model does not give the tensor, or gives another shape.
    pub errors: Option<Errors>,
    /// Largest allowed absolute error; 0 for whole numbers.
    pub tolerance: f64,
    /// What is wrong, if something is.
    pub miss: Option<String>,
}

/// Distance of two tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Squared error over squared magnitude.
    pub nmse: f64,
    /// Cosine of the angle between them.
    pub cosine: f64,
}

impl ParityReport {
    /// Whether every tensor of every form is within its tolerance.
    pub fn passed(&self) -> bool {
        self.cases.iter().all(ParityCase::passed)
    }

    /// What is wrong, one line each.
    pub fn misses(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for case in &self.cases {
            match &case.rows {
                Err(error) => lines.push(format!("{}: {error}", case.name)),
                Ok(rows) => {
                    lines.extend(rows.iter().filter_map(|row| {
                        row.miss.as_ref().map(|miss| format!("{}: {}: {miss}", case.name, row.tensor))
                    }))
                }
            }
        }
        lines
    }
}

impl ParityCase {
    /// Whether the model ran and every tensor is within its tolerance.
    pub fn passed(&self) -> bool {
        self.rows.as_ref().is_ok_and(|rows| rows.iter().all(|row| row.miss.is_none()))
    }
}

impl Errors {
    /// Distance of `found` from `expected`, which have the same length. A NaN in either makes every figure NaN.
    pub fn between(found: &[f32], expected: &[f32]) -> Errors {
        let (mut max_abs, mut squares, mut found_norm, mut expected_norm, mut dot) = (0.0f64, 0.0, 0.0, 0.0, 0.0);
        for (&f, &e) in found.iter().zip(expected) {
            let (f, e) = (f64::from(f), f64::from(e));
            // Equal infinities (masked scores) are no error.
            let difference = if f == e { 0.0 } else { (f - e).abs() };
            if difference.is_nan() {
                return Errors { max_abs: f64::NAN, nmse: f64::NAN, cosine: f64::NAN };
            }
            max_abs = max_abs.max(difference);
            squares += difference * difference;
            found_norm += f * f;
            expected_norm += e * e;
            dot += f * e;
        }
        let cosine = if found_norm == expected_norm && squares == 0.0 {
            1.0
        } else {
            dot / (found_norm.sqrt() * expected_norm.sqrt())
        };
        let nmse = if squares == 0.0 { 0.0 } else { squares / expected_norm };
        Errors { max_abs, nmse, cosine }
    }
}

/// Runs the model of fixture `dir` in all its forms and compares every expected output. `trace` gets what it asks for, the names of the
/// networks after the path of the form.
///
/// # Errors
/// If the fixture itself cannot be read. That the model cannot be is part of the report.
pub fn compare(
    dir: &Path,
    families: &Families,
    load: &LoadOptions,
    forward: &ForwardOptions,
    trace: &mut Trace,
) -> Result<ParityReport, CoreError> {
    let recorded = read_tensors(&dir.join("expected.safetensors"))?;
    let tolerances = read_json(&dir.join("meta.json"))?.unwrap_or(Value::Null);
    let inputs = inputs_of(&recorded);
    let greedy = match (recorded.get("out.greedy_ids"), recorded.get("in.input_ids")) {
        (Some(ids), Some(prompt)) => last_dim(ids).saturating_sub(last_dim(prompt)),
        _ => 0,
    };
    let forward = ForwardOptions { greedy, ..forward.clone() };
    let mut run = |form: &str, checkpoint: Result<Checkpoint, WeightsError>| -> Result<Vec<ParityRow>, CoreError> {
        let checkpoint = checkpoint?;
        let before = trace.networks.len();
        let found = crate::forward(&checkpoint, families, load, &inputs, &forward, trace)?;
        let of = dir.join(form);
        trace.networks[before..]
            .iter_mut()
            .for_each(|network| network.name = format!("{}: {}", of.display(), network.name));
        let absent = if checkpoint.gguf().is_some() { families.find(&checkpoint)?.not_in_gguf() } else { &[] };
        let rows = rows(&recorded, &found, &tolerances);
        Ok(rows.into_iter().filter(|row| !absent.contains(&row.tensor.as_str())).collect())
    };
    let mut cases = Vec::new();
    let mut add = |form: &str, checkpoint: Result<Checkpoint, WeightsError>| {
        let rows = run(form, checkpoint).map_err(|error| error.to_string());
        cases.push(ParityCase { name: form.to_string(), rows });
    };
    let open = |path: &Path| Checkpoint::open(path, &OpenOptions::default());
    add("config.json", open(dir));
    if let Some(config) = read_json(&dir.join("config.hub.json"))? {
        add("config.hub.json", open(dir).map(|checkpoint| checkpoint.with_config(config)));
    }
    let gguf = dir.join("model.f32.gguf");
    if gguf.exists() {
        add("model.f32.gguf", open(&gguf));
    }
    Ok(ParityReport { dir: dir.to_path_buf(), cases })
}

/// [`compare`] in exact F32 on all threads, for tests.
///
/// # Panics
/// With every miss listed, if there is one, or if the fixture cannot be read.
#[cfg(feature = "testing")]
pub fn check_fixture(dir: impl AsRef<Path>, families: &Families) {
    let mut load = LoadOptions::default();
    load.compile.precision = rlx_runtime::Precision::F32;
    let report = match compare(dir.as_ref(), families, &load, &ForwardOptions::default(), &mut Trace::default()) {
        Ok(report) => report,
        Err(error) => panic!("{}: {error}", dir.as_ref().display()),
    };
    assert!(!report.cases.is_empty());
    assert!(report.passed(), "{}:\n  {}", dir.as_ref().display(), report.misses().join("\n  "));
}

/// Converts the model of fixture `dir` from both spellings of its config and compares with its `model.f32.gguf`: every key and every
/// byte that llama.cpp's converter wrote must be there.
///
/// # Panics
/// With what differs, or if the fixture cannot be read.
#[cfg(feature = "testing")]
pub fn check_conversion(dir: impl AsRef<Path>, families: &Families) {
    use crate::{ConvertOptions, gguf_source};

    let dir = dir.as_ref();
    let open = |path: &Path| Checkpoint::open(path, &OpenOptions::default()).expect("the fixture is there");
    let reference = open(&dir.join("model.f32.gguf"));
    let wanted = reference.gguf().expect("it is a GGUF file");
    let hub = read_json(&dir.join("config.hub.json")).expect("the fixture can be read");
    for config in [None, hub] {
        let mut checkpoint = open(dir);
        if let Some(config) = config {
            checkpoint = checkpoint.with_config(config);
        }
        let options = ConvertOptions { name: wanted.get_str("general.name"), pre: None, no_tokenizer: true };
        let (source, _) = gguf_source(&checkpoint, families, &options).expect("the model can be converted");
        for (key, value) in wanted.iter() {
            // What the plan of a file adds.
            if !matches!(key, "general.file_type" | "general.quantization_version") {
                assert_eq!(source.metadata.get(key), Some(value), "{}: {key}", dir.display());
            }
        }
        assert_eq!(source.tensors.len(), reference.tensors().len(), "{}", dir.display());
        for tensor in source.tensors {
            let tensor = tensor.into_view().expect("it can be read");
            let Some(same) = reference.tensor(&tensor.name) else { panic!("{}: {}", dir.display(), tensor.name) };
            assert_eq!((tensor.dtype, &tensor.shape), (same.dtype, &same.shape), "{}", tensor.name);
            assert!(*tensor.data == *same.data, "{}: {} has other bytes", dir.display(), tensor.name);
        }
    }
}

/// The recorded inputs.
fn inputs_of(recorded: &NamedTensors) -> NamedTensors {
    let inputs = recorded.iter().filter(|(name, _)| name.starts_with("in."));
    let sound = recorded.get(SOUND).map(|tensor| (SOUND.replacen("out.", "in.", 1), tensor.clone()));
    inputs.map(|(name, tensor)| (name.clone(), tensor.clone())).chain(sound).collect()
}

/// One row per recorded output.
fn rows(recorded: &NamedTensors, found: &NamedTensors, meta: &Value) -> Vec<ParityRow> {
    let outputs = recorded.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("out.")?, tensor)));
    let mask = recorded.get("in.attention_mask");
    outputs
        .filter(|(name, _)| !name.starts_with("f64.") && SOUND.strip_prefix("out.") != Some(name))
        .map(|(name, tensor)| {
            let expected = recorded.get(&format!("out.f64.{name}")).unwrap_or(tensor);
            row(name, expected, found.get(&format!("out.{name}")), mask, meta)
        })
        .collect()
}

fn row(
    name: &str,
    expected: &NamedTensor,
    found: Option<&NamedTensor>,
    mask: Option<&NamedTensor>,
    meta: &Value,
) -> ParityRow {
    let mut row = ParityRow {
        tensor: name.to_string(),
        shape: expected.shape.clone(),
        errors: None,
        tolerance: tolerance(name, expected, meta),
        miss: None,
    };
    let Some(found) = found else {
        row.miss = Some("the model does not give it".into());
        return row;
    };
    if found.shape != expected.shape {
        row.miss = Some(format!("has shape {:?}, expected {:?}", found.shape, expected.shape));
        return row;
    }
    let errors = Errors::between(&without_padding(found, mask), &without_padding(expected, mask));
    row.errors = Some(errors);
    row.miss = match (&found.data, &expected.data) {
        (TensorData::I64(found), TensorData::I64(expected)) => {
            let at = found.iter().zip(expected).position(|(f, e)| f != e);
            at.map(|at| format!("element {at} is {}, expected {}", found[at], expected[at]))
        }
        // Written so that NaN misses.
        _ if errors.max_abs <= row.tolerance => None,
        _ => Some(format!("max abs error {:.3e} exceeds {:.3e}", errors.max_abs, row.tolerance)),
    };
    row
}

/// The elements of a tensor but those of tokens that are padding: reference classes compute something there that means nothing.
fn without_padding(tensor: &NamedTensor, mask: Option<&NamedTensor>) -> Vec<f32> {
    let values = tensor.to_f32();
    let Some(NamedTensor { shape, data: TensorData::I64(mask) }) = mask else { return values };
    if shape.len() != 2 || !tensor.shape.starts_with(shape) || mask.is_empty() {
        return values;
    }
    let rows = values.chunks_exact((values.len() / mask.len()).max(1));
    rows.zip(mask).filter(|(_, real)| **real != 0).flat_map(|(row, _)| row).copied().collect()
}

/// The tolerance of `meta.json`; the logits' for the logits of single steps; else a share of the largest magnitude.
fn tolerance(name: &str, expected: &NamedTensor, meta: &Value) -> f64 {
    let TensorData::F32(data) = &expected.data else { return 0.0 };
    let known = if name == "greedy_step_logits" { "logits" } else { name };
    let given = meta.get("tolerances").and_then(|t| t.get(known)).and_then(|t| t.get("suggested_atol"));
    let absmax = || data.iter().filter(|x| x.is_finite()).fold(0.0f64, |max, &x| max.max(f64::from(x.abs())));
    let default = || if name.starts_with("logmel") { LOG_MEL_TOLERANCE } else { absmax() * DEFAULT_RELATIVE_TOLERANCE };
    given.and_then(Value::as_f64).unwrap_or_else(default)
}

fn last_dim(tensor: &NamedTensor) -> usize {
    tensor.shape.last().copied().unwrap_or(0)
}

fn read_json(path: &Path) -> Result<Option<Value>, CoreError> {
    match fs::read(path) {
        Ok(bytes) => {
            let bad = |error| CoreError::Config(format!("{}: bad JSON: {error}", path.display()));
            serde_json::from_slice(&bytes).map(Some).map_err(bad)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CoreError::Config(format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let same = Errors::between(&[1.0, f32::NEG_INFINITY], &[1.0, f32::NEG_INFINITY]);
        assert_eq!(same.max_abs, 0.0);
        let zero = Errors::between(&[0.0], &[0.0]);
        assert_eq!((zero.max_abs, zero.nmse, zero.cosine), (0.0, 0.0, 1.0));
        let far = Errors::between(&[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!((far.max_abs, far.nmse, far.cosine), (1.0, 2.0, 0.0));
        assert!(Errors::between(&[f32::NAN], &[0.0]).max_abs.is_nan());
    }

    #[test]
    fn padding_is_not_compared() {
        let mut recorded = NamedTensors::new();
        recorded.insert("in.attention_mask".into(), NamedTensor::i64(&[2, 2], vec![1, 1, 0, 1]));
        recorded.insert("out.hidden.0".into(), NamedTensor::f32(&[2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]));
        recorded.insert("out.pooled".into(), NamedTensor::f32(&[2, 1], vec![1.0, 2.0]));
        let mut found = recorded.clone();
        found.insert("out.hidden.0".into(), NamedTensor::f32(&[2, 2, 1], vec![1.0, 2.0, 0.0, 4.0]));
        assert!(rows(&recorded, &found, &Value::Null).iter().all(|row| row.miss.is_none()));
        found.insert("out.hidden.0".into(), NamedTensor::f32(&[2, 2, 1], vec![1.0, 2.0, 3.0, 5.0]));
        found.insert("out.pooled".into(), NamedTensor::f32(&[2, 1], vec![0.0, 2.0]));
        assert!(rows(&recorded, &found, &Value::Null).iter().all(|row| row.miss.is_some()));
    }

    #[test]
    fn misses_are_told() {
        let meta = serde_json::json!({ "tolerances": { "logits": { "suggested_atol": 0.5 } } });
        let mut recorded = NamedTensors::new();
        recorded.insert("in.input_ids".into(), NamedTensor::i64(&[1, 2], vec![1, 2]));
        recorded.insert("out.logits".into(), NamedTensor::f32(&[2], vec![1.0, 9.0]));
        recorded.insert("out.f64.logits".into(), NamedTensor::f32(&[2], vec![1.0, 2.0]));
        recorded.insert("out.greedy_ids".into(), NamedTensor::i64(&[2], vec![1, 2]));
        recorded.insert("out.hidden.0".into(), NamedTensor::f32(&[2], vec![1.0, 2.0]));
        let mut found = NamedTensors::new();
        found.insert("out.logits".into(), NamedTensor::f32(&[2], vec![1.25, 2.0]));
        found.insert("out.greedy_ids".into(), NamedTensor::i64(&[2], vec![1, 3]));
        let rows = rows(&recorded, &found, &meta);
        let miss = |name: &str| rows.iter().find(|row| row.tensor == name).and_then(|row| row.miss.clone());
        assert_eq!(rows.len(), 3);
        assert_eq!(miss("logits"), None);
        assert_eq!(miss("greedy_ids").as_deref(), Some("element 1 is 3, expected 2"));
        assert_eq!(miss("hidden.0").as_deref(), Some("the model does not give it"));
        found.insert("out.logits".into(), NamedTensor::f32(&[2], vec![f32::NAN, 2.0]));
        assert!(super::rows(&recorded, &found, &meta).iter().all(|row| row.miss.is_some()));
    }
}
