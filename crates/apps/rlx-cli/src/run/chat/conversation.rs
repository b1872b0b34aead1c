//! A conversation whose earlier turns stay in the KV cache.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, bail};
use rlx_core::{Assist, CausalLm, CoreError, Event, GenerateOptions, Generation};
use rlx_runtime::{SequenceId, Session, SessionOptions, StepProfile};
use rlx_text::{Content, Message};

use crate::run::{Constraint, Draft};

/// Messages so far, and a sequence that holds as much of them as was run.
///
/// Each turn renders the whole conversation by the chat template, keeps the tokens that are in the cache already, and runs
/// the rest.
pub struct Conversation {
    model: CausalLm,
    session: Session,
    sequence: SequenceId,
    options: GenerateOptions,
    messages: Vec<Message>,
    draft: Option<Draft>,
    constraint: Option<Constraint>,
    /// Whether the last answer is of the form that was asked for, if one was.
    whole: Option<bool>,
}

impl Conversation {
    /// A conversation without messages.
    ///
    /// # Errors
    /// If the model has no tokenizer or no chat template, or a session option is out of range.
    pub fn new(model: CausalLm, session: SessionOptions, options: GenerateOptions) -> Result<Conversation, CoreError> {
        model.tokenizer()?;
        if !model.has_chat_template() {
            return Err(CoreError::NoChatTemplate);
        }
        let mut session = model.session(session)?;
        let sequence = session.add_sequence();
        Ok(Conversation {
            model,
            session,
            sequence,
            options,
            messages: vec![],
            draft: None,
            constraint: None,
            whole: None,
        })
    }

    /// Drafts the answers, or does not.
    pub fn set_draft(&mut self, draft: Option<Draft>) {
        self.draft = draft;
    }

    /// Gives every answer a form, or none.
    pub fn set_constraint(&mut self, constraint: Option<Constraint>) {
        self.constraint = constraint;
    }

    /// Whether answers are drafted.
    pub fn has_draft(&self) -> bool {
        self.draft.is_some()
    }

    /// Whether the last answer is of the form that was asked for, if one was.
    pub fn is_whole(&self) -> Option<bool> {
        self.whole
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Tokens in the cache.
    pub fn cached_tokens(&self) -> usize {
        self.session.tokens(self.sequence).map_or(0, <[u32]>::len)
    }

    /// Sets the system message, or takes it away.
    pub fn set_system(&mut self, text: Option<&str>) {
        self.messages.retain(|message| message.role != "system");
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Forgets everything but the system message.
    pub fn reset(&mut self) {
        self.messages.retain(|message| message.role == "system");
    }

    /// Says `text` and gives the answer, which becomes part of the conversation, be it cut short or stopped.
    ///
    /// # Errors
    /// If the template refuses the messages, or the conversation is too long; it is then as it was before.
    pub fn say(
        &mut self,
        text: &str,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, CoreError> {
        self.messages.push(Message::new("user", text));
        let result = self.answer(on_event);
        match &result {
            Ok(generation) => self.messages.push(Message::new("assistant", generation.text.as_str())),
            Err(_) => {
                self.messages.pop();
            }
        }
        result
    }

    fn answer(&mut self, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Generation, CoreError> {
        let ids = self.model.encode_chat(&self.messages, None)?;
        let max_seq = self.session.options().max_seq;
        if ids.len() > max_seq {
            return Err(CoreError::PromptTooLong { tokens: ids.len(), max_seq });
        }
        let keep = reusable(self.session.tokens(self.sequence)?, &ids);
        self.session.truncate(self.sequence, keep)?;
        let mut form = self.constraint.as_ref().map(Constraint::start);
        let assist = Assist {
            processor: form.as_mut().map(|form| form.as_mut() as _),
            drafter: self.draft.as_mut().map(|draft| (draft.drafter.as_mut() as _, draft.tokens)),
        };
        let (session, sequence) = (&mut self.session, self.sequence);
        let result = self.model.generate_with(session, sequence, &ids[keep..], &self.options, assist, on_event);
        self.whole = form.map(|mut form| form.is_whole());
        result
    }

    /// Writes the messages as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.messages)?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    /// Takes the messages that [`Conversation::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read or holds no messages; the conversation is then as it was.
    pub fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let what = || format!("{}: not a saved conversation", path.display());
        let messages: Vec<Message> = serde_json::from_str(&text).with_context(what)?;
        if messages.iter().any(|message| matches!(message.content, Content::None)) {
            bail!("{}: a message says nothing", path.display());
        }
        self.messages = messages;
        Ok(())
    }

    /// Starts (anew) or ends the recording of times.
    pub fn set_profiling(&mut self, on: bool) {
        self.session.set_profiling(on);
    }

    /// Times since the recording was started.
    pub fn profile(&self) -> Vec<StepProfile> {
        self.session.profile()
    }
}

/// How many of the cached tokens serve the sequence `ids`: the common beginning, but at least one token must be run to
/// have logits.
fn reusable(cached: &[u32], ids: &[u32]) -> usize {
    let common = cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
    common.min(ids.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_beginning_is_kept() {
        assert_eq!(reusable(&[], &[1, 2]), 0);
        assert_eq!(reusable(&[1, 2, 3], &[1, 2, 4, 5]), 2);
        assert_eq!(reusable(&[1, 2, 3], &[1, 2]), 1);
        assert_eq!(reusable(&[1, 2], &[1, 2]), 1);
    }
}
