//! Which families there are, and which of them a checkpoint belongs to.

use rlx_flow::DecoderSpec;
use rlx_weights::Checkpoint;
use rlx_weights::names::NameRule;

use crate::CoreError;

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
    /// Reads the model.
    pub load: fn(&Checkpoint) -> Result<DecoderModel, CoreError>,
}

impl Family {
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
            let supported = self.families.iter().flat_map(names).copied().collect::<Vec<_>>().join(", ");
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
