//! An object on a web server as an origin.
//!
//! One transfer is a chain of requests: each one after a fault asks for what is still missing, and
//! every reply is checked against what the first ones said (length, range, version). What does not
//! fit ends the transfer: two versions of an object are never spliced.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use url::Url;

use self::origin::{Ask, Fault, Origin, Retries};
use self::range::{ContentRange, Identity};
use crate::client::net::{self, Online};
use crate::source::{ByteSource, VersionRule, percent_decoded};
use crate::{CancelToken, Error, ErrorKind, Result};

pub(crate) mod origin;
mod range;

/// How many pieces may wait for the reader. Bounds memory: a piece is what one read of the socket
/// gave, at most about 0.5 MiB.
const QUEUE_LEN: usize = 16;

/// The last component of the path, decoded; the host where there is none.
pub(crate) fn name_of(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut segments| segments.rfind(|s| !s.is_empty()));
    let name = last.and_then(|last| file_name(&String::from_utf8_lossy(&percent_decoded(last))));
    name.unwrap_or_else(|| url.host_str().unwrap_or_default().to_owned())
}

/// The last component of a path that somebody else wrote: no directory, no control character.
pub(crate) fn file_name(path: &str) -> Option<String> {
    let last = path.rsplit('/').find(|part| !part.is_empty())?;
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// What the first reply said about the object.
#[derive(Clone, Debug)]
struct Facts {
    len_bytes: Option<u64>,
    /// A range was asked for and came. Implies a length.
    has_ranges: bool,
    identity: Identity,
}

/// A web object that is known to be there.
pub(crate) struct HttpInput {
    online: Arc<Online>,
    origin: Arc<Origin>,
    facts: Facts,
    rule: Mutex<VersionRule>,
    /// A reply has named another version than the first one.
    has_varied: Arc<AtomicBool>,
}

impl HttpInput {
    pub(crate) fn open(online: &Arc<Online>, origin: Origin, cancel: &CancelToken) -> Result<Self> {
        let origin = Arc::new(origin);
        let asked = Arc::clone(&origin);
        let facts = online.run(async move { probe(&asked).await }, cancel)?;
        let (rule, has_varied) = (Mutex::new(VersionRule::Opened), Arc::default());
        Ok(Self { online: Arc::clone(online), origin, facts, rule, has_varied })
    }

    fn rule(&self) -> std::sync::MutexGuard<'_, VersionRule> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to transfer `start..end` in the background; `end` is `None` when the length is
    /// unknown.
    fn transfer(&self, start: u64, end: Option<u64>, cancel: &CancelToken) -> HttpStream {
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let rule = *self.rule();
        let version = match rule {
            VersionRule::Opened => Version::Of(self.facts.identity.clone()),
            VersionRule::OneReading => Version::Next,
            VersionRule::Proven => Version::Any,
        };
        let transfer = Transfer {
            origin: Arc::clone(&self.origin),
            facts: self.facts.clone(),
            version,
            has_varied: Arc::clone(&self.has_varied),
            position: start,
            end,
            sender,
        };
        let task = self.online.spawn(transfer.run()).abort_handle();
        HttpStream {
            receiver,
            current: Bytes::new(),
            state: State::Open,
            cancel: cancel.clone(),
            task,
            _online: Arc::clone(&self.online),
        }
    }

    fn without_ranges(&self) -> Error {
        self.origin
            .error("the server sends only the whole file, so it cannot be read from the middle")
            .hint("download the file first, or use a server that offers ranges")
    }
}

impl ByteSource for HttpInput {
    fn len_bytes(&self) -> Option<u64> {
        self.facts.len_bytes
    }

    fn is_seekable(&self) -> bool {
        self.facts.has_ranges
    }

    fn set_version_rule(&self, rule: VersionRule) {
        *self.rule() = rule;
    }

    fn has_varied(&self) -> bool {
        self.has_varied.load(Ordering::Relaxed)
    }

    fn version(&self) -> Option<String> {
        self.facts.identity.version(self.facts.len_bytes)
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        if offset > 0 && !self.facts.has_ranges {
            return Err(self.without_ranges());
        }
        Ok(Box::new(self.transfer(offset, self.facts.len_bytes, cancel)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        let total = match self.facts.len_bytes {
            Some(total) if self.facts.has_ranges => total,
            _ => return Err(self.without_ranges()),
        };
        let end = offset.saturating_add(buf.len() as u64).min(total);
        let mut stream = self.transfer(offset.min(end), Some(end), cancel);
        let mut filled = 0;
        while filled < buf.len() {
            match stream.next_bytes(buf.len() - filled)? {
                None => break,
                Some(bytes) => {
                    buf[filled..filled + bytes.len()].copy_from_slice(&bytes);
                    filled += bytes.len();
                }
            }
        }
        Ok(filled)
    }
}

/// Finds out whether the object is there, how long it is, and whether ranges can be had.
///
/// Asks for the first byte instead of `HEAD`: some servers refuse `HEAD`, signed addresses are
/// signed for `GET` only, and only a reply to a range proves that ranges work.
async fn probe(origin: &Origin) -> Result<Facts> {
    let mut retries = Retries::new(&origin.http.options);
    loop {
        match probe_once(origin).await {
            Ok(facts) => return Ok(facts),
            Err(fault) => retries.after(fault).await?,
        }
    }
}

async fn probe_once(origin: &Origin) -> Result<Facts, Fault> {
    let reply = origin.get(&Ask { range: Some((0, Some(1))), ..Ask::default() }).await?;
    let identity = Identity::of(reply.headers());
    match (reply.status(), ContentRange::of(reply.headers())) {
        (
            StatusCode::PARTIAL_CONTENT,
            Some(ContentRange::Part { start: 0, end: 1, total: Some(total) }),
        ) => Ok(Facts { len_bytes: Some(total), has_ranges: true, identity }),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { total: 0 })) => {
            Ok(Facts { len_bytes: Some(0), has_ranges: false, identity })
        }
        (StatusCode::OK, _) => whole(origin, &reply),
        // its ranges are not to be trusted
        _ => whole(origin, &origin.get(&Ask::default()).await?),
    }
}

/// Reads the headers of a reply that has the whole object.
fn whole(origin: &Origin, reply: &Response) -> Result<Facts, Fault> {
    let headers = reply.headers();
    if reply.status() != StatusCode::OK {
        let error = origin.error(format!(
            "the server answered {} to a request for the whole file",
            reply.status()
        ));
        return Err(Fault::Final(error.hint("check the address")));
    }
    let len_bytes = range::content_length(headers);
    if len_bytes.is_none() && !range::is_chunked(headers) && !origin.is_proven() {
        return Err(Fault::Final(
            origin
                .error(
                    "the server neither tells the length nor marks the end, so a broken transfer would look complete",
                )
                .hint("give the digest of the file (--sha256), or use another server"),
        ));
    }
    Ok(Facts { len_bytes, has_ranges: false, identity: Identity::of(headers) })
}

/// What a transfer hands to its reader. A queue that closes before the end was seen is a fault.
enum Piece {
    Data(Bytes),
    End,
    Failed(Error),
}

/// The version that the replies of a transfer must be of.
enum Version {
    /// This one.
    Of(Identity),
    /// That of the first reply.
    Next,
    /// Whatever the server says: a digest will tell.
    Any,
}

/// The background half of a reader.
struct Transfer {
    origin: Arc<Origin>,
    facts: Facts,
    version: Version,
    has_varied: Arc<AtomicBool>,
    position: u64,
    end: Option<u64>,
    sender: mpsc::Sender<Piece>,
}

/// How one request ended.
enum Done {
    /// Its body is complete.
    Body,
    /// Nobody reads any more.
    Unread,
}

impl Transfer {
    async fn run(mut self) {
        let last = match self.transfer().await {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // fails only when nobody reads any more
        let _ = self.sender.send(last).await;
    }

    async fn transfer(&mut self) -> Result<()> {
        let origin = Arc::clone(&self.origin);
        let mut retries = Retries::new(&origin.http.options);
        while self.end.is_none_or(|end| self.position < end) {
            let before = self.position;
            match self.request().await {
                Ok(Done::Unread) => return Ok(()),
                Ok(Done::Body) if self.end.is_none() => return Ok(()),
                // the server sent less than was asked for, as it may: ask for the rest
                Ok(Done::Body) => retries.progress(),
                Err(fault) => {
                    if self.position > before {
                        retries.progress();
                    }
                    retries.after(self.judged(fault)).await?;
                }
            }
        }
        Ok(())
    }

    /// A fault in the middle is final where it cannot be resumed.
    fn judged(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Passing { error, .. } if self.position > 0 && !self.facts.has_ranges => {
                Fault::Final(
                    error
                        .context(
                            "the server does not offer ranges, so the transfer cannot be resumed",
                        )
                        .hint("start again; download the file first if that happens often"),
                )
            }
            fault => fault,
        }
    }

    async fn request(&mut self) -> Result<Done, Fault> {
        let origin = Arc::clone(&self.origin);
        if self.position == 0 && self.end == self.facts.len_bytes {
            let reply = origin.get(&Ask::default()).await?;
            let len_bytes = self.check_whole(&reply)?;
            return self.copy(reply, len_bytes).await;
        }
        let tag = match &self.version {
            Version::Of(identity) => identity.strong().map(str::to_owned),
            Version::Next | Version::Any => None,
        };
        let asked_end = self.end.filter(|end| Some(*end) != self.facts.len_bytes);
        let ask = Ask {
            range: Some((self.position, asked_end)),
            if_range: tag.as_deref(),
            ..Ask::default()
        };
        let reply = origin.get(&ask).await?;
        let len_bytes = self.check_part(&reply)?;
        self.copy(reply, Some(len_bytes)).await
    }

    /// Checks a reply from the start; returns how long its body has to be.
    fn check_whole(&mut self, reply: &Response) -> Result<Option<u64>, Fault> {
        let facts = whole_or_known(&self.origin, reply, self.facts.len_bytes)?;
        if facts.len_bytes != self.facts.len_bytes {
            let shown = |len: Option<u64>| {
                len.map_or("an unknown number of".to_owned(), |len| len.to_string())
            };
            let (first, now) = (shown(self.facts.len_bytes), shown(facts.len_bytes));
            return Err(self.changed(&format!("{first} bytes at first, now {now}")));
        }
        self.check_version(facts.identity)?;
        Ok(self.facts.len_bytes)
    }

    /// Checks the version of a reply.
    fn check_version(&mut self, identity: Identity) -> Result<(), Fault> {
        if !self.facts.identity.agrees_with(&identity) {
            self.has_varied.store(true, Ordering::Relaxed);
        }
        match &self.version {
            Version::Of(wanted) if !wanted.agrees_with(&identity) => {
                Err(self.changed("its version is another one now"))
            }
            Version::Of(_) | Version::Any => Ok(()),
            Version::Next => {
                self.version = Version::Of(identity);
                Ok(())
            }
        }
    }

    /// Checks a reply from the middle; returns how long its body has to be.
    fn check_part(&mut self, reply: &Response) -> Result<u64, Fault> {
        let headers = reply.headers();
        self.check_version(Identity::of(headers))?;
        let range = ContentRange::of(headers);
        let (start, end, total) = match (reply.status(), range) {
            (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { start, end, total })) => {
                (start, end, total)
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { total })) => {
                return Err(self.changed(&format!("now it has {total} bytes")));
            }
            (StatusCode::OK, _) => {
                return Err(self.changed("the server sent it from the start instead of the rest"));
            }
            (status, _) => {
                return Err(
                    self.misranged(&format!("status {status} without a usable Content-Range"))
                );
            }
        };
        if total.is_some() && total != self.facts.len_bytes {
            return Err(self.changed(&format!("now it has {} bytes", total.unwrap_or_default())));
        }
        if start != self.position || self.end.is_none_or(|wanted| end > wanted) {
            return Err(self.misranged(&format!("bytes {start} to {}", end - 1)));
        }
        if range::content_length(headers).is_some_and(|len| len != end - start) {
            return Err(self.misranged("a body of another length than its Content-Range says"));
        }
        Ok(end - start)
    }

    fn changed(&self, how: &str) -> Fault {
        let error = self.origin.error(format!("it changed while it was read: {how}"));
        Fault::Final(
            error.at_offset(self.position).hint(
                "wait until the file is complete on the server, then start again; with the digest of the file (--sha256) another version alone is no reason",
            ),
        )
    }

    fn misranged(&self, what: &str) -> Fault {
        let error = self.origin.error(format!(
            "asked for the bytes from {} on, the server sent {what}",
            self.position
        ));
        Fault::Final(
            error
                .at_offset(self.position)
                .hint("the server is faulty; use another one, or download the file first"),
        )
    }

    /// Hands the body over; it has to have `len_bytes`, where that is known.
    async fn copy(&mut self, mut reply: Response, len_bytes: Option<u64>) -> Result<Done, Fault> {
        let origin = Arc::clone(&self.origin);
        let body_end = len_bytes.map(|len| self.position.saturating_add(len));
        while let Some(bytes) = origin.chunk(&mut reply, self.position).await? {
            let position = self.position + bytes.len() as u64;
            if body_end.is_some_and(|end| position > end) {
                let error = origin
                    .error("the server sends more bytes than it promised")
                    .at_offset(self.position);
                return Err(Fault::Final(error.hint("the server is faulty; use another one")));
            }
            if self.sender.send(Piece::Data(bytes)).await.is_err() {
                return Ok(Done::Unread);
            }
            self.position = position;
        }
        match body_end {
            Some(end) if self.position < end => {
                let error = origin.error(format!(
                    "the body ended at offset {}, {end} bytes were promised",
                    self.position
                ));
                Err(Fault::passing(error.at_offset(self.position)))
            }
            _ => Ok(Done::Body),
        }
    }
}

/// As [`whole`], but the length may be known already.
fn whole_or_known(origin: &Origin, reply: &Response, known: Option<u64>) -> Result<Facts, Fault> {
    let is_whole = reply.status() == StatusCode::OK;
    if is_whole && known.is_some() && range::content_length(reply.headers()).is_none() {
        return Ok(Facts {
            len_bytes: known,
            has_ranges: false,
            identity: Identity::of(reply.headers()),
        });
    }
    whole(origin, reply)
}

/// The reader's half of a transfer.
struct HttpStream {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    state: State,
    cancel: CancelToken,
    task: AbortHandle,
    /// Keeps the runtime alive.
    _online: Arc<Online>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Ended,
    Failed,
}

impl HttpStream {
    /// The next bytes, at most `limit` of them; `None` at the end.
    fn next_bytes(&mut self, limit: usize) -> Result<Option<Bytes>> {
        while self.current.is_empty() {
            match self.state {
                State::Open => {}
                State::Ended => return Ok(None),
                State::Failed => {
                    return Err(Error::new(
                        ErrorKind::Source,
                        "reading on after the transfer failed",
                    ));
                }
            }
            // whatever ends this call early leaves it failed
            self.state = State::Failed;
            match net::wait(self.receiver.recv(), &self.cancel)? {
                Some(Piece::Data(bytes)) => (self.state, self.current) = (State::Open, bytes),
                Some(Piece::End) => self.state = State::Ended,
                Some(Piece::Failed(error)) => return Err(error),
                None => {
                    return Err(Error::new(ErrorKind::Host, "a network task ended unexpectedly"));
                }
            }
        }
        Ok(Some(self.current.split_to(limit.min(self.current.len()))))
    }
}

impl Read for HttpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let bytes = self.next_bytes(buf.len())?.unwrap_or_default();
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Drop for HttpStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_an_address_after_its_last_component() {
        for (url, name) in [
            ("http://h/images/debian-13.img.zst", "debian-13.img.zst"),
            ("http://h/a%20b%2B.img?sig=x/y", "a b+.img"),
            ("http://h/dir/", "dir"),
            ("http://h", "h"),
            ("http://h/%zz%4", "%zz%4"),
            ("http://h/%2e%2e%2f%2e%2e%2fetc%2fx%1b%5b2J", "x[2J"),
            ("http://h/a%2f..", "h"),
        ] {
            assert_eq!(name_of(&url.parse().unwrap()), name);
        }
    }

    #[test]
    fn never_shows_the_password_of_an_address() {
        assert_eq!(origin::shown(&"https://user:secret@h/a?b".parse().unwrap()), "https://h/a?b");
    }
}
