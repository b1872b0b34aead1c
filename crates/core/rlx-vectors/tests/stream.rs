//! From texts to vectors without a model.

use std::io::Read;
use std::ops::ControlFlow;

use peak_alloc::PeakAlloc;
use rlx_vectors::{
    ChunkLimits, Outcome, SinkOptions, SourceOptions, VectorFormat, VectorIndex, VectorsError, create_sink,
    embed_stream, given_texts, jsonl_sink, read_source,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const DIMS: usize = 8;

/// A stand-in for a model: a vector that says which text it is of.
fn embed(texts: &[&str], out: &mut Vec<f32>) -> Result<(), VectorsError> {
    for text in texts {
        let number: f32 = text.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(-1.0);
        out.extend((0..DIMS).map(|i| number + i as f32));
    }
    Ok(())
}

fn options() -> SinkOptions {
    SinkOptions { dims: DIMS, ..SinkOptions::default() }
}

/// `count` lines, made as they are read.
struct Lines {
    next: u64,
    count: u64,
    line: Vec<u8>,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.line.is_empty() && self.next < self.count {
            self.line = format!("this is the line of number {}\n", self.next).into_bytes();
            self.next += 1;
        }
        let taken = self.line.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.line[..taken]);
        self.line.drain(..taken);
        Ok(taken)
    }
}

#[test]
fn a_million_lines_in_bounded_memory_and_in_order() {
    const COUNT: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let lines = Lines { next: 0, count: COUNT, line: Vec::new() };
    let mut source = read_source(Box::new(lines), "stdin", &SourceOptions::default()).unwrap();
    let mut sink = create_sink(&path, VectorFormat::Npy, &options()).unwrap();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome =
        embed_stream(&mut *source, &mut *sink, ChunkLimits::default(), embed, |_, _| ControlFlow::Continue(()));
    let grown = MEMORY.peak_usage().saturating_sub(before);
    sink.finish().unwrap();
    assert_eq!(outcome.unwrap().rows, COUNT);
    assert!(grown < 4 << 20, "{grown} bytes");
    let index = VectorIndex::open(&path).unwrap();
    assert_eq!(index.rows() as u64, COUNT);
    for row in (0..COUNT as usize).step_by(997) {
        assert_eq!(index.vector(row).unwrap()[0], row as f32);
    }
}

#[test]
fn stopped_means_a_whole_file_of_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let lines = Lines { next: 0, count: 1000, line: Vec::new() };
    let mut source = read_source(Box::new(lines), "stdin", &SourceOptions::default()).unwrap();
    let mut sink = create_sink(&path, VectorFormat::Npy, &options()).unwrap();
    let limits = ChunkLimits { texts: 10, bytes: usize::MAX };
    let stop = |_, rows| if rows >= 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let outcome = embed_stream(&mut *source, &mut *sink, limits, embed, stop).unwrap();
    sink.finish().unwrap();
    assert!(outcome.stopped && (40..60).contains(&outcome.rows));
    assert_eq!(VectorIndex::open(&path).unwrap().rows() as u64, outcome.rows);
}

#[test]
fn chunks_keep_to_their_limits() {
    let texts: Vec<String> = (0..10).map(|i| format!("{} {i}", "x".repeat(i * 10))).collect();
    let mut sizes = Vec::new();
    let mut sink = jsonl_sink(std::io::sink(), "sink", &options());
    let outcome = embed_stream(
        &mut *given_texts(texts.clone()),
        &mut *sink,
        ChunkLimits { texts: 4, bytes: 100 },
        |texts, out| {
            sizes.push(texts.len());
            embed(texts, out)
        },
        |progress, rows| {
            assert_eq!((progress.done, progress.total), (rows, Some(10)));
            ControlFlow::Continue(())
        },
    );
    let bytes = texts.iter().map(|text| text.len() as u64).sum();
    assert_eq!(outcome.unwrap(), Outcome { rows: 10, bytes, stopped: false });
    assert_eq!(sizes, [4, 3, 2, 1]);
}

#[test]
fn errors_of_each_part_come_through() {
    let run = |bytes: &'static [u8], limit: usize| {
        let mut source = read_source(Box::new(bytes), "stdin", &SourceOptions::default()).unwrap();
        let mut sink = jsonl_sink(std::io::sink(), "sink", &options());
        let model = |texts: &[&str], out: &mut Vec<f32>| {
            if texts.len() > limit { Err(VectorsError::Usage("model".into())) } else { embed(texts, out) }
        };
        let limits = ChunkLimits::default();
        embed_stream(&mut *source, &mut *sink, limits, model, |_, _| ControlFlow::Continue(()))
    };
    assert!(run(b"a\n\xff\n", 9).unwrap_err().to_string().contains("line 2"));
    assert_eq!(run(b"a\nb\n", 0).unwrap_err().to_string(), "model");
    assert_eq!(run(b"", 0).unwrap(), Outcome::default());
}
