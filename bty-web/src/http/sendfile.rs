//! Connections to the cache host. Responds to requests for objects with `sendfile(2)`, which copies
//! from the page cache to the socket without passing through this process. At the first other
//! request, hands the connection over to hyper and the router, with the bytes already read.
//!
//! hyper cannot send files this way, so this module parses HTTP/1 itself. `make bench-sendfile`
//! compares both ways.

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

/// Maximum size of a request head in bytes. Longer heads are left to hyper, which refuses them.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(75);

/// Time after which a connection is closed if its client receives nothing.
const STALL: Duration = Duration::from_secs(60);

/// Maximum number of bytes per `sendfile` call, which blocks while it reads from the disk.
const SEND_BYTES: usize = 1 << 20;

/// Serves a connection: objects from `cache`, everything else through `router`.
///
/// # Errors
/// The error of the connection. The connection is reset if a body was sent incompletely.
pub async fn serve(
    cache: Arc<CacheHost>,
    metrics: Arc<Metrics>,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
) -> io::Result<()> {
    ObjectConnection { stream, peer, cache, metrics, permit }.run(router).await
}

struct ObjectConnection {
    stream: TcpStream,
    peer: SocketAddr,
    cache: Arc<CacheHost>,
    metrics: Arc<Metrics>,
    permit: Permit,
}

/// The head of a request.
#[derive(Default)]
struct RequestHead {
    method: String,
    target: String,
    /// True if the client closes the connection after the response.
    is_last: bool,
    /// True for HTTP/1.0, which has no chunks.
    is_http_10: bool,
    conditions: Conditions,
    has_body: bool,
    /// Length of the head in bytes.
    len: usize,
}

impl ObjectConnection {
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
            let response = self.cache.serve(&request).await;
            let route = if path == "/blob" { "/blob" } else { "/b/{address}/{name}" };
            let seconds = begun.elapsed().as_secs_f64();
            self.metrics.request(&head.method, route, response.status, seconds);
            let (status, ms) = (response.status, seconds * 1e3);
            tracing::debug!(method = head.method, path, status, peer = %self.peer, ms, "response");
            let sent = self.send(&response, &head).await;
            // allow eviction before the client knows that it has the whole object
            drop(response);
            if let Err(error) = sent {
                // reset the connection, so that a truncated body does not look complete
                let _ = self.stream.set_zero_linger();
                return Err(error);
            }
            if head.is_last {
                return self.stream.shutdown().await;
            }
            read.drain(..head.len);
        }
    }

    /// Reads the head of a request and keeps it in `read`. Returns `None` if the client closed the
    /// connection or is too slow, or if the server closes it.
    async fn head(&mut self, read: &mut Vec<u8>) -> io::Result<Option<Box<RequestHead>>> {
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

    async fn send(&mut self, response: &BlobResponse, head: &RequestHead) -> io::Result<()> {
        // chunks or the closed connection mark the end of a body of unknown length
        let is_chunked = response.length().is_none() && !head.is_http_10;
        let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
        for (name, value) in &response.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = response.headers.iter().any(|(name, _)| *name == "content-length");
        match &response.payload {
            _ if is_chunked => text.push_str("transfer-encoding: chunked\r\n"),
            // the response to HEAD for an object of unknown length has no length
            Payload::Text(body)
                if !has_length
                    && response.status != 304
                    && !(head.method == "HEAD" && response.status == 200) =>
            {
                text.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            _ => {}
        }
        text.push_str(if head.is_last { "connection: close\r\n\r\n" } else { "\r\n" });
        match &response.payload {
            Payload::Text(body) => {
                text.push_str(if head.method == "HEAD" { "" } else { body });
                self.write(text.as_bytes()).await
            }
            Payload::Bytes(body) => {
                // send only full segments until the end
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
            let readable = body.readable(at).await.map_err(|error| {
                tracing::warn!(peer = %self.peer, %error, "an object was sent in part");
                io::Error::other(error)
            })?;
            if readable <= at {
                break;
            }
            if is_chunked {
                self.write(format!("{:x}\r\n", readable - at).as_bytes()).await?;
            }
            self.send_file(body, at, readable).await?;
            if is_chunked {
                self.write(b"\r\n").await?;
            }
            at = readable;
        }
        if is_chunked { self.write(b"0\r\n\r\n").await } else { Ok(()) }
    }

    /// Sends the bytes from `at` to `end` of the file, which already contains them.
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
                        "the file of an object has been truncated",
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
) -> io::Result<Option<Box<RequestHead>>> {
    let mut deadline = tokio::time::Instant::now() + if read.is_empty() { IDLE } else { head_time };
    loop {
        match parse(read) {
            ParsedHead::Complete(head) => return Ok(Some(head)),
            // hyper responds with the error
            ParsedHead::Invalid => return Ok(Some(Box::default())),
            ParsedHead::Incomplete => {}
        }
        let mut chunk = [0; 4096];
        match tokio::time::timeout_at(deadline, stream.read(&mut chunk)).await {
            Ok(Ok(0)) | Err(_) => return Ok(None),
            Ok(Ok(n)) => {
                // the deadline covers the whole head: further bytes do not extend it
                if read.is_empty() {
                    deadline = tokio::time::Instant::now() + head_time;
                }
                read.extend_from_slice(&chunk[..n]);
            }
            Ok(Err(error)) => return Err(error),
        }
    }
}

enum ParsedHead {
    Complete(Box<RequestHead>),
    Incomplete,
    Invalid,
}

fn parse(bytes: &[u8]) -> ParsedHead {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
            return ParsedHead::Incomplete;
        }
        _ => return ParsedHead::Invalid,
    };
    let is_http_10 = request.version == Some(0);
    let text = |name: &str| {
        let mut all = request.headers.iter();
        all.find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let connection_has = |word: &str| {
        text("connection").is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    ParsedHead::Complete(Box::new(RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        is_last: connection_has("close") || (is_http_10 && !connection_has("keep-alive")),
        is_http_10,
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
        .unwrap_or("Response")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn parsing_a_head_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let ParsedHead::Complete(head) = parse(&bytes) {
                proptest::prop_assert!(head.len <= bytes.len());
            }
        }
    }

    #[test]
    fn a_head_that_is_too_long_is_invalid() {
        assert!(matches!(parse(&[b'x'; HEAD_BYTES_MAX]), ParsedHead::Invalid));
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(matches!(parse(endless.as_bytes()), ParsedHead::Invalid));
        assert!(matches!(parse(b"GET / HTTP/1.1\r\n"), ParsedHead::Incomplete));
    }

    #[test]
    fn the_last_request_of_a_connection_is_recognized() {
        let is_last = |text: &str| match parse(text.as_bytes()) {
            ParsedHead::Complete(head) => head.is_last,
            _ => panic!("{text}"),
        };
        assert!(!is_last("GET /b/x/y HTTP/1.1\r\n\r\n") && is_last("GET /b/x/y HTTP/1.0\r\n\r\n"));
        assert!(is_last("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!is_last("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }
}
