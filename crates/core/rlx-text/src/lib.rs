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
//! * [`StreamDecoder`] turns ids into text piece by piece and never splits a character.
//! * [`StopMatcher`] ends generation at stop strings and holds back what may become one.
//!
//! The crate does no network or clock access, knows no model family, and never panics on input: every failure is a
//! [`TextError`].

#![forbid(unsafe_code)]

mod chat;
mod error;
mod gguf;
mod hf;
mod pieces;
mod sampler;
mod stop;
mod stream;
mod tokenizer;

pub use chat::{BUILTIN_TEMPLATES, ChatInput, ChatTemplate, Content, Message};
pub use error::TextError;
pub use gguf::GgufVocab;
pub use pieces::TokenKind;
pub use sampler::{LogitsProcessor, Sampler, SamplerOptions};
pub use stop::{StopMatcher, StopState};
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
