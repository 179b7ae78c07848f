//! Checks whether the images of a catalog exist, with the sizes and digests that it states.

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

/// Maximum number of images that are checked concurrently. A check mostly waits for a server.
const CONCURRENCY: usize = 8;

/// Maximum size of a checksum file in bytes. A larger file is probably an image.
const MAX_CHECKSUM_BYTES: u64 = size::MIB;

/// The result of checking one [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EntryCheck {
    /// Name of the entry.
    pub name: String,
    /// Address that was checked.
    pub src: String,
    /// Size in bytes, if the server declares it.
    pub size_bytes: Option<u64>,
    /// SHA-256 according to the server. Only registries declare one.
    pub sha256: Option<Digest>,
    /// One sentence for each problem. Empty if the image matches the catalog.
    pub problems: Vec<String>,
}

impl EntryCheck {
    /// True if no problem was found.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks every image of `catalog` without downloading it: whether it exists, and has the size and
/// the digest that the catalog states.
///
/// The results are in the order of the catalog. Problems of an image are part of its result, and do
/// not stop the check.
///
/// # Errors
/// [`ErrorKind::Cancelled`] when `cancel` is cancelled.
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
        let count = CONCURRENCY.min(entries.len());
        let started =
            threads::start_some(count, || threads::start_in(scope, "bty-check", work).map(drop));
        // if the system refuses every thread, do the work on this one
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
        Err(error) => checked.problems.push(format!("{error:#}")),
    }
    if let (Some(stated), Some(actual)) = (entry.size_bytes, checked.size_bytes)
        && stated != actual
    {
        checked.problems.push(format!("size_bytes is {stated}, but the server has {actual} bytes"));
    }
    if let (Some(stated), Some(actual)) = (entry.sha256, checked.sha256)
        && stated != actual
    {
        checked.problems.push(format!(
            "sha256 is {stated}, but the registry declares {actual}; did its tag move?"
        ));
    }
    checked
}

/// Fetches the checksum file at `reference`, and returns the digests that it has for `image`, which
/// is an address or a file name.
///
/// The path of the address is compared too, because a checksum file may list several files of the
/// same name.
///
/// # Errors
/// - [`ErrorKind::Catalog`]: the file has no digest for `image`, or different ones for several
///   files that `image` may mean.
/// - Other kinds as [`Client::read_small`].
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

/// The path of an address as checksum files write it: decoded, without query and fragment.
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

    /// Knows its length, and is never read.
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

    fn source(len_bytes: Option<u64>, expected: Option<Digest>) -> Source {
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
    fn problems_are_collected_in_the_order_of_the_catalog() {
        let open = |src: &str| match src {
            "https://h/0.img" => Ok(source(Some(7), Some(Digest::of(b"a")))),
            "https://h/1.img" => Ok(source(Some(8), Some(Digest::of(b"b")))),
            "https://h/2.img" => Err(Error::new(ErrorKind::Source, "no reply")),
            _ => Ok(source(None, None)),
        };
        let checked = check_with(&open, &entries(20), &CancelToken::new()).unwrap();
        let names: Vec<_> = checked.iter().map(|c| c.name.clone()).collect();
        assert_eq!(names, (0..20).map(|i| format!("i{i}")).collect::<Vec<_>>());
        assert!(checked[0].is_ok());
        assert_eq!((checked[0].size_bytes, checked[0].sha256), (Some(7), Some(Digest::of(b"a"))));
        assert_eq!(checked[1].problems.len(), 2, "{:?}", checked[1].problems);
        assert_eq!(checked[1].problems[0], "size_bytes is 7, but the server has 8 bytes");
        assert_eq!(checked[2].problems, ["no reply"]);
        assert!(checked[3..].iter().all(EntryCheck::is_ok));
    }

    #[test]
    fn an_empty_catalog_is_checked_at_once() {
        let open = |_: &str| panic!("nothing to open");
        assert!(check_with(&open, &[], &CancelToken::new()).unwrap().is_empty());
    }

    #[test]
    fn cancel_ends_a_check() {
        let cancel = CancelToken::new();
        let open = |_: &str| {
            cancel.cancel();
            Err(Error::cancelled())
        };
        assert!(check_with(&open, &entries(50), &cancel).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_checksum_file_is_searched_for_one_name() {
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
