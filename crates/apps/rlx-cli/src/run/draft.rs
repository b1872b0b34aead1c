//! `--draft`: speculative decoding.

use std::path::PathBuf;

use anyhow::Context as _;
use rlx_core::fetch::FetchOptions;
use rlx_core::{CausalLm, Drafter, MAX_DRAFT_TOKENS, ModelDrafter, NgramDrafter};
use rlx_runtime::SessionOptions;

use super::args::load_options;
use super::load;
use crate::args::{ModelArgs, QuantArgs};
use crate::context::Context;

/// Tokens of a draft where nothing is said: a model's cost time, those looked up do not.
const DEFAULT_TOKENS: (usize, usize) = (4, 7);

/// Guessing tokens ahead.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Speculative decoding")]
pub struct DraftArgs {
    /// Guess tokens and check them in one step, for speed; the answer stays the same. A smaller model with the same vocabulary
    /// (as --weights), or `ngram`: look them up in the text so far, good where the answer repeats parts of the prompt
    #[arg(long, value_name = "PATH|ngram")]
    pub draft: Option<PathBuf>,
    /// Most tokens to guess at once, up to 15 [default: 4, with ngram 7]
    #[arg(long, value_name = "N", requires = "draft", value_parser = draft_tokens)]
    pub draft_tokens: Option<usize>,
}

fn draft_tokens(text: &str) -> Result<usize, String> {
    let range = 1..=MAX_DRAFT_TOKENS;
    let number = text.parse::<usize>().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be from 1 to {MAX_DRAFT_TOKENS}"))
}

/// What drafts, and how much at once.
pub struct Draft {
    /// What drafts.
    pub drafter: Box<dyn Drafter>,
    /// Most tokens of a draft.
    pub tokens: usize,
}

impl DraftArgs {
    /// The drafter for `target`, if one is asked for. A draft model runs on the device and threads of `model`.
    ///
    /// # Errors
    /// If the draft model cannot be loaded, or has another vocabulary.
    pub fn load(
        &self,
        model: &ModelArgs,
        fetch: &FetchOptions,
        target: &CausalLm,
        session: SessionOptions,
        ctx: &Context<'_>,
    ) -> anyhow::Result<Option<Draft>> {
        let Some(path) = &self.draft else { return Ok(None) };
        if path.as_os_str() == "ngram" {
            let tokens = self.draft_tokens.unwrap_or(DEFAULT_TOKENS.1);
            return Ok(Some(Draft { drafter: Box::new(NgramDrafter::new()), tokens }));
        }
        let model =
            ModelArgs { weights: Some(path.clone()), config: None, tokenizer: None, format: None, ..model.clone() };
        let quant = QuantArgs::default();
        let what = || format!("--draft {}", path.display());
        let loaded =
            load(&model, &quant, fetch, None, None, &load_options(&model, &quant, None), ctx).with_context(what)?;
        let drafter = ModelDrafter::new(&loaded.model, target, session).with_context(what)?;
        Ok(Some(Draft { drafter: Box::new(drafter), tokens: self.draft_tokens.unwrap_or(DEFAULT_TOKENS.0) }))
    }
}
