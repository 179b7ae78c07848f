//! An object on a web server.
//!
//! One transfer is a sequence of requests. After a failure, the next request asks for the missing
//! rest. Every response is checked against what the first one said (length, range, version), and a
//! mismatch ends the transfer, so that two versions of an object are never spliced.
//!
//! A server may send the whole object instead of a range. Most transfers fail then; that of
//! [`ByteSource::range`] goes on from the start of the object.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use url::Url;

use crate::source::{ByteSource, RangeRead, RangeReader, VersionCheck};
use crate::text::percent_decode;
use crate::transport::endpoint::GetRequest;
use crate::transport::headers::{self, ContentRange, Validators};
use crate::transport::network::{self, NetworkRuntime};
use crate::transport::origin::Origin;
use crate::transport::retry::{Backoff, RequestError};
use crate::{CancelToken, Error, ErrorKind, Remedy, Result};

/// Maximum number of chunks that wait for the reader. Bounds memory: a chunk is the result of one
/// read of the socket, at most about 0.5 MiB.
const QUEUE_LEN: usize = 16;

/// The last component of the path, percent-decoded, or the host when the path has none.
pub(crate) fn name_of(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut segments| segments.rfind(|s| !s.is_empty()));
    let name = last.and_then(|last| file_name(&String::from_utf8_lossy(&percent_decode(last))));
    name.unwrap_or_else(|| url.host_str().unwrap_or_default().to_owned())
}

/// The last component of an untrusted path, without control characters.
pub(crate) fn file_name(path: &str) -> Option<String> {
    let last = path.rsplit('/').find(|part| !part.is_empty())?;
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// Properties of the object, from the first response.
#[derive(Clone, Debug)]
struct ObjectInfo {
    len_bytes: Option<u64>,
    /// The server answered a range request with a range, which also states the length.
    has_ranges: bool,
    validators: Validators,
}

/// An object that the first response has proven to exist.
pub(crate) struct HttpSource {
    runtime: Arc<NetworkRuntime>,
    origin: Arc<Origin>,
    object: ObjectInfo,
    version_check: Mutex<VersionCheck>,
    /// A later response had other validators than the first one.
    has_varied: Arc<AtomicBool>,
}

impl HttpSource {
    pub(crate) fn open(
        runtime: &Arc<NetworkRuntime>,
        origin: Origin,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let origin = Arc::new(origin);
        let probed = Arc::clone(&origin);
        let object = runtime.run(async move { probe(&probed).await }, cancel)?;
        let (version_check, has_varied) = (Mutex::new(VersionCheck::SinceOpened), Arc::default());
        Ok(Self { runtime: Arc::clone(runtime), origin, object, version_check, has_varied })
    }

    fn version_check(&self) -> std::sync::MutexGuard<'_, VersionCheck> {
        self.version_check.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts transferring `start..end` in the background. `end` is `None` when the length is
    /// unknown.
    fn transfer(&self, start: u64, end: Option<u64>, cancel: &CancelToken) -> HttpStream {
        self.start(start, end, None, cancel)
    }

    fn start(
        &self,
        start: u64,
        end: Option<u64>,
        restarts_left: Option<u32>,
        cancel: &CancelToken,
    ) -> HttpStream {
        let version = match *self.version_check() {
            VersionCheck::SinceOpened => ExpectedVersion::Known(self.object.validators.clone()),
            VersionCheck::WithinRead => ExpectedVersion::FirstSeen,
            VersionCheck::Off => ExpectedVersion::Any,
        };
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let transfer = Transfer {
            origin: Arc::clone(&self.origin),
            object: self.object.clone(),
            version,
            has_varied: Arc::clone(&self.has_varied),
            position: start,
            end,
            restarts_left,
            sender,
        };
        let task = self.runtime.spawn(transfer.run()).abort_handle();
        HttpStream {
            receiver,
            current: Bytes::new(),
            state: StreamState::Open,
            cancel: cancel.clone(),
            task,
            _runtime: Arc::clone(&self.runtime),
        }
    }

    fn no_ranges(&self) -> Error {
        self.origin
            .error("the server sends only the whole file, so it cannot be read from the middle")
            .hint("download the file first, or use a server that offers ranges")
    }
}

impl ByteSource for HttpSource {
    fn len_bytes(&self) -> Option<u64> {
        self.object.len_bytes
    }

    fn is_seekable(&self) -> bool {
        self.object.has_ranges
    }

    fn set_version_check(&self, version_check: VersionCheck) {
        *self.version_check() = version_check;
    }

    fn has_varied(&self) -> bool {
        self.has_varied.load(Ordering::Relaxed)
    }

    fn version(&self) -> Option<String> {
        self.object.validators.version(self.object.len_bytes)
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        if offset > 0 && !self.object.has_ranges {
            return Err(self.no_ranges());
        }
        Ok(Box::new(self.transfer(offset, self.object.len_bytes, cancel)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        let total = match self.object.len_bytes {
            Some(total) if self.object.has_ranges => total,
            _ => return Err(self.no_ranges()),
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

    fn range(&self, range: Range<u64>, cancel: &CancelToken) -> Result<Box<dyn RangeReader>> {
        if !self.object.has_ranges {
            return Err(self.no_ranges());
        }
        let restarts = self.origin.endpoint.http.options.attempts;
        Ok(Box::new(self.start(range.start, Some(range.end), Some(restarts), cancel)))
    }
}

/// Finds out whether the object exists, its length, and whether the server offers ranges.
///
/// Requests the first byte instead of sending `HEAD`: some servers refuse `HEAD`, signed URLs are
/// signed for `GET` only, and only a partial response proves that ranges work.
async fn probe(origin: &Origin) -> Result<ObjectInfo> {
    let mut backoff = Backoff::new(&origin.endpoint.http.options);
    loop {
        match probe_once(origin).await {
            Ok(object) => return Ok(object),
            Err(error) => backoff.wait_after(error).await?,
        }
    }
}

async fn probe_once(origin: &Origin) -> Result<ObjectInfo, RequestError> {
    let first_byte = GetRequest { range: Some((0, Some(1))), ..GetRequest::default() };
    let mut response = origin.get(&first_byte).await?;
    // some registries obey ranges only from the second request for an object on
    if response.status() == StatusCode::OK && headers::offers_ranges(response.headers()) {
        response = origin.get(&first_byte).await?;
    }
    let validators = Validators::of(response.headers());
    match (response.status(), ContentRange::of(response.headers())) {
        (
            StatusCode::PARTIAL_CONTENT,
            Some(ContentRange::Part { start: 0, end: 1, total: Some(total) }),
        ) => Ok(ObjectInfo { len_bytes: Some(total), has_ranges: true, validators }),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { total: 0 })) => {
            Ok(ObjectInfo { len_bytes: Some(0), has_ranges: false, validators })
        }
        (StatusCode::OK, _) => whole(origin, &response),
        // the answer to the range makes no sense: request the whole object instead
        _ => whole(origin, &origin.get(&GetRequest::default()).await?),
    }
}

/// Reads the headers of a response that carries the whole object.
fn whole(origin: &Origin, response: &Response) -> Result<ObjectInfo, RequestError> {
    let headers = response.headers();
    if response.status() != StatusCode::OK {
        let error = origin.error(format!(
            "the server answered {} to a request for the whole file",
            response.status()
        ));
        return Err(RequestError::Permanent(error.hint("check the address")));
    }
    let len_bytes = headers::content_length(headers);
    if len_bytes.is_none() && !headers::is_chunked(headers) && !origin.endpoint.caller_verifies() {
        return Err(RequestError::Permanent(
            origin
                .error("the server sends no length, so an interrupted transfer would look complete")
                .hint("give the digest of the file, or use another server")
                .with_remedy(Remedy::Sha256),
        ));
    }
    Ok(ObjectInfo { len_bytes, has_ranges: false, validators: Validators::of(headers) })
}

/// A message from a transfer to its reader. If the queue closes without `End` or `Failed`, the task
/// died.
enum TransferEvent {
    Data(Bytes),
    /// Further data is from the start of the object on.
    FromStart,
    End,
    Failed(Error),
}

/// The version that the responses of a transfer must have.
enum ExpectedVersion {
    Known(Validators),
    /// That of the first response of this transfer.
    FirstSeen,
    /// Any, because the caller checks a digest.
    Any,
}

/// The background half of a reader: requests, checks, and sends what arrives.
struct Transfer {
    origin: Arc<Origin>,
    object: ObjectInfo,
    version: ExpectedVersion,
    has_varied: Arc<AtomicBool>,
    position: u64,
    end: Option<u64>,
    /// How often the server may send the whole object instead of a range. `None`: the reader cannot
    /// use it.
    restarts_left: Option<u32>,
    sender: mpsc::Sender<TransferEvent>,
}

/// How one request ended.
enum RequestOutcome {
    /// The body is complete.
    Complete,
    /// The reader was dropped.
    ReaderGone,
}

impl Transfer {
    async fn run(mut self) {
        let last = match self.transfer().await {
            Ok(()) => TransferEvent::End,
            Err(error) => TransferEvent::Failed(error),
        };
        // fails only when the reader was dropped
        let _ = self.sender.send(last).await;
    }

    async fn transfer(&mut self) -> Result<()> {
        let origin = Arc::clone(&self.origin);
        let mut backoff = Backoff::after_answer(&origin.endpoint.http.options);
        while self.end.is_none_or(|end| self.position < end) {
            let before = self.position;
            match self.request().await {
                Ok(RequestOutcome::ReaderGone) => return Ok(()),
                Ok(RequestOutcome::Complete) if self.end.is_none() => return Ok(()),
                // the server may send less than was requested: request the rest
                Ok(RequestOutcome::Complete) => backoff.reset(),
                Err(error) => {
                    if self.position > before {
                        backoff.reset();
                    }
                    backoff.wait_after(self.permanent_unless_resumable(error)).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes a failure in the middle permanent when the transfer cannot be resumed.
    fn permanent_unless_resumable(&self, error: RequestError) -> RequestError {
        match error {
            RequestError::Refused(error) | RequestError::Transient { error, .. }
                if self.position > 0 && !self.object.has_ranges =>
            {
                RequestError::Permanent(
                    error
                        .context(
                            "the server does not offer ranges, so the transfer cannot be resumed",
                        )
                        .hint("start again; download the file first if that happens often"),
                )
            }
            error => error,
        }
    }

    async fn request(&mut self) -> Result<RequestOutcome, RequestError> {
        let origin = Arc::clone(&self.origin);
        if self.position == 0 && self.end == self.object.len_bytes {
            let response = origin.get(&GetRequest::default()).await?;
            let len_bytes = self.check_whole(&response)?;
            return self.copy(response, len_bytes).await;
        }
        let etag = match &self.version {
            ExpectedVersion::Known(validators) => validators.strong_etag().map(str::to_owned),
            ExpectedVersion::FirstSeen | ExpectedVersion::Any => None,
        };
        let requested_end = self.end.filter(|end| Some(*end) != self.object.len_bytes);
        let request = GetRequest {
            range: Some((self.position, requested_end)),
            if_range: etag.as_deref(),
            ..GetRequest::default()
        };
        let response = origin.get(&request).await?;
        if response.status() == StatusCode::OK && self.restarts_left.is_some() {
            return self.restart(response).await;
        }
        let len_bytes = self.check_part(&response)?;
        self.copy(response, Some(len_bytes)).await
    }

    /// Goes on with a response that has the whole object instead of a range.
    async fn restart(&mut self, response: Response) -> Result<RequestOutcome, RequestError> {
        let len_bytes = self.check_whole(&response)?;
        self.restarts_left = self.restarts_left.and_then(|left| left.checked_sub(1));
        if self.restarts_left.is_none() {
            return Err(self.range_error("the whole file, again and again"));
        }
        (self.position, self.end) = (0, self.object.len_bytes);
        if self.sender.send(TransferEvent::FromStart).await.is_err() {
            return Ok(RequestOutcome::ReaderGone);
        }
        self.copy(response, len_bytes).await
    }

    /// Checks a response with the whole object. Returns the length that its body must have.
    fn check_whole(&mut self, response: &Response) -> Result<Option<u64>, RequestError> {
        let object = whole_or_known(&self.origin, response, self.object.len_bytes)?;
        if object.len_bytes != self.object.len_bytes {
            let shown = |len: Option<u64>| {
                len.map_or("an unknown number of".to_owned(), |len| len.to_string())
            };
            let (first, now) = (shown(self.object.len_bytes), shown(object.len_bytes));
            return Err(self.changed(&format!("{first} bytes at first, now {now}")));
        }
        self.check_version(object.validators)?;
        Ok(self.object.len_bytes)
    }

    fn check_version(&mut self, validators: Validators) -> Result<(), RequestError> {
        if !self.object.validators.agrees_with(&validators) {
            self.has_varied.store(true, Ordering::Relaxed);
        }
        match &self.version {
            ExpectedVersion::Known(expected) if !expected.agrees_with(&validators) => {
                Err(self.changed("its version is different now"))
            }
            ExpectedVersion::Known(_) | ExpectedVersion::Any => Ok(()),
            ExpectedVersion::FirstSeen => {
                self.version = ExpectedVersion::Known(validators);
                Ok(())
            }
        }
    }

    /// Checks a response with a range. Returns the length that its body must have.
    fn check_part(&mut self, response: &Response) -> Result<u64, RequestError> {
        let headers = response.headers();
        self.check_version(Validators::of(headers))?;
        let range = ContentRange::of(headers);
        let (start, end, total) = match (response.status(), range) {
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
                    self.range_error(&format!("status {status} without a usable Content-Range"))
                );
            }
        };
        if total.is_some() && total != self.object.len_bytes {
            return Err(self.changed(&format!("now it has {} bytes", total.unwrap_or_default())));
        }
        if start != self.position || self.end.is_none_or(|requested| end > requested) {
            return Err(self.range_error(&format!("bytes {start} to {}", end - 1)));
        }
        if headers::content_length(headers).is_some_and(|len| len != end - start) {
            return Err(self.range_error("a body of another length than its Content-Range says"));
        }
        Ok(end - start)
    }

    fn changed(&self, how: &str) -> RequestError {
        let error = self.origin.error(format!("it changed while it was read: {how}"));
        RequestError::Permanent(
            error
                .at_offset(self.position)
                .hint(
                    "wait until the file is complete on the server, then start again; if mirrors \
                     only name it differently, give the digest of the file",
                )
                .with_remedy(Remedy::Sha256),
        )
    }

    fn range_error(&self, what: &str) -> RequestError {
        let error = self.origin.error(format!(
            "requested the bytes from {} on, but the server sent {what}",
            self.position
        ));
        RequestError::Permanent(
            error
                .at_offset(self.position)
                .hint("the server is faulty; use another one, or download the file first"),
        )
    }

    /// Sends the body to the reader. It must have `len_bytes`, if that is known.
    async fn copy(
        &mut self,
        mut response: Response,
        len_bytes: Option<u64>,
    ) -> Result<RequestOutcome, RequestError> {
        let origin = Arc::clone(&self.origin);
        let body_end = len_bytes.map(|len| self.position.saturating_add(len));
        while let Some(bytes) = origin.endpoint.chunk(&mut response, self.position).await? {
            let position = self.position + bytes.len() as u64;
            if body_end.is_some_and(|end| position > end) {
                let error = origin
                    .error("the server sends more bytes than it announced")
                    .at_offset(self.position);
                return Err(RequestError::Permanent(
                    error.hint("the server is faulty; use another one"),
                ));
            }
            if self.sender.send(TransferEvent::Data(bytes)).await.is_err() {
                return Ok(RequestOutcome::ReaderGone);
            }
            self.position = position;
        }
        match body_end {
            Some(end) if self.position < end => {
                let error = origin.error(format!(
                    "the response ended at offset {}, but {end} bytes were announced",
                    self.position
                ));
                Err(RequestError::transient(error.at_offset(self.position)))
            }
            _ => Ok(RequestOutcome::Complete),
        }
    }
}

/// As [`whole`], for a response that may lack a length because the `known` one is enough.
fn whole_or_known(
    origin: &Origin,
    response: &Response,
    known: Option<u64>,
) -> Result<ObjectInfo, RequestError> {
    let is_whole = response.status() == StatusCode::OK;
    if is_whole && known.is_some() && headers::content_length(response.headers()).is_none() {
        return Ok(ObjectInfo {
            len_bytes: known,
            has_ranges: false,
            validators: Validators::of(response.headers()),
        });
    }
    whole(origin, response)
}

/// The reading half of a transfer.
struct HttpStream {
    receiver: mpsc::Receiver<TransferEvent>,
    current: Bytes,
    state: StreamState,
    cancel: CancelToken,
    task: AbortHandle,
    /// Keeps the runtime alive.
    _runtime: Arc<NetworkRuntime>,
}

#[derive(Clone, Copy, PartialEq)]
enum StreamState {
    Open,
    Ended,
    Failed,
}

impl HttpStream {
    /// Waits for the next event, or for the rest of the last one.
    fn next_event(&mut self, limit: usize) -> Result<StreamEvent> {
        while self.current.is_empty() {
            match self.state {
                StreamState::Open => {}
                StreamState::Ended => return Ok(StreamEvent::End),
                StreamState::Failed => {
                    return Err(Error::new(
                        ErrorKind::Source,
                        "cannot read on after a failed transfer",
                    ));
                }
            }
            // an early return below leaves the stream failed
            self.state = StreamState::Failed;
            match network::wait(self.receiver.recv(), &self.cancel)? {
                Some(TransferEvent::Data(bytes)) => {
                    (self.state, self.current) = (StreamState::Open, bytes);
                }
                Some(TransferEvent::FromStart) => {
                    self.state = StreamState::Open;
                    return Ok(StreamEvent::FromStart);
                }
                Some(TransferEvent::End) => self.state = StreamState::Ended,
                Some(TransferEvent::Failed(error)) => return Err(error),
                None => {
                    return Err(Error::new(ErrorKind::Host, "a network task ended unexpectedly"));
                }
            }
        }
        Ok(StreamEvent::Bytes(self.current.split_to(limit.min(self.current.len()))))
    }

    /// The next bytes, at most `limit`; `None` at the end.
    fn next_bytes(&mut self, limit: usize) -> Result<Option<Bytes>> {
        match self.next_event(limit)? {
            StreamEvent::Bytes(bytes) => Ok(Some(bytes)),
            StreamEvent::End => Ok(None),
            StreamEvent::FromStart => {
                Err(Error::new(ErrorKind::Host, "a transfer began again unexpectedly"))
            }
        }
    }
}

/// What an [`HttpStream`] has read.
enum StreamEvent {
    Bytes(Bytes),
    FromStart,
    End,
}

impl RangeReader for HttpStream {
    fn read(&mut self, buf: &mut [u8]) -> Result<RangeRead> {
        Ok(match self.next_event(buf.len())? {
            StreamEvent::Bytes(bytes) => {
                buf[..bytes.len()].copy_from_slice(&bytes);
                RangeRead::Bytes(bytes.len())
            }
            StreamEvent::FromStart => RangeRead::FromStart,
            StreamEvent::End => RangeRead::Bytes(0),
        })
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
    fn an_object_is_named_after_the_last_component_of_its_path() {
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
}
