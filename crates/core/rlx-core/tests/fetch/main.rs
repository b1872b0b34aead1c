//! Fetching from a hub that the tests run themselves on the loopback interface, and from a stand-in for pip.

mod hub_files;
#[cfg(unix)]
mod package_mirror;
mod server;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlx_core::fetch::{FetchError, FetchOptions, HubLocation, ModelSource, PackagePart, Phase, Progress, SourceFile};
use rlx_core::fetch::{cached, fetch};
use server::{Reply, Server};
use sha2::{Digest, Sha256};

/// Test content that is nowhere periodic.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn file(path: &'static str, bytes: &[u8], mirror: Vec<PackagePart>) -> SourceFile {
    SourceFile { path, bytes: bytes.len() as u64, sha256: sha256(bytes).leak(), mirror: mirror.leak() }
}

pub(crate) fn source(files: Vec<SourceFile>) -> ModelSource {
    ModelSource {
        name: "test-model",
        about: "test",
        origin: "o/n",
        hub: Some(HubLocation { repo: "o/n", revision: "main" }),
        files: files.leak(),
        licence: "MIT",
    }
}

pub(crate) fn options(cache: &Path, endpoint: &str) -> FetchOptions {
    FetchOptions {
        cache_dir: Some(cache.to_owned()),
        hub_endpoint: endpoint.to_owned(),
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(5),
        use_mirror: false,
        ..FetchOptions::default()
    }
}

/// Records what is told, and stops once `stop_at` bytes of a download are there.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) phases: Vec<Phase>,
    pub(crate) notes: Vec<String>,
    pub(crate) stop_at: Option<u64>,
}

impl Progress for Log {
    fn phase(&mut self, phase: &Phase) {
        self.phases.push(phase.clone());
    }

    fn advance(&mut self, done: u64, _total: Option<u64>) -> ControlFlow<()> {
        let downloading = matches!(self.phases.last(), Some(Phase::Downloading { .. }));
        match self.stop_at {
            Some(limit) if downloading && done >= limit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

struct Setup {
    cache: tempfile::TempDir,
    bytes: Arc<Vec<u8>>,
    source: ModelSource,
}

impl Setup {
    fn new(len: usize) -> Self {
        let bytes = content(len);
        let source = source(vec![file("m.gguf", &bytes, vec![])]);
        Setup { cache: tempfile::tempdir().unwrap(), bytes: Arc::new(bytes), source }
    }

    fn options(&self, server: &Server) -> FetchOptions {
        options(self.cache.path(), &server.url)
    }

    fn path(&self) -> PathBuf {
        self.cache.path().join("test-model/m.gguf")
    }

    fn write_part(&self, bytes: &[u8]) {
        fs::create_dir_all(self.cache.path().join("test-model")).unwrap();
        fs::write(self.cache.path().join("test-model/m.gguf.part"), bytes).unwrap();
    }
}

#[test]
fn a_file_is_fetched_once_and_then_found() {
    let s = Setup::new(300_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| Reply::file(r, &bytes));
    let options = s.options(&server);
    assert_eq!(cached(&s.source, &options).unwrap(), None);
    let mut log = Log::default();
    let path = fetch(&s.source, &options, &mut log).unwrap();
    assert_eq!(path, s.path());
    assert_eq!(fs::read(&path).unwrap(), *s.bytes);
    assert!(log.phases.contains(&Phase::Verifying { file: "m.gguf".into() }));
    assert_eq!(server.requests()[0].path, "/o/n/resolve/main/m.gguf");

    let offline = FetchOptions { offline: true, ..options.clone() };
    let mut log = Log::default();
    fetch(&s.source, &offline, &mut log).unwrap();
    assert_eq!(log.phases, [], "a stamped file is not read again");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(cached(&s.source, &options).unwrap(), Some(path));

    fetch(&s.source, &FetchOptions { force: true, ..options }, &mut ()).unwrap();
    assert_eq!(server.requests().len(), 2, "force fetches again");
}

#[test]
fn a_damaged_cache_is_noticed_and_mended() {
    let s = Setup::new(10_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| Reply::file(r, &bytes));
    fs::create_dir_all(s.path().parent().unwrap()).unwrap();
    fs::write(s.path(), vec![0; 10_000]).unwrap();
    fetch(&s.source, &s.options(&server), &mut ()).unwrap();
    assert_eq!(fs::read(s.path()).unwrap(), *s.bytes);
}

#[test]
fn cut_connections_are_resumed() {
    let s = Setup::new(1_000_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| Reply::file(r, &bytes).cut(300_000));
    let path = fetch(&s.source, &s.options(&server), &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), *s.bytes);
    let offsets: Vec<_> = server.requests().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [None, Some(300_000), Some(600_000), Some(900_000)]);
}

#[test]
fn a_silent_server_is_left_and_asked_again() {
    let s = Setup::new(100_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, n| {
        let reply = Reply::file(r, &bytes);
        if n == 0 { Reply { stall: Some(Duration::from_secs(20)), ..reply.cut(40_000) } } else { reply }
    });
    let options = FetchOptions { stall_timeout: Duration::from_millis(300), ..s.options(&server) };
    let start = Instant::now();
    let path = fetch(&s.source, &options, &mut ()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(fs::read(path).unwrap(), *s.bytes);
    assert_eq!(server.requests()[1].offset, Some(40_000));
}

#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let s = Setup::new(100_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| {
        let reply = Reply::file(r, &bytes);
        if r.offset.is_some() { reply.cut(0) } else { reply.cut(1000) }
    });
    let error = fetch(&s.source, &s.options(&server), &mut ()).unwrap_err();
    assert!(error.to_string().contains("broke off at 1000 bytes"), "{error}");
    assert_eq!(fs::read(s.path().with_extension("gguf.part")).unwrap(), s.bytes[..1000]);
}

#[test]
fn the_part_file_of_an_earlier_run_is_continued() {
    let s = Setup::new(500_000);
    let bytes = s.bytes.clone();
    s.write_part(&s.bytes[..123_456]);
    let server = Server::start(move |r, _| Reply::file(r, &bytes));
    let path = fetch(&s.source, &s.options(&server), &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), *s.bytes);
    assert_eq!(server.requests()[0].offset, Some(123_456));
    assert!(!s.path().with_extension("gguf.part").exists());
}

#[test]
fn damaged_part_files_cost_one_restart() {
    for part in [vec![1; 1000], vec![1; 5000], vec![1; 9000]] {
        let s = Setup::new(5000);
        let bytes = s.bytes.clone();
        s.write_part(&part);
        let server = Server::start(move |r, _| Reply::file(r, &bytes));
        let path = fetch(&s.source, &s.options(&server), &mut ()).unwrap();
        assert_eq!(fs::read(path).unwrap(), *s.bytes, "part of {}", part.len());
    }
}

#[test]
fn a_server_without_ranges_starts_over() {
    let s = Setup::new(5000);
    let bytes = s.bytes.clone();
    s.write_part(&s.bytes[..1000]);
    let server = Server::start(move |_, _| Reply { status: 200, body: bytes.to_vec(), ..Reply::default() });
    let path = fetch(&s.source, &s.options(&server), &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), *s.bytes);
}

#[test]
fn stopping_keeps_what_came() {
    let s = Setup::new(2_000_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| Reply::file(r, &bytes));
    let mut log = Log { stop_at: Some(500_000), ..Log::default() };
    let error = fetch(&s.source, &s.options(&server), &mut log).unwrap_err();
    assert!(matches!(error, FetchError::Interrupted), "{error}");
    let kept = fs::metadata(s.path().with_extension("gguf.part")).unwrap().len();
    assert!(kept >= 500_000);
    fetch(&s.source, &s.options(&server), &mut ()).unwrap();
    assert_eq!(server.requests()[1].offset, Some(kept as usize));
    assert_eq!(fs::read(s.path()).unwrap(), *s.bytes);
}

#[test]
fn a_wrong_file_is_refused_and_removed() {
    let s = Setup::new(5000);
    let server = Server::start(|r, _| Reply::file(r, &[7; 5000]));
    let error = fetch(&s.source, &s.options(&server), &mut ()).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert!(error.manual_steps().unwrap().contains(s.source.files[0].sha256));
    assert!(!s.path().exists() && !s.path().with_extension("gguf.part").exists());

    // A login page, say, has another size: it is not downloaded at all.
    let server = Server::start(|r, _| Reply::file(r, b"<html>please log in</html>"));
    let error = fetch(&s.source, &s.options(&server), &mut ()).unwrap_err();
    assert!(error.to_string().contains("26 bytes where 5000 are expected"), "{error}");
    assert!(!s.path().exists());
}

#[test]
fn statuses_have_their_own_messages() {
    for (status, text) in
        [(401, "gated or private"), (403, "gated or private"), (404, "does not exist (404)"), (451, "answered 451")]
    {
        let s = Setup::new(10);
        let server = Server::start(move |_, _| Reply::status(status));
        let error = fetch(&s.source, &s.options(&server), &mut ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(server.requests().len(), 1, "{status} is final");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let s = Setup::new(5000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, n| if n < 2 { Reply::status(503) } else { Reply::file(r, &bytes) });
    let mut log = Log::default();
    fetch(&s.source, &s.options(&server), &mut log).unwrap();
    assert_eq!(server.requests().len(), 3);
    assert!(log.notes[0].contains("answered 503; trying again"), "{:?}", log.notes);
}

#[test]
fn redirects_are_followed_and_the_token_stays_home() {
    let s = Setup::new(50_000);
    let bytes = s.bytes.clone();
    let cdn = Server::start(move |r, _| Reply::file(r, &bytes).cut(30_000));
    let target = format!("{}/blob?sig=1", cdn.url);
    let server = Server::start(move |r, _| match r.path.as_str() {
        "/o/n/resolve/main/m.gguf" => Reply::redirect("/moved"),
        _ => Reply::redirect(target.clone()),
    });
    let options = FetchOptions { token: Some("secret".into()), ..s.options(&server) };
    let path = fetch(&s.source, &options, &mut ()).unwrap();
    assert_eq!(fs::read(path).unwrap(), *s.bytes);
    assert!(server.requests().iter().all(|r| r.authorization.as_deref() == Some("Bearer secret")));
    assert!(cdn.requests().iter().all(|r| r.authorization.is_none()));
    assert_eq!(cdn.requests()[1].offset, Some(30_000));
}

#[test]
fn redirect_loops_end() {
    let s = Setup::new(10);
    let server = Server::start(|r, _| Reply::redirect(r.path.clone()));
    let error = fetch(&s.source, &s.options(&server), &mut ()).unwrap_err().to_string();
    assert!(error.contains("more than 8 redirects"), "{error}");
}

#[test]
fn offline_says_what_to_do_and_takes_a_file_put_there_by_hand() {
    let s = Setup::new(5000);
    let options = FetchOptions { offline: true, ..options(s.cache.path(), "http://127.0.0.1:1") };
    let error = fetch(&s.source, &options, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }));
    let steps = error.manual_steps().unwrap();
    assert!(steps.contains(&s.path().display().to_string()), "{steps}");
    fs::create_dir_all(s.path().parent().unwrap()).unwrap();
    fs::write(s.path(), &*s.bytes).unwrap();
    assert_eq!(fetch(&s.source, &options, &mut ()).unwrap(), s.path());
}

#[test]
fn an_unreachable_hub_is_left_at_once() {
    let s = Setup::new(10);
    // A port that was free a moment ago refuses connections.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = options(s.cache.path(), &format!("http://127.0.0.1:{port}"));
    let start = Instant::now();
    let error = fetch(&s.source, &options, &mut ()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2));
    let text = error.to_string();
    assert!(text.contains(&format!("cannot reach 127.0.0.1:{port}")), "{text}");
    assert!(text.contains("package mirror: none"), "{text}");
}

#[test]
fn an_unwritable_cache_is_named() {
    let s = Setup::new(10);
    let blocker = s.cache.path().join("file");
    fs::write(&blocker, "").unwrap();
    let options = options(&blocker.join("cache"), "http://127.0.0.1:1");
    let error = fetch(&s.source, &options, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::CacheUnwritable { .. }), "{error}");
}

#[test]
fn two_at_once_fetch_once() {
    let s = Setup::new(400_000);
    let bytes = s.bytes.clone();
    let server = Server::start(move |r, _| {
        std::thread::sleep(Duration::from_millis(300));
        Reply::file(r, &bytes)
    });
    let options = s.options(&server);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| fetch(&s.source, &options, &mut ()))).collect();
        for run in runs {
            assert_eq!(fs::read(run.join().unwrap().unwrap()).unwrap(), *s.bytes);
        }
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn models_of_several_files_keep_their_folders() {
    let cache = tempfile::tempdir().unwrap();
    let (weights, config) = (content(9000), content(100));
    let source =
        source(vec![file("model.safetensors", &weights, vec![]), file("1_Pooling/config.json", &config, vec![])]);
    let (w, c) = (weights.clone(), config.clone());
    let server = Server::start(move |r, _| Reply::file(r, if r.path.ends_with("config.json") { &c } else { &w }));
    let path = fetch(&source, &options(cache.path(), &server.url), &mut ()).unwrap();
    assert_eq!(path, cache.path().join("test-model/model.safetensors"));
    assert_eq!(fs::read(cache.path().join("test-model/1_Pooling/config.json")).unwrap(), config);
}
