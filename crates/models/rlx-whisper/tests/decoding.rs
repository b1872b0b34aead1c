//! Decoding of single windows.

mod support;

use std::ops::ControlFlow;

use rlx_whisper::WhisperText;
use rlx_whisper::decode::{DecodeOptions, Decoded, Decoder, Request, SpeechFacts, SpeechModel, Suppress};
use support::*;

fn decode_with(text: &WhisperText, model: &mut Fake, options: DecodeOptions, prompt: &[u32], head: &[u32]) -> Decoded {
    let decoder = Decoder::new(model.facts, text, options).unwrap();
    let windows = model.encode(&[&vec![0.0; 6000]]).unwrap();
    let request = Request { window: windows[0], prompt, language_and_task: head };
    let decoded = decoder.decode(model, &[request], &mut || ControlFlow::Continue(())).unwrap().unwrap();
    model.release(windows[0]).unwrap();
    assert!(model.is_idle(), "all sequences are removed");
    decoded.into_iter().next().unwrap()
}

fn decode(model: &mut Fake, options: DecodeOptions) -> Decoded {
    decode_with(&text(false), model, options, &[], &[])
}

/// `<|0.00|> hi<|1.00|>`
fn hi() -> Vec<u32> {
    [vec![at(0)], bytes(" hi"), vec![at(100)]].concat()
}

#[test]
fn greedy_writes_what_is_most_probable() {
    let mut model = Fake::new(|_, tokens| say(&hi(), tokens));
    let found = decode(&mut model, DecodeOptions::default());
    assert_eq!((found.tokens, found.text.as_str(), found.temperature), (hi(), "hi", 0.0));
    assert!(found.avg_logprob > -1e-3 && found.no_speech_prob < 1e-6, "{} {}", found.avg_logprob, found.no_speech_prob);
    // zlib makes two letters longer.
    assert!((found.compression_ratio - 0.2).abs() < 1e-6, "{}", found.compression_ratio);
    // The prompt, then one step per token but the end.
    assert_eq!(model.steps.len(), 6);
}

#[test]
fn the_probability_of_silence_is_read_after_the_start() {
    let script = |_: f32, tokens: &[u32]| match tokens {
        [.., SOT] => vec![(NO_SPEECH, 5.0), (at(0), 5.0)],
        _ => say(&hi(), tokens),
    };
    for (multilingual, head) in [(false, vec![]), (true, vec![EN, TRANSCRIBE])] {
        let mut model = Fake::new(script);
        let prompt = bytes(" before");
        let found = decode_with(&text(multilingual), &mut model, DecodeOptions::default(), &prompt, &head);
        assert!((found.no_speech_prob - 0.5).abs() < 1e-4);
        // <|nospeech|> itself is never written.
        assert_eq!(found.tokens, hi());
        let want = [vec![SOT_PREV], prompt, vec![SOT], head].concat();
        assert!(model.removed.iter().all(|s| s.starts_with(&want)), "{:?}", model.removed);
    }
}

#[test]
fn long_prompts_are_cut_at_their_beginning() {
    let mut model = Fake::new(|_, tokens| say(&hi(), tokens));
    let prompt: Vec<u32> = (0..1000).map(|i| i % 200).collect();
    decode_with(&text(false), &mut model, DecodeOptions::default(), &prompt, &[]);
    let base = model.removed.iter().min_by_key(|s| s.len()).unwrap();
    assert_eq!(base.len(), 1 + 223 + 1);
    assert_eq!(base[1..224], prompt[1000 - 223..]);
}

/// Two ways to speak: `a` is likelier at first, `b` as a whole.
fn garden_path(_: f32, tokens: &[u32]) -> Vec<(u32, f32)> {
    let (a, b, c) = (u32::from(b'a'), u32::from(b'b'), u32::from(b'c'));
    match tokens[1..] {
        [] => vec![(at(0), 10.0)],
        [_] => vec![(a, 0.6f32.ln()), (b, 0.4f32.ln())],
        // All letters are equally likely after `a`.
        [_, x] if x == a => (a..a + 20).map(|id| (id, 0.05f32.ln())).collect(),
        [_, x] if x == b => vec![(c, 0.0)],
        [_, _, _] => vec![(at(100), 0.0)],
        _ => vec![(EOT, 0.0)],
    }
}

#[test]
fn beams_find_what_is_more_probable_as_a_whole() {
    let greedy = decode(&mut Fake::new(garden_path), DecodeOptions::default());
    assert!(greedy.text.starts_with('a'), "{}", greedy.text);
    for beam_size in [2, 3, 5, 8] {
        let mut model = Fake::new(garden_path);
        let found = decode(&mut model, DecodeOptions { beam_size, ..DecodeOptions::default() });
        assert_eq!(found.text, "bc", "{beam_size}");
        assert!((found.avg_logprob - 0.4f64.ln() / 5.0).abs() < 1e-4, "{}", found.avg_logprob);
        assert!(model.steps.iter().all(|&feeds| feeds <= beam_size), "{:?}", model.steps);
        assert!(found.avg_logprob > greedy.avg_logprob);
    }
}

#[test]
fn patience_waits_for_more_texts() {
    let steps = |patience| {
        let mut model = Fake::new(|_, tokens| {
            let mut row = say(&hi(), tokens);
            row.push((u32::from(b'x'), 9.0));
            row
        });
        decode(&mut model, DecodeOptions { beam_size: 3, patience, max_tokens: Some(40), ..DecodeOptions::default() });
        model.steps.len()
    };
    assert!(steps(4.0) > steps(1.0));
}

#[test]
fn a_text_that_repeats_itself_is_tried_again() {
    let circle = bytes(&" again".repeat(40));
    let script = move |_: f32, tokens: &[u32]| {
        let mut answer = vec![at(0)];
        answer.extend_from_slice(&circle[..200]);
        // Drawn at a temperature, the end comes early.
        let mut row = say(&answer, tokens);
        if tokens.len() > 20 {
            row.push((at(300), 8.0));
        }
        if tokens.last() == Some(&at(300)) {
            row = vec![(EOT, 10.0)];
        }
        row
    };
    let first =
        decode(&mut Fake::new(script.clone()), DecodeOptions { temperatures: vec![0.0], ..DecodeOptions::default() });
    assert!(first.compression_ratio > 2.4 && first.temperature == 0.0, "{}", first.compression_ratio);
    let found = decode(&mut Fake::new(script.clone()), DecodeOptions::default());
    assert!(found.temperature > 0.0 && found.compression_ratio < 2.4, "{found:?}");
    let again = decode(&mut Fake::new(script.clone()), DecodeOptions::default());
    assert_eq!(found, again, "the seed fixes the draws");
    let off = DecodeOptions { compression_ratio_threshold: None, logprob_threshold: None, ..DecodeOptions::default() };
    assert_eq!(decode(&mut Fake::new(script), off).temperature, 0.0);
}

#[test]
fn improbable_texts_of_silence_are_not_tried_again() {
    // Nothing is likely, but no speech is likeliest.
    let script = |_: f32, tokens: &[u32]| match tokens {
        [.., SOT] => vec![(NO_SPEECH, 20.0), (at(0), 5.0)],
        _ if tokens.len() > 12 => vec![(EOT, 0.0)],
        _ => (97..117).map(|id| (id, 1.0)).collect(),
    };
    let found = decode(&mut Fake::new(script), DecodeOptions::default());
    assert!(found.no_speech_prob > 0.9 && found.avg_logprob < -1.0 && found.temperature == 0.0, "{found:?}");
    // With speech there, all temperatures are tried, and what comes of it counts as found at the last.
    let script = move |window: f32, tokens: &[u32]| match tokens {
        [.., SOT] => vec![(at(0), 5.0)],
        _ => script(window, tokens),
    };
    assert_eq!(decode(&mut Fake::new(script), DecodeOptions::default()).temperature, 1.0);
}

#[test]
fn a_text_that_does_not_end_is_cut() {
    for (max_tokens, prompt, want) in [(None, 0, 224), (Some(17), 0, 17), (Some(1000), 0, 448), (None, 223, 224)] {
        for beam_size in [1, 4] {
            let mut model =
                Fake::new(|_, tokens| vec![(if tokens.last() == Some(&SOT) { at(0) } else { 97 }, 10.0), (98, 9.0)]);
            let options = DecodeOptions { max_tokens, beam_size, temperatures: vec![0.0], ..DecodeOptions::default() };
            let found = decode_with(&text(false), &mut model, options, &vec![97; prompt], &[]);
            assert_eq!(found.tokens.len(), want, "{max_tokens:?} {prompt}");
        }
    }
}

#[test]
fn windows_side_by_side_are_as_alone() {
    // Each window has a text of its own length, and the third repeats itself.
    let script = |window: f32, tokens: &[u32]| {
        let mut answer = vec![at(0)];
        answer.extend(bytes(&" one".repeat(1 + 7 * window as usize)));
        answer.push(at(400));
        let mut row = say(&answer, tokens);
        row.push((u32::from(b' '), 7.0));
        row
    };
    for options in [
        DecodeOptions::default(),
        DecodeOptions { beam_size: 5, ..DecodeOptions::default() },
        DecodeOptions { temperatures: vec![0.0, 1.0], ..DecodeOptions::default() },
    ] {
        let text = text(true);
        let decode = |values: &[f32]| {
            let mut model = Fake::new(script);
            let decoder = Decoder::new(model.facts, &text, options.clone()).unwrap();
            let windows: Vec<Vec<f32>> = values.iter().map(|&v| vec![v; 6000]).collect();
            let ids = model.encode(&windows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            let requests: Vec<Request<'_>> = ids
                .iter()
                .zip(values)
                .map(|(&window, &v)| Request {
                    window,
                    prompt: if v > 1.0 { &[97, 98] } else { &[] },
                    language_and_task: &[DE, TRANSLATE],
                })
                .collect();
            let found = decoder.decode(&mut model, &requests, &mut || ControlFlow::Continue(())).unwrap().unwrap();
            ids.into_iter().for_each(|id| model.release(id).unwrap());
            assert!(model.is_idle());
            found
        };
        let together = decode(&[0.0, 3.0, 1.0]);
        assert_eq!(together[0], decode(&[0.0])[0]);
        assert!(together[1].tokens.len() > together[2].tokens.len());
        // Draws differ by the place in the batch; what is found at temperature 0 does not.
        for (found, alone) in together.iter().zip([0.0, 3.0, 1.0].map(|v| decode(&[v]).remove(0))) {
            assert!(found.temperature > 0.0 || *found == alone, "{found:?}");
        }
    }
}

#[test]
fn decoding_can_be_stopped() {
    let mut model = Fake::new(|_, tokens| say(&hi(), tokens));
    let decoder = Decoder::new(model.facts, &text(false), DecodeOptions::default()).unwrap();
    let window = model.encode(&[&vec![0.0; 6000]]).unwrap()[0];
    let request = Request { window, prompt: &[], language_and_task: &[] };
    let mut left = 3;
    let found = decoder.decode(&mut model, &[request], &mut || {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(found.unwrap().is_none());
    model.release(window).unwrap();
    assert!(model.is_idle() && left == 0);
    assert_eq!(decoder.decode(&mut model, &[], &mut || ControlFlow::Break(())).unwrap(), Some(vec![]));
}

#[test]
fn languages_are_told_apart() {
    let mut model = Fake::new(|_, _| vec![(DE, 3.0), (EN, 2.0), (at(0), 50.0)]);
    let decoder = Decoder::new(model.facts, &text(true), DecodeOptions::default()).unwrap();
    let window = model.encode(&[&vec![0.0; 6000]]).unwrap()[0];
    let found = decoder.detect_language(&mut model, window).unwrap();
    assert_eq!(found.iter().map(|l| l.code).collect::<Vec<_>>(), ["de", "en", "ja"]);
    assert!((found[0].probability - 0.731).abs() < 1e-3, "{found:?}");
    model.release(window).unwrap();
    assert!(model.is_idle());
    let english = Decoder::new(model.facts, &text(false), DecodeOptions::default()).unwrap();
    let window = model.encode(&[&vec![0.0; 6000]]).unwrap()[0];
    assert!(english.detect_language(&mut model, window).unwrap_err().to_string().contains("English alone"));
}

#[test]
fn without_timestamps_none_are_written() {
    let mut model = Fake::new(|_, tokens| say(&bytes("hi there"), tokens));
    let options = DecodeOptions { timestamps: false, ..DecodeOptions::default() };
    let found = decode_with(&text(true), &mut model, options, &[], &[EN, TRANSCRIBE]);
    assert_eq!(found.tokens, bytes("hi there"));
    assert!(model.removed.iter().all(|s| s.starts_with(&[SOT, EN, TRANSCRIBE, NO_TIMESTAMPS])));
}

#[test]
fn options_out_of_range_are_refused() {
    let base = DecodeOptions::default;
    for bad in [
        DecodeOptions { beam_size: 0, ..base() },
        DecodeOptions { beam_size: 1 << 40, ..base() },
        DecodeOptions { best_of: 0, ..base() },
        DecodeOptions { patience: f32::NAN, ..base() },
        DecodeOptions { length_penalty: Some(-1.0), ..base() },
        DecodeOptions { max_tokens: Some(0), ..base() },
        DecodeOptions { temperatures: vec![], ..base() },
        DecodeOptions { temperatures: vec![f32::INFINITY], ..base() },
        DecodeOptions { max_initial_timestamp: Some(-1.0), ..base() },
    ] {
        let model = Fake::new(|_, _| vec![]);
        assert!(Decoder::new(model.facts, &text(false), bad.clone()).is_err(), "{bad:?}");
    }
    // Ids outside the vocabulary are suppressed in vain, not an error.
    let odd = DecodeOptions { suppress: Suppress { non_speech: true, tokens: vec![u32::MAX] }, ..base() };
    assert_eq!(decode(&mut Fake::new(|_, tokens| say(&hi(), tokens)), odd).tokens, hi());
    let small = SpeechFacts { vocab: 100, ..Fake::new(|_, _| vec![]).facts };
    assert!(Decoder::new(small, &text(false), base()).unwrap_err().to_string().contains("vocabulary"));
}

#[test]
fn nan_logits_are_an_error() {
    let mut model = Fake::new(|_, _| vec![(at(0), f32::NAN)]);
    let text = text(false);
    let decoder = Decoder::new(model.facts, &text, DecodeOptions::default()).unwrap();
    let window = model.encode(&[&vec![0.0; 6000]]).unwrap()[0];
    let request = Request { window, prompt: &[], language_and_task: &[] };
    let error = decoder.decode(&mut model, &[request], &mut || ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
    model.release(window).unwrap();
    assert!(model.is_idle());
}
