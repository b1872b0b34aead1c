//! all-MiniLM-L6-v2 as published. Run by `cargo xtask real-weights`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use rlx_core::{ConvertOptions, Families, gguf_source};
use rlx_embed::{EmbedBuilder, LongTexts, Pooling, Prompt, RlxEmbed};
use rlx_runtime::Precision;
use rlx_weights::quantize::{FileType, Plan, QuantizeOptions};
use rlx_weights::{Checkpoint, OpenOptions};

const TEXTS: [&str; 3] = ["A man is eating food.", "A man eats something.", "The sky is blue today."];
/// Of the first text, by sentence-transformers.
const FIRST_VALUES: [f32; 6] = [0.03324157, 0.00440607, -0.00627695, 0.04837871, -0.13870225, -0.03361741];

fn minilm() -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("RLX_REAL_WEIGHTS_DIR") else {
        eprintln!("skipped: RLX_REAL_WEIGHTS_DIR is not set; `cargo xtask real-weights` sets it");
        return None;
    };
    let path = PathBuf::from(dir).join("all-minilm-l6-v2");
    if !path.is_dir() {
        eprintln!("skipped: {} is missing; `cargo xtask real-weights` fetches it", path.display());
        return None;
    }
    Some(path)
}

fn load(path: &PathBuf, change: impl FnOnce(EmbedBuilder) -> EmbedBuilder) -> RlxEmbed {
    change(RlxEmbed::builder().path(path)).build().unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Texts of one to some hundred words.
fn mixed_texts() -> Vec<String> {
    let words = ["tea", "Ångström", "unbelievably", "the", "河川", "42", "e-mail", "river", "?", "sleeps"];
    let lengths = [1usize, 3, 40, 7, 120, 2, 300, 5, 64, 17, 0, 90, 1, 30];
    let text = |(i, &n): (usize, &usize)| {
        (0..n).map(|w| words[(w * 7 + i * 3 + w / 5) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    lengths.iter().enumerate().map(text).collect()
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn all_minilm_l6_v2_is_sentence_transformers() {
    let Some(path) = minilm() else { return };
    let model = load(&path, |b| b);
    assert_eq!((model.dim(), model.max_length(), model.family()), (384, 256, "bert"));
    assert_eq!((model.settings().pooling, model.settings().normalize), (Pooling::Mean, true));
    let vectors = model.embed(&TEXTS).unwrap();
    for (found, expected) in vectors[0].iter().zip(FIRST_VALUES) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    println!("cosines {near} {far}");
    assert!((near - 0.874939).abs() < 1e-5 && (far + 0.018553).abs() < 1e-5, "{near} {far}");
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn all_minilm_l6_v2_vectors_do_not_depend_on_the_batch() {
    let Some(path) = minilm() else { return };
    let texts = mixed_texts();
    let together = load(&path, |b| b.batch_tokens(4096)).embed(&texts).unwrap();
    let small = load(&path, |b| b.batch_tokens(100).threads(1));
    assert_eq!(small.embed(&texts).unwrap(), together);
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(&small.embed(&[text]).unwrap()[0], vector, "{text:?}");
    }
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn all_minilm_l6_v2_in_bf16() {
    let Some(path) = minilm() else { return };
    let texts = mixed_texts();
    let exact = load(&path, |b| b.precision(Precision::F32)).embed(&texts).unwrap();
    let rounded = load(&path, |b| b.precision(Precision::Bf16)).embed(&texts).unwrap();
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!(cosine(exact, rounded) >= 0.9999);
    }
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn all_minilm_l6_v2_as_gguf() {
    let Some(path) = minilm() else { return };
    let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
    let mut families = Families::new();
    families.register(rlx_bert::FAMILY);
    let exact = load(&path, |b| b).embed(&mixed_texts()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (file_type, least) in [(FileType::F32, 0.999_999), (FileType::F16, 0.9999), (FileType::Q8_0, 0.999)] {
        let (source, _) = gguf_source(&checkpoint, &families, &ConvertOptions::default()).unwrap();
        let plan = Plan::new(source, &QuantizeOptions::new(file_type), None).unwrap();
        let file = dir.path().join(format!("{}.gguf", file_type.name()));
        plan.write(&file, false, 2, &mut |_, _| ControlFlow::Continue(())).unwrap();
        // The format has no word for the longest text but the model's own.
        let model = load(&file, |b| b.max_length(256));
        let found = model.embed(&mixed_texts()).unwrap();
        let worst = exact.iter().zip(&found).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
        println!("{}: least cosine {worst}", file_type.name());
        assert!(worst >= least, "{}: {worst}", file_type.name());
    }
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn all_minilm_l6_v2_takes_long_and_empty_texts() {
    let Some(path) = minilm() else { return };
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(22_800);
    assert!(long.len() > 1_000_000);
    let cut = load(&path, |b| b);
    let mut vectors = Vec::new();
    let stats = cut.embed_into(&["", long.as_str()], Prompt::None, &mut vectors).unwrap();
    assert_eq!((stats.texts, stats.tokens, stats.too_long), (2, 2 + 256, 1));
    assert!(vectors.iter().all(|x| x.is_finite()));
    let split = load(&path, |b| b.long_texts(LongTexts::Split));
    let whole = split.embed(&[&long]).unwrap();
    // The same words over and over: the mean of the pieces is near the first of them.
    assert!(cosine(&whole[0], &vectors[384..]) > 0.95);
    let length: f32 = whole[0].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
}
