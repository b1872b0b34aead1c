//! The commands `embed`, `similarity`, `search` and `rerank`.

// Doc comments of command-line arguments are help texts as they stand, not Markdown.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, rustdoc::invalid_html_tags)]

mod embed;
mod input;
mod model;
mod rerank;
mod search;
mod similarity;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use rlx_cli::{Context, Registry, Runner};

/// Registers the commands.
pub fn register(registry: &mut Registry) {
    registry
        // The families' names too: `inspect`, and messages about files of another family, send users there.
        .register(Runner::new("embed", "Turn texts into vectors", embed).aliases(&["bert", "nomic"]))
        .register(Runner::new("similarity", "Compare texts by their vectors", similarity))
        .register(Runner::new("search", "Find the texts nearest to a query", search))
        .register(Runner::new("rerank", "Order documents by how well they answer a query", rerank::run));
}

fn embed(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    embed::run(args, ctx, &model::load)
}

fn similarity(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    similarity::run(args, ctx, &model::load)
}

fn search(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    search::run(args, ctx, &model::load)
}
