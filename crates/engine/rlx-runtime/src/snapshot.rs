//! Sequences saved as bytes: the tokens and their KV blocks.
//!
//! Layout, little-endian: magic, version u32, tokens per block u32, bytes per block u64, token count u64, the tokens (u32
//! each), the blocks.

use crate::session::Sequence;
use crate::{RuntimeError, SequenceId, Session};

const MAGIC: &[u8; 4] = b"RLXS";
const VERSION: u32 = 1;
const HEADER: usize = 28;

impl Session {
    /// A sequence as bytes, for [`Session::restore`] in a session of the same model and options.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn save(&mut self, id: SequenceId) -> Result<Vec<u8>, RuntimeError> {
        let Sequence { tokens, blocks, cross } = self.sequence(id)?.clone();
        if cross.is_some() {
            return Err(RuntimeError::Snapshot("what the encoder left is not saved with a sequence".into()));
        }
        let mut out = Vec::with_capacity(HEADER + tokens.len() * 4 + blocks.len() * self.state.block_bytes());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.options.block_len as u32).to_le_bytes());
        out.extend_from_slice(&(self.state.block_bytes() as u64).to_le_bytes());
        out.extend_from_slice(&(tokens.len() as u64).to_le_bytes());
        tokens.iter().for_each(|token| out.extend_from_slice(&token.to_le_bytes()));
        for block in blocks {
            self.state.export_block(block, &mut out);
        }
        Ok(out)
    }

    /// The sequence that [`Session::save`] made `data` of.
    ///
    /// # Errors
    /// If `data` is cut, of another model's sizes, or longer than this session allows.
    pub fn restore(&mut self, data: &[u8]) -> Result<SequenceId, RuntimeError> {
        let bad = |what: &str| Err(RuntimeError::Snapshot(what.to_string()));
        if data.len() < HEADER || &data[..4] != MAGIC {
            return bad("not a saved sequence");
        }
        let u32_at = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(4) != VERSION {
            return bad("made by another version");
        }
        if u32_at(8) as usize != self.options.block_len || u64_at(12) != self.state.block_bytes() as u64 {
            return bad("its KV blocks are of another model, or of another KV type");
        }
        let count = usize::try_from(u64_at(20)).unwrap_or(usize::MAX);
        if count > self.options.max_seq {
            return Err(RuntimeError::TooLong { len: count, max: self.options.max_seq });
        }
        let block_count = count.div_ceil(self.options.block_len);
        let body = &data[HEADER..];
        if body.len() != count * 4 + block_count * self.state.block_bytes() {
            return bad("it is cut short, or has bytes to spare");
        }
        let (token_bytes, block_bytes) = body.split_at(count * 4);
        let tokens: Vec<u32> =
            token_bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let vocab = self.vocab();
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(RuntimeError::TokenId { id, vocab });
        }
        let blocks: Vec<u32> = (0..block_count).map(|_| self.blocks.allocate()).collect();
        self.state.reserve_blocks(self.blocks.count());
        if block_count > 0 {
            for (&block, content) in blocks.iter().zip(block_bytes.chunks_exact(self.state.block_bytes())) {
                self.state.import_block(block, content);
            }
        }
        Ok(self.insert(Sequence { tokens, blocks, cross: None }))
    }
}
