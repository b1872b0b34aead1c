//! Texts made alike as openai/whisper makes them (`scripts/reference/record_whisper_text.py`).

use rlx_text::wer::Normalization;
use serde_json::Value;

#[test]
fn texts_are_normalised_as_by_the_reference() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/normalizers.json")).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(Normalization::English.apply(text), case["english"].as_str().unwrap(), "{text}");
        assert_eq!(Normalization::Basic.apply(text), case["basic"].as_str().unwrap(), "{text}");
    }
}

#[test]
fn any_text_can_be_normalised() {
    let many = "nine decillion ".repeat(50) + &"9".repeat(60) + " point 1 million " + &"double ".repeat(9);
    for text in [many.as_str(), "\u{0}\u{ffff}\u{301}\u{200b}", "$", "%", ". . .", "¢¢5 point", "1.", "+", "and a half"]
    {
        let english = Normalization::English.apply(text);
        assert!(english.len() < 8 * text.len() + 64, "{english}");
        Normalization::Basic.apply(text);
    }
}
