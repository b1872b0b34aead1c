//! Rotary position embedding: frequencies and their scalings.
//!
//! Su et al. 2021; scalings as in `modeling_rope_utils.py` of Hugging Face transformers.

use std::f64::consts::PI;

use rlx_ir::{DynamicNtk, RopeStyle};

use crate::FlowError;

/// How RoPE reaches beyond the lengths it was trained on.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// NTK-aware, growing with the sequence.
    Dynamic {
        /// At least 1.
        factor: f64,
        /// Length up to which nothing changes.
        max_positions: usize,
    },
    /// YaRN (Peng et al. 2023).
    Yarn(Yarn),
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a smooth blend between.
    Llama3 {
        /// Divides the long wavelengths' frequencies.
        factor: f64,
        /// Wavelengths above `original_max_positions / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_positions / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Length the model was first trained on.
        original_max_positions: usize,
    },
    /// Frequencies divided by the given factors, one per pair: the `rope_freqs.weight` tensor of GGUF files.
    Factors(Vec<f32>),
}

/// Parameters of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// The scaling factor.
    pub factor: f64,
    /// Length the model was first trained on.
    pub original_max_positions: usize,
    /// Rotations above which a pair is kept; 32 by default.
    pub beta_fast: f64,
    /// Rotations below which a pair is interpolated; 1 by default.
    pub beta_slow: f64,
    /// Scales cosines and sines; by default `0.1 ln(factor) + 1`, or the ratio of the two mscales.
    pub attention_factor: Option<f64>,
    /// DeepSeek's numerator.
    pub mscale: Option<f64>,
    /// DeepSeek's denominator.
    pub mscale_all_dim: Option<f64>,
    /// Whether the correction range is rounded outwards to whole pairs; true by default.
    pub truncate: bool,
}

impl Yarn {
    /// YaRN with the default betas.
    pub fn new(factor: f64, original_max_positions: usize) -> Yarn {
        Yarn {
            factor,
            original_max_positions,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        }
    }

    /// The factor on cosines and sines.
    fn attention_factor(&self) -> f64 {
        let mscale = |m: f64| if self.factor <= 1.0 { 1.0 } else { 0.1 * m * self.factor.ln() + 1.0 };
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(factor), ..) => factor,
            (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => mscale(m) / mscale(all),
            _ => mscale(1.0),
        }
    }

    /// Inverse frequencies: high ones kept, low ones interpolated, a ramp between.
    fn inv_freq(&self, plain: &[f64], theta: f64) -> Vec<f64> {
        let dim = 2.0 * plain.len() as f64;
        let max = self.original_max_positions as f64;
        let correction = |rotations: f64| dim * (max / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (correction(self.beta_fast), correction(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, &f): (usize, &f64)| {
            let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / self.factor * interpolated + f * (1.0 - interpolated)
        };
        plain.iter().enumerate().map(blend).collect()
    }
}

/// One kind of RoPE of a model, ready to be tabulated.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Inverse frequency per turned pair, with scaling.
    pub inv_freq: Vec<f32>,
    /// For [`RopeScaling::Dynamic`].
    pub dynamic: Option<DynamicNtk>,
    /// Factor on cosines and sines.
    pub attention_factor: f32,
    /// Which elements turn together.
    pub style: RopeStyle,
    /// The base, before scaling.
    pub theta: f64,
    /// The scaling that [`RopeSpec::inv_freq`] holds.
    pub scaling: RopeScaling,
}

/// The frequency factor of pairs that stand still.
const STILL: f32 = 1e30;

/// Widest head that is believed; a file may say anything.
const MAX_ROTARY_DIM: usize = 1 << 16;

impl RopeSpec {
    /// RoPE with base `theta` over the first `rotary_dim` elements of a head, half-split.
    ///
    /// # Errors
    /// If a parameter is out of range, or the factors are not one per pair.
    pub fn new(theta: f64, rotary_dim: usize, scaling: &RopeScaling) -> Result<RopeSpec, FlowError> {
        let spec_error = |what: String| Err(FlowError::Spec(format!("RoPE: {what}")));
        if !(theta.is_finite() && theta > 1.0) {
            return spec_error(format!("base {theta} is not above 1"));
        }
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            return spec_error(format!("{rotary_dim} turned elements per head are no whole pairs"));
        }
        if rotary_dim > MAX_ROTARY_DIM {
            return spec_error(format!("{rotary_dim} turned elements per head are more than {MAX_ROTARY_DIM}"));
        }
        let pairs = rotary_dim / 2;
        let plain: Vec<f64> = (0..pairs).map(|i| theta.powf(-2.0 * i as f64 / rotary_dim as f64)).collect();
        let positive = |name: &str, x: f64| {
            if x.is_finite() && x > 0.0 {
                Ok(())
            } else {
                Err(FlowError::Spec(format!("RoPE: {name} {x} is not positive")))
            }
        };
        let mut dynamic = None;
        let mut attention_factor = 1.0;
        let inv_freq = match scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => {
                positive("factor", *factor)?;
                plain.iter().map(|f| f / factor).collect()
            }
            RopeScaling::Dynamic { factor, max_positions } => {
                positive("factor", *factor)?;
                positive("max_positions", *max_positions as f64)?;
                dynamic =
                    Some(DynamicNtk { theta: theta as f32, factor: *factor as f32, max_positions: *max_positions });
                plain
            }
            RopeScaling::Yarn(yarn) => {
                positive("factor", yarn.factor)?;
                positive("original_max_position_embeddings", yarn.original_max_positions as f64)?;
                positive("beta_fast", yarn.beta_fast)?;
                positive("beta_slow", yarn.beta_slow)?;
                attention_factor = yarn.attention_factor();
                yarn.inv_freq(&plain, theta)
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("original_max_position_embeddings", *original_max_positions as f64)?;
                if high_freq_factor <= low_freq_factor {
                    return spec_error("high_freq_factor is not above low_freq_factor".into());
                }
                let old = *original_max_positions as f64;
                let band = |f: &f64| {
                    let wavelength = 2.0 * PI / f;
                    let smooth =
                        ((old / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    (1.0 - smooth) * f / factor + smooth * f
                };
                plain.iter().map(band).collect()
            }
            RopeScaling::Factors(factors) => {
                if factors.len() != pairs {
                    return spec_error(format!("{} frequency factors for {pairs} pairs", factors.len()));
                }
                factors.iter().try_for_each(|&f| positive("frequency factor", f.into()))?;
                plain.iter().zip(factors).map(|(f, factor)| f / f64::from(*factor)).collect()
            }
        };
        Ok(RopeSpec {
            inv_freq: inv_freq.into_iter().map(|f| f as f32).collect(),
            dynamic,
            attention_factor: attention_factor as f32,
            style: RopeStyle::HalfSplit,
            theta,
            scaling: scaling.clone(),
        })
    }

    /// What each frequency is divided by, where the scaling comes down to that and is none by which GGUF files have a name:
    /// the `rope_freqs.weight` tensor.
    pub fn frequency_factors(&self) -> Option<Vec<f32>> {
        match &self.scaling {
            RopeScaling::Factors(factors) => Some(factors.clone()),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let (low, high) = (*low_freq_factor as f32, *high_freq_factor as f32);
                let (factor, old) = (*factor as f32, *original_max_positions as f32);
                let pairs = self.inv_freq.len();
                // In the precision of the published converter, so that the tensor is the same to the last bit.
                let of_pair = |i: usize| {
                    let frequency = 1.0 / (self.theta as f32).powf((2 * i) as f32 / (2 * pairs) as f32);
                    let wavelength = (2.0 * PI) as f32 / frequency;
                    if wavelength < old / high {
                        1.0
                    } else if wavelength > old / low {
                        factor
                    } else {
                        let smooth = (old / wavelength - low) / (high - low);
                        1.0 / ((1.0 - smooth) / factor + smooth)
                    }
                };
                Some((0..pairs).map(of_pair).collect())
            }
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } | RopeScaling::Yarn(_) => None,
        }
    }

    /// RoPE over heads of `head_dim` whose first `turned` pairs have the frequencies of a whole head's, and whose others
    /// stand still (`rope_type: proportional`).
    ///
    /// # Errors
    /// As [`RopeSpec::new`], and if more is to turn than there is.
    pub fn proportional(theta: f64, head_dim: usize, turned: usize, factor: f64) -> Result<RopeSpec, FlowError> {
        let mut spec = RopeSpec::new(theta, head_dim, &RopeScaling::Linear { factor })?;
        if turned > spec.inv_freq.len() {
            let pairs = spec.inv_freq.len();
            return Err(FlowError::Spec(format!("RoPE: {turned} turned pairs of {pairs}")));
        }
        spec.inv_freq[turned..].fill(0.0);
        let mut factors = vec![factor as f32; spec.inv_freq.len()];
        factors[turned..].fill(STILL);
        spec.scaling = RopeScaling::Factors(factors);
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_has_three_bands() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let plain = RopeSpec::new(500_000.0, 128, &RopeScaling::None).unwrap().inv_freq;
        let scaled = RopeSpec::new(500_000.0, 128, &scaling).unwrap().inv_freq;
        let ratio: Vec<f32> = plain.iter().zip(&scaled).map(|(a, b)| a / b).collect();
        assert!(ratio[..29].iter().all(|&r| r == 1.0));
        assert!((ratio[63] - 8.0).abs() < 1e-5);
        assert!(ratio.iter().any(|&r| r > 1.1 && r < 7.9));
        assert!(ratio.is_sorted());
        let factors = RopeSpec::new(500_000.0, 128, &scaling).unwrap().frequency_factors().unwrap();
        assert!(ratio.iter().zip(&factors).all(|(a, b)| (a - b).abs() < 1e-5 * a), "{ratio:?} {factors:?}");
    }

    #[test]
    fn factors_say_what_stands_still() {
        let spec = RopeSpec::proportional(1e6, 16, 2, 1.0).unwrap();
        let factors = spec.frequency_factors().unwrap();
        assert_eq!(factors[..3], [1.0, 1.0, 1e30]);
        let again = RopeSpec::new(1e6, 16, &RopeScaling::Factors(factors)).unwrap();
        assert!(again.inv_freq.iter().zip(&spec.inv_freq).all(|(a, b)| (a - b).abs() < 1e-29));
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
        let spec = RopeSpec::new(10_000.0, 64, &RopeScaling::Yarn(Yarn::new(4.0, 4096))).unwrap();
        let plain = RopeSpec::new(10_000.0, 64, &RopeScaling::None).unwrap();
        assert_eq!(spec.inv_freq[0], plain.inv_freq[0]);
        assert!((spec.inv_freq[31] * 4.0 - plain.inv_freq[31]).abs() < 1e-9);
        assert!((f64::from(spec.attention_factor) - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(RopeSpec::new(f64::NAN, 64, &RopeScaling::None).is_err());
        assert!(RopeSpec::new(1e4, 7, &RopeScaling::None).is_err());
        assert!(RopeSpec::new(1e4, 1 << 40, &RopeScaling::None).is_err());
        assert!(RopeSpec::new(1e4, 64, &RopeScaling::Linear { factor: 0.0 }).is_err());
        assert!(RopeSpec::new(1e4, 64, &RopeScaling::Factors(vec![1.0; 3])).is_err());
    }
}
