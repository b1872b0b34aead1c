//! Tokenizers, chat templates, sampling and streaming decode.
