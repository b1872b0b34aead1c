//! Models of random weights, made in memory.

use std::path::Path;

use rlx_flow::Taps;
use rlx_ir::{DType, Param};
use rlx_mem::Bytes;
use rlx_runtime::Precision;
use rlx_weights::gguf::GgufWriter;
use rlx_weights::names::{gguf_tensors, match_pattern};
use rlx_weights::{Checkpoint, GgufMetadata, TensorView};
use serde_json::Value;

use super::Random;
use crate::{CausalLm, CoreError, DecoderModel, Family, LoadOptions};

/// A model of a family with seeded random weights. No norm weight is 1 and no bias 0, so that a forgotten one shows.
///
/// Methods panic where a test should fail.
pub struct TinyModel {
    family: Family,
    config: Value,
    tensors: Vec<TensorView>,
}

impl TinyModel {
    /// The model that `config` (a `config.json`) describes.
    pub fn new(family: &Family, config: &Value, seed: u64) -> TinyModel {
        let params = decoder(family, config).spec.build(Taps::None).expect("the config describes a model");
        let mut random = Random::new(seed);
        let tensors = params.params().iter().map(|param| tensor(param, &mut random)).collect();
        TinyModel { family: *family, config: config.clone(), tensors }
    }

    /// The same model with each matrix rounded to the first of `types` whose blocks divide its rows. With `expanded` the
    /// rounded values are stored as F32.
    pub fn rounded(&self, types: &[DType], expanded: bool) -> TinyModel {
        let convert = |tensor: &TensorView| {
            let fits = |dtype: &&DType| tensor.row_len().is_multiple_of(dtype.block_len());
            let dtype = types.iter().find(fits).filter(|_| tensor.shape.len() == 2);
            let Some(&dtype) = dtype else { return tensor.clone() };
            let values = tensor.to_f32().expect("F32 tensors convert");
            let rounded = cast(&tensor.name, dtype, &tensor.shape, &values);
            if !expanded {
                return rounded;
            }
            view(&tensor.name, DType::F32, &tensor.shape, &f32_bytes(&rounded.to_f32().expect("can be expanded")))
        };
        TinyModel { tensors: self.tensors.iter().map(convert).collect(), ..self.part() }
    }

    /// The same model with tensors under the given names that belong to nothing in it.
    pub(super) fn with_extra(&self, names: &[String]) -> TinyModel {
        let extra = names.iter().map(|name| view(name, DType::F32, &[2, 3], &f32_bytes(&[f32::NAN; 6])));
        TinyModel { tensors: self.tensors.iter().cloned().chain(extra).collect(), ..self.part() }
    }

    /// Loads the model, or says why not.
    pub(super) fn try_load(&self) -> Result<CausalLm, CoreError> {
        CausalLm::load(&self.checkpoint(), &self.family, &exact(2))
    }

    /// Layers of the model.
    pub(super) fn layers(&self) -> usize {
        decoder(&self.family, &self.config).spec.layers.len()
    }

    fn part(&self) -> TinyModel {
        TinyModel { family: self.family, config: self.config.clone(), tensors: vec![] }
    }

    /// The `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The tensors under their canonical names.
    pub fn tensors(&self) -> &[TensorView] {
        &self.tensors
    }

    /// The checkpoint as Hugging Face would publish it.
    pub fn checkpoint(&self) -> Checkpoint {
        checkpoint(self.tensors.clone()).with_config(self.config.clone())
    }

    /// The same weights as GGUF names, orders and stacks them.
    pub fn gguf_tensors(&self) -> Vec<TensorView> {
        let model = decoder(&self.family, &self.config);
        let head_dim = model.spec.layers[0].attention.head_dim;
        let canonical = |tensor: &TensorView| {
            let mut rules = model.rules.iter();
            let rule = rules.find(|rule| match_pattern(rule.canonical, &tensor.name).is_some());
            let rule = rule.unwrap_or_else(|| panic!("{} is not in the name table", tensor.name));
            rule.hf_transform.to_canonical(tensor, head_dim, 0).expect("tensors are of the transform's shape")
        };
        let params: Vec<TensorView> = self.tensors.iter().map(canonical).collect();
        gguf_tensors(&model.rules, &params, head_dim).expect("every parameter has a GGUF name")
    }

    /// The checkpoint as a GGUF file with `metadata`.
    pub fn gguf_checkpoint(&self, metadata: GgufMetadata) -> Checkpoint {
        checkpoint(self.gguf_tensors()).with_gguf(metadata)
    }

    /// Writes the model as a GGUF file.
    pub fn write_gguf(&self, path: &Path, metadata: GgufMetadata) {
        let tensors = self.gguf_tensors();
        let mut writer = GgufWriter::from_metadata(metadata);
        for tensor in &tensors {
            writer.add_tensor(&tensor.name, tensor.dtype, &tensor.shape).expect("a new tensor");
        }
        let mut stream = writer.create(path).expect("the file can be created");
        for tensor in &tensors {
            stream.write(&tensor.data).expect("the file can be written");
        }
        stream.finish().expect("all data were written");
    }

    /// Writes `model.safetensors` and `config.json` into `dir`.
    pub fn write_safetensors(&self, dir: &Path) {
        let entries: Vec<_> =
            self.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), &*t.data)).collect();
        rlx_weights::safetensors_file::write_safetensors(&dir.join("model.safetensors"), &entries)
            .expect("the file can be written");
        std::fs::write(dir.join("config.json"), self.config.to_string()).expect("the file can be written");
    }

    /// The model, computing in exact F32 on two threads.
    pub fn load(&self) -> CausalLm {
        self.load_with(&exact(2))
    }

    /// The model by `options`.
    pub fn load_with(&self, options: &LoadOptions) -> CausalLm {
        CausalLm::load(&self.checkpoint(), &self.family, options).expect("a tiny model loads")
    }
}

/// F32 arithmetic on `threads` threads.
pub(super) fn exact(threads: usize) -> LoadOptions {
    let mut options = LoadOptions::default();
    options.compile.threads = threads;
    options.compile.precision = Precision::F32;
    options
}

fn decoder(family: &Family, config: &Value) -> DecoderModel {
    family.decoder(&checkpoint(vec![]).with_config(config.clone())).expect("the config describes a model")
}

pub(super) fn checkpoint(tensors: Vec<TensorView>) -> Checkpoint {
    Checkpoint::custom("memory", Path::new("tiny"), vec![], tensors).expect("no name comes twice")
}

fn tensor(param: &Param, random: &mut Random) -> TensorView {
    let count = param.shape.iter().product();
    let width = param.shape.last().copied().unwrap_or(1) as f32;
    let (mean, deviation) = match (param.shape.len(), param.name.ends_with("bias")) {
        (1, true) => (0.0, 0.2),
        (1, false) => (1.0, 0.3),
        _ if param.name.contains("embed") => (0.0, 1.0),
        // Products keep the size of what they are made from, somewhat enlarged.
        _ => (0.0, 1.2 / width.sqrt()),
    };
    let values: Vec<f32> = (0..count).map(|_| mean + deviation * random.normal()).collect();
    view(&param.name, DType::F32, &param.shape, &f32_bytes(&values))
}

fn cast(name: &str, dtype: DType, shape: &[usize], values: &[f32]) -> TensorView {
    let mut bytes = vec![0; dtype.bytes_for(values.len()).expect("whole blocks")];
    rlx_quant::quantize(dtype, values, &mut bytes).expect("the type has a quantiser");
    view(name, dtype, shape, &bytes)
}

fn view(name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> TensorView {
    TensorView::new(name.to_string(), dtype, shape.to_vec(), Bytes::copy_from(bytes)).expect("bytes fit the shape")
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
