//! Decoding sound files, packet by packet.

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use crate::riff::{self, Overlay};
use crate::{AudioError, MAX_CHANNELS, MAX_RATE, MAX_SAMPLE, MIN_RATE};

/// So many packets in a row that cannot be decoded end the reading.
const MAX_BAD_PACKETS: u32 = 64;

/// A container may announce more than this many frames that its packets do not hold (encoder delay, rounding) and still be whole.
const ANNOUNCED_SLACK: u64 = 4096;

/// What the samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpec {
    /// Frames per second.
    pub sample_rate: u32,
    /// Samples per frame.
    pub channels: usize,
    /// Number of frames, if the file says it. It may be wrong.
    pub frames: Option<u64>,
}

/// What was wrong with a sound that could be read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// The file ends earlier than it says.
    pub truncated: bool,
    /// Packets that could not be decoded and were left out.
    pub bad_packets: u64,
    /// Samples that were no numbers, or absurdly large, and were read as silence.
    pub bad_samples: u64,
}

impl ReadReport {
    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        *self == ReadReport::default()
    }
}

impl std::fmt::Display for ReadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.truncated {
            parts.push("it ends earlier than it says".to_owned());
        }
        if self.bad_packets > 0 {
            parts.push(format!("{} packets could not be decoded and were left out", self.bad_packets));
        }
        if self.bad_samples > 0 {
            parts.push(format!("{} samples are no numbers and were read as silence", self.bad_samples));
        }
        f.write_str(if parts.is_empty() { "whole" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

/// Reads a sound file in pieces of at most some thousand frames, all channels, at the file's own rate.
///
/// The format is found by content; the extension of the name is only a hint.
pub struct AudioReader {
    name: String,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    spec: AudioSpec,
    report: ReadReport,
    /// Interleaved samples of the last packet.
    chunk: Vec<f32>,
    /// `chunk` has been decoded but not handed out.
    pending: bool,
    frames: u64,
    finished: bool,
}

impl std::fmt::Debug for AudioReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioReader").field("name", &self.name).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl AudioReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, is empty, is of no known format, or describes an impossible sound.
    pub fn open(path: impl AsRef<Path>) -> Result<AudioReader, AudioError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| AudioError::io(&name, e))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(AudioError::io(&name, ErrorKind::IsADirectory.into()));
        }
        AudioReader::new(file, &name)
    }

    /// Reads a file that is in memory, called `name` in errors.
    ///
    /// # Errors
    /// As [`AudioReader::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<AudioReader, AudioError> {
        AudioReader::new(Cursor::new(bytes), name)
    }

    fn new<S: MediaSource + 'static>(mut source: S, name: &str) -> Result<AudioReader, AudioError> {
        let length = source.seek(SeekFrom::End(0)).and_then(|len| source.seek(SeekFrom::Start(0)).map(|_| len));
        let length = length.map_err(|e| AudioError::io(name, e))?;
        if length == 0 {
            return Err(AudioError::Empty { name: name.to_owned() });
        }
        let header = riff::scan(&mut source, length, name)?;
        let truncated = header.as_ref().is_some_and(|header| header.truncated);
        let head = first_bytes(&mut source).map_err(|e| AudioError::io(name, e))?;
        let source: Box<dyn MediaSource> = match header {
            Some(header) => Box::new(Overlay::new(source, header)),
            None => Box::new(source),
        };
        let mut hint = Hint::new();
        if let Some(extension) = Path::new(name).extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(source, Default::default());
        let probe = symphonia::default::get_probe();
        let format = probe
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| unreadable(name, &head, &error))?;
        let (track, decoder) = open_track(&*format, name)?;
        let announced = format.tracks().iter().find(|t| t.id == track).and_then(|t| t.num_frames);
        let mut reader = AudioReader {
            name: name.to_owned(),
            format,
            decoder,
            track,
            spec: AudioSpec { sample_rate: 0, channels: 0, frames: announced },
            report: ReadReport { truncated, ..ReadReport::default() },
            chunk: Vec::new(),
            pending: false,
            frames: 0,
            finished: false,
        };
        // Rate and channels of some formats are known only by their first packet.
        reader.pending = reader.decode_packet()?;
        if !reader.pending {
            return Err(AudioError::NoSamples { name: name.to_owned() });
        }
        Ok(reader)
    }

    /// What the samples are.
    pub fn spec(&self) -> AudioSpec {
        self.spec
    }

    /// What the file is called in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What has been wrong so far.
    pub fn report(&self) -> ReadReport {
        self.report
    }

    /// The next frames, samples of all channels in turn; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or becomes a sound of another rate or number of channels. A file that merely ends too early is no
    /// error: see [`ReadReport::truncated`].
    pub fn next_chunk(&mut self) -> Result<Option<&[f32]>, AudioError> {
        if !std::mem::take(&mut self.pending) && !self.decode_packet()? {
            return Ok(None);
        }
        Ok(Some(&self.chunk))
    }

    /// Fills `chunk` from the next packet that can be decoded; false at the end.
    fn decode_packet(&mut self) -> Result<bool, AudioError> {
        let mut bad = 0;
        while !self.finished {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.end();
                    break;
                }
                Err(DecodeError::ResetRequired) => {
                    // A chained stream: another one follows, usually of the same kind.
                    (self.track, self.decoder) = open_track(&*self.format, &self.name)?;
                    self.spec.frames = None;
                    continue;
                }
                Err(DecodeError::IoError(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                    return Err(AudioError::io(&self.name, error));
                }
                Err(_) => {
                    self.report.truncated = true;
                    self.end();
                    break;
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(buffer) => {
                    let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
                    buffer.copy_to_vec_interleaved(&mut self.chunk);
                    if self.chunk.is_empty() {
                        continue;
                    }
                    self.check_spec(rate, channels)?;
                    self.report.bad_samples += silence_bad_samples(&mut self.chunk);
                    self.frames += (self.chunk.len() / channels) as u64;
                    return Ok(true);
                }
                Err(DecodeError::DecodeError(_) | DecodeError::IoError(_)) => {
                    self.report.bad_packets += 1;
                    bad += 1;
                    if bad >= MAX_BAD_PACKETS {
                        self.report.truncated = true;
                        self.end();
                    }
                }
                Err(error) => {
                    return Err(AudioError::Damaged { name: self.name.clone(), what: error.to_string() });
                }
            }
        }
        self.chunk.clear();
        Ok(false)
    }

    fn end(&mut self) {
        self.finished = true;
        let announced = self.spec.frames.unwrap_or(0);
        self.report.truncated |= self.frames.saturating_add(ANNOUNCED_SLACK) < announced;
    }

    /// Takes the rate and channels of the first packet, and holds later ones to them.
    fn check_spec(&mut self, rate: u32, channels: usize) -> Result<(), AudioError> {
        let name = || self.name.clone();
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(AudioError::SampleRate { name: name(), rate });
        }
        if channels == 0 || channels > MAX_CHANNELS {
            return Err(AudioError::Channels { name: name(), channels });
        }
        if self.frames == 0 {
            (self.spec.sample_rate, self.spec.channels) = (rate, channels);
        } else if (rate, channels) != (self.spec.sample_rate, self.spec.channels) {
            let text = |rate: u32, channels: usize| format!("{rate} Hz, {channels} channels");
            let was = text(self.spec.sample_rate, self.spec.channels);
            return Err(AudioError::Changed { name: name(), was, now: text(rate, channels) });
        }
        Ok(())
    }
}

/// The first track of sound, and its decoder.
fn open_track(format: &dyn FormatReader, name: &str) -> Result<(u32, Box<dyn AudioDecoder>), AudioError> {
    let other = |what: &str| AudioError::Format { name: name.to_owned(), what: what.to_owned() };
    let track = format
        .first_track_known_codec(TrackType::Audio)
        .or_else(|| format.first_track(TrackType::Audio))
        .ok_or_else(|| other("no track of sound in it"))?;
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(other("its codec is not known"));
    };
    let codecs = symphonia::default::get_codecs();
    let decoder = codecs
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(|error| other(&format!("its codec: {error}")))?;
    Ok((track.id, decoder))
}

fn first_bytes<S: Read + Seek>(source: &mut S) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.by_ref().take(512).read_to_end(&mut head)?;
    source.seek(SeekFrom::Start(0))?;
    Ok(head)
}

/// Why no format was found.
fn unreadable(name: &str, head: &[u8], error: &DecodeError) -> AudioError {
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    let what = match error {
        _ if head.iter().all(printable) => "it is text".to_owned(),
        DecodeError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => "no sound found up to its end".to_owned(),
        DecodeError::IoError(e) => e.to_string(),
        other => other.to_string(),
    };
    AudioError::Format { name: name.to_owned(), what }
}

/// Replaces what cannot be a sample (NaN, infinite, beyond ±[`MAX_SAMPLE`]) by silence; how many there were.
pub fn silence_bad_samples(samples: &mut [f32]) -> u64 {
    // NaN compares as false.
    let good = |x: f32| x.abs() <= MAX_SAMPLE;
    let mut bad = 0;
    for sample in samples {
        if !good(*sample) {
            *sample = 0.0;
            bad += 1;
        }
    }
    bad
}
