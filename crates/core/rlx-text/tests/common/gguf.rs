//! Just enough of the GGUF format to read a trusted file's tokenizer metadata; the workspace's reader is a floor up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use rlx_text::GgufVocab;

enum Meta {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Meta>),
}

struct Reader(BufReader<File>);

impl Reader {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut b = [0; N];
        self.0.read_exact(&mut b).unwrap();
        b
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn text(&mut self) -> String {
        let mut b = vec![0; self.u64() as usize];
        self.0.read_exact(&mut b).unwrap();
        String::from_utf8(b).unwrap()
    }

    fn value(&mut self, kind: u32) -> Meta {
        match kind {
            0 => Meta::Int(self.bytes::<1>()[0].into()),
            1 => Meta::Int(i8::from_le_bytes(self.bytes()).into()),
            2 => Meta::Int(u16::from_le_bytes(self.bytes()).into()),
            3 => Meta::Int(i16::from_le_bytes(self.bytes()).into()),
            4 => Meta::Int(self.u32().into()),
            5 => Meta::Int(i32::from_le_bytes(self.bytes()).into()),
            6 => Meta::Float(f32::from_le_bytes(self.bytes()).into()),
            7 => Meta::Bool(self.bytes::<1>()[0] != 0),
            8 => Meta::Text(self.text()),
            9 => {
                let kind = self.u32();
                Meta::List((0..self.u64()).map(|_| self.value(kind)).collect())
            }
            10 => Meta::Int(self.u64() as i64),
            11 => Meta::Int(i64::from_le_bytes(self.bytes())),
            12 => Meta::Float(f64::from_le_bytes(self.bytes())),
            other => panic!("GGUF value type {other}"),
        }
    }
}

pub fn read_vocab(path: &Path) -> GgufVocab {
    let mut r = Reader(BufReader::new(File::open(path).unwrap()));
    assert_eq!(&r.bytes::<4>(), b"GGUF");
    let _version = r.u32();
    let _tensors = r.u64();
    let mut meta = HashMap::new();
    for _ in 0..r.u64() {
        let key = r.text();
        let kind = r.u32();
        meta.insert(key, r.value(kind));
    }
    let text = |key: &str| match meta.get(key) {
        Some(Meta::Text(s)) => Some(s.clone()),
        _ => None,
    };
    let flag = |key: &str| match meta.get(key) {
        Some(Meta::Bool(b)) => Some(*b),
        _ => None,
    };
    let id = |key: &str| match meta.get(key) {
        Some(Meta::Int(i)) => u32::try_from(*i).ok(),
        _ => None,
    };
    fn list<T>(meta: &HashMap<String, Meta>, key: &str, of: impl Fn(&Meta) -> Option<T>) -> Option<Vec<T>> {
        match meta.get(key) {
            Some(Meta::List(l)) => l.iter().map(of).collect(),
            _ => None,
        }
    }
    let string = |m: &Meta| match m {
        Meta::Text(s) => Some(s.clone()),
        _ => None,
    };
    let float = |m: &Meta| match m {
        Meta::Float(f) => Some(*f as f32),
        _ => None,
    };
    let int = |m: &Meta| match m {
        Meta::Int(i) => i32::try_from(*i).ok(),
        _ => None,
    };
    GgufVocab {
        model: text("tokenizer.ggml.model").unwrap(),
        pre: text("tokenizer.ggml.pre"),
        tokens: list(&meta, "tokenizer.ggml.tokens", string).unwrap().into(),
        scores: list(&meta, "tokenizer.ggml.scores", float),
        token_types: list(&meta, "tokenizer.ggml.token_type", int),
        merges: list(&meta, "tokenizer.ggml.merges", string).map(Into::into),
        bos_id: id("tokenizer.ggml.bos_token_id"),
        eos_id: id("tokenizer.ggml.eos_token_id"),
        unk_id: id("tokenizer.ggml.unknown_token_id"),
        pad_id: id("tokenizer.ggml.padding_token_id"),
        add_bos: flag("tokenizer.ggml.add_bos_token"),
        add_eos: flag("tokenizer.ggml.add_eos_token"),
        add_space_prefix: flag("tokenizer.ggml.add_space_prefix"),
        chat_template: text("tokenizer.chat_template"),
        ..GgufVocab::default()
    }
}
