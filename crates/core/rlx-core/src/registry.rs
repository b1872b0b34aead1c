//! Which families there are, and which of them a checkpoint belongs to.

use std::collections::BTreeSet;

use rlx_flow::DecoderSpec;
use rlx_ir::Graph;
use rlx_weights::names::{MapOptions, NameRule, WeightMap};
use rlx_weights::{Checkpoint, TensorView};

use crate::network::take_params;
use crate::{CoreError, GgufHeader, LoadOptions, NamedTensors, StoredModel, Trace};

/// A decoder-only language model read from a checkpoint's config: what it computes, and where its weights are.
#[derive(Clone, Debug)]
pub struct DecoderModel {
    /// The mathematics.
    pub spec: DecoderSpec,
    /// Longest sequence the model was made for, in tokens.
    pub context_length: usize,
    /// Canonical names, GGUF names and transforms of every tensor.
    pub rules: Vec<NameRule>,
    /// Other spellings of the beginning of canonical names in Hugging Face checkpoints; see
    /// [`MapOptions::prefixes`](rlx_weights::names::MapOptions::prefixes).
    pub prefixes: &'static [(&'static str, &'static str)],
}

impl DecoderModel {
    /// Dim of the heads of the first layer, which [`Transform::LlamaRopePermute`](rlx_weights::names::Transform) goes by.
    pub fn head_dim(&self) -> usize {
        self.spec.layers.first().map_or(0, |layer| layer.attention.head_dim)
    }

    /// What the name table needs to know of the model.
    pub(crate) fn map_options(&self) -> MapOptions<'static> {
        MapOptions {
            layers: self.spec.layers.len(),
            experts: self.spec.experts(),
            head_dim: self.head_dim(),
            prefixes: self.prefixes,
        }
    }

    /// The checkpoint's tensors by this model's names, and of them the parameters of `graph`, in its order.
    ///
    /// # Errors
    /// If one is missing or of another shape.
    pub fn weights(&self, checkpoint: &Checkpoint, graph: &Graph) -> Result<(WeightMap, Vec<TensorView>), CoreError> {
        let mut weights = WeightMap::new(checkpoint, &self.rules, &self.map_options())?;
        let params = take_params(&mut weights, graph)?;
        Ok((weights, params))
    }
}

/// For [`DecoderModel::prefixes`]: checkpoints saved of the base model, without `lm_head`, leave `model.` out.
pub const BASE_MODEL_PREFIXES: &[(&str, &str)] = &[("model.", "")];

/// A family of models: declared facts, and how to read one from a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name of the subcommand and of the crate without `rlx-`: `llama32`.
    pub name: &'static str,
    /// The models in a few words.
    pub about: &'static str,
    /// Values of `general.architecture` in GGUF files.
    pub gguf_architectures: &'static [&'static str],
    /// Values of `model_type` in `config.json`.
    pub hf_model_types: &'static [&'static str],
    /// What the models do, and how one is read.
    pub task: Task,
}

/// What the models of a family do.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Decoder-only language models, which [`CausalLm`](crate::CausalLm) runs.
    Decoder {
        /// Reads the model.
        load: fn(&Checkpoint) -> Result<DecoderModel, CoreError>,
        /// Says what a GGUF file of the model must say.
        to_gguf: fn(&Checkpoint) -> Result<GgufHeader, CoreError>,
    },
    /// Models of another kind, with a runner of their own. Common to all are a reading of the config and one pass on named tensors.
    Network {
        /// Reads the config and finds what is missing or impossible, without touching weights.
        check: fn(&Checkpoint) -> Result<(), CoreError>,
        /// Loads the model and runs it once: `in.*` to `out.*`, named and shaped as the reference class has them. Records what it is
        /// asked to.
        forward: fn(&Checkpoint, &LoadOptions, &NamedTensors, &mut Trace) -> Result<NamedTensors, CoreError>,
        /// GGUF files of the models; none if there are no such files.
        gguf: Option<GgufForm>,
    },
}

/// GGUF files of the models of a family that is no decoder.
#[derive(Clone, Copy, Debug)]
pub struct GgufForm {
    /// Says what a GGUF file of the model holds.
    pub stored: fn(&Checkpoint) -> Result<StoredModel, CoreError>,
    /// Outputs of the reference class, without `out.`, whose weights llama.cpp's converter leaves out of the file.
    pub without: &'static [&'static str],
}

impl Family {
    /// Reads a language model.
    ///
    /// # Errors
    /// If the family has none, or the config is incomplete or impossible.
    pub fn decoder(&self, checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
        match self.task {
            Task::Decoder { load, .. } => load(checkpoint),
            Task::Network { .. } => Err(CoreError::NoDecoder { family: self.name.to_string() }),
        }
    }

    /// Reads the config and finds what is missing or impossible.
    ///
    /// # Errors
    /// What was found.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), CoreError> {
        match self.task {
            Task::Decoder { load, .. } => load(checkpoint).map(drop),
            Task::Network { check, .. } => check(checkpoint),
        }
    }

    /// Outputs that a GGUF file of the models cannot give; see [`GgufForm::without`].
    pub fn not_in_gguf(&self) -> &'static [&'static str] {
        match self.task {
            Task::Network { gguf: Some(form), .. } => form.without,
            _ => &[],
        }
    }

    /// Whether a checkpoint of this architecture (GGUF name or Hugging Face model type) is of this family.
    pub fn takes(&self, checkpoint: &Checkpoint) -> bool {
        let Some(architecture) = checkpoint.architecture() else { return false };
        let known = if checkpoint.gguf().is_some() { self.gguf_architectures } else { self.hf_model_types };
        known.contains(&architecture)
    }
}

/// The families that a program knows.
#[derive(Clone, Debug, Default)]
pub struct Families {
    families: Vec<Family>,
}

impl Families {
    /// No families.
    pub fn new() -> Families {
        Families::default()
    }

    /// Adds a family; one of the same name is replaced.
    pub fn register(&mut self, family: Family) {
        self.families.retain(|known| known.name != family.name);
        self.families.push(family);
    }

    /// All families, in the order of registration.
    pub fn iter(&self) -> impl Iterator<Item = &Family> {
        self.families.iter()
    }

    /// The family of this name.
    pub fn get(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// The family that a checkpoint belongs to.
    ///
    /// # Errors
    /// If the checkpoint does not say what it is, or no family takes it.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<&Family, CoreError> {
        let Some(architecture) = checkpoint.architecture() else {
            return Err(CoreError::NoArchitecture { path: checkpoint.path().to_path_buf() });
        };
        self.families.iter().find(|family| family.takes(checkpoint)).ok_or_else(|| {
            let gguf = checkpoint.gguf().is_some();
            let names = |family: &Family| if gguf { family.gguf_architectures } else { family.hf_model_types };
            // Two families may share an architecture, and tell their checkpoints apart by other marks.
            let supported: BTreeSet<&str> = self.families.iter().flat_map(names).copied().collect();
            let supported = Vec::from_iter(supported).join(", ");
            CoreError::UnknownArchitecture { architecture: architecture.to_string(), supported }
        })
    }

    /// The family `name`, if `checkpoint` belongs to it; otherwise an error that names the one it belongs to.
    ///
    /// # Errors
    /// As [`Families::find`], and if the checkpoint is of another family.
    pub fn expect(&self, name: &str, checkpoint: &Checkpoint) -> Result<&Family, CoreError> {
        match self.get(name) {
            Some(family) if family.takes(checkpoint) => Ok(family),
            _ => {
                let found = self.find(checkpoint)?;
                Err(CoreError::OtherFamily {
                    architecture: checkpoint.architecture().unwrap_or_default().to_string(),
                    family: found.name.to_string(),
                })
            }
        }
    }
}
