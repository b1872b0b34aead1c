//! `<family>.rlx.toml` beside the weights: how to run them where the arguments say nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rlx_runtime::{CompileOptions, Isa};
use toml::{Table, Value};

use super::args::KvArg;
use crate::args::{ModelArgs, PrecisionArg, values};

/// The keys of a profile.
const KEYS: [&str; 6] = ["threads", "precision", "isa", "kv_type", "prefill_chunk", "max_seq"];

/// How to compile and run the models of a directory. Arguments of the same names go before it.
///
/// ```toml
/// # qwen3.rlx.toml; every key is optional
/// threads = 4
/// precision = "auto"    # auto, f32, bf16
/// isa = "auto"          # auto, scalar, neon, avx2, avx512, amx
/// kv_type = "q8"        # f32, f16, q8
/// prefill_chunk = 512   # tokens of a prompt that run at once
/// max_seq = 8192        # longest sequence, prompt and answer together
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// The file; none if there is none.
    pub path: Option<PathBuf>,
    /// Threads.
    pub threads: Option<usize>,
    /// How exactly to compute.
    pub precision: Option<PrecisionArg>,
    /// Instruction set of the kernels.
    pub isa: Option<Isa>,
    /// Element type of the KV cache.
    pub kv_type: Option<KvArg>,
    /// Tokens of a prompt that run at once.
    pub prefill_chunk: Option<usize>,
    /// Longest sequence.
    pub max_seq: Option<usize>,
}

impl Profile {
    /// The profile of `family` in the directory of the weights at `path`, or beside that directory's files if `path` is one; empty
    /// if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, is no TOML, has an unknown key or a value out of range.
    pub fn beside(path: &Path, family: &str) -> anyhow::Result<Profile> {
        let dir = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let file = dir.join(format!("{family}.rlx.toml"));
        if !file.is_file() {
            return Ok(Profile::default());
        }
        let what = || file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(what)?;
        let profile = Profile::parse(&text).with_context(what)?;
        Ok(Profile { path: Some(file), ..profile })
    }

    fn parse(text: &str) -> anyhow::Result<Profile> {
        let table: Table = text.parse()?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS.iter().min_by_key(|known| strsim::levenshtein(key, known)).unwrap_or(&KEYS[0]);
            bail!("unknown key `{key}`; did you mean `{nearest}`? (keys: {})", KEYS.join(", "));
        }
        let number = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) if (1..=i64::from(i32::MAX)).contains(n) => Ok(Some(*n as usize)),
            Some(value) => bail!("{key} = {value}: must be a whole number of at least 1"),
        };
        let word = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(Value::String(word)) => Ok(Some(word.as_str())),
            Some(value) => bail!("{key} = {value}: must be a text"),
        };
        let isa = word("isa")?.map(values::isa).transpose().map_err(|why| anyhow::anyhow!("isa: {why}"))?;
        Ok(Profile {
            path: None,
            threads: number("threads")?,
            precision: choice("precision", word("precision")?)?,
            isa,
            kv_type: choice("kv_type", word("kv_type")?)?,
            prefill_chunk: number("prefill_chunk")?,
            max_seq: number("max_seq")?,
        })
    }

    /// Sets what the arguments leave open.
    pub(super) fn apply(&self, options: &mut CompileOptions, args: &ModelArgs) {
        if let (Some(threads), None) = (self.threads, args.threads) {
            options.threads = threads;
        }
        if let (Some(isa), None) = (self.isa, args.isa) {
            options.isa = isa;
        }
        if let (Some(precision), None, false) = (self.precision, args.precision, args.no_packed || args.packed) {
            options.precision = precision.into();
        }
    }
}

/// One of the words that the argument of the same name takes.
fn choice<T: ValueEnum>(key: &str, word: Option<&str>) -> anyhow::Result<Option<T>> {
    let Some(word) = word else { return Ok(None) };
    let names = T::value_variants().iter().filter_map(|known| Some(known.to_possible_value()?.get_name().to_owned()));
    match T::from_str(word, false) {
        Ok(found) => Ok(Some(found)),
        Err(_) => bail!("{key} = {word:?}: must be one of {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// A line for `--explain`; nothing without a file.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => writeln!(f, "profile {} (arguments go before it)", path.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "threads = 3\nprecision = 'f32'\nisa = 'scalar'\nkv_type = 'q8'\nprefill_chunk = 7\nmax_seq = 99";
        let profile = Profile::parse(text).unwrap();
        let expected = Profile {
            path: None,
            threads: Some(3),
            precision: Some(PrecisionArg::F32),
            isa: Some(Isa::Scalar),
            kv_type: Some(KvArg::Q8),
            prefill_chunk: Some(7),
            max_seq: Some(99),
        };
        assert_eq!(profile, expected);
        assert_eq!(Profile::parse("").unwrap(), Profile::default());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("thread = 3", "unknown key `thread`; did you mean `threads`?"),
            ("kv_typ = 'f16'", "did you mean `kv_type`"),
            ("threads = 0", "threads = 0: must be a whole number of at least 1"),
            ("max_seq = 'long'", "max_seq = \"long\""),
            ("max_seq = 99999999999", "max_seq"),
            ("kv_type = 'f8'", "must be one of f32, f16, q8"),
            ("isa = 'sse'", "isa: "),
            ("precision = 1", "precision = 1: must be a text"),
            ("threads = ", "line 1"),
        ] {
            let error = format!("{:#}", Profile::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
