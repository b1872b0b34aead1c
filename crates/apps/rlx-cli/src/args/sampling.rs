//! How to pick tokens and when to stop.

use rlx_text::SamplerOptions;

use super::values;

/// Sampling. The defaults are greedy.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Longest answer in tokens
    #[arg(long, short = 'n', value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 takes the most probable token, higher values vary more
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true,
          value_parser = values::non_negative)]
    pub temperature: f32,
    /// Draw from the K most probable tokens; 0 is off
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: usize,
    /// Draw from the smallest set of this total probability; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true,
          value_parser = values::positive_share)]
    pub top_p: f32,
    /// Draw from tokens at least P times as probable as the best; 0 is off
    #[arg(long, default_value_t = 0.0, value_name = "P", allow_negative_numbers = true, value_parser = values::share)]
    pub min_p: f32,
    /// Make recent tokens less probable; 1 is off
    #[arg(long, visible_alias = "repetition-penalty", default_value_t = 1.0, value_name = "R",
          allow_negative_numbers = true, value_parser = values::positive)]
    pub repeat_penalty: f32,
    /// How many recent tokens the penalty looks at
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub repeat_last_n: usize,
    /// Seed of the draws [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Go on after the model has ended its answer
    #[arg(long)]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// The sampler's options.
    pub fn options(&self) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            seed: self.seed,
            ..SamplerOptions::default()
        }
    }
}
