//! Arguments of everything that may fetch a model.

use std::path::PathBuf;

use rlx_core::fetch::FetchOptions;

use crate::context::Context;

/// Where models come from and where they are kept.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Fetching")]
pub struct FetchArgs {
    /// Use cached models only, never the network [env: HF_HUB_OFFLINE]
    #[arg(long)]
    pub offline: bool,
    /// Directory for fetched models [env: RLX_CACHE] [default: rlx-models in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Address of the model hub [env: HF_ENDPOINT] [default: https://huggingface.co]
    #[arg(long, value_name = "URL", value_parser = super::values::http_url)]
    pub hub_endpoint: Option<String>,
    /// Access token for gated or private models [env: HF_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_default_value = true)]
    pub hub_token: Option<String>,
}

impl FetchArgs {
    /// The arguments, then the environment, then the defaults.
    ///
    /// # Errors
    /// An endpoint in the environment that is no HTTP address.
    pub fn options(&self, context: &Context<'_>) -> anyhow::Result<FetchOptions> {
        let env = context.env();
        let mut options = FetchOptions {
            offline: self.offline || env.offline,
            cache_dir: self.cache_dir.clone().or_else(|| env.cache_dir.clone()),
            token: self.hub_token.clone().or_else(|| env.hub_token.clone()),
            ..FetchOptions::default()
        };
        if let Some(endpoint) = self.hub_endpoint.clone().or_else(|| env.hub_endpoint.clone()) {
            options.hub_endpoint =
                super::values::http_url(&endpoint).map_err(|e| anyhow::anyhow!("HF_ENDPOINT: {e}"))?;
        }
        Ok(options)
    }
}
