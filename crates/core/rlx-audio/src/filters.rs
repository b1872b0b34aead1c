//! Triangular filters on a mel scale.

use crate::AudioError;

/// Most filters of a bank.
const MAX_FILTERS: usize = 1024;

/// A scale of perceived pitch, and the shape of the filters that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MelScale {
    /// Slaney's Auditory Toolbox (1998): linear to 1 kHz, then logarithmic. Triangles over Hz, each of the same area. As
    /// `librosa.filters.mel` by default, and Whisper.
    Slaney,
    /// O'Shaughnessy's formula, `1127 ln(1 + f / 700)`. Triangles over mel, each of height 1. As Kaldi.
    Kaldi,
}

impl MelScale {
    fn hz_to_mel(self, hz: f64) -> f64 {
        match self {
            MelScale::Slaney if hz < 1000.0 => hz * 3.0 / 200.0,
            MelScale::Slaney => 15.0 + (hz / 1000.0).ln() * 27.0 / 6.4_f64.ln(),
            MelScale::Kaldi => 1127.0 * (1.0 + hz / 700.0).ln(),
        }
    }

    fn mel_to_hz(self, mel: f64) -> f64 {
        match self {
            MelScale::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
            MelScale::Slaney => 1000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp(),
            MelScale::Kaldi => 700.0 * ((mel / 1127.0).exp() - 1.0),
        }
    }
}

/// A bank of triangular filters over the bins of a power spectrum. Only the bins under each triangle are kept.
#[derive(Debug, Clone)]
pub struct MelFilters {
    /// First bin and weights of each filter.
    filters: Vec<(usize, Vec<f64>)>,
    bins: usize,
}

impl MelFilters {
    /// `count` filters from `low` to `high` Hz for spectra of `bins` values at `rate` Hz.
    ///
    /// # Errors
    /// No or too many filters, fewer than 2 bins, or a range that is empty or reaches beyond half the rate.
    pub fn new(scale: MelScale, count: usize, bins: usize, rate: u32, low: f64, high: f64) -> Result<Self, AudioError> {
        let range = 0.0 <= low && low < high && high <= f64::from(rate) / 2.0;
        if count == 0 || count > MAX_FILTERS || bins < 2 || !range {
            return Err(AudioError::Parameter(format!(
                "{count} mel filters from {low} to {high} Hz over {bins} bins at {rate} Hz: needed are 1 to {MAX_FILTERS} filters, 2 bins, and \
                 a range within half the rate"
            )));
        }
        let (from, to) = (scale.hz_to_mel(low), scale.hz_to_mel(high));
        let edge = |i: usize| {
            let mel = from + (to - from) * i as f64 / (count + 1) as f64;
            if scale == MelScale::Slaney { scale.mel_to_hz(mel) } else { mel }
        };
        let position = |bin: usize| {
            let hz = f64::from(rate) / 2.0 * bin as f64 / (bins - 1) as f64;
            if scale == MelScale::Slaney { hz } else { scale.hz_to_mel(hz) }
        };
        let filter = |i: usize| {
            let (left, peak, right) = (edge(i), edge(i + 1), edge(i + 2));
            let height = if scale == MelScale::Slaney { 2.0 / (right - left) } else { 1.0 };
            let weight = |bin: usize| {
                let x = position(bin);
                height * ((x - left) / (peak - left)).min((right - x) / (right - peak)).max(0.0)
            };
            let first = (0..bins).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            let weights = (first..bins).map(weight).take_while(|&w| w > 0.0).collect();
            (first, weights)
        };
        Ok(MelFilters { filters: (0..count).map(filter).collect(), bins })
    }

    /// Number of filters.
    pub fn count(&self) -> usize {
        self.filters.len()
    }

    /// Number of bins of the spectra that they are for.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// First bin and weights of each filter; all other weights are 0.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.filters.iter().map(|(first, weights)| (*first, weights.as_slice()))
    }

    /// The energy under each filter, of a power spectrum of [`MelFilters::bins`] values.
    pub fn energies<'a>(&'a self, power: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.iter().map(|(first, weights)| {
            let bins = power.iter().skip(first);
            weights.iter().zip(bins).map(|(w, p)| w * p).sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_inverse() {
        for scale in [MelScale::Slaney, MelScale::Kaldi] {
            for hz in [0.0, 20.0, 999.0, 1000.0, 4000.0, 8000.0] {
                assert!((scale.mel_to_hz(scale.hz_to_mel(hz)) - hz).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn slaney_filters_have_equal_areas() {
        // 128 filters over 201 bins, as Whisper large-v3: the lowest lie between two bins' neighbours.
        let bank = MelFilters::new(MelScale::Slaney, 128, 201, 16_000, 0.0, 8000.0).unwrap();
        assert_eq!((bank.count(), bank.bins()), (128, 201));
        let wide = bank.iter().last().unwrap();
        let area: f64 = wide.1.iter().sum::<f64>() * 40.0;
        assert!((area - 1.0).abs() < 0.02, "{area}");
        assert!(bank.iter().all(|(first, weights)| first + weights.len() <= 201));
    }

    #[test]
    fn impossible_banks_are_errors() {
        for (count, bins, low, high) in
            [(0, 201, 0.0, 8e3), (80, 1, 0.0, 8e3), (80, 201, 9.0, 9.0), (80, 201, 0.0, 8001.0)]
        {
            assert!(MelFilters::new(MelScale::Kaldi, count, bins, 16_000, low, high).is_err());
        }
        assert!(MelFilters::new(MelScale::Kaldi, 80, 201, 16_000, f64::NAN, 8e3).is_err());
    }
}
