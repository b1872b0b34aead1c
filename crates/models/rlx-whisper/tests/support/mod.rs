//! A model of speech whose every answer is written down by the test, and a vocabulary of bytes for it.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rlx_core::CoreError;
use rlx_text::{GgufVocab, Tokenizer};
use rlx_whisper::WhisperText;
use rlx_whisper::decode::{Alignment, Feed, SequenceId, SpeechFacts, SpeechModel, WindowId};
use rlx_whisper::transcribe::{Event, LogMel};

/// The ids 0 to 255 are bytes; then come the special tokens.
pub const EOT: u32 = 256;
pub const SOT: u32 = 257;
pub const EN: u32 = 258;
pub const DE: u32 = 259;
pub const JA: u32 = 260;
pub const TRANSLATE: u32 = 261;
pub const TRANSCRIBE: u32 = 262;
pub const SOT_PREV: u32 = 264;
pub const NO_SPEECH: u32 = 265;
pub const NO_TIMESTAMPS: u32 = 266;
pub const TIME_0: u32 = 267;
pub const VOCAB: usize = 267 + 1501;

/// The timestamp of so many hundredths of a second.
pub fn at(hundredths: u32) -> u32 {
    TIME_0 + hundredths / 2
}

/// Tokens of a text.
pub fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// A vocabulary of bytes.
pub fn text(multilingual: bool) -> WhisperText {
    let mut printable = Vec::new();
    let mut shifted = 0x100;
    for byte in 0u32..256 {
        let plain = (0x21..=0x7e).contains(&byte) || (0xa1..=0xff).contains(&byte) && byte != 0xad;
        let code = if plain { byte } else { shifted };
        shifted += u32::from(!plain);
        printable.push(char::from_u32(code).unwrap().to_string());
    }
    // As in the real vocabulary, a space and what follows it are one token where the space alone must not be suppressed. The
    // bytes that UTF-8 never has give their places.
    for (byte, token) in [(0xc0, "\u{120}-"), (0xc1, "\u{120}'"), (0xff, "\u{120}\u{e2}")] {
        printable[byte] = token.to_owned();
    }
    let merges = ["\u{120} -", "\u{120} '", "\u{120} \u{e2}"].map(str::to_owned);
    let specials = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|de|>",
        "<|ja|>",
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ];
    let mut tokens = printable;
    tokens.extend(specials.map(str::to_owned));
    tokens.extend((0..1501).map(|i| format!("<|{:.2}|>", f64::from(i) * 0.02)));
    assert_eq!(tokens.len(), VOCAB);
    let token_types = (0..VOCAB).map(|id| if id < EOT as usize { 1 } else { 3 }).collect();
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: tokens.into(),
        token_types: Some(token_types),
        merges: Some(merges.into_iter().collect()),
        eos_id: Some(EOT),
        ..GgufVocab::default()
    };
    WhisperText::new(Tokenizer::from_gguf(&vocab).unwrap(), multilingual).unwrap()
}

/// What the model says after `tokens` about a window whose first frame begins with this value: pairs of id and logit; all other
/// logits are -30.
pub type Script = Box<dyn Fn(f32, &[u32]) -> Vec<(u32, f32)>>;

/// See the module.
pub struct Fake {
    pub facts: SpeechFacts,
    script: Script,
    windows: BTreeMap<WindowId, f32>,
    sequences: BTreeMap<SequenceId, (WindowId, Vec<u32>)>,
    next: u32,
    rows: Vec<f32>,
    /// Windows per call of `encode`.
    pub encoded: Vec<usize>,
    /// Feeds per call of `step`.
    pub steps: Vec<usize>,
    /// All sequences that were ever finished by their removal.
    pub removed: Vec<Vec<u32>>,
}

impl Fake {
    pub fn new(script: impl Fn(f32, &[u32]) -> Vec<(u32, f32)> + 'static) -> Fake {
        Fake {
            facts: SpeechFacts { vocab: VOCAB, n_mels: 2, window_frames: 3000, audio_positions: 1500, max_tokens: 448 },
            script: Box::new(script),
            windows: BTreeMap::new(),
            sequences: BTreeMap::new(),
            next: 0,
            rows: Vec::new(),
            encoded: Vec::new(),
            steps: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Nothing is left behind.
    pub fn is_idle(&self) -> bool {
        self.windows.is_empty() && self.sequences.is_empty()
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn row(&self, window: WindowId, tokens: &[u32]) -> Vec<f32> {
        let mut row = vec![-30.0; self.facts.vocab];
        for (id, logit) in (self.script)(self.windows[&window], tokens) {
            row[id as usize] = logit;
        }
        row
    }
}

/// Writes `answer` token by token after the last special token that begins a text, then ends.
pub fn say(answer: &[u32], tokens: &[u32]) -> Vec<(u32, f32)> {
    let begin = tokens.iter().rposition(|id| [SOT, EN, DE, JA, TRANSCRIBE, TRANSLATE, NO_TIMESTAMPS].contains(id));
    let written = tokens.len() - begin.map_or(0, |i| i + 1);
    vec![(answer.get(written).copied().unwrap_or(EOT), 10.0)]
}

impl SpeechModel for Fake {
    fn facts(&self) -> SpeechFacts {
        self.facts
    }

    fn encode(&mut self, windows: &[&[f32]]) -> Result<Vec<WindowId>, CoreError> {
        self.encoded.push(windows.len());
        let mut ids = Vec::new();
        for window in windows {
            assert_eq!(window.len(), self.facts.window_frames * self.facts.n_mels);
            let id = WindowId(self.id());
            self.windows.insert(id, window[0]);
            ids.push(id);
        }
        Ok(ids)
    }

    fn release(&mut self, window: WindowId) -> Result<(), CoreError> {
        assert!(self.sequences.values().all(|(of, _)| *of != window), "a window is released before its sequences");
        self.windows.remove(&window).expect("a window is released once");
        Ok(())
    }

    fn add_sequence(&mut self, window: WindowId) -> Result<SequenceId, CoreError> {
        assert!(self.windows.contains_key(&window));
        let id = SequenceId(self.id());
        self.sequences.insert(id, (window, Vec::new()));
        Ok(id)
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, CoreError> {
        let copy = self.sequences[&sequence].clone();
        let id = SequenceId(self.id());
        self.sequences.insert(id, copy);
        Ok(id)
    }

    fn remove(&mut self, sequence: SequenceId) -> Result<(), CoreError> {
        let (_, tokens) = self.sequences.remove(&sequence).expect("a sequence is removed once");
        self.removed.push(tokens);
        Ok(())
    }

    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<&mut [f32], CoreError> {
        self.steps.push(feeds.len());
        let mut rows = Vec::new();
        for (i, feed) in feeds.iter().enumerate() {
            assert!(!feed.tokens.is_empty());
            assert!(feeds[..i].iter().all(|other| other.sequence != feed.sequence), "one feed per sequence");
            let (window, tokens) = self.sequences.get_mut(&feed.sequence).expect("a known sequence");
            tokens.extend_from_slice(feed.tokens);
            assert!(tokens.len() <= self.facts.max_tokens, "the sequence is too long");
            let (window, tokens) = (*window, tokens.clone());
            rows.extend(self.row(window, &tokens));
        }
        self.rows = rows;
        Ok(&mut self.rows)
    }

    /// Each token attends to a tenth of a second of its own.
    fn align(&mut self, window: WindowId, tokens: &[u32]) -> Result<Alignment, CoreError> {
        let positions = self.facts.audio_positions;
        let mut weights = vec![0.0; tokens.len() * positions];
        let mut logits = Vec::new();
        for (i, row) in weights.chunks_exact_mut(positions).enumerate() {
            // What follows token i is said at this time; the first four tokens are the head.
            let from = i.saturating_sub(3) * 5;
            // The attention fades to both sides: of positions that all tokens attend to alike nothing could be told.
            for (at, w) in row.iter_mut().enumerate() {
                let distance = from.saturating_sub(at).max(at.saturating_sub(from + 4));
                *w = 0.2 * (-0.5 * distance as f32).exp();
            }
            logits.extend(self.row(window, &tokens[..=i]));
        }
        Ok(Alignment { heads: 1, tokens: tokens.len(), positions, weights, logits })
    }
}

/// Spectrogram of so many frames, each beginning with what `value` gives for it.
pub fn mel(frames: usize, value: impl Fn(usize) -> f32) -> LogMel {
    LogMel::new(2, (0..frames).flat_map(|i| [value(i), -1.0]).collect()).unwrap()
}

/// A listener that never stops.
pub fn go_on(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
