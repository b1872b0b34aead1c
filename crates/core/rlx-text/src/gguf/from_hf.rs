//! Vocabularies for GGUF files from the tokenizer files of Hugging Face checkpoints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::GgufVocab;
use super::pretokenize::{GPT2, name_of_splits};
use super::sentencepiece::{BPE, SentencePieceModel};
use crate::TextError;
use crate::hf::{MAX_IDS, SideFiles, read_json};
use crate::pieces::{SPM_SPACE, byte_token};

/// `tokenizer.ggml.model` of WordPiece vocabularies.
const WORDPIECE: &str = "bert";

// Values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Score of tokens that are found before any merging.
const ADDED_SCORE: f32 = -1000.0;
/// Score of ids without a token.
const UNUSED_SCORE: f32 = -10_000.0;

/// Control tokens of Gemma 4 that an answer may hold for its reader.
const GEMMA4_VISIBLE: &[&str] =
    &["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"];

/// What a vocabulary is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct FromHf<'a> {
    /// `general.architecture` of the file: Gemma 4 has a tokenizer model of its own.
    pub architecture: &'a str,
    /// Rows of the embedding table: ids without a token are padded, ids beyond them left out.
    pub vocab_size: usize,
    /// Name of the pre-tokenizer, where it is not to be recognised.
    pub pre: Option<&'a str>,
}

/// One id's token.
struct Token {
    text: String,
    score: f32,
    kind: i32,
}

/// An added token.
struct Added {
    id: usize,
    text: String,
    special: bool,
}

impl GgufVocab {
    /// The vocabulary that the tokenizer files in `dir` describe: `tokenizer.model` (SentencePiece BPE) or `tokenizer.json` (BPE on bytes or
    /// with `▁` for spaces, WordPiece), and the settings beside them. Gives what the user should know besides; none if there is no
    /// tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read, a kind of tokenizer that GGUF files of decoders do not have, or a pre-tokenizer that is not
    /// recognised.
    pub fn from_hf(dir: &Path, options: FromHf<'_>) -> Result<Option<(GgufVocab, Vec<String>)>, TextError> {
        let path = dir.join("tokenizer.json");
        let json = read_json(&path)?;
        let side = SideFiles::load(&path)?;
        let model_path = dir.join("tokenizer.model");
        let bytes_of = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TextError::Io { path: path.to_owned(), source }),
        };
        if options.vocab_size == 0 || options.vocab_size > MAX_IDS {
            return Err(TextError::Vocab(format!("a vocabulary of {} ids", options.vocab_size)));
        }
        let file = File { path: &path, json: &json, side: &side, options };
        let mut notes = Vec::new();
        let byte_level = file.is_byte_level();
        let mut vocab = if options.architecture != "gemma4"
            && !byte_level
            && let Some(bytes) = bytes_of(&model_path)?
        {
            file.sentencepiece(&bytes, &model_path, &mut notes)?
        } else if json.is_null() {
            return Ok(None);
        } else if json["model"]["type"] == "WordPiece" {
            file.wordpiece(&mut notes)?
        } else {
            file.bpe(byte_level, &mut notes)?
        };
        file.special_ids(&mut vocab, &read_json(&dir.join("config.json"))?);
        if vocab.model == WORDPIECE {
            file.classifier_ids(&mut vocab);
        }
        vocab.chat_template = side.chat_template.clone();
        Ok(Some((vocab, notes)))
    }
}

/// A `tokenizer.json` (null if there is none) and what stands beside it.
struct File<'a> {
    path: &'a Path,
    json: &'a Value,
    side: &'a SideFiles,
    options: FromHf<'a>,
}

impl File<'_> {
    fn bad(&self, message: impl Into<String>) -> TextError {
        TextError::File { path: self.path.to_owned(), message: message.into() }
    }

    /// Whether tokens are written in the byte-level alphabet.
    fn is_byte_level(&self) -> bool {
        let has = |part: &str| steps(&self.json[part], "pretokenizers").any(|step| step["type"] == "ByteLevel");
        has("pre_tokenizer") || self.json["decoder"]["type"] == "ByteLevel"
    }

    /// Added tokens, those of `tokenizer.json` before those of `tokenizer_config.json`.
    fn added(&self) -> Vec<Added> {
        let of = |id: Option<u64>, token: &Value| {
            let id = usize::try_from(id?).ok()?;
            Some(Added { id, text: token["content"].as_str()?.to_owned(), special: token["special"] == true })
        };
        let json = self.json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut added: Vec<Added> = json.iter().filter_map(|token| of(token["id"].as_u64(), token)).collect();
        if let Some(map) = self.side.tokenizer_config["added_tokens_decoder"].as_object().filter(|_| added.is_empty()) {
            added.extend(map.iter().filter_map(|(id, token)| of(id.parse().ok(), token)));
        }
        added
    }

    /// Puts added tokens in, fills gaps, and splits the table into the columns of the format.
    fn finish(&self, mut tokens: Vec<Option<Token>>, scores: bool, notes: &mut Vec<String>) -> GgufVocab {
        let mut beyond = Vec::new();
        for added in self.added() {
            let Some(slot) = tokens.get_mut(added.id) else {
                beyond.push(added.text);
                continue;
            };
            let visible = self.options.architecture == "gemma4" && GEMMA4_VISIBLE.contains(&added.text.as_str());
            let unknown = slot.as_ref().is_some_and(|token| token.kind == UNKNOWN);
            *slot = Some(if unknown {
                Token { text: added.text, score: ADDED_SCORE, kind: UNKNOWN }
            } else if (added.special || looks_special(&added.text)) && !visible {
                Token { text: added.text, score: ADDED_SCORE, kind: CONTROL }
            } else {
                Token { text: added.text.replace(SPM_SPACE, " "), score: ADDED_SCORE, kind: USER_DEFINED }
            });
        }
        if let Some(first) = beyond.first() {
            let (count, rows) = (beyond.len(), self.options.vocab_size);
            notes.push(format!(
                "{count} tokens left out (first {first:?}): the embedding table has no rows beyond its {rows}"
            ));
        }
        let mut vocab = GgufVocab::default();
        let (mut all_scores, mut types) = (Vec::new(), Vec::new());
        for (id, token) in tokens.into_iter().enumerate() {
            let pad = || Token { text: format!("[PAD{id}]"), score: UNUSED_SCORE, kind: UNUSED };
            let token = token.unwrap_or_else(pad);
            vocab.tokens.push(&token.text);
            all_scores.push(token.score);
            types.push(token.kind);
        }
        vocab.scores = scores.then_some(all_scores);
        vocab.token_types = Some(types);
        vocab
    }

    fn sentencepiece(&self, bytes: &[u8], path: &Path, notes: &mut Vec<String>) -> Result<GgufVocab, TextError> {
        let bad = |message: &str| TextError::File { path: PathBuf::from(path), message: message.into() };
        let model = SentencePieceModel::parse(bytes).ok_or_else(|| bad("is no SentencePiece model"))?;
        if model.model_type != BPE {
            return Err(bad(
                "is a SentencePiece model of another kind than BPE, which GGUF files of decoders do not have",
            ));
        }
        let mut tokens: Vec<Option<Token>> = (0..self.options.vocab_size).map(|_| None).collect();
        for (slot, piece) in tokens.iter_mut().zip(model.pieces) {
            let text = if piece.kind == USER_DEFINED { piece.text.replace(SPM_SPACE, " ") } else { piece.text };
            *slot = Some(Token { text, score: piece.score, kind: piece.kind });
        }
        let mut vocab = self.finish(tokens, true, notes);
        vocab.model = "llama".into();
        vocab.pre = Some("default".into());
        vocab.add_space_prefix = Some(model.add_dummy_prefix);
        Ok(vocab)
    }

    fn bpe(&self, byte_level: bool, notes: &mut Vec<String>) -> Result<GgufVocab, TextError> {
        let model = &self.json["model"];
        let byte_fallback = model["byte_fallback"] == true;
        let kind = model["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" || (!byte_level && !byte_fallback) {
            return Err(self.bad(format!(
                "a {kind} tokenizer {} cannot be written to GGUF files of decoders (BPE on bytes, or with byte fallback)",
                if byte_fallback { "with byte fallback" } else { "without byte fallback" }
            )));
        }
        let entries = model["vocab"].as_object().ok_or_else(|| self.bad("has no model.vocab"))?;
        let merges = merges(model).ok_or_else(|| self.bad("model.merges is no list of pairs"))?;
        let spm = !byte_level && self.options.architecture != "gemma4";
        let unknown = model["unk_token"].as_str();
        let mut tokens: Vec<Option<Token>> = (0..self.options.vocab_size).map(|_| None).collect();
        let mut beyond = 0;
        // The merge that makes a token decides when it is made: earlier merges go first, as higher scores do.
        let mut rank: HashMap<String, usize> = HashMap::new();
        if spm {
            for (number, (left, right)) in merges.iter().enumerate() {
                rank.entry(format!("{left}{right}")).or_insert(number);
            }
        }
        for (text, id) in entries {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let Some(slot) = id.and_then(|id| tokens.get_mut(id)) else {
                beyond += 1;
                continue;
            };
            let kind = match () {
                () if Some(text.as_str()) == unknown => UNKNOWN,
                () if !byte_level && byte_token(text).is_some() => BYTE,
                () => NORMAL,
            };
            let score = match rank.get(text.as_str()) {
                Some(&number) => -(number as f32),
                None if spm && kind == NORMAL => -(merges.len() as f32),
                None => 0.0,
            };
            *slot = Some(Token { text: text.clone(), score, kind });
        }
        if beyond > 0 {
            let rows = self.options.vocab_size;
            return Err(self.bad(format!("{beyond} tokens have ids beyond the {rows} rows of the embedding table")));
        }
        let mut vocab = self.finish(tokens, spm, notes);
        let encode = |part: &str| part.replace(' ', "\u{120}");
        if !spm {
            vocab.merges = Some(merges.iter().map(|(l, r)| format!("{} {}", encode(l), encode(r))).collect());
        }
        if byte_level {
            vocab.model = "gpt2".into();
            vocab.pre = Some(self.pre_name(notes)?);
        } else {
            vocab.model = if spm { "llama" } else { "gemma4" }.into();
            vocab.pre = spm.then(|| "default".into());
            vocab.add_space_prefix = Some(spm && self.adds_space());
        }
        Ok(vocab)
    }

    /// BERT's WordPiece. GGUF files mark the start of a word with `▁` instead of its continuation with `##`.
    fn wordpiece(&self, notes: &mut Vec<String>) -> Result<GgufVocab, TextError> {
        let model = &self.json["model"];
        let entries = model["vocab"].as_object().ok_or_else(|| self.bad("has no model.vocab"))?;
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("##");
        let normalizer = &self.json["normalizer"];
        if normalizer["type"] != "BertNormalizer" || self.json["pre_tokenizer"]["type"] != "BertPreTokenizer" {
            return Err(self.bad("is a WordPiece tokenizer of another kind than BERT's, which GGUF files do not have"));
        }
        let mut tokens: Vec<Option<Token>> = (0..self.options.vocab_size).map(|_| None).collect();
        for (text, id) in entries {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let slot = id.and_then(|id| tokens.get_mut(id)).ok_or_else(|| {
                self.bad(format!("token {text:?} has no row of the {} of the embedding table", self.options.vocab_size))
            })?;
            *slot = Some(Token { text: text.clone(), score: 0.0, kind: NORMAL });
        }
        let mut vocab = self.finish(tokens, false, notes);
        let marked = |(text, kind): (&str, &i32)| match (*kind == CONTROL, text.strip_prefix(prefix)) {
            (true, _) => text.to_owned(),
            (false, Some(rest)) => rest.to_owned(),
            (false, None) => format!("{SPM_SPACE}{text}"),
        };
        vocab.tokens = vocab.tokens.iter().zip(vocab.token_types.iter().flatten()).map(marked).collect();
        vocab.model = WORDPIECE.into();
        // Absent means true, and strip_accents that it goes by lowercase.
        vocab.lowercase = normalizer["lowercase"].as_bool().filter(|lowercase| !lowercase);
        vocab.strip_accents = normalizer["strip_accents"].as_bool();
        Ok(vocab)
    }

    /// The ids that stand around a text of BERT, which the format has other keys for than for begin and end of text.
    fn classifier_ids(&self, vocab: &mut GgufVocab) {
        let id = |name: &str, usual: &str| {
            let text = self.side.token(name).unwrap_or_else(|| usual.to_owned());
            (0u32..).zip(vocab.tokens.iter()).find(|(_, token)| *token == text).map(|(id, _)| id)
        };
        let (cls, sep, unk) = (id("cls_token", "[CLS]"), id("sep_token", "[SEP]"), id("unk_token", "[UNK]"));
        vocab.bos_id = cls;
        vocab.sep_id = sep.or(vocab.sep_id);
        vocab.unk_id = unk.or(vocab.unk_id);
        (vocab.add_bos, vocab.add_eos) = (None, None);
    }

    /// Whether a space is put before texts.
    fn adds_space(&self) -> bool {
        let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == "▁";
        let metaspace = |step: &Value| {
            let scheme = step["prepend_scheme"].as_str().unwrap_or("always");
            step["type"] == "Metaspace" && scheme != "never" && step["add_prefix_space"] != false
        };
        steps(&self.json["normalizer"], "normalizers").any(prepends)
            || steps(&self.json["pre_tokenizer"], "pretokenizers").any(metaspace)
    }

    /// The name by which llama.cpp knows the pre-tokenizer.
    fn pre_name(&self, notes: &mut Vec<String>) -> Result<String, TextError> {
        if let Some(name) = self.options.pre {
            return Ok(name.to_owned());
        }
        let mut splits = Vec::new();
        for step in steps(&self.json["pre_tokenizer"], "pretokenizers") {
            match step["type"].as_str() {
                Some("Split") => match step["pattern"]["Regex"].as_str() {
                    Some(regex) => splits.push(regex.to_owned()),
                    None => return Err(self.unknown_pre()),
                },
                Some("Digits") if step["individual_digits"] == true => splits.push(r"\p{N}".into()),
                Some("Digits") => splits.push(r"\p{N}+".into()),
                Some("ByteLevel") if step["use_regex"] != false => splits.push(GPT2.into()),
                Some("ByteLevel") => {}
                _ => return Err(self.unknown_pre()),
            }
        }
        let ignore_merges = self.json["model"]["ignore_merges"] == true;
        let (name, same_merging) = name_of_splits(&splits, ignore_merges).ok_or_else(|| self.unknown_pre())?;
        if !same_merging {
            notes.push(format!(
                "pre-tokenizer {name} differs in whether words that are tokens are merged: a few rare words may get other ids"
            ));
        }
        Ok(name.to_owned())
    }

    fn unknown_pre(&self) -> TextError {
        self.bad(
            "the pre-tokenizer is none that GGUF files have a name for; give the name of the nearest with --pre (qwen2, \
             llama-bpe, gpt-2, ...)",
        )
    }

    /// Ids of special tokens, and which are added to texts.
    fn special_ids(&self, vocab: &mut GgufVocab, config: &Value) {
        let ids: HashMap<&str, u32> = (0u32..).zip(vocab.tokens.iter()).map(|(id, text)| (text, id)).collect();
        let len = vocab.tokens.len() as u64;
        let text_config = &config["text_config"];
        let id_of = |name: &str| {
            let named = self.side.token(&format!("{name}_token")).and_then(|text| ids.get(text.as_str()).copied());
            let key = format!("{name}_token_id");
            let number = [&config[&key], &text_config[&key]].into_iter().find_map(Value::as_u64);
            named.or_else(|| number.filter(|&id| id < len).and_then(|id| u32::try_from(id).ok()))
        };
        let (mut bos, eos) = (id_of("bos"), id_of("eos"));
        let flag = |name: &str| self.side.tokenizer_config[name].as_bool();
        let (mut add_bos, mut add_eos) = (flag("add_bos_token"), flag("add_eos_token"));
        for step in steps(&self.json["post_processor"], "processors") {
            match step["type"].as_str() {
                Some("ByteLevel") => {
                    add_bos = add_bos.or(Some(false));
                    add_eos = add_eos.or(Some(false));
                }
                Some("TemplateProcessing") => {
                    let single = step["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let special = |part: Option<&Value>| ids.get(part?["SpecialToken"]["id"].as_str()?).copied();
                    let (first, last) = (special(single.first()), special(single.last()));
                    bos = bos.or(first);
                    add_bos = Some(first.is_some() && first == bos);
                    add_eos = Some(single.len() > 1 && last.is_some() && last == eos);
                }
                _ => {}
            }
        }
        if vocab.model == "gemma4" {
            add_bos = Some(true);
        }
        let (unk, sep, pad) = (id_of("unk"), id_of("sep"), id_of("pad"));
        (vocab.bos_id, vocab.eos_id) = (bos, eos);
        (vocab.unk_id, vocab.sep_id, vocab.pad_id) = (unk, sep, pad);
        (vocab.add_bos, vocab.add_eos) = (add_bos, add_eos);
    }
}

/// The steps of a component: those of a sequence, itself, or none.
fn steps<'a>(component: &'a Value, list: &str) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
    match component[list].as_array() {
        Some(parts) => Box::new(parts.iter()),
        None if component.is_null() => Box::new(std::iter::empty()),
        None => Box::new(std::iter::once(component)),
    }
}

/// Pairs to merge, written as `"left right"` or as lists of two.
fn merges(model: &Value) -> Option<Vec<(String, String)>> {
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(l, r)| (l.to_owned(), r.to_owned())),
        _ => Some((merge[0].as_str()?.to_owned(), merge[1].as_str()?.to_owned())),
    };
    model["merges"].as_array()?.iter().map(pair).collect()
}

/// Some models mark tokens as ordinary that are control tokens.
fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use crate::gguf::sentencepiece::tests::file;

    #[test]
    fn sentencepiece_files_are_converted() {
        let dir = tempfile::tempdir().unwrap();
        let mut pieces: Vec<(String, f32, u8)> =
            vec![("<unk>".into(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
        pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
        pieces.extend([("▁a".into(), -1.0, 1), ("a".into(), -2.0, 1), ("▁".into(), -3.0, 1), ("▁▁".into(), 0.0, 4)]);
        let views: Vec<(&str, f32, u8)> = pieces.iter().map(|(text, score, kind)| (&**text, *score, *kind)).collect();
        let options = FromHf { architecture: "gemma3", vocab_size: 266, pre: None };
        let write =
            |kind, prefix| std::fs::write(dir.path().join("tokenizer.model"), file(&views, kind, prefix)).unwrap();
        write(2, false);
        let settings = r#"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true, "added_tokens_decoder":
            {"263": {"content": "<start>", "special": true}, "264": {"content": "<mask>"}, "265": {"content": "x▁"}}}"#;
        std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        let (v, notes) = GgufVocab::from_hf(dir.path(), options).unwrap().unwrap();
        assert_eq!((v.model.as_str(), v.add_space_prefix, v.add_bos), ("llama", Some(false), Some(true)));
        assert_eq!((v.bos_id, v.eos_id, notes.len()), (Some(1), Some(2), 0));
        let types = v.token_types.as_ref().unwrap();
        assert_eq!((types[0], types[1], types[3], types[262]), (UNKNOWN, CONTROL, BYTE, USER_DEFINED));
        assert_eq!(types[263..], [CONTROL, CONTROL, USER_DEFINED]);
        assert_eq!((&v.tokens[262], &v.tokens[265]), ("  ", "x "));
        assert_eq!(v.scores.as_ref().unwrap()[259..262], [-1.0, -2.0, -3.0]);
        let tokenizer = Tokenizer::from_gguf(&v).unwrap();
        assert_eq!(tokenizer.encode("a a<start>b", true).unwrap(), [1, 260, 259, 263, 3 + u32::from(b'b')]);

        write(1, false);
        assert!(GgufVocab::from_hf(dir.path(), options).unwrap_err().to_string().contains("BPE"));
    }
}
