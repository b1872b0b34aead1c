//! RoPE parameters as checkpoints spell them.
//!
//! Hugging Face wrote `rope_theta` and `rope_scaling` (with `rope_type`, earlier `type`), and since transformers 5 one
//! `rope_parameters`; GGUF has `<arch>.rope.*` keys and, for Llama 3, a tensor of factors.

use rlx_flow::{RopeScaling, RopeSpec, Yarn};
use rlx_weights::Checkpoint;

use crate::{CoreError, HfConfig};

/// The RoPE of a Hugging Face config, over `rotary_dim` elements of each head.
///
/// # Errors
/// If a field is missing or wrong, or the scaling is of an unknown kind.
pub fn rope_from_hf(config: &HfConfig<'_>, rotary_dim: usize) -> Result<RopeSpec, CoreError> {
    let parameters = config.object("rope_parameters");
    let scaling = parameters.or_else(|| config.object("rope_scaling"));
    let theta = match parameters.map(|p| p.f64("rope_theta")).transpose()?.flatten() {
        Some(theta) => theta,
        None => config.f64("rope_theta")?.unwrap_or(10_000.0),
    };
    rope_scaled(config, theta, scaling, rotary_dim)
}

/// The RoPE of the layers of type `layer_type` (`full_attention`, `sliding_attention`) of a Hugging Face config that has one
/// for each: keyed by type in `rope_parameters`, or `rope_theta` with `rope_scaling` for the one and `rope_local_base_freq` for
/// the other. `default_theta` is for configs that leave the base out.
///
/// # Errors
/// As [`rope_from_hf`].
pub fn rope_of_layer_type(
    config: &HfConfig<'_>,
    layer_type: &str,
    default_theta: f64,
    rotary_dim: usize,
) -> Result<RopeSpec, CoreError> {
    let parameters = config.object("rope_parameters").and_then(|all| all.object(layer_type));
    let (theta, scaling) = match (parameters, layer_type) {
        (Some(parameters), _) => (parameters.f64("rope_theta")?, Some(parameters)),
        (None, "sliding_attention") => (config.f64("rope_local_base_freq")?, None),
        (None, _) => (config.f64("rope_theta")?, config.object("rope_scaling")),
    };
    rope_scaled(config, theta.unwrap_or(default_theta), scaling, rotary_dim)
}

fn rope_scaled(
    config: &HfConfig<'_>,
    theta: f64,
    scaling: Option<HfConfig<'_>>,
    rotary_dim: usize,
) -> Result<RopeSpec, CoreError> {
    let scaling = match scaling {
        Some(scaling) => scaling_from_hf(config, &scaling)?,
        None => RopeScaling::None,
    };
    Ok(RopeSpec::new(theta, rotary_dim, &scaling)?)
}

fn scaling_from_hf(config: &HfConfig<'_>, scaling: &HfConfig<'_>) -> Result<RopeScaling, CoreError> {
    let kind = match scaling.str("rope_type")? {
        Some(kind) => kind,
        None => scaling.str("type")?.unwrap_or("default"),
    };
    let required = |key: &str| -> Result<f64, CoreError> {
        scaling.f64(key)?.ok_or_else(|| CoreError::Config(format!("rope scaling `{kind}` needs {key}")))
    };
    let max_positions = || config.require_usize("max_position_embeddings");
    let original = || -> Result<usize, CoreError> {
        match scaling.usize("original_max_position_embeddings")? {
            Some(n) => Ok(n),
            None => match config.usize("original_max_position_embeddings")? {
                Some(n) => Ok(n),
                None => max_positions(),
            },
        }
    };
    Ok(match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required("factor")? },
        "dynamic" => RopeScaling::Dynamic { factor: required("factor")?, max_positions: max_positions()? },
        "yarn" => {
            let default = Yarn::new(required("factor")?, original()?);
            RopeScaling::Yarn(Yarn {
                beta_fast: scaling.f64("beta_fast")?.unwrap_or(default.beta_fast),
                beta_slow: scaling.f64("beta_slow")?.unwrap_or(default.beta_slow),
                attention_factor: scaling.f64("attention_factor")?,
                mscale: scaling.f64("mscale")?,
                mscale_all_dim: scaling.f64("mscale_all_dim")?,
                truncate: scaling.bool("truncate")?.unwrap_or(true),
                ..default
            })
        }
        "llama3" => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_max_positions: original()?,
        },
        other => {
            return Err(CoreError::Config(format!(
                "rope scaling `{other}` is not supported (supported: default, linear, dynamic, yarn, llama3)"
            )));
        }
    })
}

/// The RoPE of a GGUF file, over `rotary_dim` elements of each head.
///
/// # Errors
/// If a key is wrong, or the scaling is of an unknown kind.
pub fn rope_from_gguf(checkpoint: &Checkpoint, rotary_dim: usize) -> Result<RopeSpec, CoreError> {
    let Some(metadata) = checkpoint.gguf() else {
        return Err(CoreError::Config("not a GGUF file".into()));
    };
    let number = |suffix: &str| metadata.get_f64(&metadata.arch_key(suffix));
    let theta = number("rope.freq_base").unwrap_or(10_000.0);
    // llama.cpp writes the factor beside the type, older converters alone.
    let factor = number("rope.scaling.factor").or_else(|| number("rope.scale_linear")).unwrap_or(1.0);
    let original = metadata
        .get_u64(&metadata.arch_key("rope.scaling.original_context_length"))
        .or_else(|| metadata.get_u64(&metadata.arch_key("context_length")));
    let kind = metadata.get_str(&metadata.arch_key("rope.scaling.type"));
    let scaling = if let Some(factors) = checkpoint.tensor("rope_freqs.weight") {
        RopeScaling::Factors(factors.to_f32()?)
    } else {
        match kind {
            None if factor != 1.0 && factor != 0.0 => RopeScaling::Linear { factor },
            None | Some("none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor },
            Some("yarn") => {
                let original = original.and_then(|n| usize::try_from(n).ok());
                let original =
                    original.ok_or_else(|| CoreError::Config("YaRN needs the original context length".into()))?;
                let default = Yarn::new(factor, original);
                RopeScaling::Yarn(Yarn {
                    beta_fast: number("rope.scaling.yarn_beta_fast").unwrap_or(default.beta_fast),
                    beta_slow: number("rope.scaling.yarn_beta_slow").unwrap_or(default.beta_slow),
                    // The key holds a factor on top of YaRN's own.
                    attention_factor: number("rope.scaling.yarn_attn_factor")
                        .or_else(|| number("rope.scaling.attn_factor"))
                        .map(|extra| extra * (0.1 * factor.max(1.0).ln() + 1.0)),
                    ..default
                })
            }
            Some(other) => {
                return Err(CoreError::Config(format!(
                    "rope scaling `{other}` is not supported (supported: none, linear, yarn)"
                )));
            }
        }
    };
    Ok(RopeSpec::new(theta, rotary_dim, &scaling)?)
}
