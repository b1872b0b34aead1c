//! Texts in every format, good and bad.

use std::io::Read;
use std::path::Path;

use proptest::prelude::*;
use rlx_vectors::{SourceOptions, Text, TextFormat, VectorsError, open_source, read_source};

fn options(format: TextFormat) -> SourceOptions {
    SourceOptions { format: Some(format), ..SourceOptions::default() }
}

fn column(format: TextFormat, column: &str) -> SourceOptions {
    SourceOptions { column: Some(column.into()), ..options(format) }
}

fn read(bytes: &[u8], options: &SourceOptions) -> Result<Vec<String>, VectorsError> {
    let source = read_source(Box::new(std::io::Cursor::new(bytes.to_vec())), "stdin", options)?;
    let texts: Vec<Text> = source.collect::<Result<_, _>>()?;
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(text.row, i as u64);
    }
    Ok(texts.into_iter().map(|text| text.text).collect())
}

fn error(bytes: &[u8], options: &SourceOptions) -> String {
    let text = read(bytes, options).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn lines_end_as_they_do_everywhere() {
    let lines = options(TextFormat::Lines);
    assert_eq!(read(b"", &lines).unwrap(), [""; 0]);
    assert_eq!(read(b"\n", &lines).unwrap(), [""]);
    assert_eq!(read(b"a\r\nb\n\n c \nd", &lines).unwrap(), ["a", "b", "", " c ", "d"]);
    assert_eq!(read("\u{feff}a\n\u{feff}b\n".as_bytes(), &lines).unwrap(), ["a", "\u{feff}b"]);
    assert_eq!(read("na\u{ef}ve \u{1f600}\0\n".as_bytes(), &lines).unwrap(), ["na\u{ef}ve \u{1f600}\0"]);
    let long = "x".repeat(1 << 20);
    assert_eq!(read(format!("{long}\n{long}").as_bytes(), &lines).unwrap(), [long.clone(), long]);
}

#[test]
fn what_is_not_utf8_is_told_by_its_line() {
    let lines = options(TextFormat::Lines);
    let bytes = b"good\nbad \xff\xfe\nafter\n";
    let text = error(bytes, &lines);
    assert!(
        text.starts_with("stdin, line 2: ") && text.contains("0xff at offset 4") && text.contains("--lossy"),
        "{text}"
    );
    let lossy = SourceOptions { lossy: true, ..lines };
    assert_eq!(read(bytes, &lossy).unwrap(), ["good", "bad \u{fffd}\u{fffd}", "after"]);
    let text = error(b"text\nok\n\xe9t\xe9\n", &options(TextFormat::Csv));
    assert!(text.starts_with("stdin, line 3: "), "{text}");
}

#[test]
fn after_an_error_there_is_nothing() {
    for format in [TextFormat::Lines, TextFormat::Jsonl, TextFormat::Csv] {
        let bytes = b"text\n\xff\nnext\n".to_vec();
        let mut source = read_source(Box::new(std::io::Cursor::new(bytes)), "x", &options(format)).unwrap();
        assert!(source.by_ref().any(|text| text.is_err()), "{format:?}");
        assert!(source.next().is_none(), "{format:?}");
    }
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let endless = || Box::new(std::io::repeat(b'x').take(1 << 40));
    for format in [TextFormat::Lines, TextFormat::Jsonl] {
        let text = read_source(endless(), "zeros", &options(format)).unwrap().next().unwrap().unwrap_err().to_string();
        assert!(text.starts_with("zeros, line 1: ") && text.contains("64 MB"), "{text}");
    }
    let quoted = std::io::Cursor::new(b"id,text\n1,\"".to_vec()).chain(std::io::repeat(b'x').take(1 << 40));
    let text = read_source(Box::new(quoted), "csv", &options(TextFormat::Csv)).unwrap().next().unwrap();
    let text = text.unwrap_err().to_string();
    assert!(text.contains("not closed") && text.contains("64 MB"), "{text}");
}

#[test]
fn json_fields() {
    let jsonl = options(TextFormat::Jsonl);
    let bytes = b"{\"id\": 1, \"text\": \"a\\n\\u00e9\\ud83d\\ude00\"}\n\n  {\"text\":\"\"} \r\n\"bare\"\n";
    assert_eq!(read(bytes, &jsonl).unwrap(), ["a\n\u{e9}\u{1f600}", "", "bare"]);
    let nested = br#"{"a":{"b":[{"c":"no"},{"c":"yes"}]},"p.q":"dotted","p":{"q":"nested"},"x.y":{"z":"both"}}"#;
    for (path, text) in [("a.b.1.c", "yes"), ("a.b.0.c", "no"), ("p.q", "dotted"), ("x.y.z", "both")] {
        assert_eq!(read(nested, &column(TextFormat::Jsonl, path)).unwrap(), [text], "{path}");
    }
    assert_eq!(read(br#"{"text":"first","text":"last"}"#, &jsonl).unwrap(), ["last"]);
    assert_eq!(read(br#"["a",["b"]]"#, &column(TextFormat::Jsonl, "1.0")).unwrap(), ["b"]);
}

#[test]
fn json_that_is_not_right() {
    let jsonl = options(TextFormat::Jsonl);
    for (line, words) in [
        (r#"{"id":1,"body":"x"}"#, &["line 2", "no field `text`", "`body`, `id`", "--column"][..]),
        ("{\"text\":null}", &["is null", "--allow-missing"]),
        ("{\"text\":7}", &["bad JSON at column 9", "integer `7`, expected a text"]),
        ("{\"text\":{\"a\":1}}", &["expected a text"]),
        ("{\"text\":\"a\"", &["bad JSON at column", "EOF"]),
        ("{\"text\":\"a\"} x", &["trailing characters"]),
        ("plain text", &["bad JSON at column 1"]),
        ("[1,2]", &["no field `text`"]),
        ("17", &["no field `text` (an object is needed"]),
        ("null", &["no field `text` (an object is needed"]),
        (r#"{"text":"a \ud83d b"}"#, &["lone surrogate at byte 2", "--lossy"]),
        (r#""\udc00""#, &["lone surrogate at byte 0"]),
    ] {
        let text = error(format!("{{\"text\":\"fine\"}}\n{line}\n").as_bytes(), &jsonl);
        for word in words {
            assert!(text.contains(word), "`{word}` missing for {line}: {text}");
        }
    }
    // Surrogates and bad bytes in other fields are nobody's business.
    assert_eq!(read(b"{\"x\":\"\\ud83d\",\"y\":\"\xff\",\"text\":\"a\"}", &jsonl).unwrap(), ["a"]);
    let lossy = SourceOptions { lossy: true, ..jsonl.clone() };
    assert!(read(br#"{"text":"a\ud83db"}"#, &lossy).unwrap()[0].starts_with("a\u{fffd}"));
    let missing = SourceOptions { allow_missing: true, ..jsonl };
    assert_eq!(read(b"{\"text\":null}\n{\"x\":1}\n{\"text\":\"a\"}", &missing).unwrap(), ["", "", "a"]);
    let deep = "[".repeat(100_000);
    assert!(error(deep.as_bytes(), &column(TextFormat::Jsonl, &"0.".repeat(9000))).contains("recursion limit"));
    assert!(
        read(
            format!("{{\"x\":{}{},\"text\":\"a\"}}", "[".repeat(5000), "]".repeat(5000)).as_bytes(),
            &options(TextFormat::Jsonl)
        )
        .is_ok()
    );
}

#[test]
fn csv_columns() {
    let csv = options(TextFormat::Csv);
    let bytes = b"\xef\xbb\xbfid,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n2,\r\n3,d\r\n";
    assert_eq!(read(bytes, &csv).unwrap(), ["a, \"b\"\nc", "", "d"]);
    assert_eq!(read(bytes, &column(TextFormat::Csv, "id")).unwrap(), ["1", "2", "3"]);
    assert_eq!(read(b"id\ttext\n1\ta b\n", &options(TextFormat::Tsv)).unwrap(), ["a b"]);
    let semicolons = SourceOptions { delimiter: Some(b';'), ..csv.clone() };
    assert_eq!(read(b"id;text\n1;a,b\n", &semicolons).unwrap(), ["a,b"]);
    let bare = SourceOptions { no_header: true, column: Some("2".into()), ..csv.clone() };
    assert_eq!(read(b"1,a\n2,b\n", &bare).unwrap(), ["a", "b"]);
    assert!(error(b"1,a\n", &SourceOptions { no_header: true, ..csv.clone() }).contains("number of the column"));
    let text = error(b"id,body\n1,x\n", &csv);
    assert!(text.contains("no column `text`") && text.contains("`id`, `body`"), "{text}");
    let text = error(b"id,text\n1,a\n2\n", &csv);
    assert!(text.starts_with("stdin, line 3: ") && text.contains("1 columns"), "{text}");
    assert_eq!(read(b"id,text\n1\n", &SourceOptions { allow_missing: true, ..csv.clone() }).unwrap(), [""]);
    assert!(error(b"", &csv).contains("no column `text`"));
}

#[test]
fn files_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\":\"a\"}\n").unwrap();
    let mut source = open_source(&path, &SourceOptions::default()).unwrap();
    assert_eq!(source.progress().total, Some(13));
    assert_eq!(source.next().unwrap().unwrap(), Text { row: 0, text: "a".into() });
    assert_eq!(source.progress().done, 13);
    assert!(source.next().is_none());
    let fails = |path: &Path| open_source(path, &SourceOptions::default()).err().unwrap().to_string();
    assert!(fails(&dir.path().join("missing.txt")).contains("missing.txt: "));
    assert!(fails(dir.path()).contains("is a directory"));
    let parquet = read_source(Box::new(std::io::empty()), "stdin", &options(TextFormat::Parquet)).err().unwrap();
    assert!(parquet.to_string().contains("cannot be read from a stream"));
}

/// A stream that gives what has arrived, and no more.
struct Arriving(Vec<&'static [u8]>);

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let part = self.0.remove(0);
        buffer[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

#[test]
fn a_stream_tells_whether_a_text_is_at_hand() {
    let stream = Arriving(vec![b"a\nb\nc", b"d\n"]);
    let mut source = read_source(Box::new(stream), "stdin", &options(TextFormat::Lines)).unwrap();
    let mut next = || {
        let ready = source.ready();
        (ready, source.next().map(|text| text.unwrap().text))
    };
    assert_eq!(next(), (false, Some("a".into())));
    assert_eq!(next(), (true, Some("b".into())));
    assert_eq!(next(), (false, Some("cd".into())));
    assert_eq!(next(), (false, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_texts_come_back(texts in prop::collection::vec(any::<String>(), 0..20)) {
        let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::json!({"a": 1, "text": text}))).collect();
        prop_assert_eq!(read(lines.as_bytes(), &options(TextFormat::Jsonl)).unwrap(), texts);
    }

    #[test]
    fn csv_texts_come_back(texts in prop::collection::vec("[a-z\",;\r\n\t é😀]{0,12}", 0..20)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["text", "n"]).unwrap();
        for text in &texts {
            writer.write_record([text.as_str(), "1"]).unwrap();
        }
        prop_assert_eq!(read(&writer.into_inner().unwrap(), &options(TextFormat::Csv)).unwrap(), texts);
    }

    #[test]
    fn any_bytes_are_texts_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), lossy in any::<bool>()) {
        for format in [TextFormat::Lines, TextFormat::Jsonl, TextFormat::Csv, TextFormat::Tsv] {
            let found = read(&bytes, &SourceOptions { lossy, column: Some("text".into()), ..options(format) });
            if let Err(error) = found {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}
