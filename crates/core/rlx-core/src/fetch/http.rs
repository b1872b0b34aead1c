//! One HTTP GET into a `.part` file: resumed, redirected, retried, bounded.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body};

use super::{FetchError, FetchOptions, Phase, Progress, cache};

/// Retries in a row without a single new byte before giving up.
const MAX_RETRIES: u32 = 4;
const MAX_REDIRECTS: usize = 8;
/// A listing larger than this is not one.
const MAX_TEXT: u64 = 16 << 20;

/// A client with the options' time limits.
pub(super) struct Client<'a> {
    agent: Agent,
    options: &'a FetchOptions,
}

/// What a finished download told about the file.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    /// Whether part of it came from an earlier run.
    pub(super) resumed: bool,
    /// SHA-256 that the hub announced, if it did.
    pub(super) sha256: Option<String>,
}

/// The answer to a GET after all redirects.
struct Answer {
    response: Response<Body>,
    sha256: Option<String>,
}

/// Whether and how another try makes sense.
enum Failure {
    /// Try again, from where we are.
    Transient(FetchError),
    /// Give up.
    Final(FetchError),
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &'a FetchOptions) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, to see the hub's own headers and to keep the token on its host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("rlx-models/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.stall_timeout))
            .timeout_per_read(Some(options.stall_timeout));
        if is_loopback(&options.hub_endpoint) {
            config = config.proxy(None);
        }
        Client { agent: config.build().new_agent(), options }
    }

    /// The body of `url` as text.
    pub(super) fn text(&self, url: &str, progress: &mut dyn Progress) -> Result<String, FetchError> {
        progress.phase(&Phase::Connecting { host: host(url), file: "file list".to_owned() });
        let mut answer = self.get(url, 0).map_err(Failure::into_error)?;
        let body = answer.response.body_mut().with_config().limit(MAX_TEXT).read_to_string();
        body.map_err(|e| FetchError::BadResponse { url: url.to_owned(), reason: e.to_string() })
    }

    /// Downloads `url` into `part`, continuing what is there. `expected` is the size if it is known. `tag` is where
    /// the server's name for this version of the file is kept, for files whose sum is not known: a `.part` of
    /// another version is not continued.
    pub(super) fn download(
        &self,
        url: &str,
        expected: Option<u64>,
        part: &Path,
        tag: Option<&Path>,
        progress: &mut dyn Progress,
    ) -> Result<Transfer, FetchError> {
        let mut job = Job { client: self, url, expected, part, tag, transfer: Transfer::default() };
        let kept = cache::length(part)?;
        if tag.is_some_and(|t| !t.exists()) || expected.is_some_and(|e| kept > e) {
            job.restart()?;
        }
        let first = cache::length(part)?;
        let (mut done, mut retries) = (first, 0);
        job.transfer.resumed = first > 0;
        loop {
            match job.attempt(progress) {
                Ok(()) => return Ok(job.transfer),
                Err(Failure::Final(e)) => return Err(e),
                Err(Failure::Transient(e)) => {
                    let now = cache::length(part)?;
                    // No answer at all at the very first try: there is no network here.
                    if matches!(e, FetchError::Unreachable { .. }) && now == first && retries == 0 {
                        return Err(e);
                    }
                    retries = if now > done { 0 } else { retries + 1 };
                    done = now;
                    if retries > MAX_RETRIES {
                        return Err(e);
                    }
                    progress.note(&format!("{}; trying again", super::error::chain(&e)));
                    pause(Duration::from_millis(250 << retries), done, expected, progress)?;
                }
            }
        }
    }

    /// GET with redirects followed. Statuses other than 200, 206 and 416 are errors.
    fn get(&self, url: &str, offset: u64) -> Result<Answer, Failure> {
        let mut target = url.to_owned();
        let mut sha256 = None;
        for _ in 0..=MAX_REDIRECTS {
            // `identity`: sizes and ranges are those of the file itself.
            let mut request = self.agent.get(&target).header(header::ACCEPT_ENCODING, "identity");
            if offset > 0 {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
            }
            if let Some(token) = &self.options.token
                && same_origin(&target, &self.options.hub_endpoint)
            {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| call_failure(&target, &e))?;
            sha256 = sha256.or_else(|| linked_sha256(&response));
            match response.status().as_u16() {
                200 | 206 | 416 => return Ok(Answer { response, sha256 }),
                301 | 302 | 303 | 307 | 308 => {
                    let location = text_header(&response, "location").unwrap_or_default();
                    target = redirect(&target, &location).map_err(|reason| {
                        Failure::Final(FetchError::BadResponse { url: target.clone(), reason: reason.to_owned() })
                    })?;
                }
                status => return Err(self.status_failure(&target, status)),
            }
        }
        Err(Failure::Final(FetchError::BadResponse {
            url: url.to_owned(),
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        }))
    }

    fn status_failure(&self, url: &str, status: u16) -> Failure {
        let url = url.to_owned();
        match status {
            401 | 403 => {
                let hint = if self.options.token.is_some() {
                    "the token has no access to it; accept the model's terms on its page, or check the token"
                } else {
                    "it is gated or private (or does not exist): accept its terms on its page and give an access token"
                };
                Failure::Final(FetchError::Denied { url, status, hint })
            }
            404 | 410 => Failure::Final(FetchError::NotFound { url }),
            408 | 429 | 500..=599 => {
                Failure::Transient(FetchError::BadResponse { url, reason: format!("the server answered {status}") })
            }
            _ => Failure::Final(FetchError::BadResponse { url, reason: format!("the server answered {status}") }),
        }
    }
}

impl Failure {
    fn into_error(self) -> FetchError {
        match self {
            Failure::Transient(e) | Failure::Final(e) => e,
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Failure::Final(error)
    }
}

struct Job<'a> {
    client: &'a Client<'a>,
    url: &'a str,
    expected: Option<u64>,
    part: &'a Path,
    tag: Option<&'a Path>,
    transfer: Transfer,
}

impl Job<'_> {
    /// Forgets what came so far.
    fn restart(&mut self) -> Result<(), FetchError> {
        self.transfer.resumed = false;
        for path in [Some(self.part), self.tag].into_iter().flatten() {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(FetchError::write(path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// One request, from the present end of the `.part` file to the end of the body.
    fn attempt(&mut self, progress: &mut dyn Progress) -> Result<(), Failure> {
        let mut offset = cache::length(self.part)?;
        if self.expected == Some(offset) && offset > 0 {
            return Ok(());
        }
        let file = self.part.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        progress.phase(&Phase::Connecting { host: host(self.url), file: file.clone() });
        let answer = self.client.get(self.url, offset)?;
        let response = answer.response;
        self.transfer.sha256 = answer.sha256.or(self.transfer.sha256.take());

        let status = response.status().as_u16();
        let range = content_range(&response);
        let etag = text_header(&response, "etag");
        let total = match status {
            416 => {
                // Nothing after our offset: either complete, or the remains of another file.
                if range.and_then(|r| r.total) == Some(offset) && self.tag_matches(etag.as_deref()) {
                    return Ok(());
                }
                self.restart()?;
                return Err(Failure::Transient(self.broken(0, "the partial file did not fit; starting over")));
            }
            206 => {
                let range = range.ok_or_else(|| self.bad("206 without a valid Content-Range"))?;
                if range.start != offset || !self.tag_matches(etag.as_deref()) {
                    self.restart()?;
                    return Err(Failure::Transient(self.broken(0, "the file changed on the server; starting over")));
                }
                range.total
            }
            _ => {
                offset = 0;
                self.restart()?;
                text_header(&response, "content-length").and_then(|text| text.parse().ok())
            }
        };
        if let (Some(expected), Some(found)) = (self.expected, total)
            && expected != found
        {
            return Err(FetchError::WrongSize { url: self.url.to_owned(), expected, found }.into());
        }
        if offset == 0
            && let Some(path) = self.tag
        {
            fs::write(path, etag.unwrap_or_default()).map_err(|e| FetchError::write(path, e))?;
        }
        progress.phase(&Phase::Downloading { file });
        self.copy(response.into_body(), offset, total.or(self.expected), progress)
    }

    fn copy(&self, body: Body, mut done: u64, total: Option<u64>, progress: &mut dyn Progress) -> Result<(), Failure> {
        let write = |e| Failure::Final(FetchError::write(self.part, e));
        let mut output = File::options().create(true).append(true).open(self.part).map_err(write)?;
        let mut input = body.into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Transient(self.broken(done, &e.to_string()))),
            };
            if total.is_some_and(|total| done + n as u64 > total) {
                return Err(self.bad("more bytes than announced").into());
            }
            output.write_all(&buffer[..n]).map_err(write)?;
            done += n as u64;
            if progress.advance(done, total) == ControlFlow::Break(()) {
                return Err(FetchError::Interrupted.into());
            }
        }
        match total {
            Some(total) if done < total => {
                Err(Failure::Transient(self.broken(done, "the connection was closed before the end")))
            }
            _ => Ok(()),
        }
    }

    fn tag_matches(&self, etag: Option<&str>) -> bool {
        self.tag.is_none_or(|path| fs::read_to_string(path).is_ok_and(|kept| kept == etag.unwrap_or_default()))
    }

    fn broken(&self, done: u64, reason: &str) -> FetchError {
        FetchError::Broken { host: host(self.url), done, reason: reason.to_owned() }
    }

    fn bad(&self, reason: &str) -> FetchError {
        FetchError::BadResponse { url: self.url.to_owned(), reason: reason.to_owned() }
    }
}

/// Sleeps in slices, so that a stop is heard.
fn pause(length: Duration, done: u64, total: Option<u64>, progress: &mut dyn Progress) -> Result<(), FetchError> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        if progress.advance(done, total) == ControlFlow::Break(()) {
            return Err(FetchError::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// A request that got no answer.
fn call_failure(url: &str, error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Failure::Final(FetchError::BadResponse { url: url.to_owned(), reason: error.to_string() })
        }
        _ => Failure::Transient(FetchError::Unreachable { host: host(url), reason: error.to_string() }),
    }
}

fn text_header(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.trim().to_owned())
}

/// The hub names large files by their SHA-256.
fn linked_sha256(response: &Response<Body>) -> Option<String> {
    let tag = text_header(response, "x-linked-etag")?;
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    (tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit())).then(|| tag.to_ascii_lowercase())
}

#[derive(Clone, Copy)]
struct ContentRange {
    start: u64,
    total: Option<u64>,
}

/// `bytes 5-9/10`, `bytes */10`.
fn content_range(response: &Response<Body>) -> Option<ContentRange> {
    let text = text_header(response, "content-range")?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range.split_once('-') {
        Some((start, _)) => start.parse().ok()?,
        None => 0,
    };
    Some(ContentRange { start, total: total.parse().ok() })
}

fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    uri.and_then(|uri| uri.authority().map(|a| a.to_string())).unwrap_or_else(|| url.to_owned())
}

fn same_origin(a: &str, b: &str) -> bool {
    match (a.parse::<Uri>(), b.parse::<Uri>()) {
        (Ok(a), Ok(b)) => a.scheme() == b.scheme() && a.authority() == b.authority(),
        _ => false,
    }
}

fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(|h| h == "localhost" || h == "[::1]" || h.starts_with("127."))
}

/// The URL that `location`, found at `base`, means. HTTPS is never left for HTTP.
fn redirect(base: &str, location: &str) -> Result<String, &'static str> {
    if location.is_empty() {
        return Err("a redirect without a Location");
    }
    let uri: Uri = base.parse().map_err(|_| "a redirect from an invalid URL")?;
    let scheme = uri.scheme_str().unwrap_or("https");
    let origin = format!("{scheme}://{}", uri.authority().map_or("", |a| a.as_str()));
    let target = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{location}")
    };
    if scheme == "https" && !target.starts_with("https://") {
        return Err("a redirect from HTTPS to an insecure address was refused");
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_leave_https() {
        let base = "https://h.example/a/b?c";
        assert_eq!(redirect(base, "/x").unwrap(), "https://h.example/x");
        assert_eq!(redirect(base, "x").unwrap(), "https://h.example/a/x");
        assert_eq!(redirect(base, "//cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(redirect(base, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        assert!(redirect(base, "http://cdn.example/x").is_err());
        assert!(redirect(base, "").is_err());
    }

    #[test]
    fn tokens_stay_on_the_hubs_origin() {
        assert!(same_origin("https://h.example/x", "https://h.example"));
        assert!(!same_origin("http://h.example/x", "https://h.example"));
        assert!(!same_origin("https://h.example:8443/x", "https://h.example"));
        assert!(!same_origin("https://h.example.evil/x", "https://h.example"));
    }

    #[test]
    fn loopback_addresses_are_known() {
        assert!(is_loopback("http://127.0.0.1:80") && is_loopback("http://localhost:1/x"));
        assert!(!is_loopback("https://huggingface.co"));
    }
}
