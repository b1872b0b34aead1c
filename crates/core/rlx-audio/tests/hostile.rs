//! Files that are cut, wrong, or no sound at all: an error that says so, or what is there with a report. Never a panic.

mod common;

use common::{Fmt, float32, int16, tone, wav};
use rlx_audio::{AudioError, AudioReader, MonoReader, ReadReport, load};
use rlx_core::testing::{Random, fuzz_seeds, mutate};

/// Reads all of it; the number of frames and the report, or the error's text.
fn digest(bytes: Vec<u8>, name: &str) -> Result<(usize, ReadReport), String> {
    let text = |e: AudioError| {
        let text = e.to_string();
        assert!(!text.is_empty() && text.len() < 400 && !text.contains(char::is_control), "{text:?}");
        text
    };
    let mut reader = AudioReader::from_bytes(bytes, name).map_err(text)?;
    let mut samples = 0;
    while let Some(chunk) = reader.next_chunk().map_err(text)? {
        assert!(!chunk.is_empty());
        assert!(chunk.iter().all(|x| x.abs() <= rlx_audio::MAX_SAMPLE));
        samples += chunk.len();
    }
    let channels = reader.spec().channels;
    assert_eq!(samples % channels, 0);
    Ok((samples / channels, reader.report()))
}

fn error(bytes: Vec<u8>) -> String {
    digest(bytes, "bad.wav").expect_err("an error")
}

#[test]
fn what_is_no_sound_says_so() {
    assert_eq!(error(Vec::new()), "bad.wav is empty (0 bytes)");
    let text = error(b"Dear diary, today I was named .wav.\n".repeat(50));
    assert!(text.starts_with("bad.wav is no sound file that can be read (it is text)"), "{text}");
    let mut random = Random::new(3);
    let noise: Vec<u8> = (0..5000).map(|_| random.below(256) as u8).collect();
    assert!(error(noise).contains("no sound file that can be read"));
    assert!(error(vec![0; 100_000]).contains("no sound file that can be read"));
    let dir = tempfile::tempdir().unwrap();
    let missing = load(dir.path().join("missing.wav"), 16_000).unwrap_err();
    assert!(matches!(missing, AudioError::Io { .. }) && missing.to_string().contains("missing.wav"), "{missing}");
    assert!(matches!(load(dir.path(), 16_000), Err(AudioError::Io { .. })));
}

#[test]
fn impossible_headers_name_what_is_wrong() {
    let data = int16(&tone(440.0, 16_000, 100));
    let with = |change: fn(&mut Fmt)| {
        let mut fmt = Fmt::PCM16;
        change(&mut fmt);
        error(wav(fmt, &data))
    };
    assert!(with(|f| f.rate = 0).contains("sample rate 0 Hz: from 1000 to 768000 Hz"));
    assert!(with(|f| f.rate = 999).contains("sample rate 999 Hz"));
    assert!(with(|f| f.rate = u32::MAX).contains("sample rate 4294967295 Hz"));
    assert!(with(|f| f.channels = 0).contains("0 channels: from 1 to 64"));
    assert!(with(|f| f.channels = 65_535).contains("65535 channels"));
    assert!(with(|f| f.bits = 0).contains("samples of 0 bits"));
    assert!(with(|f| f.bits = 12).contains("samples of 12 bits"));
    assert!(with(|f| f.tag = 0x1234).contains("unsupported"));
    let header = wav(Fmt::PCM16, &[]);
    assert!(error(header.clone()).contains("has no samples"));
    assert!(error(header[..40].to_vec()).contains("cut off before its samples"));
    assert!(error(header[..30].to_vec()).contains("the description of its format is cut off"));
    let no_format = [&b"RIFF\xff\xff\xff\xffWAVEdata\x04\0\0\0"[..], &[1, 2, 3, 4]].concat();
    assert!(error(no_format).contains("its samples come before their format"));
}

#[test]
fn cut_files_give_what_is_there() {
    let sound = tone(440.0, 16_000, 5000);
    let whole = wav(Fmt::PCM16, &int16(&sound));
    for cut in [1, 2, 3, 1000, 2303, 2304, 2305, 9_990] {
        let (frames, report) = digest(whole[..whole.len() - cut].to_vec(), "cut.wav").unwrap();
        assert_eq!(frames, 5000 - cut.div_ceil(2), "{cut}");
        assert_eq!(report, ReadReport { truncated: true, ..ReadReport::default() });
        assert!(report.to_string().contains("ends earlier"));
    }
    // Lengths that a program leaves that writes to a pipe or is killed.
    for length in [0, u32::MAX] {
        let mut open = whole.clone();
        open[4..8].copy_from_slice(&length.to_le_bytes());
        open[40..44].copy_from_slice(&length.to_le_bytes());
        assert_eq!(digest(open, "open.wav").unwrap(), (5000, ReadReport::default()));
    }
    // The length of everything is wrong, and a chunk follows the samples.
    let mut longer = [whole.clone(), b"LIST\x04\0\0\0INFO".to_vec()].concat();
    longer[4..8].copy_from_slice(&12u32.to_le_bytes());
    assert_eq!(digest(longer, "longer.wav").unwrap(), (5000, ReadReport::default()));
    // RF64: the true length is in a chunk of its own.
    let mut rf64 = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
    rf64.extend([0; 8]);
    rf64.extend(10_000u64.to_le_bytes());
    rf64.extend([0; 12]);
    rf64.extend(&whole[12..]);
    let at = rf64.len() - 10_004;
    rf64[at..at + 4].copy_from_slice(&[0xff; 4]);
    rf64.extend(b"junk\x04\0\0\0abcd");
    assert_eq!(digest(rf64, "big.wav").unwrap(), (5000, ReadReport::default()));
    for name in ["tone.flac", "tone.mp3", "tone.ogg", "aac.m4a", "alac.m4a"] {
        let bytes = std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let (all, _) = digest(bytes.clone(), name).unwrap();
        match digest(bytes[..bytes.len() * 2 / 3].to_vec(), name) {
            Ok((frames, _)) => assert!(frames > 0 && frames < all, "{name}: {frames} of {all}"),
            // The index of an M4A file is at its end, and two thirds of this short OGG file are all header.
            Err(text) => assert!(name.ends_with("m4a") || name.ends_with("ogg"), "{name}: {text}"),
        }
    }
}

#[test]
fn bad_samples_are_silence_and_counted() {
    let samples = [0.5, f32::NAN, f32::INFINITY, -f32::INFINITY, 2e9, -1e9, 1e-40, -0.5];
    let file = wav(Fmt { tag: 3, bits: 32, ..Fmt::PCM16 }, &float32(&samples));
    let audio = MonoReader::new(AudioReader::from_bytes(file, "nan.wav").unwrap(), 16_000).unwrap().read_all().unwrap();
    assert_eq!(audio.samples, [0.5, 0.0, 0.0, 0.0, 0.0, -1e9, 1e-40, -0.5]);
    assert_eq!(audio.report.bad_samples, 4);
    assert!(audio.report.to_string().contains("4 samples are no numbers"));
    let double = [1e300f64, f64::NAN, 0.25].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (frames, report) = digest(wav(Fmt { tag: 3, bits: 64, ..Fmt::PCM16 }, &double), "f64.wav").unwrap();
    assert_eq!((frames, report.bad_samples), (3, 2));
}

#[test]
fn long_silence_is_read_in_bounded_pieces() {
    // A quarter of an hour at 48 kHz: the longest piece does not depend on the length of the file.
    let file = wav(Fmt { rate: 48_000, ..Fmt::PCM16 }, &vec![0; 2 * 48_000 * 900]);
    let mut reader = MonoReader::new(AudioReader::from_bytes(file, "x").unwrap(), 16_000).unwrap();
    let (mut total, mut longest) = (0, 0);
    while let Some(chunk) = reader.next_chunk().unwrap() {
        (total, longest) = (total + chunk.len(), longest.max(chunk.len()));
    }
    assert_eq!(total, 900 * 16_000);
    assert!(longest <= 4096, "{longest}");
}

fn replay(name: &str, seed: &[u8], rounds: usize, random: &mut Random) -> usize {
    (0..rounds).filter(|_| digest(mutate(seed, random), name).is_ok()).count()
}

#[test]
fn mutated_wav_corpus() {
    let sound = tone(440.0, 16_000, 300);
    let mut seeds = vec![
        wav(Fmt::PCM16, &int16(&sound)),
        wav(Fmt { tag: 0xfffe, channels: 2, bits: 24, ..Fmt::PCM16 }, &int16(&sound)),
        wav(Fmt { tag: 3, channels: 8, bits: 32, ..Fmt::PCM16 }, &float32(&sound)),
    ];
    seeds.extend(fuzz_seeds("wav"));
    let mut random = Random::new(7);
    let mut accepted = 0;
    for seed in &seeds {
        accepted += replay("fuzz.wav", seed, 4000, &mut random);
    }
    assert!(accepted > 100, "the mutations should leave some files readable: {accepted}");
    // Every length of a small file.
    for len in 0..200 {
        let _ = digest(seeds[1][..len].to_vec(), "cut.wav");
    }
}

#[test]
fn mutated_files_of_other_formats() {
    let mut random = Random::new(8);
    for name in ["tone.flac", "tone.mp3", "tone.ogg", "aac.m4a", "alac.m4a", "adpcm.wav", "alaw.wav"] {
        let seed = std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        replay(name, &seed, 200, &mut random);
    }
}
