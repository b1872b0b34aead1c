//! Where texts come from.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use rlx_cli::run::args::PlanArgs;
use rlx_cli::{Context, UsageError};
use rlx_vectors::{SourceOptions, TextFormat, TextSource, given_texts, open_source, read_source};

/// Texts as arguments, of a file, or of stdin.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub(super) struct InputArgs {
    /// Texts; without any, and without --input, the lines of stdin
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// File of texts, - for stdin; .jsonl, .csv, .tsv and .parquet are known by their names, others hold one text a line
    #[arg(long, short = 'i', value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
    /// Leave out the first N texts
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_rows: u64,
    /// Read at most N texts
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
}

/// How a file of texts is read.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub(super) struct FormatArgs {
    /// Format of the texts: lines, jsonl, csv, tsv, parquet [default: what the name says]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<TextFormat>,
    /// Field or column with the texts; a.b.0 leads into JSON objects, lists and Parquet groups [default: text]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// The first line of a CSV file is a record; --column is then a number from 1
    #[arg(long)]
    no_header: bool,
    /// What separates the columns of a CSV file [default: a comma]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Replace what is not UTF-8 instead of failing
    #[arg(long)]
    lossy: bool,
    /// Take a missing or null text for an empty one instead of failing
    #[arg(long)]
    allow_missing: bool,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        &[byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
        _ => Err("expected one ASCII character, or \\t".to_owned()),
    }
}

impl InputArgs {
    /// The texts, one after another; none if there are none, and the plan is all that is asked for.
    pub(super) fn open(&self, plan: PlanArgs, ctx: &Context<'_>) -> anyhow::Result<Option<Box<dyn TextSource>>> {
        if let Some(name) = self.file_among_texts() {
            ctx.note(&format!("note: {name} is a text here, though there is such a file: --input {name} reads it"));
        }
        let source = match (&self.input, self.texts.is_empty()) {
            (Some(_), false) => return Err(usage("the texts are given twice: as arguments, and by --input")),
            (None, false) => given_texts(self.texts.clone()),
            (Some(path), true) => self.format.open(path)?,
            (None, true) if !std::io::stdin().is_terminal() => self.format.open(Path::new("-"))?,
            (None, true) if plan.explain => return Ok(None),
            (None, true) => {
                return Err(usage("there are no texts: give them as arguments, by --input FILE, or pipe them in"));
            }
        };
        if self.skip_rows == 0 && self.max_rows.is_none() {
            return Ok(Some(source));
        }
        Ok(Some(Box::new(Part { source, skip: self.skip_rows, left: self.max_rows.unwrap_or(u64::MAX) })))
    }

    /// A text that is a file's name, by which its content may be meant.
    fn file_among_texts(&self) -> Option<&str> {
        self.texts.iter().map(String::as_str).find(|text| Path::new(text).is_file())
    }

    /// The texts that are arguments.
    pub(super) fn given(&self) -> &[String] {
        &self.texts
    }
}

impl FormatArgs {
    /// The texts of a file, of stdin if it is `-`.
    pub(super) fn open(&self, path: &Path) -> anyhow::Result<Box<dyn TextSource>> {
        let options = SourceOptions {
            format: self.input_format,
            column: self.column.clone(),
            no_header: self.no_header,
            delimiter: self.delimiter,
            lossy: self.lossy,
            allow_missing: self.allow_missing,
        };
        if path == Path::new("-") {
            return Ok(read_source(Box::new(std::io::stdin()), "stdin", &options)?);
        }
        Ok(open_source(path, &options)?)
    }
}

pub(super) fn usage(what: &str) -> anyhow::Error {
    UsageError(what.to_owned()).into()
}

/// Some of the texts of a source.
struct Part {
    source: Box<dyn TextSource>,
    skip: u64,
    left: u64,
}

impl Iterator for Part {
    type Item = <Box<dyn TextSource> as Iterator>::Item;
    fn next(&mut self) -> Option<Self::Item> {
        while self.skip > 0 {
            self.skip -= 1;
            if let Err(error) = self.source.next()? {
                return Some(Err(error));
            }
        }
        self.left = self.left.checked_sub(1)?;
        self.source.next()
    }
}

impl TextSource for Part {
    fn progress(&self) -> rlx_vectors::Progress {
        self.source.progress()
    }

    fn ready(&self) -> bool {
        self.left == 0 || self.source.ready()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        input: InputArgs,
    }

    #[test]
    fn names_of_files_among_texts_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docs.txt");
        std::fs::write(&path, "a\n").unwrap();
        let name = path.to_str().unwrap();
        let of = |texts: &[&str]| {
            let command = Command::parse_from([&["embed"], texts].concat());
            command.input.file_among_texts().map(str::to_owned)
        };
        assert_eq!(of(&["hello", name]).as_deref(), Some(name));
        assert_eq!(of(&["hello", "docs.txt of another folder", dir.path().to_str().unwrap()]), None);
    }
}
