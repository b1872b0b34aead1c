//! The commands with a stand-in for a model.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rlx_cli::{Context, Registry, Runner, dispatch};
use rlx_runtime::StepProfile;
use rlx_vectors::VectorIndex;

use super::model::{EmbedArgs, TextModel};
use super::{embed, search, similarity};

/// Embeds a text as how often it has each of four letters.
struct Letters {
    prompt: String,
    longest: usize,
    truncated: u64,
}

impl TextModel for Letters {
    fn name(&self) -> &str {
        "letters"
    }
    fn dims(&self) -> usize {
        4
    }
    fn max_length(&self) -> usize {
        self.longest
    }
    fn truncated(&self) -> u64 {
        self.truncated
    }
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("model".into(), "letters".into())])
    }
    fn plan(&self, texts: &[String]) -> anyhow::Result<String> {
        Ok(format!("letters of {} texts\n", texts.len()))
    }
    fn profile(&self) -> Vec<StepProfile> {
        Vec::new()
    }
    fn embed_into(&mut self, texts: &[&str], vectors: &mut Vec<f32>) -> anyhow::Result<()> {
        for text in texts {
            let text = format!("{}{text}", self.prompt);
            self.truncated += u64::from(text.len() > self.longest);
            vectors.extend(['a', 'b', 'c', 'd'].map(|letter| text.matches(letter).count() as f32));
        }
        Ok(())
    }
}

fn load(args: &EmbedArgs, _: Option<&str>, _: &Context<'_>) -> anyhow::Result<Box<dyn TextModel>> {
    let prompt = args.prompt.clone().unwrap_or_default();
    Ok(Box::new(Letters { prompt, longest: args.max_length.unwrap_or(100), truncated: 0 }))
}

fn run(args: &[&str]) -> ExitCode {
    fn embed_run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
        embed::run(args, ctx, &load)
    }
    fn similarity_run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
        similarity::run(args, ctx, &load)
    }
    fn search_run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
        search::run(args, ctx, &load)
    }
    let mut registry = Registry::new();
    registry
        .register(Runner::new("embed", "e", embed_run))
        .register(Runner::new("similarity", "s", similarity_run))
        .register(Runner::new("search", "s", search_run));
    dispatch(&registry, [&["test"], args].concat())
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }
}

fn vectors(path: &Path) -> Vec<Vec<f32>> {
    let index = VectorIndex::open(path).unwrap();
    (0..index.rows()).map(|row| index.vector(row).unwrap()).collect()
}

const OK: ExitCode = ExitCode::SUCCESS;

#[test]
fn files_of_every_kind_become_vectors() {
    let dir = Dir::new();
    let out = dir.text("out.npy");
    let expected = vec![vec![2.0, 0.0, 0.0, 0.0], vec![0.0; 4], vec![0.0, 1.0, 1.0, 0.0]];
    let lines = dir.file("x.txt", "aa\n\nbc\n");
    let jsonl = dir.file("x.jsonl", "{\"t\":{\"x\":\"aa\"}}\n{\"t\":{\"x\":\"\"}}\n{\"t\":{\"x\":\"bc\"}}\n");
    let csv = dir.file("x.csv", "n,body\n1,aa\n2,\n3,bc\n");
    let data = dir.file("x.data", "n;body\n1;aa\n2;\n3;bc\n");
    for input in [
        &["--input", &lines][..],
        &["--input", &jsonl, "--column", "t.x"],
        &["-i", &csv, "--column=body"],
        &["--input", &data, "--input-format", "csv", "--delimiter", ";", "--column", "body"],
        &["aa", "", "bc"],
    ] {
        assert_eq!(run(&[&["embed", "--quiet", "--force", "-o", &out], input].concat()), OK, "{input:?}");
        assert_eq!(vectors(Path::new(&out)), expected, "{input:?}");
    }
    assert_eq!(run(&["embed", "--quiet", "--force", "-o", &out, "-i", &lines, "--skip-rows=1", "--max-rows=1"]), OK);
    assert_eq!(vectors(Path::new(&out)), [vec![0.0; 4]]);
    assert_eq!(run(&["embed", "--quiet", "--force", "-o", &out, "--prompt", "ddd", "a"]), OK);
    assert_eq!(vectors(Path::new(&out)), [vec![1.0, 0.0, 0.0, 3.0]]);
}

#[test]
fn json_lines_keep_the_numbers_of_rows() {
    let dir = Dir::new();
    let (lines, out) = (dir.file("x.txt", "aa\nb\nc\n"), dir.text("out.jsonl"));
    assert_eq!(run(&["embed", "--quiet", "-o", &out, "-i", &lines, "--skip-rows=1", "--with-text"]), OK);
    let first = fs::read_to_string(&out).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first, r#"{"index":1,"text":"b","embedding":[0.0,1.0,0.0,0.0]}"#);
}

#[test]
fn wrong_usage_is_2_and_writes_nothing() {
    let dir = Dir::new();
    let (lines, out) = (dir.file("x.txt", "a\n"), dir.text("out"));
    for args in [
        &["embed", "--output", &out, "a"][..],
        &["embed", "--output-format", "npy", "a"],
        &["embed", "--output-format", "npz", "a"],
        &["embed", "--input", &lines, "a"],
        &["embed", "--prompt", "x", "--prompt-name", "y", "a"],
        &["embed", "--dims", "0", "a"],
        &["embed", "--delimiter", "ab", "a"],
        &["similarity", "one"],
        &["search", "--query", "x"],
        &["search", "--index", &out],
    ] {
        assert_eq!(run(args), ExitCode::from(2), "{args:?}");
    }
    assert_eq!(fs::read_dir(dir.0.path()).unwrap().count(), 1);
}

#[test]
fn bad_input_is_1_and_leaves_nothing() {
    let dir = Dir::new();
    let out = dir.text("out.npy");
    let bad = dir.file("bad.txt", b"a\n\xff\n");
    let lone = dir.file("lone.jsonl", r#"{"text":"\ud800"}"#);
    let fails = |args: &[&str]| {
        assert_eq!(run(&[&["embed", "--quiet", "-o", &out], args].concat()), ExitCode::from(1), "{args:?}");
        assert!(!Path::new(&out).exists() && !dir.path("out.npy.part").exists());
    };
    fails(&["-i", &bad]);
    fails(&["-i", &lone]);
    fails(&["-i", &dir.text("missing")]);
    fails(&["-i", &dir.file("no.csv", "a,b\n1,2\n")]);
    fails(&["--with-text", "a"]);
    assert_eq!(run(&["embed", "--quiet", "-o", &dir.text("no/folder.npy"), "a"]), ExitCode::from(1));
    for input in [&bad, &lone] {
        assert_eq!(run(&["embed", "--quiet", "--force", "-o", &out, "-i", input, "--lossy"]), OK);
    }
    assert_eq!(run(&["embed", "--quiet", "-o", &out, "a"]), ExitCode::from(1), "--force is needed");
}

#[test]
fn search_finds_and_checks() {
    let dir = Dir::new();
    let (lines, index) = (dir.file("x.txt", "aab\nbbb\nabcd\n"), dir.text("index.safetensors"));
    assert_eq!(run(&["embed", "--quiet", "-i", &lines, "-o", &index, "--with-text"]), OK);
    let opened = VectorIndex::open(Path::new(&index)).unwrap();
    assert_eq!(opened.text(2).unwrap().as_deref(), Some("abcd"));
    assert_eq!(opened.metadata()["model"], "letters");
    let search = |args: &[&str]| run(&[&["search", "--quiet", "--index", &index], args].concat());
    assert_eq!(search(&["--query", "b", "-k", "2", "--json"]), OK);
    assert_eq!(search(&["--query", "b", "--query", "cd", "--texts", &lines]), OK);
    assert_eq!(search(&["--queries", &lines, "--metric", "dot"]), OK);
    // Fewer texts than vectors: another file than the one they were made of.
    assert_eq!(search(&["--query", "b", "--texts", &dir.file("short.txt", "x\n")]), ExitCode::from(1));
    assert_eq!(search(&["--queries", &dir.file("empty.txt", "")]), ExitCode::from(2));
    let other = dir.file("other.npy", fs::read(&index).unwrap());
    fs::write(&other, "no index").unwrap();
    assert_eq!(run(&["search", "--index", &other, "--query", "x"]), ExitCode::from(1));
    assert_eq!(run(&["similarity", "--quiet", "ab", "ba", "cd"]), OK);
}
