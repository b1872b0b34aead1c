//! Pre-tokenizers of `gpt2` vocabularies, by the name in `tokenizer.ggml.pre`.
//!
//! A pre-tokenizer is a sequence of splits; each cuts every piece of the one before it into its matches and the text
//! between them. The expressions are the published ones, run by a linear-time engine. That engine has no look-ahead,
//! and the one look-ahead they all share, `\s+(?!\S)|\s+` (a run of white space leaves its last character to the word
//! behind it), is written `\s+` here and its match shortened afterwards, which is the same.

use std::ops::Range;

use regex::Regex;

use crate::TextError;

/// One split of the sequence.
#[derive(Clone, Copy)]
enum Split {
    /// Matches of an expression that has no rule for runs of white space.
    Plain(&'static str),
    /// An expression that ends in `|\s+`, standing for `|\s+(?!\S)|\s+`.
    Space(&'static str),
    /// The same, where an earlier alternative takes white space up to the last line break: a match that ends in a
    /// line break is not a run to shorten.
    SpaceNewline(&'static str),
    /// Digits in groups of three counted from the right.
    DigitGroups,
}
use Split::{DigitGroups, Plain, Space, SpaceNewline};

/// What a pre-tokenizer name stands for.
pub(super) struct PreSpec {
    splits: &'static [Split],
    /// A word that is a token as a whole is not merged up from its bytes.
    pub(super) ignore_merges: bool,
    /// Whether text begins with the begin-of-text token if the file does not say.
    pub(super) add_bos: bool,
    /// Spaces are stored as `▁` and bytes as `<0xXX>`; otherwise the byte-level alphabet.
    pub(super) visible_space: bool,
}

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN35: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const MINICPM5: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+";
const BAILINGMOE: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+";
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const YOUTU_CJK: &str = concat!(
    r"[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+|[！…“”‘’—：；，\u{3001}-\u{303F}\u{FE30}-\u{FE4F}]+|",
    r"[\u{3105}-\u{312F}]+|[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+"
);
const KIMI_K2: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##;
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+"##;
const AFMOE_CJK: &str = concat!(
    r"[\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{F900}-\u{FAFF}\u{3040}-\u{309F}\u{30A0}-\u{30FF}\u{FF65}-\u{FF9F}",
    r"\u{2F00}-\u{2FDF}\u{E40}-\u{E7F}\u{E80}-\u{EFF}\u{1780}-\u{17FF}\u{1000}-\u{109F}\u{AA60}-\u{AA7F}",
    r"\u{A9E0}-\u{A9FF}\u{AC00}-\u{D7AF}\u{1100}-\u{11FF}]+"
);
const KANA_HAN: &str = r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}",
    r"\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}",
    r"\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}",
    r"\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}",
    r"\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}",
    r"\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}",
    r"\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}",
    r"\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}",
    r"\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}",
    r"\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}",
    r"\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}",
    r"\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}",
    r"\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+"
);
const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const DEEPSEEK_HAN: &str = r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

impl PreSpec {
    const fn of(splits: &'static [Split]) -> Self {
        Self { splits, ignore_merges: false, add_bos: false, visible_space: false }
    }

    const fn ignore_merges(mut self) -> Self {
        self.ignore_merges = true;
        self
    }

    const fn add_bos(mut self) -> Self {
        self.add_bos = true;
        self
    }

    const fn visible_space(mut self) -> Self {
        self.visible_space = true;
        self
    }

    /// For files that name no pre-tokenizer, or an unknown one.
    pub(super) fn default_spec() -> Self {
        Self::of(&[Plain(r"[\p{P}\$\+<=>\^~\|]+"), Space(GPT2), Plain(r"\p{N}+"), Plain("[0-9][0-9][0-9]")])
    }

    pub(super) fn splitter(&self) -> Result<Splitter, TextError> {
        let steps = self.splits.iter().map(Step::compile).collect::<Result<_, _>>()?;
        Ok(Splitter { steps })
    }
}

/// The pre-tokenizer of that name.
pub(super) fn pre_spec(name: &str) -> Option<PreSpec> {
    Some(match name {
        "default" => PreSpec::default_spec(),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => PreSpec::of(&[SpaceNewline(LLAMA3)]).ignore_merges().add_bos(),
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => PreSpec::of(&[SpaceNewline(LLAMA3)]),
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "a.x-4.0" | "mellum"
        | "modern-bert" | "jina-v1-en" | "jina-v2-code" | "roberta-bpe" | "mpt" | "olmo" | "jais" | "trillion"
        | "granite-docling" | "exaone4" => PreSpec::of(&[Space(GPT2)]),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            PreSpec::of(&[Plain(r"\p{N}"), Space(GPT2)])
        }
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "megrez" | "hunyuan" | "solar-open"
        | "grok-2" => PreSpec::of(&[SpaceNewline(QWEN2)]),
        "qwen35" => PreSpec::of(&[SpaceNewline(QWEN35)]),
        "minicpm5" => PreSpec::of(&[Plain(r"\p{N}{1,3}"), SpaceNewline(MINICPM5)]).ignore_merges(),
        "deepseek-llm" => PreSpec::of(&[
            Plain(r"[\r\n]"),
            Plain(DEEPSEEK_LETTERS),
            Plain(DEEPSEEK_PUNCTUATION),
            Plain(r"\s+$"),
            Plain(DEEPSEEK_HAN),
            Plain(r"\p{N}+"),
        ]),
        "deepseek-coder" => PreSpec::of(&[
            Plain(r"[\r\n]"),
            Plain(r"\s?\p{L}+"),
            Plain(r"\s?\p{P}+"),
            Plain(DEEPSEEK_HAN),
            Plain(r"\p{N}"),
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            PreSpec::of(&[Plain(r"\p{N}{1,3}"), Plain(KANA_HAN), SpaceNewline(DEEPSEEK3)])
        }
        "spark2_5" => PreSpec::of(&[Plain(r"\p{N}{1,3}"), Plain(KANA_HAN), Space(SPARK), Plain(r"\p{N}")]),
        "falcon" => PreSpec::of(&[Plain(r"[\p{P}\$\+<=>\^~\|`]+"), Space(GPT2), Plain("[0-9][0-9][0-9]")]),
        "poro-chat" | "bloom" | "gpt3-finnish" => PreSpec::of(&[Plain(BLOOM)]),
        "viking" => PreSpec::of(&[Plain(BLOOM), Plain(r"\p{N}")]),
        "tekken" => PreSpec::of(&[SpaceNewline(TEKKEN)]).ignore_merges().add_bos(),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => PreSpec::of(&[SpaceNewline(GPT4O)]),
        "granite-embed-multi-97m" => PreSpec::of(&[SpaceNewline(GPT4O)]).ignore_merges(),
        "tiny_aya" | "cohere2moe" => PreSpec::of(&[DigitGroups, SpaceNewline(GPT4O)]),
        "youtu" => PreSpec::of(&[Plain(YOUTU_CJK), SpaceNewline(YOUTU)]).ignore_merges(),
        "kimi-k2" => PreSpec::of(&[SpaceNewline(KIMI_K2)]),
        "superbpe" => PreSpec::of(&[Plain(r"\p{N}+"), DigitGroups]),
        "afmoe" => PreSpec::of(&[DigitGroups, Plain(AFMOE_CJK), SpaceNewline(DEEPSEEK3)]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => PreSpec::of(&[SpaceNewline(BAILINGMOE)]),
        "seed-coder" => PreSpec::of(&[SpaceNewline(SEED_CODER)]),
        "exaone-moe" => PreSpec::of(&[SpaceNewline(EXAONE_MOE)]),
        "ufakzeka" => PreSpec::of(&[SpaceNewline(UFAKZEKA)]),
        "laguna" => PreSpec::of(&[Plain(r"[^\n]+|\n+"), SpaceNewline(QWEN2)]),
        "chameleon" => PreSpec::of(&[
            Plain("<sentinel:[0-9]+>"),
            Plain("IMGIMG[A-I]{1,4}Z"),
            Plain(r"[\t\n]|    |  "),
            Plain(r"\p{N}"),
            Plain(r"[\p{P}!-/:-@\[-`{-~]"),
            Space(GPT2),
        ])
        .add_bos(),
        "gemma4" | "granite-embed-multi-311m" => PreSpec::of(&[Plain(r"[^\n]+|\n+")]).visible_space().add_bos(),
        "sarvam-moe" => PreSpec::of(&[Plain(r"[^\n]+|\n+")]).visible_space(),
        _ => return None,
    })
}

/// Names to choose from where only the splits are known: one for each kind.
const KINDS: &[&str] = &[
    "llama-bpe",
    "dbrx",
    "gpt-2",
    "smollm",
    "qwen2",
    "qwen35",
    "minicpm5",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "falcon",
    "bloom",
    "viking",
    "tekken",
    "gpt-4o",
    "youtu",
    "kimi-k2",
    "bailingmoe",
    "seed-coder",
    "exaone-moe",
    "ufakzeka",
    "laguna",
];

/// The pre-tokenizer with these splits, published expressions in order, and whether it also agrees on whether a word that is a
/// token is merged up from its bytes.
pub(super) fn name_of_splits(splits: &[String], ignore_merges: bool) -> Option<(&'static str, bool)> {
    const LOOK_AHEAD: &str = r"|\s+(?!\S)|\s+";
    let source = |split: &Split| match split {
        Plain(source) => Some((*source).to_owned()),
        Space(source) | SpaceNewline(source) => Some(source.strip_suffix(r"|\s+")?.to_owned() + LOOK_AHEAD),
        DigitGroups => None,
    };
    // The expression inside `ByteLevel` is given as it stands here.
    let wanted: Vec<String> =
        splits.iter().map(|s| if s == GPT2 { s.replace(r"|\s+", LOOK_AHEAD) } else { s.clone() }).collect();
    let fits = |spec: &PreSpec| {
        let sources: Option<Vec<String>> = spec.splits.iter().map(source).collect();
        sources.is_some_and(|sources| sources == wanted)
    };
    let mut found = KINDS.iter().filter_map(|name| Some((*name, pre_spec(name)?))).filter(|(_, spec)| fits(spec));
    let first = found.next()?;
    let exact = |(_, spec): &(&str, PreSpec)| spec.ignore_merges == ignore_merges;
    if exact(&first) {
        return Some((first.0, true));
    }
    Some(found.find(exact).map_or((first.0, false), |(name, _)| (name, true)))
}

enum Step {
    Regex { regex: Regex, shorten: Shorten },
    DigitGroups(Regex),
}

#[derive(Clone, Copy, PartialEq)]
enum Shorten {
    Never,
    Always,
    UnlessNewline,
}

impl Step {
    fn compile(split: &Split) -> Result<Self, TextError> {
        let compile =
            |source: &str| Regex::new(source).map_err(|e| TextError::Vocab(format!("pre-tokenizer expression: {e}")));
        Ok(match split {
            Plain(r) => Step::Regex { regex: compile(r)?, shorten: Shorten::Never },
            Space(r) => Step::Regex { regex: compile(r)?, shorten: Shorten::Always },
            SpaceNewline(r) => Step::Regex { regex: compile(r)?, shorten: Shorten::UnlessNewline },
            DigitGroups => Step::DigitGroups(compile(r"\d+")?),
        })
    }

    /// Cuts `text[piece]`, handing out its parts in order.
    fn cut(&self, text: &str, piece: Range<usize>, mut part: impl FnMut(Range<usize>)) {
        let base = piece.start;
        let s = &text[piece];
        let mut done = 0;
        let mut at = 0;
        match self {
            Step::Regex { regex, shorten } => {
                while let Some(m) = regex.find_at(s, at) {
                    let end = shortened(s, m.start(), m.end(), *shorten);
                    if m.is_empty() {
                        break;
                    }
                    if m.start() > done {
                        part(base + done..base + m.start());
                    }
                    part(base + m.start()..base + end);
                    done = end;
                    at = end;
                }
            }
            Step::DigitGroups(digits) => {
                for m in digits.find_iter(s) {
                    if m.start() > done {
                        part(base + done..base + m.start());
                    }
                    let starts: Vec<usize> = m.as_str().char_indices().map(|(i, _)| m.start() + i).collect();
                    let first = match starts.len() % 3 {
                        0 => 3,
                        n => n,
                    };
                    let mut from = m.start();
                    for &cut in starts.iter().skip(first).step_by(3) {
                        part(base + from..base + cut);
                        from = cut;
                    }
                    part(base + from..base + m.end());
                    done = m.end();
                }
            }
        }
        if done < s.len() {
            part(base + done..base + s.len());
        }
    }
}

/// End of a match after `\s+(?!\S)|\s+` has had its say.
fn shortened(s: &str, start: usize, end: usize, shorten: Shorten) -> usize {
    if shorten == Shorten::Never || end == s.len() {
        return end;
    }
    let run = &s[start..end];
    if !run.chars().all(char::is_whitespace) {
        return end;
    }
    if shorten == Shorten::UnlessNewline && run.ends_with(['\r', '\n']) {
        return end;
    }
    match run.char_indices().next_back() {
        Some((i, _)) if i > 0 => start + i,
        _ => end,
    }
}

/// A compiled pre-tokenizer.
pub(super) struct Splitter {
    steps: Vec<Step>,
}

impl Splitter {
    /// Calls `word` with each piece of `text`, in order; the pieces cover the text.
    pub(super) fn split(
        &self,
        text: &str,
        mut word: impl FnMut(&str) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let mut pieces: Vec<Range<usize>> = std::iter::once(0..text.len()).collect();
        let mut next = Vec::new();
        for step in &self.steps {
            for piece in pieces.drain(..) {
                step.cut(text, piece, |part| next.push(part));
            }
            std::mem::swap(&mut pieces, &mut next);
        }
        pieces.into_iter().filter(|p| !p.is_empty()).try_for_each(|p| word(&text[p]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, text: &str) -> Vec<String> {
        split_with(&pre_spec(name).unwrap().splitter().unwrap(), text)
    }

    fn split_with(splitter: &Splitter, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        splitter
            .split(text, |w| {
                out.push(w.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(out.concat(), text);
        out
    }

    #[test]
    fn every_known_name_compiles_and_covers() {
        for name in [
            "default",
            "llama3",
            "dbrx",
            "gpt-2",
            "smollm",
            "qwen2",
            "qwen35",
            "minicpm5",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "spark2_5",
            "falcon",
            "bloom",
            "viking",
            "tekken",
            "gpt-4o",
            "granite-embed-multi-97m",
            "tiny_aya",
            "youtu",
            "kimi-k2",
            "superbpe",
            "afmoe",
            "bailingmoe",
            "seed-coder",
            "exaone-moe",
            "ufakzeka",
            "laguna",
            "chameleon",
            "gemma4",
            "sarvam-moe",
        ] {
            split(name, "");
            split(name, "Hello  WORLD's 12345 x\u{301}\n\n \t ok 日本語かな … \u{1F468}\u{200D}\u{1F469} \r\n end  ");
        }
        assert!(pre_spec("no-such-thing").is_none());
    }

    #[test]
    fn published_splits_have_names() {
        let qwen2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(name_of_splits(&[qwen2.into()], false), Some(("qwen2", true)));
        let llama3 = qwen2.replace(r"|\p{N}|", r"|\p{N}{1,3}|");
        assert_eq!(name_of_splits(std::slice::from_ref(&llama3), true), Some(("llama-bpe", true)));
        assert_eq!(name_of_splits(&[llama3], false), Some(("dbrx", true)));
        assert_eq!(name_of_splits(&[r"\p{N}".into(), GPT2.into()], false), Some(("smollm", true)));
        assert_eq!(name_of_splits(&[GPT2.into()], true), Some(("gpt-2", false)));
        assert_eq!(name_of_splits(&["x".into()], false), None);
        assert_eq!(name_of_splits(&[], false), None);
    }

    #[test]
    fn white_space_leaves_one_to_the_word() {
        assert_eq!(split("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(split("gpt-2", "a   "), ["a", "   "]);
        assert_eq!(split("gpt-2", "a\n\n\nb"), ["a", "\n\n", "\n", "b"]);
        assert_eq!(split("gpt-2", "\tb"), ["\t", "b"]);
        assert_eq!(split("llama3", "a  \n\n  b"), ["a", "  \n\n", " ", " b"]);
        assert_eq!(split("llama3", "a\u{3000}\u{3000}b"), ["a", "\u{3000}", "\u{3000}b"]);
        assert_eq!(split("spark2_5", " \n\nx"), [" \n", "\n", "x"]);
    }

    #[test]
    fn digits() {
        assert_eq!(split("smollm", "x123 4"), ["x", "1", "2", "3", " ", "4"]);
        assert_eq!(split("llama3", "1234567"), ["123", "456", "7"]);
        assert_eq!(split("superbpe", "1234567"), ["1", "234", "567"]);
        assert_eq!(split("afmoe", "a123456b12"), ["a", "123", "456", "b", "12"]);
    }

    #[test]
    fn contractions_follow_their_case_rule() {
        assert_eq!(split("gpt-2", "I'LL you'll"), ["I", "'", "LL", " you", "'ll"]);
        assert_eq!(split("llama3", "I'LL"), ["I", "'LL"]);
        assert_eq!(split("gpt-4o", "I'LL HelloWorld"), ["I'LL", " Hello", "World"]);
    }

    /// The published expressions with their look-aheads, run by another engine; lengths of pieces in characters.
    #[test]
    fn recorded_splits() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/splits.json")).unwrap();
        let texts = file["texts"].as_array().unwrap();
        for (name, recorded) in file["splits"].as_object().unwrap() {
            let splitter = pre_spec(name).unwrap().splitter().unwrap();
            for (text, want) in texts.iter().zip(recorded.as_array().unwrap()) {
                let text = text.as_str().unwrap();
                let got: Vec<usize> = split_with(&splitter, text).iter().map(|w| w.chars().count()).collect();
                assert_eq!(serde_json::json!(got), *want, "{name} {text:?}");
            }
        }
    }
}
