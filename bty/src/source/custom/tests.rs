use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Bytes whose readers and versions a test decides.
struct Scripted {
    bytes: Vec<u8>,
    is_seekable: bool,
    /// Each stream fails after this many bytes, with this kind.
    fails_after: Option<(usize, io::ErrorKind)>,
    /// Offsets of all streams.
    offsets: Arc<Mutex<Vec<u64>>>,
    versions: Mutex<Vec<&'static str>>,
    claimed_bytes: Option<u64>,
}

impl Scripted {
    fn new(len: usize) -> Self {
        Self {
            bytes: (0..len).map(|i| i.to_le_bytes()[0]).collect(),
            is_seekable: true,
            fails_after: None,
            offsets: Arc::default(),
            versions: Mutex::default(),
            claimed_bytes: Some(len as u64),
        }
    }
}

struct FailingReader {
    rest: io::Cursor<Vec<u8>>,
    fails_after: Option<(usize, io::ErrorKind)>,
}

impl Read for FailingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some((left, kind)) = self.fails_after else { return self.rest.read(buf) };
        if left == 0 {
            return Err(kind.into());
        }
        let most = left.min(buf.len());
        let n = self.rest.read(&mut buf[..most])?;
        self.fails_after = Some((left - n, kind));
        Ok(n)
    }
}

impl CustomSource for Scripted {
    fn len_bytes(&self) -> Option<u64> {
        self.claimed_bytes
    }

    fn stream(&self, offset: u64, _: &CancelToken) -> io::Result<Box<dyn Read + Send>> {
        self.offsets.lock().unwrap().push(offset);
        let rest = self.bytes[usize::try_from(offset).unwrap()..].to_vec();
        Ok(Box::new(FailingReader { rest: io::Cursor::new(rest), fails_after: self.fails_after }))
    }

    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn version(&self) -> io::Result<Option<String>> {
        Ok(self.versions.lock().unwrap().pop().map(str::to_owned))
    }
}

fn read_all(source: &Source) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = source.reader(&CancelToken::new())?;
    reader.read_to_end(&mut bytes).map_err(|e| Error::from_io(ErrorKind::Host, "reading", e))?;
    Ok(bytes)
}

#[test]
fn a_seekable_source_resumes_where_it_failed() {
    let mut custom = Scripted::new(1000);
    custom.fails_after = Some((400, io::ErrorKind::ConnectionReset));
    let (bytes, offsets) = (custom.bytes.clone(), Arc::clone(&custom.offsets));
    let source = open("s3://bucket/a.img", custom).unwrap();
    assert_eq!(read_all(&source).unwrap(), bytes);
    assert_eq!(*offsets.lock().unwrap(), [0, 400, 800]);
    assert_eq!(source.name(), "a.img");
    assert_eq!(source.location().to_string(), "s3://bucket/a.img");
}

#[test]
fn a_source_without_random_access_is_not_resumed() {
    let mut custom = Scripted::new(1000);
    custom.is_seekable = false;
    custom.fails_after = Some((400, io::ErrorKind::ConnectionReset));
    let source = open("pipe", custom).unwrap();
    let error = read_all(&source).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Source, Some(400)));
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
    let error = source.read_at(&mut [0; 8], 8, &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains("only from its start"), "{error}");
}

#[test]
fn a_source_that_always_fails_is_given_up() {
    for (kind, attempts) in [(io::ErrorKind::TimedOut, 3), (io::ErrorKind::NotFound, 1)] {
        let mut custom = Scripted::new(1000);
        custom.fails_after = Some((0, kind));
        let offsets = Arc::clone(&custom.offsets);
        let error = read_all(&open("x", custom).unwrap()).unwrap_err();
        assert_eq!(error.io_kind(), Some(kind));
        assert_eq!(offsets.lock().unwrap().len(), attempts, "{kind}");
    }
}

#[test]
fn a_length_that_differs_from_the_claim_is_an_error() {
    for (claimed, words) in [(1001, "ends after 1000 of 1001 bytes"), (999, "longer than its 999")]
    {
        let mut custom = Scripted::new(1000);
        custom.claimed_bytes = Some(claimed);
        let error = read_all(&open("x", custom).unwrap()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn two_versions_are_never_mixed() {
    let mut custom = Scripted::new(1000);
    custom.fails_after = Some((400, io::ErrorKind::ConnectionReset));
    custom.versions = Mutex::new(vec!["v2", "v1"]);
    let error = read_all(&open("x", custom).unwrap()).unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
}

#[test]
fn parts_are_read_at_their_offsets() {
    let source = open("memory", Arc::<[u8]>::from(Scripted::new(1000).bytes)).unwrap();
    let mut part = [0; 8];
    assert_eq!(source.read_at(&mut part, 3, &CancelToken::new()).unwrap(), 8);
    assert_eq!(part, [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(source.read_at(&mut part, 996, &CancelToken::new()).unwrap(), 4);
    assert_eq!(source.read_at(&mut part, 2000, &CancelToken::new()).unwrap(), 0);
}

#[test]
fn an_error_of_the_library_keeps_its_kind_and_is_final() {
    struct Refusing(AtomicUsize);
    impl CustomSource for Arc<Refusing> {
        fn len_bytes(&self) -> Option<u64> {
            None
        }
        fn stream(&self, _: u64, _: &CancelToken) -> io::Result<Box<dyn Read + Send>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(ErrorKind::Integrity, "the signature is wrong").into())
        }
        fn is_seekable(&self) -> bool {
            true
        }
    }
    let refusing = Arc::new(Refusing(AtomicUsize::new(0)));
    let error = read_all(&open("x", Arc::clone(&refusing)).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(refusing.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_cancel_ends_the_pause_between_attempts() {
    let mut custom = Scripted::new(10);
    custom.fails_after = Some((0, io::ErrorKind::TimedOut));
    let cancel = CancelToken::new();
    let source = open("x", custom).unwrap();
    let mut reader = source.reader(&cancel).unwrap();
    cancel.cancel();
    let error = Error::unwrap_io(reader.read(&mut [0; 1]).unwrap_err()).unwrap();
    assert!(error.is_cancelled());
}

#[test]
fn a_reader_can_be_read_once_after_its_start() {
    let bytes = Scripted::new(100_000).bytes;
    let source = from_reader("request body", io::Cursor::new(bytes.clone()));
    assert!(!source.is_repeatable() && !source.is_seekable());
    let mut start = [0; 4];
    source.reader(&CancelToken::new()).unwrap().read_exact(&mut start).unwrap();
    assert_eq!(start, [0, 1, 2, 3]);
    assert_eq!(read_all(&source).unwrap(), bytes);
}
