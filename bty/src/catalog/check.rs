//! Whether the images of a catalog are there, and are what the catalog says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use super::{Catalog, Entry};
use crate::digest::{ChecksumList, Checksums};
use crate::{
    CancelToken, Client, Context, Digest, Error, ErrorKind, Location, Result, Source, redact, size,
    text, threads,
};

/// Images that are checked at a time: most of the time is spent waiting for servers.
const AT_A_TIME: usize = 8;

/// A checksum file larger than this is probably an image, in bytes.
const MAX_CHECKSUM_BYTES: u64 = size::MIB;

/// What was found at the `src` of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EntryCheck {
    /// Name of the entry.
    pub name: String,
    /// Where was looked.
    pub src: String,
    /// Size over the wire in bytes, as the origin tells it.
    pub size_bytes: Option<u64>,
    /// Digest that the origin declares; only registries do.
    pub sha256: Option<Digest>,
    /// What is wrong, one sentence each; none when all is well.
    pub problems: Vec<String>,
}

impl EntryCheck {
    /// True when nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks at every image of `catalog` without fetching it: is it there, with the size and digest
/// that the catalog says? The results are in the order of the catalog; a problem of one image does
/// not keep the others from being checked.
///
/// # Errors
/// [`ErrorKind::Cancelled`] only.
pub fn check(client: &Client, catalog: &Catalog, cancel: &CancelToken) -> Result<Vec<EntryCheck>> {
    check_with(&|src| client.open(src, cancel), catalog.entries(), cancel)
}

fn check_with(
    open: &(dyn Fn(&str) -> Result<Source> + Sync),
    entries: &[Entry],
    cancel: &CancelToken,
) -> Result<Vec<EntryCheck>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(entries.len()));
    let work = || {
        while let Some((index, entry)) = claim(&next, entries)
            && !cancel.is_cancelled()
        {
            let checked = check_entry(open, entry);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, checked));
        }
    };
    thread::scope(|scope| {
        let wanted = AT_A_TIME.min(entries.len());
        let started =
            threads::start_some(wanted, || threads::start_in(scope, "bty-check", work).map(drop));
        // without another thread it is done on this one
        started.unwrap_or_else(|_| work());
    });
    cancel.check()?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, checked)| checked).collect())
}

fn claim<'a>(next: &AtomicUsize, entries: &'a [Entry]) -> Option<(usize, &'a Entry)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    entries.get(index).map(|entry| (index, entry))
}

fn check_entry(open: &dyn Fn(&str) -> Result<Source>, entry: &Entry) -> EntryCheck {
    let (name, src) = (entry.name.clone(), entry.src().to_owned());
    let mut checked =
        EntryCheck { name, src, size_bytes: None, sha256: None, problems: Vec::new() };
    match open(entry.src()) {
        Ok(source) => {
            checked.size_bytes = source.len_bytes();
            checked.sha256 = source.expected_digest();
        }
        Err(error) => checked.problems.push(error.to_string()),
    }
    if let (Some(said), Some(found)) = (entry.size_bytes, checked.size_bytes)
        && said != found
    {
        checked.problems.push(format!("size_bytes is {said}, but the origin has {found} bytes"));
    }
    if let (Some(said), Some(found)) = (entry.sha256, checked.sha256)
        && said != found
    {
        checked
            .problems
            .push(format!("sha256 is {said}, but the origin declares {found}; did its tag move?"));
    }
    checked
}

/// Fetches the list of digests at `reference` and returns what it says about `image`, an address or
/// a file name; for adding an image with its digest.
///
/// Of an address the path counts: a list may have several files of one name.
///
/// # Errors
/// [`ErrorKind::Catalog`] when it says nothing about `image`, or not which of several files it is,
/// and as [`Client::read_small`].
pub fn fetch_checksum(
    client: &Client,
    reference: &str,
    image: &str,
    cancel: &CancelToken,
) -> Result<Checksums> {
    let shown = &*redact::address(reference);
    let bytes = client
        .read_small(reference, MAX_CHECKSUM_BYTES, cancel)
        .context(|| format!("fetching the checksum file {shown}"))?;
    let (path, list) = (path_of(image), path_of(reference));
    let directory = list.rsplit_once('/').map_or("", |(directory, _)| directory);
    let text = String::from_utf8_lossy(&bytes);
    ChecksumList::parse(&text).find(&path, directory).map_err(|reason| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let error =
            Error::new(ErrorKind::Catalog, format!("{shown} {reason} (looking for {name:?})"));
        error.with_path(shown).hint(reason.next_step())
    })
}

/// The path of an address as a list has it: without percent-encoding, and without what follows it.
fn path_of(address: &str) -> String {
    match address.parse() {
        Ok(Location::Http(url)) => {
            String::from_utf8_lossy(&text::percent_decode(url.path())).into_owned()
        }
        Ok(Location::File(path)) => path.to_string_lossy().into_owned(),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ByteSource;
    use std::io::Read;
    use std::sync::Arc;

    /// An origin that knows its length and is never read.
    struct Known(Option<u64>);

    impl ByteSource for Known {
        fn len_bytes(&self) -> Option<u64> {
            self.0
        }
        fn is_seekable(&self) -> bool {
            false
        }
        fn stream(&self, _: u64, _: &CancelToken) -> Result<Box<dyn Read + Send>> {
            panic!("a check reads nothing")
        }
        fn read_at(&self, _: &mut [u8], _: u64, _: &CancelToken) -> Result<usize> {
            panic!("a check reads nothing")
        }
    }

    fn origin(len_bytes: Option<u64>, expected: Option<Digest>) -> Source {
        let location = Location::File("/dev/null".into());
        let source = Source::new(location, "", Arc::new(Known(len_bytes)));
        expected.map_or(source.clone(), |digest| source.expect(digest).unwrap())
    }

    fn entries(n: usize) -> Vec<Entry> {
        let entry = |i| {
            let mut entry = Entry::new(format!("i{i}"), format!("https://h/{i}.img")).unwrap();
            entry.size_bytes = Some(7);
            entry.sha256 = Some(Digest::of(b"a"));
            entry
        };
        (0..n).map(entry).collect()
    }

    #[test]
    fn collects_every_problem_in_the_order_of_the_catalog() {
        let open = |src: &str| match src {
            "https://h/0.img" => Ok(origin(Some(7), Some(Digest::of(b"a")))),
            "https://h/1.img" => Ok(origin(Some(8), Some(Digest::of(b"b")))),
            "https://h/2.img" => Err(Error::new(ErrorKind::Source, "nobody answers")),
            _ => Ok(origin(None, None)),
        };
        let checked = check_with(&open, &entries(20), &CancelToken::new()).unwrap();
        let names: Vec<_> = checked.iter().map(|c| c.name.clone()).collect();
        assert_eq!(names, (0..20).map(|i| format!("i{i}")).collect::<Vec<_>>());
        assert!(checked[0].is_ok());
        assert_eq!((checked[0].size_bytes, checked[0].sha256), (Some(7), Some(Digest::of(b"a"))));
        assert_eq!(checked[1].problems.len(), 2, "{:?}", checked[1].problems);
        assert_eq!(checked[1].problems[0], "size_bytes is 7, but the origin has 8 bytes");
        assert_eq!(checked[2].problems, ["nobody answers"]);
        assert!(checked[3..].iter().all(EntryCheck::is_ok));
    }

    #[test]
    fn an_empty_catalog_is_checked_at_once() {
        let open = |_: &str| panic!("nothing to open");
        assert!(check_with(&open, &[], &CancelToken::new()).unwrap().is_empty());
    }

    #[test]
    fn ends_when_cancelled() {
        let cancel = CancelToken::new();
        let open = |_: &str| {
            cancel.cancel();
            Err(Error::cancelled())
        };
        assert!(check_with(&open, &entries(50), &cancel).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_checksum_file_is_asked_for_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let sums = dir.path().join("SHA256SUMS");
        std::fs::write(
            &sums,
            format!("{}  a.img\n{}  b.img\n", Digest::of(b"a"), Digest::of(b"b")),
        )
        .unwrap();
        let fetch = |name| {
            fetch_checksum(&Client::default(), sums.to_str().unwrap(), name, &CancelToken::new())
        };
        assert_eq!(fetch("b.img").unwrap(), Checksums::from(Digest::of(b"b")));
        assert_eq!(fetch("c.img").unwrap_err().kind(), ErrorKind::Catalog);
        std::fs::write(&sums, vec![b'x'; MAX_CHECKSUM_BYTES as usize + 1]).unwrap();
        assert_eq!(fetch("a.img").unwrap_err().kind(), ErrorKind::Source);
    }
}
