//! Embeds the lines of a file, writes an index, and answers queries from it:
//! `cargo run --release -p rlx-embed --example semantic_search -- docs.txt "a query" ["another"]`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use rlx_embed::{Prompt, RlxEmbed};
use rlx_vectors::{
    ChunkLimits, SearchOptions, SinkOptions, SourceOptions, VectorFormat, VectorIndex, create_sink, embed_stream,
    open_source,
};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let docs = args.next().context("give a file of texts, then queries")?;
    let model = RlxEmbed::from_pretrained("all-minilm-l6-v2")?;

    let index = std::env::temp_dir().join("semantic-search.safetensors");
    let options = SinkOptions { dims: model.dim(), texts: true, overwrite: true, ..SinkOptions::default() };
    let mut source = open_source(Path::new(&docs), &SourceOptions::default())?;
    let mut sink = create_sink(&index, VectorFormat::Safetensors, &options)?;
    let embed = |texts: &[&str], out: &mut Vec<f32>| -> anyhow::Result<()> {
        model.embed_into(texts, Prompt::Default, out)?;
        Ok(())
    };
    let told = embed_stream(&mut *source, &mut *sink, ChunkLimits::default(), embed, |_, _| ControlFlow::Continue(()))?;
    sink.finish()?;
    println!("{} texts in {}", told.rows, index.display());

    let index = VectorIndex::open(&index)?;
    for query in args {
        println!("{query}");
        let vector = model.embed_query(&query)?;
        for hit in &index.search(&vector, &SearchOptions { k: 3, ..SearchOptions::default() })?[0] {
            println!("  {:.4}  {}", hit.score, index.text(hit.row)?.unwrap_or_default());
        }
    }
    Ok(())
}
