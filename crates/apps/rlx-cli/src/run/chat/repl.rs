//! Turns from a terminal or a pipe, and the commands between them.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::Talk;

const HISTORY_FILE: &str = "chat-history.txt";

const HELP: &str = "\
/reset        forget the conversation
/system TEXT  set the system message; without TEXT take it away
/save FILE    write the conversation as JSON
/load FILE    take up a conversation that was saved
/help         this list
/exit         end (also Ctrl-D)
A backslash at the end of a line continues the message on the next line. Ctrl-C stops an answer.";

/// What a line of input wants.
#[derive(Debug, PartialEq)]
enum Input<'a> {
    Nothing,
    Message(&'a str),
    Reset,
    System(Option<&'a str>),
    Save(&'a Path),
    Load(&'a Path),
    Help,
    Exit,
    Unknown(&'a str),
    /// A command that lacks its argument.
    Incomplete(&'static str),
}

fn parse(line: &str) -> Input<'_> {
    let line = line.trim();
    if line.is_empty() {
        return Input::Nothing;
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
    match (word, rest) {
        ("/reset", _) => Input::Reset,
        ("/system", text) => Input::System(text),
        ("/save", Some(file)) => Input::Save(Path::new(file)),
        ("/load", Some(file)) => Input::Load(Path::new(file)),
        ("/save", None) => Input::Incomplete("/save FILE"),
        ("/load", None) => Input::Incomplete("/load FILE"),
        ("/help" | "/?", _) => Input::Help,
        ("/exit" | "/quit" | "/bye", _) => Input::Exit,
        // A path or a fraction is no command.
        _ if word.starts_with('/') && word[1..].chars().all(|c| c.is_ascii_alphabetic()) && word.len() > 1 => {
            Input::Unknown(word)
        }
        _ => Input::Message(line),
    }
}

/// Joins lines that end in a backslash: adds `line` to `message` and tells whether more must follow.
fn continues(message: &mut String, line: &str) -> bool {
    match line.strip_suffix('\\') {
        Some(part) => {
            message.push_str(part);
            message.push('\n');
            true
        }
        None => {
            message.push_str(line);
            false
        }
    }
}

impl Talk<'_> {
    /// Turns typed at a terminal.
    pub(super) fn interactive(&mut self) -> anyhow::Result<ExitCode> {
        let mut editor = DefaultEditor::new()?;
        let history = self.history_file();
        if let Some(file) = &history {
            // The first talk has no history yet; a broken one is no reason not to talk.
            let _ = editor.load_history(file);
        }
        let info = self.conversation.model().info();
        self.ctx.note(&format!("{} ({}). /help lists commands, Ctrl-D ends.", info.name, info.family));
        loop {
            let message = match read_message(&mut editor) {
                Ok(message) => message,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(error.into()),
            };
            if !message.trim().is_empty() {
                // History is a convenience: a full disk must not end the talk.
                let _ = editor.add_history_entry(&message);
                if let Some(file) = &history {
                    let _ = editor.append_history(file);
                }
            }
            if !self.act(&message, true)? {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Turns from a pipe or a file, line by line.
    pub(super) fn piped(&mut self) -> anyhow::Result<ExitCode> {
        let mut message = String::new();
        for line in std::io::stdin().lock().lines() {
            if continues(&mut message, &line?) {
                continue;
            }
            if !self.act(&std::mem::take(&mut message), false)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        // The last line may have ended in a backslash.
        self.act(&message, false)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Does what the input wants. False ends the talk. At a terminal a failed turn is told and the talk goes on.
    fn act(&mut self, input: &str, forgiving: bool) -> anyhow::Result<bool> {
        let result = match parse(input) {
            Input::Nothing => Ok(()),
            Input::Message(text) => self.turn(text).map(|_| ()),
            Input::Reset => {
                self.conversation.reset();
                self.ctx.note("(the conversation is forgotten)");
                Ok(())
            }
            Input::System(text) => {
                self.conversation.set_system(text);
                Ok(())
            }
            Input::Save(file) => {
                self.conversation.save(file).map(|()| self.ctx.note(&format!("(saved {})", file.display())))
            }
            Input::Load(file) => self
                .conversation
                .load(file)
                .map(|()| self.ctx.note(&format!("({} messages)", self.conversation.messages().len()))),
            Input::Help => {
                self.ctx.note(HELP);
                Ok(())
            }
            Input::Exit => return Ok(false),
            Input::Unknown(word) => Err(anyhow::anyhow!("no command {word}; /help lists the commands")),
            Input::Incomplete(usage) => Err(anyhow::anyhow!("the command is {usage}")),
        };
        match result {
            Err(error) if forgiving && !is_closed_output(&error) => {
                self.ctx.note(&format!("error: {error:#}"));
                Ok(true)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(true),
        }
    }

    fn history_file(&self) -> Option<PathBuf> {
        let dir = self.fetch.cache_root().ok()?;
        std::fs::create_dir_all(&dir).ok()?;
        Some(dir.join(HISTORY_FILE))
    }
}

fn read_message(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut message = String::new();
    let mut prompt = "> ";
    while continues(&mut message, &editor.readline(prompt)?) {
        prompt = ". ";
    }
    Ok(message)
}

/// Whoever read the answers has gone.
fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_messages() {
        assert_eq!(parse("  "), Input::Nothing);
        assert_eq!(parse(" What is 1/2? "), Input::Message("What is 1/2?"));
        assert_eq!(parse("/usr/bin is a path"), Input::Message("/usr/bin is a path"));
        assert_eq!(parse("/ hm"), Input::Message("/ hm"));
        assert_eq!(parse("/system Be brief."), Input::System(Some("Be brief.")));
        assert_eq!(parse("/system"), Input::System(None));
        assert_eq!(parse("/save a b.json"), Input::Save(Path::new("a b.json")));
        assert_eq!(parse("/save"), Input::Incomplete("/save FILE"));
        assert_eq!(parse("/quit"), Input::Exit);
        assert_eq!(parse("/rest"), Input::Unknown("/rest"));
    }

    #[test]
    fn backslashes_continue() {
        let mut message = String::new();
        assert!(continues(&mut message, "one\\"));
        assert!(!continues(&mut message, "two"));
        assert_eq!(message, "one\ntwo");
    }
}
