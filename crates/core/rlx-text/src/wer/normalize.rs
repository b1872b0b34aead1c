//! Texts made alike, so that spelling and punctuation are no errors (openai/whisper, `normalizers/`).

use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::english;

/// How texts are made alike before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalization {
    /// Not at all.
    #[default]
    None,
    /// Lower case; no punctuation, symbols and remarks in brackets. For any language.
    Basic,
    /// Also contractions, titles, numbers, fillers, and British spelling. For English.
    English,
}

impl FromStr for Normalization {
    type Err = String;

    fn from_str(text: &str) -> Result<Normalization, String> {
        match text {
            "none" => Ok(Normalization::None),
            "basic" => Ok(Normalization::Basic),
            "english" => Ok(Normalization::English),
            _ => Err("expected none, basic or english".to_owned()),
        }
    }
}

impl Normalization {
    /// The text made like others.
    pub fn apply(self, text: &str) -> String {
        match self {
            Normalization::None => text.to_owned(),
            Normalization::Basic => basic(text),
            Normalization::English => english::normalize(text),
        }
    }
}

/// A regular expression of this crate.
pub(super) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a fixed pattern that a test compiles")
}

/// Lower case, without remarks in brackets.
pub(super) fn without_remarks(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> = LazyLock::new(|| regex(r"[<\[][^>\]]*[>\]]"));
    static PARENTHESES: LazyLock<Regex> = LazyLock::new(|| regex(r"\(([^)]+?)\)"));
    let text = text.to_lowercase();
    let text = BRACKETS.replace_all(&text, "");
    PARENTHESES.replace_all(&text, "").into_owned()
}

fn basic(text: &str) -> String {
    static SYMBOLS: LazyLock<Regex> = LazyLock::new(|| regex(r"[\p{M}\p{S}\p{P}]"));
    let text: String = without_remarks(text).nfkc().collect();
    single_spaces(&SYMBOLS.replace_all(&text, " ").to_lowercase())
}

/// Letters without their accents; symbols and punctuation but those of `keep` become spaces.
pub(super) fn without_symbols_and_accents(text: &str, keep: &str) -> String {
    static ACCENTS: LazyLock<Regex> = LazyLock::new(|| regex(r"^\p{Mn}$"));
    static SYMBOLS: LazyLock<Regex> = LazyLock::new(|| regex(r"^[\p{M}\p{S}\p{P}]$"));
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.nfkd() {
        let is = |class: &Regex, buffer: &mut [u8; 4]| class.is_match(c.encode_utf8(buffer));
        match c {
            c if keep.contains(c) => out.push(c),
            // What the decomposition leaves whole.
            'œ' => out.push_str("oe"),
            'Œ' => out.push_str("OE"),
            'ø' => out.push('o'),
            'Ø' => out.push('O'),
            'æ' => out.push_str("ae"),
            'Æ' => out.push_str("AE"),
            'ß' => out.push_str("ss"),
            'ẞ' => out.push_str("SS"),
            'đ' | 'ð' => out.push('d'),
            'Đ' | 'Ð' => out.push('D'),
            'þ' | 'Þ' => out.push_str("th"),
            'ł' => out.push('l'),
            'Ł' => out.push('L'),
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if is(&ACCENTS, &mut buffer) => {}
            _ if is(&SYMBOLS, &mut buffer) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Runs of white space as one space.
pub(super) fn single_spaces(text: &str) -> String {
    static SPACES: LazyLock<Regex> = LazyLock::new(|| regex(r"\s+"));
    SPACES.replace_all(text, " ").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_keeps_words_of_any_language() {
        let basic = |text| Normalization::Basic.apply(text);
        assert_eq!(basic("Hello,  WORLD! [noise] (laughs) <unk>"), "hello world ");
        assert_eq!(basic("Ça va? Größe: ５"), "ça va größe 5");
        assert_eq!(basic(""), "");
    }

    #[test]
    fn accents_are_taken_off() {
        assert_eq!(without_symbols_and_accents("Café Ærø — ½ $5", "$"), "Cafe AEro   1 2 $5");
    }
}
