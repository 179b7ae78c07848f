//! A web server with faults on request.
//!
//! A closure turns each request into a [`Reply`], which determines the bytes that are sent and
//! where the connection breaks. Each connection serves one request.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::LIMIT;

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct Request {
    /// Sequence number, 0 for the first request to this server.
    pub number: usize,
    /// Method in upper case, such as `GET`.
    pub method: String,
    /// The path, or the whole URL if the server is used as a proxy.
    pub target: String,
    /// The body, as it arrived.
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header; `name` is lower-case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The requested range within `len`: first byte, and one past the last byte.
    #[must_use]
    pub fn range(&self, len: usize) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = if last.is_empty() { len } else { last.parse::<usize>().ok()? + 1 };
        Some((first.parse().ok()?, end.min(len)))
    }

    /// True for the request of one byte with which a client begins.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.header("range") == Some("bytes=0-0")
    }

    fn parse(number: usize, head: &str, body: Vec<u8>) -> Self {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { number, method, target, body, headers }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Break {
    Nothing,
    Close,
    Reset,
    Stall,
}

/// Lets other threads wait until it is opened.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// Opens it for good.
    ///
    /// # Panics
    /// If a thread has panicked with the lock.
    pub fn open(&self) {
        *self.0.lock().expect("no thread panics with the lock") = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let is_open = self.0.lock().expect("no thread panics with the lock");
        let waited = self.1.wait_timeout_while(is_open, LIMIT, |is_open| !*is_open);
        drop(waited.expect("no thread panics with the lock"));
    }
}

/// A response, and its faults.
#[derive(Clone)]
pub struct Reply {
    head: Vec<u8>,
    body: Vec<u8>,
    length: Option<usize>,
    is_chunked: bool,
    breaks: (Break, usize),
    pause: Option<(usize, Arc<Gate>)>,
}

impl Reply {
    /// An empty reply with a status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let head = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n").into_bytes();
        Self {
            head,
            body: Vec::new(),
            length: Some(0),
            is_chunked: false,
            breaks: (Break::Nothing, 0),
            pause: None,
        }
    }

    /// A complete response with `body`.
    #[must_use]
    pub fn whole(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    /// A partial response with the range `start..end` of `body`.
    #[must_use]
    pub fn part(body: &[u8], start: usize, end: usize) -> Self {
        let range = format!("bytes {start}-{}/{}", end - 1, body.len());
        Self::status(206).header("Content-Range", &range).body(&body[start..end])
    }

    /// The correct response: the requested range, or all of `body`.
    #[must_use]
    pub fn file(request: &Request, body: &[u8], etag: &str) -> Self {
        let is_current = request.header("if-range").is_none_or(|tag| tag == etag);
        let reply = match request.range(body.len()) {
            Some((start, end)) if is_current && start < end => Self::part(body, start, end),
            _ => Self::whole(body),
        };
        reply.header("ETag", etag)
    }

    /// Exactly these bytes, then a close of the connection.
    #[must_use]
    pub fn raw(bytes: &[u8]) -> Self {
        Self { head: bytes.to_vec(), length: None, ..Self::status(0) }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    /// Sets the body and its length.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.length = Some(body.len());
        self
    }

    /// Sets a wrong `Content-Length`.
    #[must_use]
    pub fn promise(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// Sends the body in chunked encoding, without a length.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.is_chunked = true;
        self
    }

    /// Sends neither a length nor chunks; the body ends when the connection closes.
    #[must_use]
    pub fn until_close(mut self) -> Self {
        self.length = None;
        self
    }

    /// Closes after `len` bytes of body, in order.
    #[must_use]
    pub fn close_after(mut self, len: usize) -> Self {
        self.breaks = (Break::Close, len);
        self
    }

    /// Resets the connection after `len` bytes of body.
    #[must_use]
    pub fn reset_after(mut self, len: usize) -> Self {
        self.breaks = (Break::Reset, len);
        self
    }

    /// Stalls after `len` bytes of body, with the connection open.
    #[must_use]
    pub fn stall_after(mut self, len: usize) -> Self {
        self.breaks = (Break::Stall, len);
        self
    }

    /// Sends the rest after `len` bytes of body when the gate is open.
    #[must_use]
    pub fn pause_after(mut self, len: usize, gate: Arc<Gate>) -> Self {
        self.pause = Some((len, gate));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let is_raw = !self.head.starts_with(b"HTTP/1.1 ") || self.head.ends_with(b"\r\n\r\n");
        let mut bytes = self.head.clone();
        if is_raw {
            return bytes;
        }
        let body = match self.breaks {
            (Break::Nothing, _) => &self.body[..],
            (_, len) => &self.body[..len.min(self.body.len())],
        };
        if self.is_chunked {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(1000) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            if self.breaks.0 == Break::Nothing {
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            if let Some(length) = self.length {
                bytes.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

/// A running server. Stops when dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server on a free port of the loopback.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", script)
    }

    /// Starts a server at another address of this machine.
    #[must_use]
    pub fn start_at(ip: &str, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a port can be had");
        let address = listener.local_addr().expect("a listener has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (script, counter) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let server =
            Self { address, requests: Arc::clone(&requests), stopped: Arc::clone(&stopped) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (script, counter) = (Arc::clone(&script), Arc::clone(&counter));
                let (requests, stopped) = (Arc::clone(&requests), Arc::clone(&stopped));
                std::thread::spawn(move || {
                    // ignore clients that close the connection
                    let _ = serve(stream, &stopped, |head, body| {
                        let request =
                            Request::parse(counter.fetch_add(1, Ordering::SeqCst), head, body);
                        requests
                            .lock()
                            .expect("no test panics with the lock")
                            .push(request.clone());
                        script(&request)
                    });
                });
            }
        });
        server
    }

    /// Address for URLs: `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The URL of `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics with the lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // wakes the listener
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    stopped: &AtomicBool,
    reply: impl FnOnce(&str, Vec<u8>) -> Reply,
) -> std::io::Result<()> {
    // The last byte of the head stays unread: on a close with unread data the kernel sends a reset,
    // which std cannot request.
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let body_bytes = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; body_bytes];
    if body_bytes > 0 {
        stream.read_exact(&mut byte)?;
        stream.read_exact(&mut body)?;
    }
    let reply = reply(&head, body);
    let bytes = reply.bytes();
    let first = match &reply.pause {
        Some((len, _)) => (bytes.len() - reply.body.len().min(bytes.len()) + len).min(bytes.len()),
        None => bytes.len(),
    };
    stream.write_all(&bytes[..first])?;
    if let Some((_, gate)) = &reply.pause
        && first < bytes.len()
    {
        gate.wait();
        stream.write_all(&bytes[first..])?;
    }
    match reply.breaks.0 {
        Break::Reset => {
            // Gives the client time to read the data before the reset. A server cannot see when it
            // has.
            std::thread::sleep(Duration::from_millis(20));
            return Ok(());
        }
        Break::Stall => return stall(&mut stream, stopped),
        Break::Nothing | Break::Close => {}
    }
    if body_bytes == 0 {
        stream.read_exact(&mut byte)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.read(&mut byte).map(drop)
}

/// Keeps the connection open until the client closes it or the server is dropped.
fn stall(stream: &mut TcpStream, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let begun = Instant::now();
    while !stopped.load(Ordering::SeqCst) && begun.elapsed() < LIMIT {
        match stream.read(&mut [0]) {
            Ok(0) => break,
            // the last byte of the head
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
