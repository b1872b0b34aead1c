//! [`ChatTemplate`]: parses once, renders within limits.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::compile::compile;
use super::meter::{LimitReached, MAX_STRING, Meter};
use super::{BUILTIN_TEMPLATES, ChatInput, ops, python};
use crate::TextError;

/// Longest template source.
const MAX_SOURCE: usize = 1 << 20;
/// Nesting of macro calls and recursive loops.
const MAX_RECURSION: usize = 100;
const NAME: &str = "chat_template";

/// A parsed chat template in Hugging Face's dialect of Jinja. Cheap to clone.
///
/// Rendering follows `transformers`: `trim_blocks`, `lstrip_blocks`, Python methods on strings, lists and dicts,
/// Python's `tojson`, `raise_exception`, `strftime_now`, `namespace`, `{% break %}`, `{% continue %}` and
/// `{% generation %}` blocks. Values print as Python prints them (`True`, `None`).
///
/// Templates come from files of unknown origin: source size, instructions run, recursion, memory and output size are
/// limited, and a template can reach nothing outside its variables.
#[derive(Clone)]
pub struct ChatTemplate {
    source: Arc<str>,
    /// The source as it is compiled.
    prepared: Arc<str>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish()
    }
}

/// What `raise_exception` was called with.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(source: &str) -> Result<Self, TextError> {
        if source.len() > MAX_SOURCE {
            return Err(TextError::TemplateLimit(format!(
                "the source has {} bytes, more than {MAX_SOURCE}",
                source.len()
            )));
        }
        let prepared = without_generation_tags(source);
        compile(NAME, &prepared).map_err(|e| error(&e))?;
        Ok(Self { source: source.into(), prepared: prepared.into() })
    }

    /// A template by built-in name (see [`BUILTIN_TEMPLATES`]), by path of a file, or given as Jinja text: what
    /// `--chat-template` takes.
    ///
    /// # Errors
    /// Neither of the three, or a template that does not parse.
    pub fn from_arg(arg: &str) -> Result<Self, TextError> {
        if let Some((_, source)) = BUILTIN_TEMPLATES.iter().find(|(name, _)| *name == arg) {
            return Self::new(source);
        }
        if arg.contains("{%") || arg.contains("{{") {
            return Self::new(arg);
        }
        let path = Path::new(arg);
        if path.is_file() {
            let read = |source| TextError::Io { path: path.to_owned(), source };
            let size = std::fs::metadata(path).map_err(read)?.len();
            if size > MAX_SOURCE as u64 {
                return Err(TextError::TemplateLimit(format!("{arg} has {size} bytes, more than {MAX_SOURCE}")));
            }
            return Self::new(&std::fs::read_to_string(path).map_err(read)?);
        }
        let names: Vec<&str> = BUILTIN_TEMPLATES.iter().map(|(name, _)| *name).collect();
        Err(TextError::Template(format!(
            "`{arg}` is no file, no Jinja text and no built-in template (those are {})",
            names.join(", ")
        )))
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the prompt.
    ///
    /// # Errors
    /// The template refuses the messages ([`TextError::TemplateRaised`]), fails, or exceeds a limit.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        let compiled = compile(NAME, &self.prepared).map_err(|e| error(&e))?;
        let env = environment(compiled.fuel);
        let mut prompt = String::new();
        let mut out = make_string_output(&mut prompt);
        let t = &compiled.template;
        Vm::new(&env)
            .eval(&t.instructions, context(input), &t.blocks, &mut out, AutoEscape::None)
            .map_err(|e| error(&e))?;
        if prompt.len() > MAX_STRING {
            return Err(TextError::TemplateLimit(format!("the prompt has more than {} MiB", MAX_STRING >> 20)));
        }
        Ok(prompt)
    }
}

fn context(input: &ChatInput<'_>) -> Value {
    let mut vars: Vec<(String, Value)> = vec![
        ("messages".into(), Value::from_serialize(input.messages)),
        ("tools".into(), Value::from_serialize(&input.tools)),
        ("documents".into(), Value::from(())),
        ("add_generation_prompt".into(), Value::from(input.add_generation_prompt)),
        ("bos_token".into(), Value::from(input.bos_token.as_str())),
        ("eos_token".into(), Value::from(input.eos_token.as_str())),
    ];
    if let Some(now) = input.now {
        let function = move |format: &str| python::strftime(now, format);
        vars.push(("strftime_now".into(), Value::from_function(function)));
    }
    vars.extend(input.extra.iter().map(|(k, v)| (k.clone(), Value::from_serialize(v))));
    vars.into_iter().collect()
}

fn environment<'a>(fuel: u64) -> Environment<'a> {
    let mut env = Environment::new();
    env.set_fuel(Some(fuel));
    env.set_recursion_limit(MAX_RECURSION);
    ops::install(&mut env, &Meter::new());
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        let text = message.clone();
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised(text)))
    });
    env
}

/// `{% generation %}` marks the assistant's words for training; here the block is as good as always true.
fn without_generation_tags(source: &str) -> String {
    if !source.contains("generation") {
        return source.to_owned();
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + len];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..start]);
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match replacement {
            Some(new) => {
                out.push_str("{%");
                out.push_str(&tag.replacen(word, new, 1));
            }
            None => out.push_str(&rest[start..start + len]),
        }
        out.push_str("%}");
        rest = &rest[start + len + 2..];
    }
    out.push_str(rest);
    out
}

fn error(e: &Error) -> TextError {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(c) = cause {
        if let Some(Raised(message)) = c.downcast_ref() {
            return TextError::TemplateRaised(message.clone());
        }
        if let Some(LimitReached(what)) = c.downcast_ref() {
            return TextError::TemplateLimit(what.clone());
        }
        cause = c.source();
    }
    let line = e.line().map_or(String::new(), |l| format!(" (line {l})"));
    match e.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateLimit(format!("it runs too many instructions{line}")),
        kind => {
            let detail = e.detail().map_or(String::new(), |d| format!(": {d}"));
            TextError::Template(format!("{kind}{detail}{line}"))
        }
    }
}
