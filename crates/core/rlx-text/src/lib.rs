//! Text in and out of a language model: tokenizers, chat templates, sampling and streaming decode.
//!
//! ```text
//! messages --ChatTemplate--> prompt --Tokenizer::encode--> ids --(model)--> logits
//!     text <--StopMatcher-- pieces <--StreamDecoder-- id <--Sampler-- logits
//! ```
//!
//! * [`Tokenizer`] reads Hugging Face `tokenizer.json` files and the vocabulary of a GGUF file ([`GgufVocab`]).
//! * [`ChatTemplate`] renders Jinja chat templates as `transformers` does, within fixed limits of work and memory.
//! * [`Sampler`] picks the next id from logits; the same seed gives the same ids on every platform.
//! * `Grammar` (feature `grammar`) holds answers to a JSON schema, a grammar or a regular expression.
//! * [`CtcVocabulary`] reads the rows of a speech recogniser as text.
//! * [`StreamDecoder`] turns ids into text piece by piece and never splits a character.
//! * [`wer`] counts the errors of a transcription.
//! * [`StopMatcher`] ends generation at stop strings and holds back what may become one.
//!
//! The crate does no network or clock access, knows no model family, and never panics on input: every failure is a
//! [`TextError`].

#![forbid(unsafe_code)]

mod chat;
mod ctc;
mod error;
mod gguf;
#[cfg(feature = "grammar")]
mod grammar;
mod hf;
pub mod logits;
mod pieces;
mod sampler;
mod stop;
mod stream;
mod tokenizer;
pub mod wer;

pub use chat::{BUILTIN_TEMPLATES, ChatInput, ChatTemplate, Content, Message};
pub use ctc::CtcVocabulary;
pub use error::TextError;
pub use gguf::{FromHf, GgufVocab};
#[cfg(feature = "grammar")]
pub use grammar::{Grammar, GrammarProcessor, GrammarSource};
pub use pieces::TokenKind;
pub use rlx_mem::StringArray;
pub use sampler::{LogitsProcessor, Sampler, SamplerOptions};
pub use stop::{StopMatcher, StopState};
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
