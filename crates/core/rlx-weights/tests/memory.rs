//! Metadata takes memory in proportion to the file, whatever the header announces. One test, since the allocator that
//! counts is that of the whole process.

use std::fs;
use std::path::Path;
use std::time::Instant;

use peak_alloc::PeakAlloc;
use rlx_weights::gguf::{GgufArray, GgufWriter};
use rlx_weights::{Checkpoint, OpenOptions};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Peak of allocated bytes while `path` is opened, beyond what was allocated before.
fn peak(path: &Path) -> (usize, bool) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let opened = Checkpoint::open(path, &OpenOptions::default()).is_ok();
    (ALLOCATOR.peak_usage().saturating_sub(before), opened)
}

#[test]
fn memory_is_bounded_by_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    // What a file may cost beyond twice its size: errors, paths, small tables.
    const SLACK: usize = 64 << 10;

    let tokens: Vec<String> = (0..262_144).map(|i| format!("token{i}")).collect();
    let mut writer = GgufWriter::new("llama");
    writer.set("tokens", &tokens[..]).set("scores", vec![0.5f32; 262_144]).set("types", vec![1i32; 262_144]);
    writer.set("empty", &vec![""; 100_000][..]).set("bits", vec![true; 500_000]);
    writer.set("nested", GgufArray::Array(vec![GgufArray::U64(vec![7; 50_000]); 4]));
    writer.create(&path).unwrap().finish().unwrap();
    let size = fs::metadata(&path).unwrap().len() as usize;
    let start = Instant::now();
    let (used, opened) = peak(&path);
    assert!(opened && start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert!(used < 2 * size + SLACK, "{used} bytes for a file of {size}");

    // Counts and lengths of 2^60, 2^40 and so on at every place of a header.
    let mut small = GgufWriter::new("llama");
    small.set("a", vec![1u64, 2]).set("b", &["x", "y"][..]).set("c", "text").set("d", 1u64);
    small.set("n", GgufArray::Array(vec![GgufArray::String(["z"].into_iter().collect())]));
    small.add_tensor("w", rlx_ir::DType::F32, &[2, 2]).unwrap();
    let mut stream = small.start(Vec::new()).unwrap();
    stream.write(&[0; 16]).unwrap();
    let mut seeds = vec![("gguf", stream.finish().unwrap())];
    let header = br#"{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    seeds.push(("safetensors", [&(header.len() as u64).to_le_bytes()[..], header, &[0; 16]].concat()));
    for (extension, seed) in seeds {
        let path = dir.path().join("h").with_extension(extension);
        for at in 0..seed.len().saturating_sub(8) {
            for count in [1u64 << 60, 1 << 40, (1 << 31) - 1, 1 << 24] {
                let mut bytes = seed.clone();
                bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
                fs::write(&path, &bytes).unwrap();
                let (used, _) = peak(&path);
                assert!(used < SLACK, "{extension}: {count} at {at} took {used} bytes");
            }
        }
    }
}
