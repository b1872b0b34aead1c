//! What Whisper's vocabulary says: special tokens, timestamps, languages, words.

mod languages;
mod words;

use rlx_core::CoreError;
use rlx_text::Tokenizer;

pub use languages::{LANGUAGES, language_code, language_name};
pub use words::TokenWord;

/// Smallest vocabulary of a multilingual model; those of English alone are smaller (openai/whisper, `Whisper.is_multilingual`).
pub const MULTILINGUAL_VOCAB: usize = 51_865;

/// What the model is to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// The words that are said, in their language.
    #[default]
    Transcribe,
    /// A translation into English.
    Translate,
}

/// A tokenizer with the ids of Whisper's special tokens.
#[derive(Clone, Debug)]
pub struct WhisperText {
    tokenizer: Tokenizer,
    multilingual: bool,
    /// `<|endoftext|>`: ends a window's text. All ids from here on are special.
    pub eot: u32,
    /// `<|startoftranscript|>`.
    pub sot: u32,
    /// `<|startofprev|>`: before the text of earlier windows.
    pub sot_prev: u32,
    /// `<|notimestamps|>`.
    pub no_timestamps: u32,
    /// `<|0.00|>`; each further id is 20 ms later.
    pub timestamp_begin: u32,
    /// `<|nospeech|>` (`<|nocaptions|>` in older files): its probability at the start tells silence.
    pub no_speech: Option<u32>,
    /// `<|translate|>`.
    pub translate: Option<u32>,
    /// `<|transcribe|>`.
    pub transcribe: Option<u32>,
    /// `<|startoflm|>`.
    pub sot_lm: Option<u32>,
    /// Tokens and codes of the languages that the vocabulary has, in the order of [`LANGUAGES`].
    languages: Vec<(u32, &'static str)>,
}

impl WhisperText {
    /// Looks the special tokens up. `multilingual` models are told language and task; those of English alone are not, although
    /// their vocabulary has the tokens.
    ///
    /// # Errors
    /// If one that every Whisper model needs is missing.
    pub fn new(tokenizer: Tokenizer, multilingual: bool) -> Result<WhisperText, CoreError> {
        let find = |name: &str| tokenizer.token_to_id(name);
        let need = |name: &str| {
            find(name).ok_or_else(|| {
                CoreError::Config(format!("the tokenizer has no {name}: it is not that of a Whisper model"))
            })
        };
        let no_timestamps = need("<|notimestamps|>")?;
        // Some published tokenizers leave the timestamps out; they follow by definition.
        let timestamp_begin = find("<|0.00|>").unwrap_or(no_timestamps.saturating_add(1));
        let (eot, sot, sot_prev) = (need("<|endoftext|>")?, need("<|startoftranscript|>")?, need("<|startofprev|>")?);
        let (transcribe, translate) = (find("<|transcribe|>"), find("<|translate|>"));
        let languages: Vec<(u32, &'static str)> =
            LANGUAGES.iter().filter_map(|(code, _)| find(&format!("<|{code}|>")).map(|id| (id, *code))).collect();
        if multilingual && (languages.is_empty() || transcribe.is_none() || translate.is_none()) {
            let what = "the tokenizer has no tokens for languages and tasks, but the model is multilingual";
            return Err(CoreError::Config(what.into()));
        }
        let specials = [sot, sot_prev, no_timestamps, timestamp_begin];
        if specials.iter().any(|&id| id <= eot) || timestamp_begin < no_timestamps {
            let what =
                "the tokenizer's special tokens are not in Whisper's order: <|endoftext|> first, timestamps last";
            return Err(CoreError::Config(what.into()));
        }
        Ok(WhisperText {
            multilingual,
            eot,
            sot,
            sot_prev,
            no_timestamps,
            timestamp_begin,
            no_speech: find("<|nospeech|>").or_else(|| find("<|nocaptions|>")),
            translate,
            transcribe,
            sot_lm: find("<|startoflm|>"),
            languages,
            tokenizer,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether language and task are told to the model.
    pub fn multilingual(&self) -> bool {
        self.multilingual
    }

    /// Tokens and codes of the languages that the model can be told.
    pub fn languages(&self) -> &[(u32, &'static str)] {
        if self.multilingual { &self.languages } else { &[] }
    }

    /// What follows `<|startoftranscript|>`: language and task for multilingual models, nothing for others.
    ///
    /// # Errors
    /// If the vocabulary has no token of `language`, or the model cannot translate.
    pub fn language_and_task(&self, language: &str, task: Task) -> Result<Vec<u32>, CoreError> {
        if !self.multilingual {
            if task == Task::Translate {
                return Err(CoreError::Config("this model knows English alone: it cannot translate".into()));
            }
            return Ok(Vec::new());
        }
        let token = self
            .languages
            .iter()
            .find(|(_, code)| *code == language)
            .map(|(id, _)| *id)
            .ok_or_else(|| CoreError::Config(format!("this model has no token for the language `{language}`")))?;
        let task = match task {
            Task::Transcribe => self.transcribe,
            Task::Translate => self.translate,
        };
        Ok(std::iter::once(token).chain(task).collect())
    }

    /// Ids of a text; special tokens written in it are plain text.
    ///
    /// # Errors
    /// Text that the vocabulary cannot express.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, CoreError> {
        Ok(self.tokenizer.encode_plain(text)?)
    }

    /// Text of ids; special tokens and timestamps are left out.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, CoreError> {
        let text: Vec<u32> = ids.iter().copied().filter(|&id| id < self.eot).collect();
        Ok(self.tokenizer.decode(&text, true)?)
    }

    /// Whether `id` is a timestamp.
    pub fn is_timestamp(&self, id: u32) -> bool {
        id >= self.timestamp_begin
    }

    /// Tokens that stand for no speech: brackets of speaker names and sounds, notes of music (openai/whisper,
    /// `Tokenizer.non_speech_tokens`). Hyphens and apostrophes are forbidden at the beginning of a word only.
    ///
    /// # Errors
    /// If the vocabulary cannot express one of them.
    pub fn non_speech_tokens(&self) -> Result<Vec<u32>, CoreError> {
        const SYMBOLS: &str = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 \
             << >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪";
        // Three bytes each, of which they share the first two: forbidding the first token harms no text.
        const NOTES: &str = "♩ ♪ ♫ ♬ ♭ ♮ ♯";
        let mut ids = Vec::new();
        for text in [" -", " '"] {
            ids.extend(self.encode(text)?.first());
        }
        for (symbols, always) in [(SYMBOLS, false), (NOTES, true)] {
            for symbol in symbols.split(' ') {
                for text in [symbol.to_owned(), format!(" {symbol}")] {
                    let tokens = self.encode(&text)?;
                    if always || tokens.len() == 1 {
                        ids.extend(tokens.first());
                    }
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
