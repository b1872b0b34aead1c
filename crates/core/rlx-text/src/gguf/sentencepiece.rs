//! SentencePiece's `tokenizer.model`: the few fields of its protocol buffer that a vocabulary needs
//! (`sentencepiece_model.proto`).

/// A piece of the vocabulary.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: the numbers of GGUF.
    pub(super) kind: i32,
}

/// A SentencePiece model.
#[derive(Debug, PartialEq)]
pub(super) struct SentencePieceModel {
    pub(super) pieces: Vec<Piece>,
    /// 1 Unigram, 2 BPE, 3 words, 4 characters.
    pub(super) model_type: u64,
    pub(super) add_dummy_prefix: bool,
}

pub(super) const BPE: u64 = 2;

/// The value of a field: what its wire type holds.
enum Value<'a> {
    Number(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of a message; none if it is damaged.
fn fields(mut data: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut data)?),
            1 => {
                take(&mut data, 8)?;
                continue;
            }
            2 => {
                let len = usize::try_from(varint(&mut data)?).ok()?;
                Value::Bytes(take(&mut data, len)?)
            }
            5 => Value::Fixed32(take(&mut data, 4)?.try_into().ok()?),
            _ => return None,
        };
        out.push((key >> 3, value));
    }
    Some(out)
}

fn take<'a>(data: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(taken)
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

impl SentencePieceModel {
    /// Reads a file; none if it is something else.
    pub(super) fn parse(data: &[u8]) -> Option<SentencePieceModel> {
        let mut model = SentencePieceModel { pieces: Vec::new(), model_type: 1, add_dummy_prefix: true };
        for field in fields(data)? {
            match field {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => {
                    for field in fields(trainer)? {
                        if let (3, Value::Number(kind)) = field {
                            model.model_type = kind;
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    for field in fields(normalizer)? {
                        if let (3, Value::Number(flag)) = field {
                            model.add_dummy_prefix = flag != 0;
                        }
                    }
                }
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }
}

impl Piece {
    fn parse(data: &[u8]) -> Option<Piece> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
        for field in fields(data)? {
            match field {
                (1, Value::Bytes(text)) => piece.text = std::str::from_utf8(text).ok()?.to_owned(),
                (2, Value::Fixed32(score)) => piece.score = f32::from_le_bytes(score),
                (3, Value::Number(kind)) => piece.kind = i32::try_from(kind).ok()?,
                _ => {}
            }
        }
        Some(piece)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn message(field: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        let mut len = body.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(body);
        out
    }

    /// A file with these pieces.
    pub(in crate::gguf) fn file(pieces: &[(&str, f32, u8)], model_type: u8, add_dummy_prefix: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for &(text, score, kind) in pieces {
            let mut piece = message(1, text.as_bytes());
            piece.push(2 << 3 | 5);
            piece.extend(score.to_le_bytes());
            piece.extend([3 << 3, kind]);
            out.extend(message(1, &piece));
        }
        out.extend(message(2, &[3 << 3, model_type]));
        out.extend(message(3, &[3 << 3, u8::from(add_dummy_prefix)]));
        out
    }

    #[test]
    fn models_are_read_and_others_refused() {
        let long = "x".repeat(300);
        let data = file(&[("<unk>", 0.0, 2), ("▁a", -1.5, 1), (&long, -2.0, 4)], 2, false);
        let model = SentencePieceModel::parse(&data).unwrap();
        assert_eq!((model.model_type, model.add_dummy_prefix, model.pieces.len()), (BPE, false, 3));
        assert_eq!(model.pieces[1], Piece { text: "▁a".into(), score: -1.5, kind: 1 });
        assert_eq!(model.pieces[2].text, long);
        for other in [&b""[..], b"aGVsbG8= 0\n", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff"] {
            assert_eq!(SentencePieceModel::parse(other), None);
        }
        // Cut anywhere, it is refused or shorter, and nothing panics.
        for len in 0..data.len() {
            if let Some(cut) = SentencePieceModel::parse(&data[..len]) {
                assert!(cut.pieces.len() <= 3);
            }
        }
    }
}
