//! Every format that is read, and what is made of it.

mod common;

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use common::{Fmt, float32, int16, tone, wav};
use rlx_audio::{AudioReader, MonoReader, Resampler, WavFormat, WavWriter, load, resample, write_wav};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(bytes: Vec<u8>) -> (AudioReader, Vec<f32>) {
    let mut reader = AudioReader::from_bytes(bytes, "test.wav").unwrap();
    let mut samples = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        samples.extend_from_slice(chunk);
    }
    (reader, samples)
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], atol: f32) {
    assert_eq!(got.len(), expected.len());
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= atol, "{worst:e} > {atol:e}");
}

#[test]
fn every_kind_of_wav_sample() {
    let sound = tone(440.0, 16_000, 3000);
    let scaled = |full: f64| sound.iter().map(move |&x| (f64::from(x) * full) as i64);
    let cases: [(u16, u16, Vec<u8>); 6] = [
        (1, 8, scaled(128.0).map(|x| (x + 128) as u8).collect()),
        (1, 16, scaled(32_768.0).flat_map(|x| (x as i16).to_le_bytes()).collect()),
        (1, 24, scaled(8_388_608.0).flat_map(|x| (x as i32).to_le_bytes()[..3].to_vec()).collect()),
        (1, 32, scaled(2_147_483_648.0).flat_map(|x| (x as i32).to_le_bytes()).collect()),
        (3, 32, float32(&sound)),
        (3, 64, sound.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect()),
    ];
    for (tag, bits, bytes) in cases {
        let step = if tag == 3 { 0.0 } else { 1.0 / (1u64 << (bits - 1)) as f32 };
        for tag in [tag, 0xfffe] {
            // An extensible file of 32 bits is one of integers in this helper.
            if (tag, bits, step == 0.0) == (0xfffe, 32, true) {
                continue;
            }
            let (reader, samples) = read(wav(Fmt { tag, bits, ..Fmt::PCM16 }, &bytes));
            assert!(reader.report().is_clean(), "{tag} {bits}");
            assert_eq!((reader.spec().sample_rate, reader.spec().channels), (16_000, 1));
            assert_eq!(reader.spec().frames, Some(3000));
            assert_close(&samples, &sound, step);
        }
    }
}

#[test]
fn compressed_formats() {
    // 0.25 s of a sweep (and a tone on the left) at 22.05 kHz, encoded by ffmpeg 9.0.2 with `aevalsrc`.
    let sample = |channel: usize, i: usize| {
        let t = i as f64 / 22_050.0;
        let sweep = (TAU * (300.0 + 2000.0 * t) * t).sin();
        if channel == 0 { 0.4 * sweep + 0.1 * (TAU * 3100.0 * t).sin() } else { 0.2 * sweep }
    };
    // The largest part of the signal's energy that may be lost: rounding; 8-bit logarithms; 4-bit steps; psychoacoustics. (ffmpeg's
    // own decoder loses 0.1024 of the AAC file: its encoder had 64 kbit/s.)
    // The reader below leaves the encoder's delay in M4A files: their edit list is not looked at.
    for (name, loss, delay) in [
        ("ext24.wav", 1e-8, 0),
        ("tone.flac", 1e-7, 0),
        ("alac.m4a", 1e-7, 0),
        ("alaw.wav", 1e-3, 0),
        ("adpcm.wav", 3e-3, 0),
        ("tone.ogg", 0.02, 0),
        ("tone.mp3", 0.02, 0),
        ("aac.m4a", 0.11, 1024),
    ] {
        let mut reader = AudioReader::open(data(name)).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.sample_rate, spec.channels), (22_050, 2), "{name}");
        let mut samples = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            samples.extend_from_slice(chunk);
        }
        assert!(reader.report().is_clean(), "{name}: {}", reader.report());
        let frames = samples.len() / 2;
        // Encoders work in blocks; what they add at the end may stay.
        assert!((5513..5513 + 2048).contains(&frames), "{name}: {frames} frames");
        let energy = |x: f64| x * x;
        let (mut error, mut total) = (0.0, 0.0);
        for (i, frame) in samples.chunks_exact(2).skip(delay).take(5400).enumerate() {
            for (channel, &got) in frame.iter().enumerate() {
                total += energy(sample(channel, i));
                error += energy(f64::from(got) - sample(channel, i));
            }
        }
        println!("{name}: {frames} frames, lost energy {:e}", error / total);
        assert!(error < loss * total, "{name}: {:e}", error / total);
    }
}

#[test]
fn channels_are_averaged_and_rates_changed() {
    for channels in [1u16, 2, 8] {
        let one = tone(1000.0, 192_000, 192_000 / 4);
        // The channels' gains have the mean 1.
        let gain = |c: u16| 2.0 * f32::from(c + 1) / f32::from(channels + 1);
        let frames: Vec<f32> = one.iter().flat_map(|x| (0..channels).map(move |c| x * gain(c))).collect();
        let file = wav(Fmt { tag: 3, channels, rate: 192_000, bits: 32 }, &float32(&frames));
        let reader = MonoReader::new(AudioReader::from_bytes(file, "x").unwrap(), 16_000).unwrap();
        assert_eq!(reader.expected_samples(), Some(4000));
        let audio = reader.read_all().unwrap();
        assert_eq!(audio.samples.len(), 4000);
        assert!((audio.seconds() - 0.25).abs() < 1e-9);
        // Away from the ends, where the filter meets the silence outside.
        assert_close(&audio.samples[400..3600], &tone(1000.0, 16_000, 4000)[400..3600], 1e-3);
    }
}

#[test]
fn resampling_keeps_what_fits_and_removes_what_does_not() {
    let rms = |x: &[f32]| (x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
    for rate in [8000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000, 768_000] {
        let n = rate as usize / 2 + 13;
        let out = resample(&tone(1000.0, rate, n), rate, 16_000).unwrap();
        assert_eq!(out.len(), (n * 16_000).div_ceil(rate as usize), "{rate}");
        let expected = tone(1000.0, 16_000, out.len());
        let middle = 1000..out.len() - 1000;
        assert_close(&out[middle.clone()], &expected[middle.clone()], 2e-3);
        if rate > 24_000 {
            // 10 kHz does not exist at 16 kHz, and must not come back as 6 kHz.
            let alias = resample(&tone(10_000.0, rate, n), rate, 16_000).unwrap();
            assert!(rms(&alias[middle]) < 1e-4, "{rate}: {}", rms(&alias));
        }
    }
}

#[test]
fn resampling_does_not_depend_on_the_pieces() {
    let sound = tone(700.0, 44_100, 30_000);
    let whole = resample(&sound, 44_100, 16_000).unwrap();
    let mut resampler = Resampler::new(44_100, 16_000).unwrap();
    // Twice with the same one: `finish` leaves it as new.
    for piece in [1, 4099] {
        let mut out = Vec::new();
        for part in sound.chunks(piece) {
            resampler.push(part, &mut out).unwrap();
        }
        resampler.finish(&mut out).unwrap();
        assert_eq!(out, whole, "{piece}");
    }
    for (n, expected) in [(0, 0), (1, 1), (3, 2), (441, 160)] {
        assert_eq!(resample(&sound[..n], 44_100, 16_000).unwrap().len(), expected);
    }
    assert_eq!(resample(&sound, 16_000, 16_000).unwrap(), sound);
    for (from, to) in [(0, 16_000), (16_000, 0), (999, 16_000), (16_000, u32::MAX)] {
        let error = Resampler::new(from, to).unwrap_err().to_string();
        assert!(error.contains("from 1000 to 768000 Hz"), "{error}");
    }
}

#[test]
fn written_files_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.wav");
    let sound: Vec<f32> = tone(300.0, 24_000, 999).iter().map(|x| x * 3.0).collect();
    let clipped: Vec<f32> = sound.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
    for (format, atol, expected) in [
        (WavFormat::Int16, 1.0 / 32_768.0, &clipped),
        (WavFormat::Int24, 1.0 / 8_388_608.0, &clipped),
        (WavFormat::Float32, 0.0, &sound),
    ] {
        for channels in [1, 3] {
            let mut writer = WavWriter::create(&path, 24_000, channels, format).unwrap();
            for part in sound.chunks(100) {
                writer.write(part).unwrap();
            }
            writer.finish().unwrap();
            let (reader, samples) = read(std::fs::read(&path).unwrap());
            assert_eq!((reader.spec().sample_rate, reader.spec().channels), (24_000, channels));
            assert_close(&samples, expected, atol);
        }
    }
    write_wav(&path, &[0.5, f32::NAN, f32::INFINITY, -9.0], 16_000).unwrap();
    let audio = load(&path, 16_000).unwrap();
    assert_eq!(audio.samples, [0.5, 0.0, 32_767.0 / 32_768.0, -1.0]);
    // An incomplete frame is refused, and so are impossible files.
    let mut writer = WavWriter::create(&path, 16_000, 2, WavFormat::Int16).unwrap();
    writer.write(&[0.0; 3]).unwrap();
    assert!(writer.finish().is_err());
    assert!(WavWriter::create(&path, 0, 1, WavFormat::Int16).is_err());
    assert!(WavWriter::create(&path, 16_000, 0, WavFormat::Int16).is_err());
    assert!(WavWriter::create(dir.path().join("no/such/dir.wav"), 16_000, 1, WavFormat::Int16).is_err());
}

#[test]
fn integer_files_keep_their_steps() {
    let (_, samples) = read(wav(Fmt::PCM16, &int16(&[-1.0, -0.5, 0.0, 0.25])));
    assert_eq!(samples, [-1.0, -0.5, 0.0, 0.25]);
}
