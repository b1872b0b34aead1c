//! Files of whisper.cpp (`ggml-tiny.en.bin`, `ggml-base-q5_1.bin`).
//!
//! Little-endian: the magic; eleven i32 of sizes; the mel filters (which are computed here instead); the vocabulary as byte strings;
//! tensors up to the end of the file, each with its dims (innermost first), name, type and data. Names are those of openai/whisper.
//! Types are those of ggml, one per tensor. See `convert-pt-to-ggml.py` and `whisper_model_load` of whisper.cpp.

use std::path::Path;

use rlx_core::set_vocabulary;
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_text::GgufVocab;
use rlx_weights::{Checkpoint, Cursor, GgufMetadata, TensorView, WeightsError};

use crate::text::{LANGUAGES, MULTILINGUAL_VOCAB};

/// `0x67676d6c`, little-endian.
pub(super) const MAGIC: [u8; 4] = *b"lmgg";

const MAX_TENSORS: usize = 1 << 16;
const MAX_NAME: u32 = 256;
const MAX_DIMS: u32 = 4;
/// Byte strings of the vocabulary of English models; multilingual ones have one more.
const ENGLISH_TOKENS: usize = 50_256;
/// Tokens `<|0.00|>` to `<|30.00|>`.
const TIMESTAMPS: usize = 1501;

struct Sizes {
    vocab: usize,
    audio_heads: u32,
    text_heads: u32,
}

pub(super) fn open(bytes: &Bytes, path: &Path) -> Result<Checkpoint, WeightsError> {
    let mut cursor = Cursor::new(bytes, path);
    cursor.array::<4>("the magic")?;
    let sizes = sizes(&mut cursor)?;
    let (mels, bins) = (cursor.u32("the number of mel filters")?, cursor.u32("the width of mel filters")?);
    cursor.take(u64::from(mels) * u64::from(bins) * 4, "the mel filters")?;
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", "whisper");
    metadata.set("whisper.encoder.attention.head_count", sizes.audio_heads);
    metadata.set("whisper.decoder.attention.head_count", sizes.text_heads);
    let words = words(&mut cursor)?;
    if let Some(vocab) = vocabulary(&words, sizes.vocab, &cursor)? {
        set_vocabulary(&vocab, &mut metadata);
    }
    let mut tensors = Vec::new();
    while cursor.left() > 0 {
        if tensors.len() == MAX_TENSORS {
            return cursor.bad(format!("more than {MAX_TENSORS} tensors"));
        }
        tensors.push(tensor(&mut cursor, bytes)?);
    }
    let checkpoint = Checkpoint::custom("whisper-bin", path, vec![path.to_path_buf()], tensors)?;
    Ok(checkpoint.with_gguf(metadata))
}

/// `n_vocab, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_text_ctx, n_text_state, n_text_head, n_text_layer, n_mels, ftype`.
/// All but the heads and the vocabulary are seen from the tensors.
fn sizes(cursor: &mut Cursor<'_>) -> Result<Sizes, WeightsError> {
    let mut numbers = [0u32; 11];
    for number in &mut numbers {
        *number = cursor.u32("the sizes of the model")?;
    }
    Ok(Sizes { vocab: numbers[0] as usize, audio_heads: numbers[3], text_heads: numbers[7] })
}

/// The byte strings of the vocabulary.
fn words<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<&'a [u8]>, WeightsError> {
    let count = cursor.u32("the number of tokens")?;
    if u64::from(count) * 4 > cursor.left() {
        return cursor.bad(format!("a vocabulary of {count} tokens, more than the file can hold"));
    }
    let mut words = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let len = cursor.u32("the length of a token")?;
        words.push(cursor.take(len.into(), "a token")?);
    }
    Ok(words)
}

/// The vocabulary with its control tokens, which the file leaves out: whisper.cpp counts their ids. None for one that is too small to be
/// Whisper's.
fn vocabulary(words: &[&[u8]], vocab: usize, cursor: &Cursor<'_>) -> Result<Option<GgufVocab>, WeightsError> {
    let plain = ENGLISH_TOKENS + usize::from(vocab >= MULTILINGUAL_VOCAB);
    // End and start of a text, then languages, six tasks, and timestamps.
    let Some(languages) = vocab.checked_sub(plain + 2 + 6 + TIMESTAMPS) else { return Ok(None) };
    if languages > LANGUAGES.len() || words.len() < plain {
        return cursor
            .bad(format!("{} byte strings and {languages} languages are not Whisper's vocabulary", words.len()));
    }
    let control = |name: &str| format!("<|{name}|>");
    let mut controls = vec![control("endoftext"), control("startoftranscript")];
    controls.extend(LANGUAGES[..languages].iter().map(|(code, _)| control(code)));
    let tasks = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"];
    controls.extend(tasks.map(control));
    controls.extend((0..TIMESTAMPS).map(|i| format!("<|{}.{:02}|>", i / 50, i % 50 * 2)));
    match GgufVocab::from_ranks(&words[..plain], &controls, "gpt-2") {
        Ok(vocab) => Ok(Some(vocab)),
        Err(error) => cursor.bad(error.to_string()),
    }
}

fn tensor(cursor: &mut Cursor<'_>, bytes: &Bytes) -> Result<TensorView, WeightsError> {
    let [dims, name_len, id] = [cursor.u32("a tensor")?, cursor.u32("a tensor")?, cursor.u32("a tensor")?];
    if dims > MAX_DIMS || name_len > MAX_NAME {
        return cursor
            .bad(format!("a tensor of {dims} dims with a name of {name_len} bytes at offset {}", cursor.pos()));
    }
    let mut shape = Vec::with_capacity(dims as usize);
    for _ in 0..dims {
        shape.push(cursor.u32("the dims of a tensor")? as usize);
    }
    shape.reverse();
    let name = String::from_utf8_lossy(cursor.take(name_len.into(), "the name of a tensor")?).into_owned();
    let Some(dtype) = DType::from_ggml_id(id) else {
        return cursor.bad(format!("tensor {} has unknown type {id}", name.escape_debug()));
    };
    let elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    let Some(len) = elements.and_then(|n| dtype.bytes_for(n)) else {
        return cursor.bad(format!("tensor {} of shape {shape:?} is no tensor of {dtype}", name.escape_debug()));
    };
    let start = cursor.pos();
    cursor.take(len as u64, "the data of a tensor")?;
    // The biases of convolutions are columns, to be added to all frames at once.
    if shape.len() == 2 && shape[1] == 1 && name.ends_with(".bias") {
        shape.truncate(1);
    }
    TensorView::new(name, dtype, shape, bytes.slice(start..start + len).unwrap_or_else(|| Bytes::copy_from(&[])))
}
