//! Chat templates: messages to the prompt the model was trained on.

mod builtin;
mod compile;
mod meter;
mod ops;
mod python;
mod render;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use builtin::BUILTIN_TEMPLATES;
pub use render::ChatTemplate;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts as the template knows them: `{"type": "text", "text": ...}`, `{"type": "image"}` ...
    Parts(Vec<Value>),
    /// Nothing (a message that only calls tools).
    None,
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// One message of a conversation. Serialises to, and parses from, the usual JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` ...
    pub role: String,
    /// What it says.
    #[serde(default = "no_content")]
    pub content: Content,
    /// Tool calls of an assistant message, as the template expects them (most want `arguments` as an object).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// Further fields the template may look at (`name`, `tool_call_id`, `reasoning_content` ...).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn no_content() -> Content {
    Content::None
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<Content>) -> Self {
        Self { role: role.into(), content: content.into(), tool_calls: None, extra: Map::new() }
    }
}

/// What a chat template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct ChatInput<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// Tools on offer, as a JSON list of function schemas.
    pub tools: Option<Value>,
    /// Whether to end with the header of the assistant's turn, so that the model answers.
    pub add_generation_prompt: bool,
    /// Text of the begin-of-text token, for templates that write it.
    pub bos_token: String,
    /// Text of the end-of-text token.
    pub eos_token: String,
    /// Further variables (`enable_thinking`, `documents` ...); they win over the ones above.
    pub extra: Map<String, Value>,
    /// Local time in seconds since 1970-01-01 00:00 local time, for `strftime_now`. Without it the function is not
    /// defined, and templates fall back to the date they were written with.
    pub now: Option<i64>,
}
