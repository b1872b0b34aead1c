//! What templates written for Python expect: `tojson`, `str()` of values, `strftime_now`.

use std::fmt::{self, Write};

use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Deeper values are refused rather than walked.
const MAX_DEPTH: usize = 128;

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, "value is nested too deeply")
}

/// `json.dumps(value, ensure_ascii=False, indent=..., separators=..., sort_keys=...)`.
pub(super) fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let indent = match indent.filter(|v| !v.is_none()) {
        None => None,
        Some(v) => match v.as_str() {
            Some(s) => Some(s.to_owned()),
            None => {
                let n = v.as_usize().filter(|&n| n <= 64);
                Some(" ".repeat(n.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a string or 0 to 64")
                })?))
            }
        },
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two strings")),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let mut json = Json {
        out: String::new(),
        indent,
        item,
        key,
        ascii: ensure_ascii.unwrap_or(false),
        sort: sort_keys.unwrap_or(false),
    };
    json.value(&value, 0)?;
    Ok(Value::from_safe_string(json.out))
}

struct Json {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

impl Json {
    fn value(&mut self, v: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        match v.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if v.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(v)),
            ValueKind::String => self.string(v.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = v.try_iter()?.collect();
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.before(i, depth);
                    self.value(item, depth + 1)?;
                }
                self.close(']', items.is_empty(), depth);
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = v.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.out.push('{');
                for (i, key) in keys.iter().enumerate() {
                    self.before(i, depth);
                    match key.as_str() {
                        Some(s) => self.string(s),
                        None => {
                            let text = match key.kind() {
                                ValueKind::None => "null".into(),
                                ValueKind::Bool if key.is_true() => "true".into(),
                                ValueKind::Bool => "false".into(),
                                ValueKind::Number => number(key),
                                _ => return Err(not_json(key)),
                            };
                            self.string(&text);
                        }
                    }
                    let colon = self.key.clone();
                    self.out.push_str(&colon);
                    self.value(&v.get_item(key)?, depth + 1)?;
                }
                self.close('}', keys.is_empty(), depth);
            }
            _ => return Err(not_json(v)),
        }
        Ok(())
    }

    fn before(&mut self, i: usize, depth: usize) {
        if i > 0 {
            let item = self.item.clone();
            self.out.push_str(&item);
        }
        self.new_line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, s: &str) {
        self.out.push('"');
        for c in s.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn not_json(v: &Value) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {} is not JSON serializable", v.kind()))
}

/// `str()` of a number: Python's shortest form, with an exponent from 1e16 on and below 1e-4.
fn number(v: &Value) -> String {
    if v.is_integer() {
        return v.to_string();
    }
    let Ok(f) = f64::try_from(v.clone()) else {
        return v.to_string();
    };
    if f.is_nan() {
        return "NaN".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = f.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{f:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(e) => ('-', e),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{f:?}")
}

/// Writes `str(value)` as Python prints it: `True`, `None`, `['a', 1]`.
pub(super) fn write_str(out: &mut impl Write, value: &Value) -> Result<(), Error> {
    let failed = |_: fmt::Error| Error::new(ErrorKind::WriteFailure, "the output is full");
    match value.as_str() {
        Some(s) => out.write_str(s).map_err(failed),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, value, 0),
    }
}

fn write_repr(out: &mut impl Write, v: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let failed = |_: fmt::Error| Error::new(ErrorKind::WriteFailure, "the output is full");
    match v.kind() {
        ValueKind::None => out.write_str("None").map_err(failed),
        ValueKind::Bool => out.write_str(if v.is_true() { "True" } else { "False" }).map_err(failed),
        ValueKind::Number => out.write_str(&number(v)).map_err(failed),
        ValueKind::String => {
            let s = v.as_str().unwrap_or_default();
            let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
            let mut text = String::with_capacity(s.len() + 2);
            text.push(quote);
            for c in s.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    '\t' => text.push_str("\\t"),
                    c if c == quote => {
                        text.push('\\');
                        text.push(c);
                    }
                    c => text.push(c),
                }
            }
            text.push(quote);
            out.write_str(&text).map_err(failed)
        }
        ValueKind::Seq => {
            out.write_char('[').map_err(failed)?;
            for (i, item) in v.try_iter()?.enumerate() {
                if i > 0 {
                    out.write_str(", ").map_err(failed)?;
                }
                write_repr(out, &item, depth + 1)?;
            }
            out.write_char(']').map_err(failed)
        }
        ValueKind::Map => {
            out.write_char('{').map_err(failed)?;
            for (i, key) in v.try_iter()?.enumerate() {
                if i > 0 {
                    out.write_str(", ").map_err(failed)?;
                }
                write_repr(out, &key, depth + 1)?;
                out.write_str(": ").map_err(failed)?;
                write_repr(out, &v.get_item(&key)?, depth + 1)?;
            }
            out.write_char('}').map_err(failed)
        }
        _ => write!(out, "{v}").map_err(failed),
    }
}

/// `datetime.now().strftime(format)` for a given local time.
pub(super) fn strftime(seconds: i64, format: &str) -> Result<String, Error> {
    let bad = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    let time = DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| bad("strftime_now: the given time is out of range".into()))?
        .naive_utc();
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(bad(format!("strftime_now: bad format {format:?}")));
    }
    let mut out = String::new();
    write!(out, "{}", time.format_with_items(items.iter()))
        .map_err(|_| bad(format!("strftime_now: {format:?} asks for what is not known, e.g. the time zone")))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn str_of(v: Value) -> String {
        let mut s = String::new();
        write_str(&mut s, &v).unwrap();
        s
    }

    #[test]
    fn python_str() {
        let json: serde_json::Value = serde_json::from_str(r#"{"b": [1, 2.0, true, null], "a": "it's"}"#).unwrap();
        assert_eq!(str_of(Value::from_serialize(&json)), r#"{'b': [1, 2.0, True, None], 'a': "it's"}"#);
        assert_eq!(str_of(Value::from("plain")), "plain");
        assert_eq!(str_of(Value::UNDEFINED), "");
        assert_eq!(number(&Value::from(1e16)), "1e+16");
        assert_eq!(number(&Value::from(1.5e-7)), "1.5e-07");
        assert_eq!(number(&Value::from(123456.0)), "123456.0");
    }

    #[test]
    fn time_formats() {
        // 2024-07-26 13:05:09, a Friday.
        let t = 1_721_999_109;
        assert_eq!(strftime(t, "%d %b %Y").unwrap(), "26 Jul 2024");
        assert_eq!(strftime(t, "%A, %B %d, %Y %H:%M:%S").unwrap(), "Friday, July 26, 2024 13:05:09");
        assert_eq!(strftime(t, "%Y-%m-%d").unwrap(), "2024-07-26");
        assert!(strftime(t, "%Q").is_err());
        assert!(strftime(t, "%z").is_err());
        assert!(strftime(i64::MAX, "%Y").is_err());
    }
}
