//! The one place where the environment is read.

use std::env;
use std::path::PathBuf;

/// What the environment says. Command-line options go before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `HF_TOKEN`: access token for the model hub.
    pub hub_token: Option<String>,
    /// `HF_ENDPOINT`: address of the model hub.
    pub hub_endpoint: Option<String>,
    /// `HF_HUB_OFFLINE`: fetch nothing.
    pub offline: bool,
    /// `RLX_CACHE`: where fetched models are kept.
    pub cache_dir: Option<PathBuf>,
    /// `NO_COLOR`: no colours.
    pub no_color: bool,
}

impl Env {
    /// Reads the environment of this process. Empty variables count as unset.
    pub fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Env {
            hub_token: text("HF_TOKEN"),
            hub_endpoint: text("HF_ENDPOINT"),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            cache_dir: env::var_os("RLX_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from),
            no_color: text("NO_COLOR").is_some(),
        }
    }
}

/// The words that the hub's own client takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no() {
        assert!(is_true("1") && is_true("TRUE") && is_true("on"));
        assert!(!is_true("0") && !is_true("false") && !is_true("maybe"));
    }
}
