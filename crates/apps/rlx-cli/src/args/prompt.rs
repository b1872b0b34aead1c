//! Where the prompt comes from.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rlx_text::Message;

use super::values;

/// The prompt, in one of several forms.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// The prompt
    #[arg(long, value_name = "TEXT", group = "prompt_source")]
    pub prompt: Option<String>,
    /// The prompt as token ids, e.g. 1,2,3; rows of a batch are separated by `;`
    #[arg(long, value_name = "IDS", group = "prompt_source")]
    pub prompt_ids: Option<String>,
    /// The prompt from a file; `-` is stdin
    #[arg(long, value_name = "FILE", group = "prompt_source")]
    pub prompt_file: Option<PathBuf>,
    /// A conversation as JSON: [{"role": "user", "content": "..."}, ...], or a file with it
    #[arg(long, value_name = "JSON", group = "prompt_source")]
    pub messages_json: Option<String>,
    /// System message of a conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Give the prompt to the model as it is, without the chat template
    #[arg(long)]
    pub raw_prompt: bool,
    /// Chat template: a name (chatml, llama3, ...), a file, or Jinja text
    #[arg(long, value_name = "TEMPLATE")]
    pub chat_template: Option<String>,
}

/// A prompt.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Token ids, one row per sequence; no row is empty.
    Ids(Vec<Vec<u32>>),
    /// A conversation.
    Messages(Vec<Message>),
}

impl PromptArgs {
    /// The prompt that was given, if one was.
    ///
    /// # Errors
    /// It is empty, no valid ids, no valid JSON, or its file cannot be read as UTF-8.
    pub fn read(&self) -> anyhow::Result<Option<Prompt>> {
        let prompt = if let Some(text) = &self.prompt {
            Prompt::Text(text.clone())
        } else if let Some(ids) = &self.prompt_ids {
            Prompt::Ids(values::id_rows(ids).map_err(|e| anyhow::anyhow!("--prompt-ids: {e}"))?)
        } else if let Some(path) = &self.prompt_file {
            Prompt::Text(read_text(path)?)
        } else if let Some(json) = &self.messages_json {
            Prompt::Messages(messages(json)?)
        } else {
            return Ok(None);
        };
        match &prompt {
            Prompt::Text(text) if text.is_empty() => bail!("the prompt is empty"),
            Prompt::Messages(list) if list.is_empty() => bail!("--messages-json: the conversation is empty"),
            _ => Ok(Some(prompt)),
        }
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("stdin")?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Parses a conversation, given as JSON text or as the path of a file.
fn messages(argument: &str) -> anyhow::Result<Vec<Message>> {
    let text = if argument.trim_start().starts_with('[') {
        argument.to_owned()
    } else {
        read_text(Path::new(argument)).context("--messages-json is neither a JSON list nor a file")?
    };
    serde_json::from_str(&text).context("--messages-json: expected a list of {\"role\": ..., \"content\": ...}")
}
