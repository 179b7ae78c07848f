//! Connections of clients. Requests for objects are answered here, by `sendfile`: the bytes go from
//! the page cache to the socket. A connection that asks for anything else is handed to the router,
//! with what has been read of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use rustix::net::sockopt::set_tcp_cork;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use crate::cache::CacheHost;
use crate::cache::response::{BlobBody, BlobRequest, BlobResponse, Payload};
use crate::conditional::Conditions;
use crate::http::connections::Permit;
use crate::services::metrics::Metrics;

/// A longer head is refused.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// A client that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(75);

/// A client that takes nothing for so long is gone.
const STALL: Duration = Duration::from_secs(60);

/// Bytes of one `sendfile`: it blocks while it reads from the disk.
const SEND_BYTES: usize = 1 << 20;

/// Serves a client of `cache`, and what is no object through `router`.
///
/// # Errors
/// Those of the connection.
pub async fn serve(
    cache: Arc<CacheHost>,
    metrics: Arc<Metrics>,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
) -> io::Result<()> {
    Connection { stream, peer, cache, metrics, permit }.run(router).await
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    cache: Arc<CacheHost>,
    metrics: Arc<Metrics>,
    permit: Permit,
}

/// A request whose head has come.
#[derive(Default)]
struct Head {
    method: String,
    target: String,
    is_last: bool,
    is_old: bool,
    conditions: Conditions,
    has_body: bool,
    len: usize,
}

impl Connection {
    async fn run(mut self, router: Router) -> io::Result<()> {
        let mut read = Vec::new();
        loop {
            let Some(head) = self.head(&mut read).await? else { return Ok(()) };
            let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
            let is_plain = matches!(head.method.as_str(), "GET" | "HEAD") && !head.has_body;
            if !is_plain || !BlobRequest::is_for(path) {
                return self.hand_over(read, router).await;
            }
            let _work = self.permit.work();
            let begun = std::time::Instant::now();
            let request = BlobRequest {
                path,
                query,
                is_head: head.method == "HEAD",
                conditions: head.conditions.clone(),
            };
            let answer = self.cache.serve(&request).await;
            let route = if path == "/blob" { "/blob" } else { "/b/{address}/{name}" };
            let seconds = begun.elapsed().as_secs_f64();
            self.metrics.request(&head.method, route, answer.status, seconds);
            tracing::debug!(method = head.method, path, status = answer.status, peer = %self.peer, ms = seconds * 1e3, "answered");
            let sent = self.send(&answer, &head).await;
            // the object may make room for others, before the client knows that it has all
            drop(answer);
            if let Err(error) = sent {
                // a body that ends early must not look whole: the connection is reset
                let _ = self.stream.set_zero_linger();
                return Err(error);
            }
            if head.is_last {
                return self.stream.shutdown().await;
            }
            read.drain(..head.len);
        }
    }

    /// Reads the head of a request, which stays in `read`. None when the client has gone, is too
    /// slow, or its connection is to end.
    async fn head(&mut self, read: &mut Vec<u8>) -> io::Result<Option<Box<Head>>> {
        let Self { stream, permit, .. } = self;
        tokio::select! {
            head = read_head(stream, read, permit.head_time()) => head,
            () = permit.end() => Ok(None),
        }
    }

    async fn hand_over(self, read: Vec<u8>, router: Router) -> io::Result<()> {
        let (reader, writer) = self.stream.into_split();
        let stream = tokio::io::join(io::Cursor::new(read).chain(reader), writer);
        self.permit.serve_http(stream, self.peer, router).await
    }

    async fn send(&mut self, answer: &BlobResponse, head: &Head) -> io::Result<()> {
        // the end of a body whose length nobody knows is marked by chunks, or by the end of the
        // connection
        let is_chunked = answer.length().is_none() && !head.is_old;
        let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let is_known = answer.headers.iter().any(|(name, _)| *name == "content-length");
        match &answer.payload {
            _ if is_chunked => text.push_str("transfer-encoding: chunked\r\n"),
            // of an object whose length nobody knows yet, HEAD tells none
            Payload::Text(body)
                if !is_known
                    && answer.status != 304
                    && !(head.method == "HEAD" && answer.status == 200) =>
            {
                text.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            _ => {}
        }
        text.push_str(if head.is_last { "connection: close\r\n\r\n" } else { "\r\n" });
        match &answer.payload {
            Payload::Text(body) => {
                text.push_str(if head.method == "HEAD" { "" } else { body });
                self.write(text.as_bytes()).await
            }
            Payload::Bytes(body) => {
                // whole segments, until the end
                set_tcp_cork(&self.stream, true)?;
                self.write(text.as_bytes()).await?;
                self.send_body(body, is_chunked).await?;
                Ok(set_tcp_cork(&self.stream, false)?)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(STALL, self.stream.write_all(bytes)).await?
    }

    async fn send_body(&mut self, body: &BlobBody, is_chunked: bool) -> io::Result<()> {
        let mut at = body.start;
        while body.end.is_none_or(|end| at < end) {
            let there = body.readable(at).await.map_err(|error| {
                tracing::warn!(peer = %self.peer, %error, "a client did not get all of an object");
                io::Error::other(error)
            })?;
            if there <= at {
                break;
            }
            if is_chunked {
                self.write(format!("{:x}\r\n", there - at).as_bytes()).await?;
            }
            self.send_file(body, at, there).await?;
            if is_chunked {
                self.write(b"\r\n").await?;
            }
            at = there;
        }
        if is_chunked { self.write(b"0\r\n\r\n").await } else { Ok(()) }
    }

    /// Sends the bytes from `at` to `end`, which are in the file.
    async fn send_file(&self, body: &BlobBody, mut at: u64, end: u64) -> io::Result<()> {
        while at < end {
            tokio::time::timeout(STALL, self.stream.writable()).await??;
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(SEND_BYTES);
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = at;
                rustix::fs::sendfile(self.stream.as_fd(), body.file.as_fd(), Some(&mut offset), len)
                    .map_err(io::Error::from)
            });
            match sent {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the file of an object is shorter than it was",
                    ));
                }
                Ok(n) => {
                    at += n as u64;
                    self.cache.counters().sent_bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

async fn read_head(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    head_time: Duration,
) -> io::Result<Option<Box<Head>>> {
    let mut deadline = tokio::time::Instant::now() + if read.is_empty() { IDLE } else { head_time };
    loop {
        match parse(read) {
            Parsed::Head(head) => return Ok(Some(head)),
            // the router says what is wrong with it
            Parsed::Wrong => return Ok(Some(Box::default())),
            Parsed::Short => {}
        }
        let mut chunk = [0; 4096];
        match tokio::time::timeout_at(deadline, stream.read(&mut chunk)).await {
            Ok(Ok(0)) | Err(_) => return Ok(None),
            Ok(Ok(n)) => {
                // the whole head has one deadline, which no further byte moves
                if read.is_empty() {
                    deadline = tokio::time::Instant::now() + head_time;
                }
                read.extend_from_slice(&chunk[..n]);
            }
            Ok(Err(error)) => return Err(error),
        }
    }
}

enum Parsed {
    Head(Box<Head>),
    Short,
    Wrong,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parsed::Short,
        _ => return Parsed::Wrong,
    };
    let is_old = request.version == Some(0);
    let text = |name: &str| {
        let mut all = request.headers.iter();
        all.find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let says = |word: &str| {
        text("connection").is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    Parsed::Head(Box::new(Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        is_last: says("close") || (is_old && !says("keep-alive")),
        is_old,
        conditions: Conditions::read(
            request.headers.iter().map(|header| (header.name, header.value)),
        ),
        has_body: text("transfer-encoding").is_some()
            || text("content-length").is_some_and(|length| length.trim() != "0"),
        len,
    }))
}

fn reason(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_a_head_fail_badly(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Parsed::Head(head) = parse(&bytes) {
                proptest::prop_assert!(head.len <= bytes.len());
            }
        }
    }

    #[test]
    fn a_head_that_never_ends_is_wrong() {
        assert!(matches!(parse(&[b'x'; HEAD_BYTES_MAX]), Parsed::Wrong));
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(matches!(parse(endless.as_bytes()), Parsed::Wrong));
        assert!(matches!(parse(b"GET / HTTP/1.1\r\n"), Parsed::Short));
    }

    #[test]
    fn a_request_says_whether_it_is_the_last_one() {
        let is_last = |text: &str| match parse(text.as_bytes()) {
            Parsed::Head(head) => head.is_last,
            _ => panic!("{text}"),
        };
        assert!(!is_last("GET /b/x/y HTTP/1.1\r\n\r\n") && is_last("GET /b/x/y HTTP/1.0\r\n\r\n"));
        assert!(is_last("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!is_last("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }
}
