//! One JSON value a line.

use std::fmt;
use std::io::Read;

use rlx_weights::{list_names, quoted};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::lines::Lines;
use super::{Progress, Text, TextSource};
use crate::VectorsError;

/// The field that is read where none is named.
pub(super) const DEFAULT_FIELD: &str = "text";

/// A field of the JSON object on each line.
pub(super) struct Jsonl<R> {
    lines: Lines<R>,
    path: String,
    /// Whether a line may be the text itself: only where no field was asked for.
    bare: bool,
    rows: u64,
}

impl<R: Read> Jsonl<R> {
    pub(super) fn new(lines: Lines<R>, column: Option<&str>) -> Self {
        Jsonl { lines, path: column.unwrap_or(DEFAULT_FIELD).to_owned(), bare: column.is_none(), rows: 0 }
    }

    fn text(&self, line: &[u8]) -> Result<String, VectorsError> {
        let bad = |what: String| self.lines.input.bad("line", self.lines.line, what);
        let start = line.iter().find(|byte| !byte.is_ascii_whitespace());
        let path = if self.bare && start == Some(&b'"') { "" } else { self.path.as_str() };
        let found = seek(line, path).map_err(|error| bad(json_error(&error)))?;
        match found {
            Found::Text(bytes) => self.lines.input.text(bytes, "line", self.lines.line),
            Found::Null | Found::Nothing if self.lines.input.allow_missing => Ok(String::new()),
            Found::Null => {
                Err(bad(format!("the field {} is null (--allow-missing takes it for an empty text)", quoted(path))))
            }
            Found::Nothing => {
                let names = keys(line);
                let there = if names.is_empty() {
                    "an object is needed".into()
                } else {
                    format!("there are: {}", list_names(&names))
                };
                Err(bad(format!("no field {} ({there}; --column names another one)", quoted(path))))
            }
        }
    }
}

impl<R: Read> Iterator for Jsonl<R> {
    type Item = Result<Text, VectorsError>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.lines.next_line()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row = self.rows;
            self.rows += 1;
            let text = self.text(&line);
            if text.is_err() {
                self.lines.end();
            }
            return Some(text.map(|text| Text { row, text }));
        }
    }
}

impl<R: Read> TextSource for Jsonl<R> {
    fn progress(&self) -> Progress {
        self.lines.read_progress()
    }

    fn ready(&self) -> bool {
        self.lines.line_ready()
    }
}

/// What lies at a path.
enum Found {
    /// The bytes of a string. Lone surrogates are in them as if UTF-8 had codes for them.
    Text(Vec<u8>),
    Null,
    Nothing,
}

/// The string at `path` of the JSON value `line`; the empty path is the value itself. All else is skipped without a copy.
fn seek(line: &[u8], path: &str) -> Result<Found, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let found = Seek { path }.deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// The message without `at line 1`, which would be that of the file.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("bad JSON at column {}: {what}", error.column()),
        None => format!("bad JSON: {text}"),
    }
}

struct Seek<'p> {
    path: &'p str,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        if self.path.is_empty() {
            deserializer.deserialize_option(Leaf)
        } else {
            deserializer.deserialize_any(Walk(self.path))
        }
    }
}

/// The value at the end of the path.
struct Leaf;

impl<'de> Visitor<'de> for Leaf {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }
    fn visit_none<E: Error>(self) -> Result<Found, E> {
        Ok(Found::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        // As bytes, since a string could not hold what only --lossy accepts.
        deserializer.deserialize_byte_buf(self)
    }
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Found, E> {
        Ok(Found::Text(bytes.to_vec()))
    }
}

/// A value on the way, and the rest of the path.
struct Walk<'p>(&'p str);

impl Walk<'_> {
    /// What follows the name `key`, or its first part, on the path. A name with dots in it goes before a path.
    fn after(&self, key: &[u8]) -> Option<&str> {
        let rest = self.0.as_bytes().strip_prefix(key)?;
        match rest {
            [] => Some(""),
            [b'.', ..] => self.0.get(key.len() + 1..),
            _ => None,
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field {}", quoted(self.0))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (mut found, mut exact) = (Found::Nothing, false);
        while let Some(key) = map.next_key_seed(Key)? {
            match self.after(&key) {
                // As everywhere, the last of equal names counts.
                Some("") => (found, exact) = (map.next_value_seed(Seek { path: "" })?, true),
                Some(path) if !exact => match map.next_value_seed(Seek { path })? {
                    Found::Nothing => {}
                    value => found = value,
                },
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let (first, path) = self.0.split_once('.').unwrap_or((self.0, ""));
        let mut found = Found::Nothing;
        if let Ok(index) = first.parse::<usize>() {
            let mut at = 0;
            while at < index && seq.next_element::<IgnoredAny>()?.is_some() {
                at += 1;
            }
            if at == index
                && let Some(value) = seq.next_element_seed(Seek { path })?
            {
                found = value;
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
    // No other value has fields.
    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
}

/// A name in an object, as bytes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Vec<u8>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Vec<u8>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// The names of the fields of an object, for an error message; none if it is no object.
fn keys(line: &[u8]) -> Vec<String> {
    serde_json::from_slice::<std::collections::BTreeMap<String, IgnoredAny>>(line)
        .map_or_else(|_| Vec::new(), |map| map.into_keys().collect())
}
