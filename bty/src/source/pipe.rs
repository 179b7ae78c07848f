//! A pipe: stdin, a named pipe, what a shell passes as `<(…)`, or a reader of the program.
//!
//! A pipe delivers its bytes once. The first [`KEPT_BYTES`] are kept until more have been read, so
//! that the image can be examined before it is read from its start.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind, Remedy, Result};

/// Enough to decode the first MiB of an image in every format, including what decoders read ahead.
const KEPT_BYTES: usize = 16 << 20;

/// Maximum time of one wait for bytes, after which a cancel is noticed.
const POLL_STEP: Duration = Duration::from_millis(100);

/// Bytes that can be read once.
pub(crate) struct PipeSource {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    state: Mutex<PipeState>,
}

struct PipeState {
    input: PipeInput,
    /// The first bytes, while they may be read again.
    kept: Vec<u8>,
    /// Number of bytes read from the pipe.
    position: u64,
    has_ended: bool,
}

/// What delivers the bytes.
enum PipeInput {
    /// A file whose reads do not block.
    NonBlocking(File),
    /// A file that is shared with other processes, so that it cannot be set to non-blocking.
    Blocking(File),
    /// A reader of the program. A cancel is noticed only between its reads.
    Reader(Box<dyn Read + Send>),
}

impl PipeSource {
    /// Opens the pipe at `path`. Does not wait for a writer, because no cancel could end that.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when the pipe cannot be opened or has no writer.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Source, format!("opening the pipe {shown}"))
                .because(e)
                .with_path(&shown)
        };
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
        let source = Self::new(PipeInput::NonBlocking(file), &shown);
        if source.shared.lock().read(&mut vec![0; 64 << 10]).map_err(failed)? == Some(0) {
            return Err(Error::new(ErrorKind::Source, format!("the pipe {shown} has no writer"))
                .with_path(&shown)
                .hint("start the writer first, or pipe the image into stdin")
                .with_remedy(Remedy::PipeImage));
        }
        Ok(source)
    }

    /// Reads `file`, whose reads may block.
    pub(super) fn of_file(file: File, name: &str) -> Self {
        Self::new(PipeInput::Blocking(file), name)
    }

    /// A pipe over the program's own `reader`; messages call it `name`.
    pub(super) fn of_reader(reader: impl Read + Send + 'static, name: &str) -> Self {
        Self::new(PipeInput::Reader(Box::new(reader)), name)
    }

    fn new(input: PipeInput, name: &str) -> Self {
        let state = PipeState { input, kept: Vec::new(), position: 0, has_ended: false };
        Self { shared: Arc::new(Shared { name: name.to_owned(), state: Mutex::new(state) }) }
    }
}

impl ByteSource for PipeSource {
    fn len_bytes(&self) -> Option<u64> {
        None
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        if offset != 0 || !self.shared.lock().has_start() {
            return Err(self.shared.consumed_error());
        }
        Ok(Box::new(PipeStream {
            shared: Arc::clone(&self.shared),
            position: 0,
            cancel: cancel.clone(),
        }))
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64, _cancel: &CancelToken) -> Result<usize> {
        Err(self.shared.consumed_error())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().expect("no holder panics")
    }

    fn consumed_error(&self) -> Error {
        Error::new(
            ErrorKind::Source,
            format!("{} can be read only once, from its start", self.name),
        )
        .with_path(&self.name)
        .hint("save the image to a file first, then name the file")
    }

    fn read_error(&self, position: u64, error: io::Error) -> Error {
        Error::from_io(ErrorKind::Source, format!("reading {}", self.name), error)
            .with_path(&self.name)
            .at_offset(position)
    }
}

impl PipeState {
    /// True while all bytes that were read are kept.
    fn has_start(&self) -> bool {
        self.position == self.kept.len() as u64
    }

    /// Reads once into `buf`; `None` when no bytes arrived within [`POLL_STEP`].
    fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if self.has_ended {
            return Ok(Some(0));
        }
        let read = match &mut self.input {
            PipeInput::Reader(reader) => reader.read(buf),
            PipeInput::Blocking(file) if !wait_for_bytes(file)? => return Ok(None),
            // not after a poll: poll does not report the end of a pipe whose writer had left
            // before it was opened
            PipeInput::NonBlocking(file) | PipeInput::Blocking(file) => file.read(buf),
        };
        match (read, &self.input) {
            (Ok(n), _) => {
                self.keep(&buf[..n]);
                Ok(Some(n))
            }
            (Err(e), PipeInput::NonBlocking(file)) if e.kind() == io::ErrorKind::WouldBlock => {
                wait_for_bytes(file).map(|_| None)
            }
            (Err(e), _) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
            (Err(e), _) => Err(e),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.has_start() && self.kept.len() + bytes.len() <= KEPT_BYTES {
            self.kept.extend_from_slice(bytes);
        } else {
            self.kept = Vec::new();
        }
        self.position += bytes.len() as u64;
        self.has_ended = bytes.is_empty();
    }
}

/// True when a read will not block, because bytes or the end are available.
fn wait_for_bytes(file: &File) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(POLL_STEP.subsec_nanos()) };
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(e) => return Err(e.into()),
    }
    Ok(!fds[0].revents().is_empty())
}

struct PipeStream {
    shared: Arc<Shared>,
    position: u64,
    cancel: CancelToken,
}

impl PipeStream {
    /// Reads once; `None` when no bytes have arrived yet.
    fn try_read(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        let mut state = self.shared.lock();
        let at = usize::try_from(self.position).unwrap_or(usize::MAX);
        if let Some(kept) = state.kept.get(at..).filter(|kept| !kept.is_empty()) {
            let n = kept.len().min(buf.len());
            buf[..n].copy_from_slice(&kept[..n]);
            return Ok(Some(n));
        }
        if self.position != state.position {
            return Err(self.shared.consumed_error());
        }
        state.read(buf).map_err(|e| self.shared.read_error(self.position, e))
    }
}

impl Read for PipeStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.cancel.check()?;
            if buf.is_empty() {
                return Ok(0);
            }
            if let Some(n) = self.try_read(buf)? {
                self.position += n as u64;
                return Ok(n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn pipe() -> (PipeSource, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        (PipeSource::of_file(File::from(std::os::fd::OwnedFd::from(reader)), "pipe"), writer)
    }

    fn read(input: &PipeSource, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        input.stream(0, &CancelToken::new()).unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_start_can_be_read_again_before_the_whole() {
        let (input, mut writer) = pipe();
        let all: Vec<u8> = (0..3 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
        let sent = all.clone();
        let sender = thread::spawn(move || writer.write_all(&sent).unwrap());
        assert!(read(&input, 1 << 20) == all[..1 << 20]);
        assert!(read(&input, 2 << 20) == all[..2 << 20]);
        let mut found = Vec::new();
        input.stream(0, &CancelToken::new()).unwrap().read_to_end(&mut found).unwrap();
        assert!(found == all);
        sender.join().unwrap();
    }

    #[test]
    fn more_bytes_than_are_kept_can_be_read_only_once() {
        let (input, mut writer) = pipe();
        let sender = thread::spawn(move || {
            let _ = writer.write_all(&vec![7; KEPT_BYTES + (2 << 20)]);
        });
        read(&input, KEPT_BYTES + (1 << 20));
        assert!(input.shared.lock().kept.is_empty(), "bytes are kept only while they are needed");
        let error = input.stream(0, &CancelToken::new()).err().unwrap();
        assert!(error.to_string().contains("only once"), "{error}");
        assert!(error.next_step().is_some_and(|step| step.contains("save the image")));
        drop(input);
        sender.join().unwrap();
    }

    #[test]
    fn a_read_waits_for_a_slow_writer_until_cancelled() {
        let (input, mut writer) = pipe();
        let cancel = CancelToken::new();
        let mut stream = input.stream(0, &cancel).unwrap();
        let sender = thread::spawn(move || {
            thread::sleep(3 * POLL_STEP);
            writer.write_all(b"late").unwrap();
            writer
        });
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"late");
        let writer = sender.join().unwrap();
        let started = Instant::now();
        cancel.cancel();
        assert!(Error::unwrap_io(stream.read(&mut bytes).unwrap_err()).unwrap().is_cancelled());
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(writer);
    }

    #[test]
    fn a_named_pipe_needs_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(PipeSource::open(&path).err().unwrap().to_string().contains("has no writer"));
        // open for reading and writing: never waits
        let mut both = File::options().read(true).write(true).open(&path).unwrap();
        both.write_all(b"disk").unwrap();
        let input = PipeSource::open(&path).unwrap();
        assert_eq!(read(&input, 4), b"disk");
        drop(both);
        let mut rest = Vec::new();
        input.stream(0, &CancelToken::new()).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"disk");
    }
}
