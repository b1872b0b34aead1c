//! The chunks of a WAV file (Microsoft and IBM 1991; RF64: EBU Tech 3306) before it is decoded.
//!
//! Recorders that are cut off, and programs that write to a pipe, leave lengths in the header that are wrong: 0, 2^32-1, or more than
//! the file holds. Here the true lengths are found and laid over the header ([`Overlay`]), so that the decoder takes every whole frame
//! that is there; and nonsense is found where it can still be named.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

use crate::{AudioError, MAX_CHANNELS, MAX_RATE, MIN_RATE};

/// More chunks than this before the samples are not looked at.
const MAX_CHUNKS: usize = 4096;

/// What the header says, and where it has to be corrected.
#[derive(Debug)]
pub(crate) struct WavHeader {
    /// Fewer bytes of samples are there than the header says.
    pub(crate) truncated: bool,
    /// Corrections: position in the file and the bytes to be read there.
    pub(crate) patches: Vec<(u64, [u8; 4])>,
    /// End of the samples.
    pub(crate) end: u64,
}

/// Reads the header of a WAV file; `None` if `source` is none. The position is back at the start afterwards.
///
/// # Errors
/// The header is cut off or impossible.
pub(crate) fn scan<S: Read + Seek>(source: &mut S, len: u64, name: &str) -> Result<Option<WavHeader>, AudioError> {
    let result = scan_chunks(source, len, name);
    source.seek(SeekFrom::Start(0)).map_err(|e| AudioError::io(name, e))?;
    result
}

fn scan_chunks<S: Read + Seek>(source: &mut S, len: u64, name: &str) -> Result<Option<WavHeader>, AudioError> {
    let io = |e: io::Error| AudioError::io(name, e);
    let damaged = |what: &str| AudioError::Damaged { name: name.to_owned(), what: what.to_owned() };
    if len < 12 {
        return Ok(None);
    }
    let mut form = [0; 12];
    source.read_exact(&mut form).map_err(io)?;
    let rf64 = matches!(&form[..4], b"RF64" | b"BW64");
    if !(rf64 || &form[..4] == b"RIFF") || &form[8..] != b"WAVE" {
        return Ok(None);
    }
    // The length of everything is not needed: the decoder reads 2^32-1 as unknown.
    let mut patches = vec![(0, *b"RIFF"), (4, [0xff; 4])];
    let mut align = None;
    let mut data_len64 = None;
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        if at + 8 > len {
            return Err(damaged("cut off before its samples"));
        }
        source.seek(SeekFrom::Start(at)).map_err(io)?;
        let mut head = [0; 8];
        source.read_exact(&mut head).map_err(io)?;
        let claimed = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let body = at + 8;
        match &head[..4] {
            b"fmt " => align = Some(read_format(source, body, claimed, len, name)?),
            b"ds64" if claimed >= 16 && body + 16 <= len => {
                let mut sizes = [0; 16];
                source.read_exact(&mut sizes).map_err(io)?;
                data_len64 = sizes[8..].try_into().ok().map(u64::from_le_bytes);
            }
            b"data" => {
                let align = align.ok_or_else(|| damaged("its samples come before their format"))?;
                let available = len - body;
                let unknown = matches!(claimed, 0 | u32::MAX);
                let claimed = if unknown { data_len64.unwrap_or(available) } else { u64::from(claimed) };
                let used = claimed.min(available) / align * align;
                // A length beyond 32 bits is given as unknown; the overlay ends where the samples do.
                let stated = u32::try_from(used).unwrap_or(u32::MAX);
                patches.push((at + 4, stated.to_le_bytes()));
                return Ok(Some(WavHeader { truncated: claimed > available, patches, end: body + used }));
            }
            _ => {}
        }
        // Chunks begin at even positions. At most 2^32 is added to a position inside the file.
        at = body + u64::from(claimed) + u64::from(claimed & 1);
    }
    Err(damaged("thousands of chunks, and no samples among the first"))
}

/// Checks the chunk of the format; the answer is the size of one frame (or block) in bytes.
fn read_format<S: Read>(source: &mut S, body: u64, claimed: u32, len: u64, name: &str) -> Result<u64, AudioError> {
    let damaged = |what: String| AudioError::Damaged { name: name.to_owned(), what };
    if claimed < 16 || body + 16 > len {
        return Err(damaged("the description of its format is cut off".into()));
    }
    let mut f = [0; 16];
    source.read_exact(&mut f).map_err(|e| AudioError::io(name, e))?;
    let u16_at = |i: usize| u16::from_le_bytes([f[i], f[i + 1]]);
    let (tag, channels, bits) = (u16_at(0), u16_at(2), u16_at(14));
    let rate = u32::from_le_bytes([f[4], f[5], f[6], f[7]]);
    if !(MIN_RATE..=MAX_RATE).contains(&rate) {
        return Err(AudioError::SampleRate { name: name.to_owned(), rate });
    }
    if channels == 0 || usize::from(channels) > MAX_CHANNELS {
        return Err(AudioError::Channels { name: name.to_owned(), channels: channels.into() });
    }
    // PCM, float, extensible: the frame follows from the samples, and the stated block size, sometimes wrong, is not needed.
    let frame = if matches!(tag, 1 | 3 | 0xfffe) {
        if !matches!(bits, 8 | 16 | 24 | 32 | 64) {
            return Err(damaged(format!("samples of {bits} bits; 8, 16, 24, 32 and 64 are possible")));
        }
        u64::from(channels) * u64::from(bits / 8)
    } else {
        u64::from(u16_at(12))
    };
    if frame == 0 { Err(damaged("frames of 0 bytes".into())) } else { Ok(frame) }
}

/// A source with some bytes replaced and an earlier end.
pub(crate) struct Overlay<S> {
    source: S,
    position: u64,
    end: u64,
    patches: Vec<(u64, [u8; 4])>,
}

impl<S: Read + Seek> Overlay<S> {
    /// `source`, positioned at its start, as it ought to be.
    pub(crate) fn new(source: S, header: WavHeader) -> Overlay<S> {
        Overlay { source, position: 0, end: header.end, patches: header.patches }
    }
}

impl<S: Read> Read for Overlay<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let n = self.source.read(&mut buffer[..wanted])?;
        for (at, bytes) in &self.patches {
            for (byte, position) in bytes.iter().zip(*at..) {
                if (self.position..self.position + n as u64).contains(&position) {
                    buffer[(position - self.position) as usize] = *byte;
                }
            }
        }
        self.position += n as u64;
        Ok(n)
    }
}

impl<S: Seek> Seek for Overlay<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::End(offset) => {
                SeekFrom::Start(self.end.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?)
            }
            other => other,
        };
        self.position = self.source.seek(to)?;
        Ok(self.position)
    }
}

impl<S: Read + Seek + Send + Sync> MediaSource for Overlay<S> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.end)
    }
}
