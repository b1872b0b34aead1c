//! Bytes and kind of every token, in one flat table.

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Plain text.
    Normal,
    /// The unknown token.
    Unknown,
    /// Control token: begin/end of text, turn markers, ...; parsed from trusted text only, hidden in decoded text.
    Control,
    /// Added token that is ordinary text to the reader (`<tool_call>`, runs of spaces); always parsed from text.
    UserDefined,
    /// Reserved and never trained.
    Unused,
    /// One raw byte (`<0x0A>`).
    Byte,
}

impl TokenKind {
    /// Whether decoding with `skip_special` leaves the token out.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::Unused)
    }
}

/// Raw bytes of each token id, plus its kind. Ids without a token have no bytes and kind [`TokenKind::Unused`].
#[derive(Default)]
pub(crate) struct PieceTable {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
}

impl PieceTable {
    /// An empty table with room for `count` tokens of `bytes` bytes together.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count), kinds: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], kind: TokenKind) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
        self.kinds.push(kind);
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)?;
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        Some(&self.bytes[start..end])
    }
}

/// The byte <-> printable character table of GPT-2's byte-level BPE.
///
/// Bytes that are printable in Latin-1 stand for themselves; the others take the code points from U+0100 on.
pub(crate) struct ByteChars {
    to_char: [char; 256],
}

impl ByteChars {
    pub(crate) const fn new() -> Self {
        let mut to_char = ['\0'; 256];
        let mut next = 0x100u32;
        let mut b = 0u32;
        while b < 256 {
            let printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xff && b != 0xad);
            let code = if printable { b } else { next };
            if !printable {
                next += 1;
            }
            to_char[b as usize] = match char::from_u32(code) {
                Some(c) => c,
                None => '\0',
            };
            b += 1;
        }
        Self { to_char }
    }

    pub(crate) fn encode(&self, text: impl AsRef<[u8]>, out: &mut String) {
        out.extend(text.as_ref().iter().map(|&b| self.to_char[b as usize]));
    }

    /// Bytes that `token` stands for; a token with a character outside the table stands for itself.
    pub(crate) fn decode(&self, token: &str) -> Vec<u8> {
        let byte = |c: char| match c as u32 {
            // The shifted bytes: 0x00-0x20, 0x7f-0xa0, 0xad in this order.
            n @ 0x100..=0x120 => Some((n - 0x100) as u8),
            n @ 0x121..=0x142 => Some((n - 0x121 + 0x7f) as u8),
            0x143 => Some(0xad),
            n @ 0..=0xff if self.to_char[n as usize] == c => Some(n as u8),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = token.chars().map(byte).collect();
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }
}

/// The one table.
pub(crate) static BYTE_CHARS: ByteChars = ByteChars::new();

/// The byte of a byte-fallback token `<0xXX>`.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

/// SentencePiece's visible space.
pub(crate) const SPM_SPACE: char = '\u{2581}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_chars_are_a_bijection() {
        let mut seen = std::collections::HashSet::new();
        for b in 0..=255u8 {
            let c = BYTE_CHARS.to_char[b as usize];
            assert!(seen.insert(c));
            assert_eq!(BYTE_CHARS.decode(&c.to_string()), vec![b]);
        }
        assert_eq!(BYTE_CHARS.to_char[b' ' as usize], 'Ġ');
        assert_eq!(BYTE_CHARS.to_char[b'\n' as usize], 'Ċ');
        assert_eq!(BYTE_CHARS.decode("日"), "日".as_bytes());
    }

    #[test]
    fn byte_tokens() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0x+A>"), None);
        assert_eq!(byte_token("<0x0AB>"), None);
    }

    #[test]
    fn table_bounds() {
        let mut t = PieceTable::default();
        t.push(b"", TokenKind::Control);
        t.push(b"ab", TokenKind::Normal);
        assert_eq!(t.bytes(0), Some(&b""[..]));
        assert_eq!(t.bytes(1), Some(&b"ab"[..]));
        assert_eq!(t.bytes(2), None);
        assert_eq!(t.len(), 2);
    }
}
