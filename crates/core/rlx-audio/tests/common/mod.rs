//! Sounds that the tests make themselves.
#![allow(dead_code)]

use std::f64::consts::TAU;

/// A sine of amplitude 0.5.
pub(crate) fn tone(hz: f64, rate: u32, samples: usize) -> Vec<f32> {
    (0..samples).map(|i| (0.5 * (TAU * hz * i as f64 / f64::from(rate)).sin()) as f32).collect()
}

/// What a `fmt ` chunk says.
#[derive(Clone, Copy)]
pub(crate) struct Fmt {
    pub(crate) tag: u16,
    pub(crate) channels: u16,
    pub(crate) rate: u32,
    pub(crate) bits: u16,
}

impl Fmt {
    pub(crate) const PCM16: Fmt = Fmt { tag: 1, channels: 1, rate: 16_000, bits: 16 };
}

/// A WAV file of these sample bytes; tag 0xfffe makes an extensible header for the format that its bits suggest.
pub(crate) fn wav(fmt: Fmt, data: &[u8]) -> Vec<u8> {
    let frame = fmt.channels.wrapping_mul(fmt.bits / 8);
    let mut body = [fmt.tag.to_le_bytes(), fmt.channels.to_le_bytes()].concat();
    body.extend(fmt.rate.to_le_bytes());
    body.extend(fmt.rate.wrapping_mul(frame.into()).to_le_bytes());
    body.extend(frame.to_le_bytes());
    body.extend(fmt.bits.to_le_bytes());
    if fmt.tag == 0xfffe {
        let kind: u8 = if fmt.bits == 64 { 3 } else { 1 };
        body.extend(22u16.to_le_bytes());
        body.extend(fmt.bits.to_le_bytes());
        body.extend(((1u32 << fmt.channels) - 1).to_le_bytes());
        body.extend([kind, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    }
    let mut file = b"RIFF".to_vec();
    file.extend((20 + body.len() as u32 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// Little-endian bytes of samples as 16-bit integers.
pub(crate) fn int16(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|x| ((x * 32_768.0) as i16).to_le_bytes()).collect()
}

/// Little-endian bytes of samples as floats.
pub(crate) fn float32(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|x| x.to_le_bytes()).collect()
}
