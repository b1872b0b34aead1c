//! Sounds of any length to segments and words.

mod support;

use std::ops::ControlFlow;

use rlx_whisper::decode::{DecodeOptions, SpeechModel};
use rlx_whisper::transcribe::{Event, LogMel, StreamOptions, TranscribeOptions, Transcriber, Transcript};
use rlx_whisper::{Heard, Task};
use support::*;

/// Timestamp, text, timestamp.
fn said(start: u32, text: &str, end: u32) -> Vec<u32> {
    [vec![at(start)], bytes(text), vec![at(end)]].concat()
}

fn transcribe(model: Fake, multilingual: bool, options: TranscribeOptions, mel: &LogMel) -> (Transcript, Fake) {
    let mut transcriber = Transcriber::new(model, text(multilingual), options).unwrap();
    let found = transcriber.transcribe(mel, &mut go_on).unwrap();
    assert!(transcriber.model().is_idle());
    (found, take(transcriber))
}

fn take(transcriber: Transcriber<Fake>) -> Fake {
    transcriber.into_model()
}

/// Start, end and text of each segment.
fn lines(transcript: &Transcript) -> Vec<(f64, f64, String)> {
    transcript.segments.iter().map(|s| (s.start, s.end, s.text.clone())).collect()
}

fn line(start: f64, end: f64, text: &str) -> (f64, f64, String) {
    (start, end, text.to_owned())
}

#[test]
fn windows_begin_where_the_last_segment_ended() {
    // Each window begins with the number of its first frame, in thousands.
    let script = |window: f32, tokens: &[u32]| match window as usize {
        // Two closed segments; the third is cut at the end of the window.
        0 => say(&[said(0, " one", 1000), said(1000, " two", 2400), vec![at(2400)], bytes(" thr")].concat(), tokens),
        // Read again from 24.0 s: the text ends with one timestamp, so the rest is silence.
        2400 => say(&said(0, " three", 700), tokens),
        5400 => say(&said(0, " four", 500), tokens),
        other => panic!("no window begins at {other}"),
    };
    let (found, model) = transcribe(Fake::new(script), false, TranscribeOptions::default(), &mel(6000, |i| i as f32));
    let want =
        [line(0.0, 10.0, " one"), line(10.0, 24.0, " two"), line(24.0, 31.0, " three"), line(54.0, 59.0, " four")];
    assert_eq!(lines(&found), want);
    assert_eq!((found.text.as_str(), found.language.as_str()), (" one two three four", "en"));
    assert_eq!(
        found.segments.iter().map(|s| (s.id, s.seek)).collect::<Vec<_>>(),
        [(0, 0), (1, 0), (2, 2400), (3, 5400)]
    );
    // Each window is told what was said before, timestamps and all.
    let before = [vec![SOT_PREV], said(0, " one", 1000), said(1000, " two", 2400), vec![SOT]].concat();
    assert!(model.removed.iter().any(|s| s.starts_with(&before)), "{:?}", model.removed);
}

#[test]
fn text_without_timestamps_at_its_end_fills_the_window() {
    let script = |_: f32, tokens: &[u32]| say(&[vec![at(0)], bytes(" all")].concat(), tokens);
    let (found, _) = transcribe(Fake::new(script), false, TranscribeOptions::default(), &mel(3500, |_| 0.0));
    assert_eq!(lines(&found), [line(0.0, 30.0, " all"), line(30.0, 35.0, " all")]);
}

#[test]
fn sounds_of_odd_lengths() {
    for frames in [1, 2, 99, 2999, 3000, 3001, 6001] {
        let script = |_: f32, tokens: &[u32]| say(&said(0, " hi", 4), tokens);
        let (found, model) = transcribe(Fake::new(script), false, TranscribeOptions::default(), &mel(frames, |_| 0.0));
        assert_eq!(found.segments.len(), frames.div_ceil(3000));
        assert_eq!(model.encoded.len(), frames.div_ceil(3000));
    }
    let (found, model) = transcribe(Fake::new(|_, _| vec![]), false, TranscribeOptions::default(), &mel(0, |_| 0.0));
    assert!(found.segments.is_empty() && model.encoded.is_empty());
    let mut other = Transcriber::new(Fake::new(|_, _| vec![]), text(false), TranscribeOptions::default()).unwrap();
    assert!(
        other
            .transcribe(&LogMel::new(80, vec![0.0; 800]).unwrap(), &mut go_on)
            .unwrap_err()
            .to_string()
            .contains("80 bands")
    );
    assert!(LogMel::new(80, vec![0.0; 81]).is_err() && LogMel::new(0, vec![]).is_err());
}

#[test]
fn a_window_that_gets_nowhere_is_left() {
    // Closes a segment where it began, again and again.
    let script =
        |_: f32, tokens: &[u32]| say(&[vec![at(0)], bytes(" x"), vec![at(2), at(2)], bytes(" y")].concat(), tokens);
    let (found, model) = transcribe(Fake::new(script), false, TranscribeOptions::default(), &mel(100, |_| 0.0));
    assert!(model.encoded.len() <= 51 && !found.segments.is_empty(), "{}", model.encoded.len());
}

#[test]
fn windows_without_speech_are_not_read() {
    let script = |window: f32, tokens: &[u32]| {
        assert!((3000.0..6000.0).contains(&window), "the window at {window} is read");
        say(&said(0, " hi", 3000), tokens)
    };
    let mel = mel(9000, |i| i as f32);
    for (spans, words) in
        [(vec![], 0), (vec![0..0, 3000..3001], 1), (vec![5999..6000, 9000..9000], 1), (vec![7..7, 9000..9100], 0)]
    {
        let mut transcriber = Transcriber::new(Fake::new(script), text(false), TranscribeOptions::default()).unwrap();
        let heard = |window: std::ops::Range<usize>| {
            spans.iter().any(|s: &std::ops::Range<usize>| s.start.max(window.start) < s.end.min(window.end))
        };
        let found = transcriber.transcribe_where(&mel, &mut { heard }, &mut go_on).unwrap();
        assert_eq!((found.segments.len(), transcriber.model().encoded.len()), (words, words), "{spans:?}");
    }
}

#[test]
fn speech_is_heard_and_noise_is_not() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlx-vad/tests/data/jfk.flac");
    let speech = rlx_audio::load(path, 16_000).unwrap().samples;
    assert!(Heard::new(&speech).unwrap().reaches_into(0..3000));
    // A minute of silence with the speech in the middle: 25.0 to 36.0 s.
    let mut minute = vec![0.0; 960_000];
    minute[400_000..400_000 + speech.len()].copy_from_slice(&speech);
    let mut heard = Heard::new(&minute).unwrap();
    let asked = [(0..2450, false), (2450..2600, true), (2900..3500, true), (3650..6000, false), (0..3000, true)];
    for (frames, expected) in asked {
        assert_eq!(heard.reaches_into(frames.clone()), expected, "{frames:?}");
        assert_eq!(Heard::new(&minute).unwrap().reaches_into(frames.clone()), expected, "{frames:?} at once");
    }
    let mut state = 1u32;
    let noise = (0..80_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    });
    for sound in [vec![], vec![0.0; 100], vec![0.0; 80_000], noise.collect()] {
        let mut heard = Heard::new(&sound).unwrap();
        assert!([0..250, 250..3000, 9000..12_000].into_iter().all(|frames| !heard.reaches_into(frames)));
    }
}

#[test]
fn silence_has_no_text() {
    // An unlikely text of a window without speech.
    let script = |_: f32, tokens: &[u32]| match tokens {
        [.., SOT] => vec![(NO_SPEECH, 20.0), (at(0), 5.0)],
        _ if tokens.len() > 12 => vec![(EOT, 0.0)],
        _ => (97..117).map(|id| (id, 1.0)).collect(),
    };
    let (found, model) = transcribe(Fake::new(script), false, TranscribeOptions::default(), &mel(9000, |_| 0.0));
    assert!(found.segments.is_empty() && found.text.is_empty());
    assert_eq!(model.encoded.len(), 3);
    // A likely text counts, whatever the no-speech token says.
    let script = |_: f32, tokens: &[u32]| match tokens {
        [.., SOT] => vec![(NO_SPEECH, 20.0), (at(0), 5.0)],
        _ => say(&said(0, " sure", 100), tokens),
    };
    let options = TranscribeOptions { condition_on_previous_text: false, ..TranscribeOptions::default() };
    let (found, _) = transcribe(Fake::new(script), false, options, &mel(3000, |_| 0.0));
    assert_eq!(found.segments.len(), 1);
}

#[test]
fn digital_silence_is_not_read_at_all() {
    let flat = LogMel::new(2, vec![-1.5; 2 * 360_000]).unwrap();
    let (found, model) =
        transcribe(Fake::new(|_, _| panic!("nothing is to be read")), false, TranscribeOptions::default(), &flat);
    assert!(found.segments.is_empty() && model.encoded.is_empty());
}

#[test]
fn prompts_and_hotwords() {
    let run = |options: TranscribeOptions| {
        let script = |_: f32, tokens: &[u32]| say(&said(0, " hi", 100), tokens);
        let (_, model) = transcribe(Fake::new(script), false, options, &mel(6000, |_| 0.0));
        // The prompts of both windows, without what was written about them.
        let mut prompts: Vec<Vec<u32>> = model.removed;
        prompts.retain(|s| s.last() == Some(&SOT));
        prompts
    };
    let base = TranscribeOptions { initial_prompt: Some(" Names ".into()), ..TranscribeOptions::default() };
    let begin = [vec![SOT_PREV], bytes(" Names")].concat();
    let prompts = run(base.clone());
    assert_eq!(prompts[0], [begin.clone(), vec![SOT]].concat());
    assert_eq!(prompts[1], [begin.clone(), said(0, " hi", 100), vec![SOT]].concat());
    let prompts = run(TranscribeOptions { condition_on_previous_text: false, ..base.clone() });
    assert_eq!(prompts[1], [SOT], "nothing is carried over, the initial prompt neither");
    let prompts = run(TranscribeOptions { hotwords: Some("Rust".into()), initial_prompt: None, ..base });
    assert_eq!(prompts[0], [vec![SOT_PREV], bytes(" Rust"), vec![SOT]].concat());
    assert_eq!(prompts[1], [vec![SOT_PREV], bytes(" Rust"), said(0, " hi", 100), vec![SOT]].concat());
}

#[test]
fn the_language_is_found_out_or_told() {
    let script = |_: f32, tokens: &[u32]| match tokens {
        [SOT] => vec![(DE, 3.0), (EN, 2.0)],
        _ => say(&said(0, " hallo", 100), tokens),
    };
    let mut told = Vec::new();
    let mut transcriber = Transcriber::new(Fake::new(script), text(true), TranscribeOptions::default()).unwrap();
    let found = transcriber.transcribe(&mel(300, |_| 0.0), &mut |event| {
        if let Event::Language(languages) = event {
            told.extend(languages.iter().map(|l| l.code));
        }
        ControlFlow::Continue(())
    });
    assert_eq!((found.unwrap().language.as_str(), told.as_slice()), ("de", ["de", "en", "ja"].as_slice()));
    let model = take(transcriber);
    assert!(model.removed.iter().any(|s| s.starts_with(&[SOT, DE, TRANSCRIBE])));

    let options =
        TranscribeOptions { language: Some("Japanese".into()), task: Task::Translate, ..TranscribeOptions::default() };
    let (found, model) = transcribe(Fake::new(script), true, options.clone(), &mel(300, |_| 0.0));
    assert_eq!(found.language, "ja");
    assert!(model.removed.iter().any(|s| s.starts_with(&[SOT, JA, TRANSLATE])));
    // What the model cannot do is told before it runs.
    let refused = |options: TranscribeOptions, multilingual| {
        Transcriber::new(Fake::new(|_, _| vec![]), text(multilingual), options).err().unwrap().to_string()
    };
    assert!(refused(options.clone(), false).contains("English alone"));
    assert!(refused(TranscribeOptions { language: None, ..options }, false).contains("cannot translate"));
    let klingon = |name: &str| TranscribeOptions { language: Some(name.into()), ..TranscribeOptions::default() };
    assert!(refused(klingon("klingon"), true).contains("klingon"));
    assert!(refused(klingon("fr"), true).contains("no token"));
}

#[test]
fn words_have_times_and_probabilities() {
    // Tokens are said a tenth of a second each, from the fourth token of the sequence on.
    let script = |_: f32, tokens: &[u32]| say(&said(0, " Hi, my dear!", 200), tokens);
    let options =
        TranscribeOptions { word_timestamps: true, language: Some("en".into()), ..TranscribeOptions::default() };
    let (found, _) = transcribe(Fake::new(script), true, options, &mel(300, |_| 0.0));
    let segment = &found.segments[0];
    let words = segment.words.as_ref().unwrap();
    assert_eq!(words.iter().map(|w| w.word.as_str()).collect::<Vec<_>>(), [" Hi,", " my", " dear!"]);
    assert_eq!(words.iter().map(|w| w.word.as_str()).collect::<String>(), segment.text);
    assert!(words.windows(2).all(|w| w[0].start < w[0].end && w[0].end <= w[1].start), "{words:?}");
    assert_eq!((segment.start, segment.end), (words[0].start, words[2].end));
    // ` Hi,` is four tokens, ` my` three.
    assert!((words[1].start - 0.4).abs() < 0.05 && (words[1].end - 0.7).abs() < 0.05, "{words:?}");
    assert!(words.iter().all(|w| (0.0..=1.0).contains(&w.probability)));
    // Japanese is split into characters.
    let script = |_: f32, tokens: &[u32]| say(&said(0, "今日は", 200), tokens);
    let options =
        TranscribeOptions { word_timestamps: true, language: Some("ja".into()), ..TranscribeOptions::default() };
    let (found, _) = transcribe(Fake::new(script), true, options, &mel(300, |_| 0.0));
    let words: Vec<&str> = found.segments[0].words.as_ref().unwrap().iter().map(|w| w.word.as_str()).collect();
    assert_eq!(words, ["今", "日", "は"]);
}

#[test]
fn stretches_of_speech_side_by_side() {
    let script = |window: f32, tokens: &[u32]| match window as usize {
        500 => say(&said(0, " one", 100), tokens),
        // What follows the last closed segment is kept: no other window reads it.
        5000 => say(&[said(0, " two", 200), vec![at(200)], bytes(" three")].concat(), tokens),
        8500 => say(&said(0, " four", 100), tokens),
        other => panic!("no window begins at {other}"),
    };
    let spans = [500..900, 1000..1200, 5000..5400, 8500..20_000];
    for (batch, encoded) in [(1, vec![1, 1, 1]), (2, vec![2, 1]), (8, vec![3])] {
        let options = TranscribeOptions { word_timestamps: batch == 8, ..TranscribeOptions::default() };
        let mut transcriber = Transcriber::new(Fake::new(script), text(false), options).unwrap();
        let found = transcriber.transcribe_spans(&mel(9000, |i| i as f32), &spans, batch, &mut go_on).unwrap();
        let texts: Vec<&str> = found.segments.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, [" one", " two", " three", " four"], "{batch} {found:?}");
        if batch != 8 {
            let want = [
                line(5.0, 6.0, " one"),
                line(50.0, 52.0, " two"),
                line(52.0, 54.0, " three"),
                line(85.0, 86.0, " four"),
            ];
            assert_eq!(lines(&found), want);
        }
        assert!(transcriber.model().is_idle());
        assert_eq!(take(transcriber).encoded, encoded);
    }
    let mut transcriber = Transcriber::new(Fake::new(script), text(false), TranscribeOptions::default()).unwrap();
    assert!(transcriber.transcribe_spans(&mel(9000, |_| 0.0), &[], 8, &mut go_on).unwrap().segments.is_empty());
    let odd = [9000..10_000, std::ops::Range { start: 7, end: 3 }];
    assert!(transcriber.transcribe_spans(&mel(9000, |_| 0.0), &odd, 0, &mut go_on).unwrap().segments.is_empty());
}

#[test]
fn a_listener_can_stop() {
    for stop_at in 0..8 {
        let script = |_: f32, tokens: &[u32]| say(&said(0, " hi", 100), tokens);
        let mut transcriber = Transcriber::new(Fake::new(script), text(false), TranscribeOptions::default()).unwrap();
        let mut events = 0;
        let mut listener = |_: Event<'_>| {
            events += 1;
            if events > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = transcriber.transcribe(&mel(60_000, |_| 0.0), &mut listener).unwrap();
        assert!(found.segments.len() <= 1 && transcriber.model().is_idle());
        assert_eq!(events, stop_at + 1);
    }
}

/// A model that hears as many words as there are seconds of sound that is not silent.
fn counting(_: f32, tokens: &[u32]) -> Vec<(u32, f32)> {
    say(&[said(0, " one", 300), said(300, " two", 600), vec![at(600)], bytes(" thr")].concat(), tokens)
}

#[test]
fn streams_tell_early_and_agree_with_themselves() {
    let sound: Vec<f32> = (0..40 * 16_000).map(|i| ((i % 100) as f32 - 50.0) * 1e-3).collect();
    for chunk in [100, 1600, 16_000, 48_000, sound.len()] {
        let mut model = Fake::new(counting);
        model.facts.n_mels = 80;
        let mut transcriber = Transcriber::new(model, text(false), TranscribeOptions::default()).unwrap();
        let mut stream = transcriber.stream(StreamOptions { interval: 2.0 }).unwrap();
        let (mut partial, mut done) = (0, Vec::new());
        let mut on = |event: Event<'_>| {
            match event {
                Event::Partial(_) => partial += 1,
                Event::Segments(segments) => done.extend_from_slice(segments),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        for samples in sound.chunks(chunk) {
            assert!(stream.push(samples, &mut on).unwrap().is_continue());
        }
        let found = stream.finish(&mut on).unwrap();
        assert_eq!(found.segments, done, "all that is done was told");
        assert!(partial > 3, "{partial}");
        // Segments are in order and do not overlap; the first was told before the window was full.
        assert!(done.windows(2).all(|w| w[0].end <= w[1].start + 1e-9 && w[0].id + 1 == w[1].id), "{done:?}");
        assert_eq!(lines(&found)[..2], [line(0.0, 3.0, " one"), line(3.0, 6.0, " two")]);
        assert!(transcriber.model().is_idle());
    }
}

#[test]
fn streams_of_nothing_and_bad_options() {
    let make = || {
        let mut model = Fake::new(counting);
        model.facts.n_mels = 80;
        Transcriber::new(model, text(false), TranscribeOptions::default()).unwrap()
    };
    let mut transcriber = make();
    let mut stream = transcriber.stream(StreamOptions::default()).unwrap();
    assert!(stream.push(&[], &mut go_on).unwrap().is_continue());
    assert!(stream.finish(&mut go_on).unwrap().segments.is_empty());
    for interval in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(make().stream(StreamOptions { interval }).is_err(), "{interval}");
    }
    // A hundred samples are less than a frame.
    let mut transcriber = make();
    let mut stream = transcriber.stream(StreamOptions { interval: 1e-9 }).unwrap();
    assert!(stream.push(&[0.1; 100], &mut go_on).unwrap().is_continue());
    stream.finish(&mut go_on).unwrap();
    assert!(transcriber.model().is_idle());
}

#[test]
fn options_reach_the_decoder() {
    let script = |_: f32, tokens: &[u32]| say(&bytes("hi"), tokens);
    let decode = DecodeOptions { timestamps: false, ..DecodeOptions::default() };
    let (found, model) = transcribe(
        Fake::new(script),
        false,
        TranscribeOptions { decode, ..TranscribeOptions::default() },
        &mel(150, |_| 0.0),
    );
    assert_eq!(lines(&found), [line(0.0, 1.5, "hi")]);
    assert!(model.removed.iter().all(|s| s.starts_with(&[SOT, NO_TIMESTAMPS])));
    assert_eq!(model.facts().vocab, VOCAB);
}
