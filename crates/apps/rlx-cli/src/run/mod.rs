//! The commands that run a model: `generate` and the families' own, `chat`, `bench`, `perplexity`, `forward`, `parity`.
//!
//! Each has a part that works and can be called from elsewhere ([`chat::Conversation`], [`bench::measure`],
//! [`rlx_core::parity`]) and a part that reads arguments and prints.

pub mod args;
pub mod bench;
pub mod chat;
mod constraint;
mod draft;
mod forward;
mod generate;
mod loaded;
mod parity;
mod perplexity;
mod profile;
pub mod report;
mod rss;

pub use constraint::{AnswerForm, Constraint, ConstraintArgs};
pub use draft::{Draft, DraftArgs};
pub use generate::family;
pub use loaded::{Loaded, load, load_with_profile};
pub use profile::Profile;
pub use rss::peak_rss_bytes;

use crate::app::{Registry, Runner};

/// Registers the commands of this module.
pub(crate) fn register(registry: &mut Registry) {
    registry
        .register(Runner::new("chat", "Talk with a model", chat::run))
        .register(
            Runner::new("generate", "Complete a prompt with any supported model", generate::any).aliases(&["auto"]),
        )
        .register(Runner::new("bench", "Measure prompt and generation speed", bench::run))
        .register(Runner::new("perplexity", "Measure how well a model predicts a text", perplexity::run))
        .register(Runner::new("forward", "Run a model once on named tensors", forward::run))
        .register(Runner::new("parity", "Compare a model's outputs with recorded ones", parity::run));
}
