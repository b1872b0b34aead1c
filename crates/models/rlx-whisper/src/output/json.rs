//! JSON as Python's `json.dump` writes it, which openai/whisper does.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use crate::transcribe::Transcript;

/// A transcription as JSON on one line, without a line's end.
pub(super) fn render(transcript: &Transcript) -> String {
    let mut bytes = Vec::new();
    let done = transcript.serialize(&mut Serializer::with_formatter(&mut bytes, Python));
    // Writing to memory cannot fail, and the fields are plain.
    debug_assert!(done.is_ok());
    String::from_utf8(bytes).unwrap_or_default()
}

/// Spaces after commas and colons, ASCII alone, numbers as `repr` writes them.
struct Python;

impl Formatter for Python {
    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value != 0.0 && !(1e-4..1e16).contains(&value.abs()) {
            let text = format!("{value:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |e| ("-", e));
            return write!(writer, "{digits}e{sign}{exponent:0>2}");
        }
        write!(writer, "{value:?}")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0u16; 2];
        for c in fragment.chars() {
            if c.is_ascii() && c != '\x7f' {
                write!(writer, "{c}")?;
            } else {
                c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: io::Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        use CharEscape as E;
        writer.write_all(match escape {
            E::Quote => b"\\\"",
            E::ReverseSolidus => b"\\\\",
            E::Solidus => b"\\/",
            E::Backspace => b"\\b",
            E::FormFeed => b"\\f",
            E::LineFeed => b"\\n",
            E::CarriageReturn => b"\\r",
            E::Tab => b"\\t",
            E::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(value: impl Serialize) -> String {
        let mut bytes = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut bytes, Python)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn as_json_dump_writes_it() {
        assert_eq!(python([0.0, 1.0, 7.36, 0.1 + 0.2]), "[0.0, 1.0, 7.36, 0.30000000000000004]");
        assert_eq!(python([1e-5, 1.5e-7, -2e16, 1e-4, 123456789.0]), "[1e-05, 1.5e-07, -2e+16, 0.0001, 123456789.0]");
        assert_eq!(python([0.2f32]), "[0.20000000298023224]");
        assert_eq!(
            python("caf\u{e9} \u{1f600} \"\\\n\t\u{1}\u{7f}"),
            r#""caf\u00e9 \ud83d\ude00 \"\\\n\t\u0001\u007f""#
        );
        assert_eq!(
            python(std::collections::BTreeMap::from([("a", vec![1, 2]), ("b", vec![])])),
            r#"{"a": [1, 2], "b": []}"#
        );
    }
}
