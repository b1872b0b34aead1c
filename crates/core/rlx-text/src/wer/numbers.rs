//! Numbers in words as digits (openai/whisper, `EnglishNumberNormalizer`): `twenty one` is `21`, `two hundred and five dollars` is
//! `$205`, `one oh one` is `101`, `the nineties` are `the 90s`.

use std::sync::LazyLock;

use regex::Regex;

use super::normalize::regex;

const ONES: [&str; 19] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
/// Powers of 1000, the first being `thousand`.
const POWERS: [&str; 11] = [
    "thousand",
    "million",
    "billion",
    "trillion",
    "quadrillion",
    "quintillion",
    "sextillion",
    "septillion",
    "octillion",
    "nonillion",
    "decillion",
];

/// What a word says of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Zero,
    /// 1 to 19.
    One(u128),
    /// The same with an ending: `ones`, `first`.
    OneWith(u128, &'static str),
    Ten(u128),
    TenWith(u128, &'static str),
    Power(u128),
    PowerWith(u128, &'static str),
    /// A sign before a number.
    Sign(char),
    /// A currency after a number.
    Currency(char),
    Per,
    Percent,
    And,
    /// `double`, `triple`.
    Times(usize),
    Point,
}

/// What `word` says; `None` for words that say nothing of numbers.
fn word(word: &str) -> Option<Word> {
    let one = |name: &str| ONES.iter().position(|w| *w == name).map(|i| i as u128 + 1);
    let ten = |name: &str| TENS.iter().position(|w| *w == name).map(|i| (i as u128 + 2) * 10);
    Some(match word {
        "o" | "oh" | "zero" => Word::Zero,
        "zeroth" => Word::OneWith(0, "th"),
        "first" => Word::OneWith(1, "st"),
        "second" => Word::OneWith(2, "nd"),
        "third" => Word::OneWith(3, "rd"),
        "fifth" => Word::OneWith(5, "th"),
        "eighth" => Word::OneWith(8, "th"),
        "twelfth" => Word::OneWith(12, "th"),
        "sixes" => Word::OneWith(6, "s"),
        "minus" | "negative" => Word::Sign('-'),
        "plus" | "positive" => Word::Sign('+'),
        "pound" | "pounds" => Word::Currency('£'),
        "euro" | "euros" => Word::Currency('€'),
        "dollar" | "dollars" => Word::Currency('$'),
        "cent" | "cents" => Word::Currency('¢'),
        "per" => Word::Per,
        "percent" => Word::Percent,
        "and" => Word::And,
        "double" => Word::Times(2),
        "triple" => Word::Times(3),
        "point" => Word::Point,
        _ => {
            if let Some(n) = one(word) {
                return Some(Word::One(n));
            }
            if let Some(n) = ten(word) {
                return Some(Word::Ten(n));
            }
            if let Some(n) = power(word) {
                return Some(Word::Power(n));
            }
            if let Some(stem) = word.strip_suffix("ies") {
                return ten(&format!("{stem}y")).map(|n| Word::TenWith(n, "s"));
            }
            if let Some(stem) = word.strip_suffix("ieth") {
                return ten(&format!("{stem}y")).map(|n| Word::TenWith(n, "th"));
            }
            if let Some(stem) = word.strip_suffix("th") {
                // `fourth`, `sixth` ...; those of irregular form stand above.
                let n = one(stem).filter(|n| *n > 3 && ![5, 8, 12].contains(n));
                return n.map(|n| Word::OneWith(n, "th")).or_else(|| power(stem).map(|n| Word::PowerWith(n, "th")));
            }
            let stem = word.strip_suffix('s')?;
            let n = one(stem).filter(|n| *n != 6);
            return n.map(|n| Word::OneWith(n, "s")).or_else(|| power(stem).map(|n| Word::PowerWith(n, "s")));
        }
    })
}

fn power(name: &str) -> Option<u128> {
    if name == "hundred" {
        return Some(100);
    }
    let exponent = POWERS.iter().position(|w| *w == name)? as u32 + 1;
    1000u128.checked_pow(exponent)
}

/// A number in the making.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u128),
    /// Digits one by one, or a fraction.
    Digits(String),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::Number(n) => n.to_string(),
            Value::Digits(digits) => digits.clone(),
        }
    }
}

/// `12`, `12.5`: ASCII digits.
fn is_numeric(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// `text * power` if that is whole.
fn times(text: &str, power: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits.checked_mul(power)?;
    (product % scale == 0).then(|| product / scale)
}

/// Reads words from left to right.
#[derive(Default)]
struct Reader {
    out: Vec<String>,
    sign: Option<char>,
    value: Option<Value>,
}

impl Reader {
    /// Writes a word or number, with the sign that waits for it.
    fn write(&mut self, text: &str) {
        let sign = self.sign.take().map(String::from).unwrap_or_default();
        self.out.push(format!("{sign}{text}"));
        self.value = None;
    }

    /// Writes the number so far, if there is one.
    fn flush(&mut self) {
        if let Some(value) = self.value.take() {
            self.write(&value.text());
        }
    }

    /// The text of the number so far, or nothing; a plain 0 counts as nothing.
    fn digits(&self) -> String {
        self.value.as_ref().filter(|v| **v != Value::Number(0)).map(Value::text).unwrap_or_default()
    }

    /// Takes up a number of 1 to 19. `before` is the word before.
    fn one(&mut self, n: u128, before: Option<Word>) -> Value {
        let after_one = matches!(before, Some(Word::One(_)));
        match self.value.take() {
            None => Value::Number(n),
            Some(Value::Digits(mut digits)) => {
                if matches!(before, Some(Word::Ten(_))) && n < 10 && digits.ends_with('0') {
                    digits.pop();
                }
                Value::Digits(format!("{digits}{n}"))
            }
            Some(Value::Number(value)) if after_one => Value::Digits(format!("{value}{n}")),
            Some(Value::Number(value)) => join(value, n, if n < 10 { 10 } else { 100 }),
        }
    }

    fn ten(&mut self, n: u128) -> Value {
        match self.value.take() {
            None => Value::Number(n),
            Some(Value::Digits(digits)) => Value::Digits(format!("{digits}{n}")),
            Some(Value::Number(value)) => join(value, n, 100),
        }
    }

    /// Multiplies the number so far; what cannot be multiplied is written first.
    fn power(&mut self, power: u128) -> Value {
        let product = match &self.value {
            None => Some(power),
            Some(Value::Digits(digits)) => times(digits, power),
            Some(Value::Number(0)) => Some(0),
            Some(Value::Number(n)) => {
                // Only what follows the last power of 1000 is multiplied.
                (n % 1000).checked_mul(power).and_then(|product| (n / 1000 * 1000).checked_add(product))
            }
        };
        match product {
            Some(product) => {
                self.value = None;
                Value::Number(product)
            }
            None => {
                self.flush();
                Value::Number(power)
            }
        }
    }

    /// Takes up `current` between its neighbours; whether the next word is used up too.
    fn read(&mut self, before: Option<&str>, current: &str, next: Option<&str>) -> bool {
        let unsigned = current.strip_prefix(['-', '+', '£', '€', '$', '¢']);
        let number = unsigned.unwrap_or(current);
        if is_numeric(number) {
            if let Some(Value::Digits(digits)) = self.value.as_mut().filter(|v| v.text().ends_with('.')) {
                // Decimals, or parts of an address.
                digits.push_str(current);
                return false;
            }
            self.flush();
            self.sign = unsigned.and(current.chars().next()).or(self.sign);
            self.value = Some(times(number, 1).map_or_else(|| Value::Digits(number.to_owned()), Value::Number));
            return false;
        }
        let before = before.and_then(word);
        let next_word = next.and_then(word);
        let next_is_number = next.is_some_and(is_numeric);
        match word(current) {
            None => {
                self.flush();
                self.write(current);
            }
            Some(Word::Zero) => self.value = Some(Value::Digits(format!("{}0", self.digits()))),
            Some(Word::One(n)) => self.value = Some(self.one(n, before)),
            Some(Word::OneWith(n, ending)) => {
                let value = self.one(n, before);
                self.write(&format!("{}{ending}", value.text()));
            }
            Some(Word::Ten(n)) => self.value = Some(self.ten(n)),
            Some(Word::TenWith(n, ending)) => {
                let value = self.ten(n);
                self.write(&format!("{}{ending}", value.text()));
            }
            Some(Word::Power(n)) => self.value = Some(self.power(n)),
            Some(Word::PowerWith(n, ending)) => {
                let value = self.power(n);
                self.write(&format!("{}{ending}", value.text()));
            }
            Some(Word::Sign(sign)) => {
                self.flush();
                if next_word.is_some() || next_is_number {
                    self.sign = Some(sign);
                } else {
                    self.write(current);
                }
            }
            Some(Word::Currency(sign)) => {
                if self.value.is_some() {
                    self.sign = Some(sign);
                    self.flush();
                } else {
                    self.write(current);
                }
            }
            Some(Word::Percent) => match self.value.take() {
                Some(value) => self.write(&format!("{}%", value.text())),
                None => self.write(current),
            },
            Some(Word::Per) => match self.value.take() {
                Some(value) if next == Some("cent") => {
                    self.write(&format!("{}%", value.text()));
                    return true;
                }
                value => {
                    self.value = value;
                    self.flush();
                    self.write(current);
                }
            },
            Some(Word::And | Word::Times(_) | Word::Point) if next_word.is_none() && !next_is_number => {
                self.flush();
                self.write(current);
            }
            Some(Word::And) => {
                // As in two hundred and five.
                if !matches!(before, Some(Word::Power(_))) {
                    self.flush();
                    self.write(current);
                }
            }
            Some(Word::Times(count)) => {
                let digit = match next_word {
                    Some(Word::One(n)) => n,
                    Some(Word::Zero) => 0,
                    _ => {
                        self.flush();
                        self.write(current);
                        return false;
                    }
                };
                self.value = Some(Value::Digits(format!("{}{}", self.digits(), digit.to_string().repeat(count))));
                return true;
            }
            Some(Word::Point) => {
                if next_is_number || matches!(next_word, Some(Word::Zero | Word::One(_) | Word::Ten(_))) {
                    self.value = Some(Value::Digits(format!("{}.", self.digits())));
                }
            }
        }
        false
    }
}

/// `value + n` if `value` has room for it, else one after the other.
fn join(value: u128, n: u128, room: u128) -> Value {
    match value.checked_add(n).filter(|_| value.is_multiple_of(room)) {
        Some(sum) => Value::Number(sum),
        None => Value::Digits(format!("{value}{n}")),
    }
}

/// The words of `text`, lower case and without punctuation, with its numbers as digits.
pub(super) fn normalize(text: &str) -> String {
    let text = prepare(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut reader = Reader::default();
    let mut skip = false;
    for (i, current) in words.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        let before = i.checked_sub(1).map(|i| words[i]);
        skip = reader.read(before, current, words.get(i + 1).copied());
    }
    reader.flush();
    finish(&reader.out.join(" "))
}

/// `two and a half` is `two point five`; letters and digits stand apart, but for the endings of numbers.
fn prepare(text: &str) -> String {
    static HALF: LazyLock<Regex> = LazyLock::new(|| regex(r"\band\s+a\s+half\b"));
    static APART: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        [
            (regex(r"([a-z])([0-9])"), "$1 $2"),
            (regex(r"([0-9])([a-z])"), "$1 $2"),
            (regex(r"([0-9])\s+(st|nd|rd|th|s)\b"), "$1$2"),
        ]
    });
    let parts: Vec<&str> = HALF.split(text).collect();
    let mut joined: Vec<&str> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        if part.trim().is_empty() {
            continue;
        }
        joined.push(part);
        if i + 1 < parts.len() {
            let last = part.split_whitespace().next_back().and_then(word);
            let number = matches!(last, Some(Word::Zero | Word::One(_) | Word::Ten(_) | Word::Power(_)));
            joined.push(if number { "point five" } else { "and a half" });
        }
    }
    let mut text = joined.join(" ");
    for (pattern, spaced) in APART.iter() {
        text = pattern.replace_all(&text, *spaced).into_owned();
    }
    text
}

/// `$2 and ¢7` is `$2.07`, `$0.07` is `¢7`; a lone 1 is the word `one`.
fn finish(text: &str) -> String {
    static DOLLARS_AND_CENTS: LazyLock<Regex> = LazyLock::new(|| regex(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b"));
    static CENTS: LazyLock<Regex> = LazyLock::new(|| regex(r"[€£$]0.([0-9]{1,2})\b"));
    static ONE: LazyLock<Regex> = LazyLock::new(|| regex(r"\b1(s?)\b"));
    let cents = |found: &regex::Captures<'_>| found[3].parse::<u8>().unwrap_or(0);
    let text = DOLLARS_AND_CENTS
        .replace_all(text, |found: &regex::Captures<'_>| format!("{}{}.{:02}", &found[1], &found[2], cents(found)));
    let text =
        CENTS.replace_all(&text, |found: &regex::Captures<'_>| format!("¢{}", found[1].parse::<u8>().unwrap_or(0)));
    ONE.replace_all(&text, "one$1").into_owned()
}
