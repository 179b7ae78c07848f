//! Web servers: correct responses are read completely, faulty ones are an error, and no wrong byte
//! is ever accepted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::testing::{Faults, MemoryHost};
use bty::{
    CancelToken, Client, ClientOptions, Digest, DiskHost, Error, ErrorKind, Event, Image, Remedy,
};
use bty_tests::disk::faulty_disk;
use bty_tests::images::{disk_image, filter, write};
use bty_tests::nginx::Nginx;
use bty_tests::server::{Reply, Request, Server};
use bty_tests::{eventually, pattern};

mod access;
mod reading;
mod replies;
mod resuming;

const LEN: usize = 300_000;
const LIMIT: u64 = 1 << 20;

type Script = fn(&Request, &[u8]) -> Reply;
type PartScript = fn(&[u8]) -> Reply;

/// Options with short timeouts, so that no test takes long.
pub(crate) fn options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.retry_delay = Duration::from_millis(5);
    options.stall_timeout = Duration::from_secs(30);
    options.attempts = 3;
    options
}

fn read(url: &str) -> bty::Result<Vec<u8>> {
    Client::new(options()).read_small(url, LIMIT, &CancelToken::new())
}

fn read_at(url: &str, offset: u64, len: usize) -> bty::Result<Vec<u8>> {
    let source = Client::new(options()).open(url, &CancelToken::new())?;
    let mut buf = vec![0; len];
    let filled = source.read_at(&mut buf, offset, &CancelToken::new())?;
    buf.truncate(filled);
    Ok(buf)
}

/// A server that answers the first request correctly; `script` answers the others, counted from 0.
fn after_probe(
    body: Vec<u8>,
    script: impl Fn(usize, &Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let asked = Mutex::new(0);
    Server::start(move |request| {
        if request.is_probe() {
            return Reply::file(request, &body, "\"v1\"");
        }
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        script(*asked - 1, request, &body)
    })
}

#[track_caller]
fn assert_fails(outcome: bty::Result<Vec<u8>>, with: &str) -> Error {
    let error = outcome.expect_err(with);
    assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    assert!(format!("{error:#}").contains(with), "{error:?} does not say {with:?}");
    assert!(error.next_step().is_some(), "{error:?} gives no next step");
    assert!(error.path().is_some(), "{error:?} names no path");
    error
}
