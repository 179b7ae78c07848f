//! The folder of the images that the server keeps itself.
//!
//! ```text
//! IMAGES/debian.img.zst                 copied there by a person, and not in the catalog yet
//! IMAGES/SHA256/debian.img.zst          in the catalog, or deleted from it
//! IMAGES/.uploads/ID, ID.json           an unfinished upload
//! ```
//!
//! The address of an image is `/images/SHA256/NAME` below any address of the server. Its bytes are
//! those with that digest, so the server may answer for such an address whatever its host is: an
//! entry stays valid when the server gets another name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bty::image::OpenOptions;
use bty::image::directory::{self, ImageFile};
use bty::{CancelToken, Client, Digest, Image};
use url::Url;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file_name::check_file_name;

/// Free space that the folder leaves to the rest of the server, in bytes.
const FREE_BYTES_KEPT: u64 = 256 << 20;

/// The folder of images. Clones share it.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    dir: PathBuf,
}

/// The place of an image in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageKey {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Name of the file.
    pub name: String,
}

impl ImageKey {
    /// Returns the key in the address of an image that a server of bty keeps; `None` for any other
    /// address.
    #[must_use]
    pub fn of_address(address: &str) -> Option<Self> {
        let url: Url = address.parse().ok().filter(|url: &Url| url.query().is_none())?;
        let mut parts = url.path_segments().filter(|_| url.scheme().starts_with("http"))?.rev();
        let (name, sha256, folder) = (parts.next()?, parts.next()?, parts.next()?);
        let name = percent_decoded(name)?;
        check_file_name("an image", &name).ok()?;
        (folder == "images").then_some(Self { sha256: sha256.parse().ok()?, name })
    }

    /// Returns the address of the image at a server that is reached at `base`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when `base` is no address.
    pub fn address(&self, base: &str) -> Result<String> {
        let mut url: Url = base.parse().map_err(Error::internal)?;
        let mut parts =
            url.path_segments_mut().map_err(|()| Error::internal(format!("{base} has no path")))?;
        parts.pop_if_empty().extend([
            "images",
            self.sha256.to_string().as_str(),
            self.name.as_str(),
        ]);
        drop(parts);
        Ok(url.into())
    }
}

/// Decodes the percent-encoding of a part of a path; `None` if it is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    // these characters have another meaning in queries, for which the parser is made
    let text = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    let (_, decoded) = url::form_urlencoded::parse(text.as_bytes()).next()?;
    (!decoded.contains('\u{fffd}')).then(|| decoded.into_owned())
}

/// A file in the folder that is not in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseFile {
    /// Path below the folder: its name, or its digest and its name.
    pub path: String,
    /// Name of the file.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// An image that is in its place, and what a catalog says of it.
#[derive(Debug)]
pub struct KeptImage {
    /// Its place.
    pub key: ImageKey,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of its index, if it is packed.
    pub index_sha256: Option<Digest>,
}

impl ImageFiles {
    /// Creates the service for the folder `dir`, which need not exist.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of an image; `None` if the folder does not have it.
    #[must_use]
    pub fn find(&self, key: &ImageKey) -> Option<PathBuf> {
        let path = self.place(key);
        // does not follow links
        path.symlink_metadata().is_ok_and(|meta| meta.is_file()).then_some(path)
    }

    /// Returns the address at `base` of the image with the address `src`, if the folder has it.
    #[must_use]
    pub fn own_address(&self, base: &str, src: &str) -> Option<String> {
        let key = ImageKey::of_address(src)?;
        self.find(&key)?;
        key.address(base).ok()
    }

    fn place(&self, key: &ImageKey) -> PathBuf {
        self.dir.join(key.sha256.to_string()).join(&key.name)
    }

    /// Returns why a file of `bytes` does not fit into the folder.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when too little space would be left.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        match crate::state_dir::free_bytes(&self.dir) {
            Some(free) if bytes.saturating_add(FREE_BYTES_KEPT) > free => {
                let cause = format!("an image of {bytes} bytes, {free} are free");
                Err(Error::full(cause).in_dir(&self.dir))
            }
            _ => Ok(()),
        }
    }

    /// Returns the images in the folder, those that a person has copied there and those that
    /// `is_listed` does not know. Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the folder cannot be read.
    pub fn loose(&self, is_listed: impl Fn(&ImageKey) -> bool) -> Result<Vec<LooseFile>> {
        let list = |dir: &Path| match directory::list(dir) {
            Ok(found) => Ok(found),
            Err(_) if !dir.exists() => Ok(Vec::new()),
            Err(error) => Err(Error::internal(format!("{error:#}"))),
        };
        let loose = |path: String, file: ImageFile| LooseFile {
            path,
            name: file.name,
            size_bytes: file.size_bytes,
        };
        let mut found: Vec<LooseFile> =
            list(&self.dir)?.into_iter().map(|file| loose(file.name.clone(), file)).collect();
        for sha256 in self.digests()? {
            for file in list(&self.dir.join(sha256.to_string()))? {
                let key = ImageKey { sha256, name: file.name.clone() };
                if !is_listed(&key) {
                    found.push(loose(format!("{sha256}/{}", file.name), file));
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn digests(&self) -> Result<Vec<Digest>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed(&e)),
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        Ok(entries.filter_map(name).filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the file at `path` below the folder, which a client has named.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] for a path outside of the folder.
    /// - [`ErrorKind::NotFound`] when there is no such file.
    pub fn loose_file(&self, path: &str) -> Result<(PathBuf, String)> {
        let (sha256, name) = match path.split_once('/') {
            Some((sha256, name)) => (Some(sha256), name),
            None => (None, path),
        };
        let missing = || Error::not_found(format!("the image {name} in {}", self.dir.display()));
        let name = check_file_name("an image", name)?;
        let found = match sha256 {
            Some(sha256) => {
                let sha256 = sha256.parse().map_err(|_| missing())?;
                self.find(&ImageKey { sha256, name: name.to_owned() })
            }
            None => Some(self.dir.join(name))
                .filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file())),
        };
        found.map(|path| (path, name.to_owned())).ok_or_else(missing)
    }

    /// Examines the file at `path`, which is on the folder's file system, and moves it to its place
    /// under `name`. Reads all of it. Blocks.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when it is not the image of a disk, or differs from the checksum
    ///   file beside it.
    /// - [`ErrorKind::Conflict`] when it changes meanwhile.
    /// - [`ErrorKind::Internal`] when it cannot be read or moved.
    pub fn keep(&self, client: &Client, path: &Path, name: &str) -> Result<KeptImage> {
        let image = examine(client, path, name)?;
        let before = version(path).map_err(|e| self.failed(&e))?;
        let (sha256, size_bytes) = digest(path).map_err(|e| self.failed(&e))?;
        if version(path).map_err(|e| self.failed(&e))? != before {
            let detail = format!("{name} has changed while it was read; wait until it is complete");
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        let listed = directory::sidecar_digest(path);
        let listed = listed.map_err(|e| Error::invalid(format!("{e:#}")))?;
        if let Some(expected) = listed.filter(|digest| *digest != sha256) {
            return Err(Error::invalid(format!(
                "{name} has the digest {sha256}, but its checksum file says {expected}; copy both \
                 again"
            )));
        }
        let key = ImageKey { sha256, name: name.to_owned() };
        self.move_to(path, &self.place(&key)).map_err(|e| self.failed(&e))?;
        Ok(KeptImage { key, size_bytes, index_sha256: image.info().pack_index_sha256 })
    }

    fn move_to(&self, from: &Path, place: &Path) -> io::Result<()> {
        if from == place {
            return Ok(());
        }
        let dir = place.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir)?;
        fs::rename(from, place)?;
        // the rename is durable only once the directories are synced
        File::open(dir)?.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Deletes the file at `path` below the folder.
    ///
    /// # Errors
    /// As [`loose_file`](Self::loose_file), and [`ErrorKind::Internal`] when it cannot be deleted.
    pub fn delete(&self, path: &str) -> Result<String> {
        let (file, name) = self.loose_file(path)?;
        fs::remove_file(&file).map_err(|e| self.failed(&e))?;
        if let Some(dir) = file.parent().filter(|dir| *dir != self.dir) {
            // another file may have the same digest
            let _ = fs::remove_dir(dir);
        }
        Ok(name)
    }

    pub(super) fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                let dir = self.dir.display();
                let detail = format!(
                    "the server cannot write to {dir}: {error}; let its user own the directory, or \
                     set paths.image_dir to another one"
                );
                Error::new(ErrorKind::Conflict, detail)
            }
            _ => Error::writing(&self.dir, error),
        }
    }
}

/// Opens the image at `path`. `name` names it in messages.
fn examine(client: &Client, path: &Path, name: &str) -> Result<Image> {
    let options = OpenOptions::default().ignore_sidecar(true);
    let refused = |why: &str| {
        Error::invalid(format!(
            "{name} is not the image of a disk: {why}; upload the image itself, such as \
             debian.img.zst"
        ))
    };
    let path = path.to_str().ok_or_else(|| refused("its path is not UTF-8"))?;
    let image = Image::open(client, path, &options, &CancelToken::new()).map_err(|error| {
        match error.kind() {
            bty::ErrorKind::Format | bty::ErrorKind::Usage | bty::ErrorKind::Integrity => {
                // without the path, which the client does not know
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                refused(&cause.unwrap_or_else(|| error.to_string()))
            }
            _ => Error::internal(format!("{error:#}")),
        }
    })?;
    if !image.info().is_recognized {
        return Err(refused("it has no partition table, file system or boot sector"));
    }
    Ok(image)
}

/// What changes when a file is written to.
fn version(path: &Path) -> io::Result<(u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = path.metadata()?;
    Ok((meta.len(), meta.ctime(), meta.ctime_nsec()))
}

fn digest(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let mut hasher = bty::digest::Hasher::new();
    let bytes = hasher.read(&mut file)?;
    Ok((hasher.finish(), bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a raw disk image with one partition.
    pub(crate) fn disk_image(bytes: usize) -> Vec<u8> {
        let mut image = vec![0; bytes];
        image[446 + 4] = 0x83;
        image[446 + 8] = 1;
        image[446 + 12] = 7;
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    fn folder() -> (tempfile::TempDir, ImageFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = ImageFiles::new(dir.path().join("images"));
        fs::create_dir(files.dir()).unwrap();
        (dir, files)
    }

    #[test]
    fn an_address_names_an_image_whatever_the_host_is() {
        let key = ImageKey { sha256: Digest::of(b"a"), name: "a b+ü&=%.img".into() };
        for base in ["http://h:8080", "https://bty.example/lab", "http://[::1]:1/"] {
            let address = key.address(base).unwrap();
            assert_eq!(ImageKey::of_address(&address), Some(key.clone()), "{address}");
        }
        let sha256 = key.sha256;
        for other in [
            "http://h/images/a.img".to_owned(),
            format!("http://h/{sha256}/a.img"),
            format!("http://h/images/{sha256}/"),
            format!("http://h/images/{sha256}/..%2Fstate.db"),
            format!("http://h/images/{sha256}/a.img?x"),
            format!("oras://h/images/{sha256}/a"),
        ] {
            assert_eq!(ImageKey::of_address(&other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_leads_out_of_the_folder(text in "\\PC{0,80}") {
            let address = format!("http://h/images/{}/{text}", Digest::of(b"a"));
            if let Some(key) = ImageKey::of_address(&address) {
                let place = ImageFiles::new("/images".into()).place(&key);
                proptest::prop_assert_eq!(place.components().count(), 4);
                let is_within = place.components().all(|c| c.as_os_str() != "..");
                proptest::prop_assert!(is_within);
            }
            let files = ImageFiles::new("/nowhere".into());
            proptest::prop_assert!(files.loose_file(&text).is_err());
        }
    }

    #[test]
    fn a_copied_image_moves_to_the_place_of_its_digest() {
        let (_dir, files) = folder();
        let bytes = disk_image(4096);
        let copied = files.dir().join("a.img");
        fs::write(&copied, &bytes).unwrap();
        fs::write(files.dir().join("notes.txt"), "x").unwrap();
        let names = |files: &ImageFiles, listed: Option<&ImageKey>| {
            let found = files.loose(|key| Some(key) == listed).unwrap();
            found.into_iter().map(|file| file.path).collect::<Vec<_>>()
        };
        assert_eq!(names(&files, None), ["a.img"]);
        let kept = files.keep(&Client::default(), &copied, "a.img").unwrap();
        assert_eq!((kept.key.sha256, kept.size_bytes), (Digest::of(&bytes), 4096));
        assert_eq!(fs::read(files.find(&kept.key).unwrap()).unwrap(), bytes);
        assert!(!copied.exists());
        assert!(names(&files, Some(&kept.key)).is_empty(), "the catalog lists it");
        let path = format!("{}/a.img", kept.key.sha256);
        assert_eq!(names(&files, None), [path.as_str()]);
        let (again, name) = files.loose_file(&path).unwrap();
        assert_eq!(files.keep(&Client::default(), &again, &name).unwrap().key, kept.key);
        assert_eq!(files.delete(&path).unwrap(), "a.img");
        assert_eq!(fs::read_dir(files.dir()).unwrap().count(), 1, "the notes");
    }

    #[test]
    fn what_is_no_image_or_differs_from_its_checksum_stays_where_it_is() {
        let (_dir, files) = folder();
        let path = files.dir().join("a.img");
        fs::write(&path, vec![0; 4096]).unwrap();
        let refused = files.keep(&Client::default(), &path, "a.img").unwrap_err();
        assert!(refused.detail.contains("is not the image of a disk"), "{refused}");
        fs::write(&path, disk_image(4096)).unwrap();
        let other = format!("{}  a.img\n", Digest::of(b"other"));
        fs::write(files.dir().join("a.img.sha256"), other).unwrap();
        let refused = files.keep(&Client::default(), &path, "a.img").unwrap_err();
        assert!(refused.detail.contains("its checksum file says"), "{refused}");
        assert!(path.exists());
    }
}
