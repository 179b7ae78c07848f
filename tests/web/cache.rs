//! The cache host: real and faulty origins, real clients, and faults of the network.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bty::Digest;
use bty_tests::command::tool;
use bty_tests::loops::Mount;
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Request, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually, pattern};
use serde_json::{Value, json};

use crate::sources::oci::{IMAGE, layer, push};

mod control;
mod faults;
mod packed;
mod serving;
mod space;

const LEN: usize = 300_000;
const MIB: usize = 1 << 20;

/// The path of the object at URL `origin` on a cache host.
pub(super) fn path(origin: &str) -> String {
    format!("/b/{}/image", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(origin))
}

/// An open response, which a test can read slowly or not at all.
struct Open(TcpStream);

impl Open {
    fn get(web: &Web, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        Self(stream)
    }

    /// Reads the head and at least `len` bytes of the body.
    fn read(&mut self, len: usize) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 65536];
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
                && bytes.len() >= end + 4 + len
            {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                return (head, bytes[end + 4..].to_vec());
            }
            match self.0.read(&mut chunk) {
                Ok(n @ 1..) => bytes.extend_from_slice(&chunk[..n]),
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
    }

    /// Reads the rest. Returns it, and true unless the connection was reset.
    fn rest(mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let is_complete = self.0.read_to_end(&mut bytes).is_ok();
        (bytes, is_complete)
    }
}

/// Waits until `is` returns true for the state of the cache, and returns the state. `what` is the
/// predicate for the message, such as "keeps the object".
pub(super) fn wait(web: &Web, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(LIMIT, &format!("the cache {what}"), || {
        let state = web.get("/cache").expect(200).json();
        if is(&state) {
            return Some(state);
        }
        if last != state {
            eprintln!("{state:#}");
            last = state;
        }
        None
    })
}

/// Waits until no fetch is in progress.
fn wait_idle(web: &Web) -> Value {
    wait(web, "fetches nothing any more", |state| state["fills"].as_array().unwrap().is_empty())
}

/// Restarts the host, with the time of the last query of each origin moved back by `by`.
pub(super) fn age(web: &mut Web, by: Duration) {
    web.end();
    let changes = ["cache_objects", "cache_tags"]
        .map(|table| format!("UPDATE {table} SET checked_at = checked_at - {};", by.as_millis()));
    let database = web.state().join("state.db");
    tool(&["sqlite3", "-bail", database.to_str().unwrap(), &changes.concat()]);
    web.start_again();
}

/// Requests for more than the first byte.
fn transfers(origin: &Server) -> Vec<Request> {
    origin.requests().into_iter().filter(|request| !request.is_probe()).collect()
}

/// An origin that stops in the middle of its object until [`Gate::open`] is called.
struct Gate {
    origin: Server,
    opened: Arc<(Mutex<bool>, Condvar)>,
}

/// While the gate is shut, the first response breaks off at `at`, and requests for the rest wait.
fn gate(body: Vec<u8>, at: usize) -> Gate {
    let opened: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let shared = Arc::clone(&opened);
    let origin = Server::start(move |request| {
        let reply = Reply::file(request, &body, "\"1\"");
        let (is_open, is_changed) = &*shared;
        let is_open = is_open.lock().unwrap();
        if request.is_probe() || *is_open {
            return reply;
        }
        match request.range(body.len()) {
            None => reply.close_after(at),
            // a request that resumes has to wait
            Some(_) => {
                let _ = is_changed.wait_timeout_while(is_open, LIMIT, |is_open| !*is_open).unwrap();
                reply
            }
        }
    });
    Gate { origin, opened }
}

impl Gate {
    fn open(&self) {
        *self.opened.0.lock().unwrap() = true;
        self.opened.1.notify_all();
    }
}

/// True if a client can tell that the response is incomplete.
fn is_broken(web: &Web, path: &str) -> bool {
    let mut open = Open::get(web, path, "");
    let mut bytes = Vec::new();
    let is_reset = open.0.read_to_end(&mut bytes).is_err();
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).to_lowercase();
    let promised =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(0, |end| bytes.len() - end - 4);
    let is_cut = head.contains("transfer-encoding: chunked") && !bytes.ends_with(b"\r\n0\r\n\r\n");
    head.starts_with("http/1.1 502")
        || is_reset
        || is_cut
        || promised.is_some_and(|promised| body < promised)
}
