//! A small HTTP/1.1 server on the loopback interface that can misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Offset of a `Range: bytes=N-` header.
    pub(crate) offset: Option<usize>,
    pub(crate) authorization: Option<String>,
}

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub(crate) cut_after: Option<usize>,
    /// Keep silent for this long after `cut_after` bytes, instead of closing at once.
    pub(crate) stall: Option<std::time::Duration>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Reply { status: 302, headers: vec![("Location", to.into())], ..Reply::default() }
    }

    /// The whole `content`, or the rest of it that `request` asks for.
    pub(crate) fn file(request: &Request, content: &[u8]) -> Self {
        match request.offset {
            None => Reply { status: 200, body: content.to_vec(), ..Reply::default() },
            Some(offset) if offset < content.len() => Reply {
                status: 206,
                headers: vec![("Content-Range", format!("bytes {offset}-{}/{}", content.len() - 1, content.len()))],
                body: content[offset..].to_vec(),
                ..Reply::default()
            },
            Some(_) => Reply {
                status: 416,
                headers: vec![("Content-Range", format!("bytes */{}", content.len()))],
                ..Reply::default()
            },
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut_after = Some(after);
        self
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// Serves until dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `handler` gets each request and its number.
    pub(crate) fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, end, handler) = (requests.clone(), stop.clone(), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (log, handler) = (log.clone(), handler.clone());
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, &log, &*handler));
                }
            }
        });
        Server { url, requests, stop, thread: Some(thread) }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request per connection. The client may hang up at any time: that ends the connection, nothing else.
fn serve(stream: TcpStream, log: &Mutex<Vec<Request>>, handler: &Handler) {
    let Some(request) = read_request(&stream) else { return };
    let number = {
        let mut log = log.lock().expect("lock");
        log.push(request.clone());
        log.len() - 1
    };
    let _ = write_reply(stream, &handler(&request, number));
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, offset: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.offset = value.trim().strip_prefix("bytes=")?.trim_end_matches('-').parse().ok();
            }
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(request)
}

fn write_reply(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n", reply.status, reply.body.len())?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    let end = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end])?;
    stream.flush()?;
    if let Some(time) = reply.stall {
        std::thread::sleep(time);
    }
    Ok(())
}
