//! Files and repositories by reference.

use std::fs;

use rlx_core::fetch::{FetchError, FetchOptions, HubRef, fetch_hub};

use crate::server::{Reply, Server};
use crate::{content, options, sha256};

fn reference(text: &str) -> HubRef {
    text.parse().unwrap()
}

#[test]
fn one_file_with_the_hubs_sum() {
    let cache = tempfile::tempdir().unwrap();
    let bytes = content(70_000);
    let (body, sum) = (bytes.clone(), sha256(&bytes));
    let server = Server::start(move |r, _| match r.path.as_str() {
        "/o/n/resolve/v1/sub/m%20x.gguf" => Reply::redirect("/blob").header("X-Linked-Etag", format!("\"{sum}\"")),
        "/blob" => Reply::file(r, &body).header("ETag", "\"cdn\""),
        _ => Reply::status(404),
    });
    let options = options(cache.path(), &server.url);
    let path = fetch_hub(&reference("o/n:sub/m x.gguf@v1"), &options, &mut ()).unwrap();
    assert_eq!(path, cache.path().join("hub/o--n/v1/sub/m x.gguf"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fetch_hub(&reference("o/n:sub/m x.gguf@v1"), &FetchOptions { offline: true, ..options.clone() }, &mut ()).unwrap();
    assert_eq!(server.requests().len(), 2);
    let error = fetch_hub(&reference("o/n:other.gguf"), &options, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("part")), "{left:?}");
}

#[test]
fn a_file_that_is_not_what_the_hub_says_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|r, _| Reply::file(r, &[1; 100]).header("X-Linked-Etag", "a".repeat(64)));
    let error = fetch_hub(&reference("o/n:m.gguf"), &options(cache.path(), &server.url), &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
    assert!(!cache.path().join("hub/o--n/main/m.gguf").exists());
}

#[test]
fn a_file_that_changed_is_not_glued_to_the_old_part() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("hub/o--n/main");
    fs::create_dir_all(&dir).unwrap();
    let bytes = content(9000);
    let body = bytes.clone();
    let server = Server::start(move |r, _| Reply::file(r, &body).header("ETag", "\"new\""));
    for tag in [Some("\"old\""), None] {
        fs::write(dir.join("m.gguf.part"), [0; 4000]).unwrap();
        if let Some(tag) = tag {
            fs::write(dir.join("m.gguf.part.etag"), tag).unwrap();
        }
        let options = FetchOptions { force: true, ..options(cache.path(), &server.url) };
        let path = fetch_hub(&reference("o/n:m.gguf"), &options, &mut ()).unwrap();
        assert_eq!(fs::read(path).unwrap(), bytes, "{tag:?}");
    }
    // The same version is continued.
    fs::write(dir.join("m.gguf.part"), &bytes[..4000]).unwrap();
    fs::write(dir.join("m.gguf.part.etag"), "\"new\"").unwrap();
    let options = FetchOptions { force: true, ..options(cache.path(), &server.url) };
    let path = fetch_hub(&reference("o/n:m.gguf"), &options, &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert_eq!(server.requests().last().unwrap().offset, Some(4000));
}

#[test]
fn a_repository_of_safetensors_comes_with_its_configuration() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|r, _| {
        let list = r#"{"id":"o/n","siblings":[{"rfilename":"model.safetensors"},{"rfilename":"config.json"},
            {"rfilename":"../../evil.json"},{"rfilename":"README.md"},{"rfilename":"tokenizer.json"}]}"#;
        if r.path.starts_with("/api/models/o/n/revision/main") {
            Reply::file(r, list.as_bytes())
        } else {
            Reply::file(r, r.path.as_bytes())
        }
    });
    let options = options(cache.path(), &server.url);
    let dir = fetch_hub(&reference("o/n"), &options, &mut ()).unwrap();
    assert_eq!(dir, cache.path().join("hub/o--n/main"));
    assert_eq!(fs::read(dir.join("config.json")).unwrap(), b"/o/n/resolve/main/config.json");
    assert!(dir.join("model.safetensors").exists() && dir.join("tokenizer.json").exists());
    assert!(!dir.join("README.md").exists() && !cache.path().join("evil.json").exists());
    let asked = server.requests().len();
    let again = fetch_hub(&reference("o/n"), &FetchOptions { offline: true, ..options }, &mut ()).unwrap();
    assert_eq!((again, server.requests().len()), (dir, asked));
}

#[test]
fn several_ggufs_must_be_told_apart_and_shards_belong_together() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|r, _| {
        let files = match r.path.as_str() {
            "/api/models/o/many/revision/main" => r#"["a.Q4_0.gguf","a.Q8_0.gguf"]"#,
            "/api/models/o/split/revision/main" => r#"["s-00001-of-00002.gguf","s-00002-of-00002.gguf"]"#,
            _ => return Reply::file(r, r.path.as_bytes()),
        };
        let names: Vec<String> = serde_json::from_str(files).unwrap();
        let siblings: Vec<_> = names.iter().map(|n| serde_json::json!({ "rfilename": n })).collect();
        Reply::file(r, serde_json::json!({ "siblings": siblings }).to_string().as_bytes())
    });
    let options = options(cache.path(), &server.url);
    let error = fetch_hub(&reference("o/many"), &options, &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "o/many has 2 files to choose from; name one as `o/many:FILE`: a.Q4_0.gguf, a.Q8_0.gguf"
    );
    for text in ["o/split", "o/split:s-00002-of-00002.gguf"] {
        let first = fetch_hub(&reference(text), &options, &mut ()).unwrap();
        assert!(first.exists() && first.with_file_name("s-00002-of-00002.gguf").exists(), "{text}");
    }
}

#[test]
fn offline_without_a_copy() {
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions { offline: true, ..options(cache.path(), "http://127.0.0.1:1") };
    for text in ["o/n", "o/n:m.gguf"] {
        let error = fetch_hub(&reference(text), &options, &mut ()).unwrap_err();
        assert!(error.manual_steps().unwrap().contains("http://127.0.0.1:1/o/n"), "{error}");
    }
}

#[test]
fn a_list_that_is_no_list() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|r, _| Reply::file(r, b"<html>"));
    let error = fetch_hub(&reference("o/n"), &options(cache.path(), &server.url), &mut ()).unwrap_err();
    assert!(error.to_string().contains("no valid file list"), "{error}");
}
