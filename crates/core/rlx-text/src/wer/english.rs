//! English texts made alike (openai/whisper, `normalizers/english.py`).

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::normalize::{regex, single_spaces, without_remarks, without_symbols_and_accents};
use super::numbers;

/// British and American spellings, as openai/whisper lists them (`normalizers/english.json`, MIT licence).
const SPELLINGS: &str = include_str!("../../data/english_spelling.txt");

/// What is written out, in this order.
const CONTRACTIONS: &[(&str, &str)] = &[
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b", "can not"),
    (r"\blet's\b", "let us"),
    (r"\bain't\b", "aint"),
    (r"\by'all\b", "you all"),
    (r"\bwanna\b", "want to"),
    (r"\bgotta\b", "got to"),
    (r"\bgonna\b", "going to"),
    (r"\bi'ma\b", "i am going to"),
    (r"\bimma\b", "i am going to"),
    (r"\bwoulda\b", "would have"),
    (r"\bcoulda\b", "could have"),
    (r"\bshoulda\b", "should have"),
    (r"\bma'am\b", "madam"),
    // Titles.
    (r"\bmr\b", "mister "),
    (r"\bmrs\b", "missus "),
    (r"\bst\b", "saint "),
    (r"\bdr\b", "doctor "),
    (r"\bprof\b", "professor "),
    (r"\bcapt\b", "captain "),
    (r"\bgov\b", "governor "),
    (r"\bald\b", "alderman "),
    (r"\bgen\b", "general "),
    (r"\bsen\b", "senator "),
    (r"\brep\b", "representative "),
    (r"\bpres\b", "president "),
    (r"\brev\b", "reverend "),
    (r"\bhon\b", "honorable "),
    (r"\basst\b", "assistant "),
    (r"\bassoc\b", "associate "),
    (r"\blt\b", "lieutenant "),
    (r"\bcol\b", "colonel "),
    (r"\bjr\b", "junior "),
    (r"\bsr\b", "senior "),
    (r"\besq\b", "esquire "),
    // Perfect tenses, before what 'd and 's mean otherwise.
    (r"'d been\b", " had been"),
    (r"'s been\b", " has been"),
    (r"'d gone\b", " had gone"),
    (r"'s gone\b", " has gone"),
    (r"'d done\b", " had done"),
    (r"'s got\b", " has got"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'s\b", " is"),
    (r"'d\b", " would"),
    (r"'ll\b", " will"),
    (r"'t\b", " not"),
    (r"'ve\b", " have"),
    (r"'m\b", " am"),
];

/// What is changed before numbers and spellings.
static BEFORE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let mut rules = vec![(regex(r"\b(hmm|mm|mhm|mmm|uh|um)\b"), ""), (regex(r"\s+'"), "'")];
    rules.extend(CONTRACTIONS.iter().map(|(pattern, words)| (regex(pattern), *words)));
    rules.push((regex(r"(\d),(\d)"), "$1$2"));
    rules.push((regex(r"\.([^0-9]|$)"), " $1"));
    rules
});

/// Symbols of amounts that stand at no number.
static AFTER: LazyLock<[(Regex, &str); 2]> =
    LazyLock::new(|| [(regex(r"[.$¢€£]([^0-9])"), " $1"), (regex(r"([^0-9])%"), "$1 ")]);

pub(super) fn normalize(text: &str) -> String {
    static AMERICAN: LazyLock<HashMap<&str, &str>> =
        LazyLock::new(|| SPELLINGS.lines().filter_map(|line| line.split_once(' ')).collect());
    let mut text = without_remarks(text);
    for (pattern, words) in BEFORE.iter() {
        text = pattern.replace_all(&text, *words).into_owned();
    }
    text = numbers::normalize(&without_symbols_and_accents(&text, ".%$¢€£"));
    let words: Vec<&str> = text.split_whitespace().map(|w| AMERICAN.get(w).copied().unwrap_or(w)).collect();
    text = words.join(" ");
    for (pattern, words) in AFTER.iter() {
        text = pattern.replace_all(&text, *words).into_owned();
    }
    single_spaces(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contractions_titles_and_spelling() {
        assert_eq!(
            normalize("Mr. Park visited Assoc. Prof. Kim Jr."),
            "mister park visited associate professor kim junior"
        );
        assert_eq!(
            normalize("Let's go! He'd been to the theatre; it isn't far."),
            "let us go he had been to the theater it is not far"
        );
        assert_eq!(normalize("Um, the [noise] colour (sic) is grey."), "the color is gray");
        assert_eq!(normalize(""), "");
    }

    #[test]
    fn symbols_stay_at_numbers_alone() {
        assert_eq!(normalize("costs $2.50 or 3% more, c. 10"), "costs $2.50 or 3% more c 10");
    }
}
