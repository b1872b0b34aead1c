//! Files as openai/whisper writes them (`scripts/reference/record_whisper_text.py`).

use rlx_whisper::output::{OutputFormat, SubtitleOptions, timestamp};
use rlx_whisper::transcribe::Transcript;
use serde_json::Value;

#[test]
fn files_are_those_of_the_reference() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/writers.json")).unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let transcript: Transcript = serde_json::from_value(case["transcript"].clone()).unwrap();
        let layout = &case["layout"];
        let number = |name: &str| layout[name].as_u64().map(|n| n as usize);
        let options = SubtitleOptions {
            max_line_width: number("max_line_width"),
            max_line_count: number("max_line_count"),
            max_words_per_line: number("max_words_per_line"),
            highlight_words: layout["highlight_words"].as_bool().unwrap_or(false),
        };
        for format in OutputFormat::ALL {
            let want = case["outputs"][format.name()].as_str().unwrap();
            assert_eq!(format.render(&transcript, &options), want, "{} {layout}", format.name());
        }
    }
}

#[test]
fn odd_times_do_no_harm() {
    assert_eq!(timestamp(-1.0, false, '.'), "00:00.000");
    assert_eq!(timestamp(f64::NAN, true, ','), "00:00:00,000");
    assert_eq!(timestamp(360_000.0, false, '.'), "100:00:00.000");
    assert!(timestamp(f64::INFINITY, false, '.').ends_with(|c: char| c.is_ascii_digit()));
    assert!("pdf".parse::<OutputFormat>().unwrap_err().contains("srt"));
}
