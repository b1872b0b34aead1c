//! Samples from a stream of bytes: WAV, or bare samples of 16 bits.

use std::io::{ErrorKind, Read};

use anyhow::{Context as _, bail};
use rlx_audio::{MAX_CHANNELS, Resampler, WhisperMel};

/// Longest header of a WAV stream; what comes before the samples is not kept beyond that.
const MAX_HEADER: usize = 64 << 10;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Int16,
    Int24,
    Int32,
    Float32,
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Encoding::Int16 => 2,
            Encoding::Int24 => 3,
            Encoding::Int32 | Encoding::Float32 => 4,
        }
    }

    /// `bytes` are one sample.
    fn sample(self, bytes: &[u8]) -> f32 {
        let mut word = [0u8; 4];
        // Integers fill the upper bytes, so that all have one scale.
        let at = 4 - bytes.len();
        word[at..].copy_from_slice(bytes);
        let value = match self {
            Encoding::Float32 => f32::from_le_bytes(word),
            _ => i32::from_le_bytes(word) as f32 / 2_147_483_648.0,
        };
        if value.is_finite() && value.abs() <= rlx_audio::MAX_SAMPLE { value } else { 0.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    encoding: Encoding,
    rate: u32,
    channels: usize,
}

/// Reads mono sound at 16 kHz from bytes that arrive bit by bit.
pub(super) struct PcmStream<R> {
    reader: R,
    layout: Layout,
    resampler: Resampler,
    /// Bytes that are not a whole frame yet.
    pending: Vec<u8>,
    finished: bool,
}

impl<R: Read> PcmStream<R> {
    /// Looks for a WAV header; without one, samples have this rate and number of channels.
    ///
    /// # Errors
    /// If the bytes cannot be read, or the header tells of sound that cannot be read as it arrives.
    pub(super) fn new(mut reader: R, rate: u32, channels: usize) -> anyhow::Result<PcmStream<R>> {
        let mut pending = Vec::new();
        fill(&mut reader, &mut pending, 12)?;
        let mut layout = Layout { encoding: Encoding::Int16, rate, channels };
        if pending.starts_with(b"RIFF") && pending.get(8..12) == Some(b"WAVE") {
            let (found, rest) = wav_header(&mut reader, pending)?;
            layout = found;
            pending = rest;
        }
        if layout.channels == 0 || layout.channels > MAX_CHANNELS {
            bail!("{} channels: from 1 to {MAX_CHANNELS} are possible", layout.channels);
        }
        let resampler = Resampler::new(layout.rate, WhisperMel::SAMPLE_RATE)?;
        Ok(PcmStream { reader, layout, resampler, pending, finished: false })
    }

    /// The next samples into `out`, whose content is replaced; whether the stream goes on. Waits for bytes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn next(&mut self, out: &mut Vec<f32>) -> anyhow::Result<bool> {
        out.clear();
        if self.finished {
            return Ok(false);
        }
        let mut buffer = [0u8; 16 << 10];
        let n = read(&mut self.reader, &mut buffer)?;
        self.pending.extend_from_slice(&buffer[..n]);
        let Layout { encoding, channels, .. } = self.layout;
        let frame = encoding.bytes() * channels;
        let whole = self.pending.len() / frame * frame;
        let mono: Vec<f32> = self.pending[..whole]
            .chunks_exact(frame)
            .map(|f| f.chunks_exact(encoding.bytes()).map(|b| encoding.sample(b)).sum::<f32>() / channels as f32)
            .collect();
        self.pending.drain(..whole);
        self.resampler.push(&mono, out)?;
        if n == 0 {
            self.finished = true;
            self.resampler.finish(out)?;
        }
        Ok(true)
    }
}

/// Reads up to the samples of a WAV stream, of which `bytes` are the first; gives the layout and what was read of the samples.
fn wav_header(reader: &mut impl Read, mut bytes: Vec<u8>) -> anyhow::Result<(Layout, Vec<u8>)> {
    let mut layout = None;
    let mut at = 12;
    loop {
        fill(reader, &mut bytes, at + 8)?;
        let Some(head) = bytes.get(at..at + 8) else { bail!("the WAV stream ends before its samples") };
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let id = [head[0], head[1], head[2], head[3]];
        at += 8;
        if id == *b"data" {
            let Some(layout) = layout else { bail!("the WAV stream has samples before its format") };
            return Ok((layout, bytes.split_off(at)));
        }
        let end = at.saturating_add(size).saturating_add(size & 1);
        if end > MAX_HEADER {
            bail!("the WAV stream's header is longer than {MAX_HEADER} bytes");
        }
        fill(reader, &mut bytes, end)?;
        if id == *b"fmt " {
            layout = Some(wav_format(bytes.get(at..at + size).unwrap_or_default())?);
        }
        at = end;
    }
}

/// The content of a `fmt ` chunk.
fn wav_format(chunk: &[u8]) -> anyhow::Result<Layout> {
    let u16_at = |i: usize| chunk.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |i: usize| chunk.get(i..i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let short = "the WAV stream's format is too short";
    let mut tag = u16_at(0).context(short)?;
    if tag == 0xfffe {
        // Extensible: the real one is the beginning of an identifier.
        tag = u16_at(24).context(short)?;
    }
    let bits = u16_at(14).context(short)?;
    let encoding = match (tag, bits) {
        (1, 16) => Encoding::Int16,
        (1, 24) => Encoding::Int24,
        (1, 32) => Encoding::Int32,
        (3, 32) => Encoding::Float32,
        _ => bail!(
            "a WAV stream of kind {tag} with {bits} bits cannot be read as it arrives; 16, 24, 32 bits and floats can"
        ),
    };
    Ok(Layout { encoding, rate: u32_at(4).context(short)?, channels: u16_at(2).context(short)?.into() })
}

/// Reads until there are `len` bytes, or no more.
fn fill(reader: &mut impl Read, bytes: &mut Vec<u8>, len: usize) -> anyhow::Result<()> {
    if bytes.len() < len {
        let missing = (len - bytes.len()) as u64;
        reader.by_ref().take(missing).read_to_end(bytes).context("standard input")?;
    }
    Ok(())
}

/// Some bytes; none at the end.
fn read(reader: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.context("standard input"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out bytes three at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(3).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn samples(bytes: &[u8], rate: u32, channels: usize) -> anyhow::Result<Vec<f32>> {
        let mut stream = PcmStream::new(Drip(bytes), rate, channels)?;
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while stream.next(&mut some)? {
            all.extend_from_slice(&some);
        }
        Ok(all)
    }

    fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\xff\xff\xff\xffWAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data\xff\xff\xff\xff");
        bytes.extend(data);
        bytes
    }

    #[test]
    fn bare_samples() {
        let bytes: Vec<u8> = [0i16, 16384, -32768, 3].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(samples(&bytes, 16_000, 1).unwrap(), [0.0, 0.5, -1.0, 3.0 / 32768.0]);
        assert_eq!(samples(&bytes, 16_000, 2).unwrap(), [0.25, (-32768.0 + 3.0) / 65536.0]);
        // Half a sample at the end is left out.
        assert_eq!(samples(&bytes[..5], 16_000, 1).unwrap().len(), 2);
        assert!(samples(&[], 16_000, 1).unwrap().is_empty());
    }

    #[test]
    fn wav_streams_of_unknown_length() {
        let int = wav(1, 2, 16_000, 24, &[0, 0, 0x40, 0, 0, 0xc0]);
        assert_eq!(samples(&int, 1, 1).unwrap(), [0.0]);
        let nan = wav(3, 1, 16_000, 32, &[f32::NAN.to_le_bytes(), 0.5f32.to_le_bytes()].concat());
        assert_eq!(samples(&nan, 1, 1).unwrap(), [0.0, 0.5]);
        let slow = wav(1, 1, 8_000, 16, &[0; 16_000]);
        assert!(samples(&slow, 1, 1).unwrap().len().abs_diff(16_000) <= 1);
    }

    #[test]
    fn bad_headers_are_errors() {
        let rates =
            [wav(1, 1, 0, 16, &[]), wav(1, 0, 16_000, 16, &[]), wav(1, 999, 16_000, 16, &[]), wav(7, 1, 8_000, 8, &[])];
        let cut = wav(1, 1, 16_000, 16, &[])[..40].to_vec();
        let endless = [b"RIFF0000WAVEJUNK".as_slice(), &u32::MAX.to_le_bytes()].concat();
        let early = b"RIFF0000WAVEdata0000".to_vec();
        for bytes in rates.iter().chain([&cut, &endless, &early]) {
            assert!(samples(bytes, 16_000, 1).is_err());
        }
        assert!(samples(&[0; 100], 0, 1).is_err());
    }
}
