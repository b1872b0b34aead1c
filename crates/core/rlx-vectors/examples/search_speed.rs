//! How fast exact search reads a mapped file: `cargo run --release -p rlx-vectors --example search_speed -- FILE [QUERIES] [THREADS]`.
//! Without a file, a million vectors of 384 dimensions are written to one first.

use std::path::PathBuf;
use std::time::Instant;

use rlx_vectors::{Metric, SearchOptions, SinkOptions, Text, VectorFormat, VectorIndex, create_sink};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().map(PathBuf::from);
    let queries: usize = args.next().map_or(Ok(1), |n| n.parse())?;
    let threads: usize = args.next().map_or(Ok(2), |n| n.parse())?;
    let path = match file {
        Some(path) => path,
        None => write_million()?,
    };
    let index = VectorIndex::open(&path)?;
    let asked: Vec<f32> = (0..queries).flat_map(|row| index.vector(row).unwrap_or_default()).collect();
    for metric in [Metric::Dot, Metric::Cosine] {
        let mut seconds: Vec<f64> = (0..7)
            .map(|_| {
                let start = Instant::now();
                let options = SearchOptions { metric, threads, ..SearchOptions::default() };
                index.search(&asked, &options).map(|_| start.elapsed().as_secs_f64())
            })
            .collect::<Result<_, _>>()?;
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        println!(
            "{metric:?}: {} x {} vectors of {}, {threads} threads: {:.1} ms, {:.1} GB/s, {:.1} GFLOP/s",
            queries,
            index.rows(),
            index.dims(),
            median * 1e3,
            index.bytes() as f64 / median / 1e9,
            2.0 * (queries * index.rows() * index.dims()) as f64 / median / 1e9,
        );
    }
    Ok(())
}

fn write_million() -> Result<PathBuf, Box<dyn std::error::Error>> {
    const DIMS: usize = 384;
    let path = std::env::temp_dir().join("rlx-million.npy");
    let options = SinkOptions { dims: DIMS, overwrite: true, ..SinkOptions::default() };
    let mut sink = create_sink(&path, VectorFormat::Npy, &options)?;
    let mut state = 1u32;
    for block in 0..1000u64 {
        let texts: Vec<Text> = (0..1000).map(|i| Text { row: block * 1000 + i, text: String::new() }).collect();
        let vectors: Vec<f32> = (0..texts.len() * DIMS)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        sink.write(&texts, &vectors)?;
    }
    sink.finish()?;
    println!("wrote {}", path.display());
    Ok(path)
}
