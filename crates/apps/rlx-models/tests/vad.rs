//! `vad` as a program: its forms of output, and sounds that are none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const VAD: &str = env!("CARGO_BIN_EXE_rlx-vad");

fn speech() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/rlx-vad/tests/data/jfk.flac")
}

fn vad(args: &[&str], file: &Path) -> Output {
    Command::new(VAD).args(args).arg("--wav").arg(file).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = vad(args, &speech());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pieces_in_every_form() {
    assert_eq!(stdout(&["--backend", "silero"]), "5152 36320\n52256 71136\n86048 122848\n130592 169952\n");
    let seconds = stdout(&["--backend=silero", "--seconds", "--device", "cpu"]);
    assert_eq!(seconds.lines().next(), Some("0.322 2.270"));
    let rttm = stdout(&["--backend", "silero", "--format", "rttm"]);
    assert_eq!(rttm.lines().next(), Some("SPEAKER jfk 1 0.322 1.948 <NA> <NA> speech <NA> <NA>"));
    let json: Value = serde_json::from_str(&stdout(&["--backend", "silero", "--json", "--probs"])).unwrap();
    assert_eq!((json["backend"].as_str(), json["seconds"].as_f64()), (Some("silero"), Some(11.0)));
    assert_eq!(json["segments"].as_array().unwrap().len(), 4);
    assert_eq!(json["probabilities"].as_array().unwrap().len(), 344);
    // 16 ms windows.
    assert_eq!(stdout(&["--backend", "earshot", "--probs"]).lines().count(), 688);
    assert_eq!(stdout(&["--threshold", "1", "--quiet"]), "");
    assert!(stdout(&["--backend", "silero", "--max-speech-s", "1"]).lines().count() > 6);
}

#[test]
fn pictures() {
    let dir = tempfile::tempdir().unwrap();
    for (name, head) in [("a.png", &b"\x89PNG\r\n\x1a\n"[..]), ("a.svg", b"<svg ")] {
        let path = dir.path().join(name);
        stdout(&["--plot", path.to_str().unwrap()]);
        assert!(std::fs::read(path).unwrap().starts_with(head), "{name}");
    }
}

#[test]
fn what_is_no_sound_is_an_error_of_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    for (path, part) in [
        (file("text.wav", b"this is a text\n"), "it is text"),
        (file("empty.wav", b""), "is empty"),
        (dir.path().join("none.wav"), "none.wav"),
    ] {
        let output = vad(&[], &path);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("error: ") && text.contains(part) && text.lines().count() == 1, "{text}");
        assert!(output.stdout.is_empty());
        let output = vad(&["--json"], &path);
        assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["error"].is_string());
    }
    // A cut file gives what it has, with a note.
    let whole = std::fs::read(speech()).unwrap();
    let output = vad(&["--backend", "silero"], &file("cut.flac", &whole[..whole.len() / 2]));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("5152 36320\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ends earlier than it says"));
    for wrong in [&["--threshold", "2"][..], &["--plot", "a.gif"], &["--backend", "webrtc"], &["--device", "cuda"]] {
        assert_eq!(vad(wrong, &speech()).status.code(), Some(2), "{wrong:?}");
    }
    let weights = speech();
    let output = vad(&["--backend", "earshot", "--weights", weights.to_str().unwrap()], &speech());
    assert_eq!(output.status.code(), Some(2));
}
