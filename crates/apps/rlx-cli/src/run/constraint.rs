//! `--json-schema`, `--grammar`, `--regex`: answers of a given form.

use std::path::PathBuf;

#[cfg(feature = "grammar")]
use anyhow::Context as _;
use rlx_core::CausalLm;
use rlx_text::LogitsProcessor;

use crate::args::SamplingArgs;
use crate::context::Context;

/// The form of answers.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Constrained output")]
pub struct ConstraintArgs {
    /// Answer with JSON that this schema allows: a file, `-` for stdin, or the schema itself
    #[arg(long, value_name = "FILE|JSON", group = "constraint")]
    pub json_schema: Option<String>,
    /// Answer with text that this grammar allows: a file in the Lark format, or `-`; its first rule is `start`
    #[arg(long, value_name = "FILE", group = "constraint")]
    pub grammar: Option<PathBuf>,
    /// Answer with text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX", group = "constraint")]
    pub regex: Option<String>,
}

/// The form that every answer of a model must have.
pub struct Constraint {
    #[cfg(feature = "grammar")]
    grammar: rlx_text::Grammar,
    #[cfg(not(feature = "grammar"))]
    never: std::convert::Infallible,
}

/// Holds one answer to its form.
pub trait AnswerForm: LogitsProcessor {
    /// Whether the answer may end here.
    fn is_whole(&mut self) -> bool;
}

#[cfg(feature = "grammar")]
impl AnswerForm for rlx_text::GrammarProcessor {
    fn is_whole(&mut self) -> bool {
        self.is_accepting()
    }
}

impl ConstraintArgs {
    /// Whether answers are to have a form.
    pub fn is_given(&self) -> bool {
        self.json_schema.is_some() || self.grammar.is_some() || self.regex.is_some()
    }

    /// As [`ConstraintArgs::load`]; what is not observed is told on stderr.
    ///
    /// # Errors
    /// As [`ConstraintArgs::load`], and if answers are to go on after their end.
    pub fn load_noting(
        &self,
        model: &CausalLm,
        sampling: &SamplingArgs,
        ctx: &Context<'_>,
    ) -> anyhow::Result<Option<Constraint>> {
        if self.is_given() && sampling.ignore_eos {
            let text =
                "--ignore-eos has no meaning with --json-schema, --grammar or --regex: nothing can follow the answer";
            return Err(crate::UsageError(text.to_owned()).into());
        }
        Ok(self.load(model)?.map(|(constraint, warnings)| {
            for warning in warnings {
                ctx.note(&format!("warning: {warning}"));
            }
            constraint
        }))
    }

    /// The form that is asked for, for the vocabulary of `model`, and what of it is not observed.
    ///
    /// # Errors
    /// If it cannot be read, is not valid, or the model has no tokenizer.
    #[cfg(feature = "grammar")]
    pub fn load(&self, model: &CausalLm) -> anyhow::Result<Option<(Constraint, Vec<String>)>> {
        use rlx_text::GrammarSource;

        let (name, source) = if let Some(schema) = &self.json_schema {
            let (name, text) = match schema.trim_start().starts_with('{') {
                true => ("--json-schema".to_owned(), schema.clone()),
                false => (schema.clone(), read(schema.as_ref())?),
            };
            let schema = serde_json::from_str(&text).with_context(|| format!("{name}: not JSON"))?;
            (name, GrammarSource::JsonSchema(schema))
        } else if let Some(file) = &self.grammar {
            (file.display().to_string(), GrammarSource::Lark(read(file)?))
        } else if let Some(regex) = &self.regex {
            ("--regex".to_owned(), GrammarSource::Regex(regex.clone()))
        } else {
            return Ok(None);
        };
        let mut grammar = rlx_text::Grammar::new(model.tokenizer()?, &source).context(name)?;
        let warnings = grammar.warnings();
        Ok(Some((Constraint { grammar }, warnings)))
    }

    /// This build has no grammars.
    ///
    /// # Errors
    /// If one is asked for.
    #[cfg(not(feature = "grammar"))]
    pub fn load(&self, _: &CausalLm) -> anyhow::Result<Option<(Constraint, Vec<String>)>> {
        match self.is_given() {
            true => anyhow::bail!("this program was built without constrained output (cargo feature `grammar`)"),
            false => Ok(None),
        }
    }
}

impl Constraint {
    /// What holds one answer to the form.
    pub fn start(&self) -> Box<dyn AnswerForm> {
        #[cfg(feature = "grammar")]
        return Box::new(self.grammar.processor());
        #[cfg(not(feature = "grammar"))]
        match self.never {}
    }
}

#[cfg(feature = "grammar")]
fn read(file: &std::path::Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("stdin");
    }
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
