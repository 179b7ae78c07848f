//! Text files of scripts, all below one directory.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bty::{Error, ErrorKind, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Effect, EffectLog, Files};

/// Largest file that a script may read or write, in bytes.
const BYTES_MAX: u64 = 16 << 20;

fn failed(doing: &str, path: &str, cause: impl Into<std::io::Error>) -> Error {
    let cause: std::io::Error = cause.into();
    let kind = match cause.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::Source,
        _ => ErrorKind::Host,
    };
    Error::new(kind, format!("{doing} {path}")).because(cause).with_path(path)
}

/// The path, if it leads nowhere but below the directory of the script.
fn relative(path: &str) -> Result<&Path> {
    let is_below = !path.is_empty()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if is_below {
        return Ok(Path::new(path));
    }
    let message = format!("cannot use the file {path:?}: it is not below the directory of files");
    Err(Error::new(ErrorKind::Usage, message)
        .hint("write a relative path without . and .., such as report.json"))
}

fn too_large(path: &str) -> Error {
    let limit = bty::size::human(BYTES_MAX);
    Error::new(ErrorKind::Refused, format!("{path} is larger than {limit}")).with_path(path)
}

/// For scripts without a directory for files.
pub(super) struct NoFiles;

impl NoFiles {
    fn refuse<T>() -> Result<T> {
        Err(Error::new(ErrorKind::Refused, "this script has no directory for files")
            .hint("bty run --files DIR lets it read and write text files below DIR"))
    }
}

impl Files for NoFiles {
    fn read_text(&self, _: &str) -> Result<String> {
        Self::refuse()
    }

    fn write_text(&self, _: &str, _: &str) -> Result<()> {
        Self::refuse()
    }
}

/// Files below a directory. No path and no link leads out of it: the kernel refuses both
/// (`RESOLVE_BENEATH`).
pub struct FilesBelow {
    root: OwnedFd,
}

impl FilesBelow {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`]: it does not exist, or is not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            Error::new(ErrorKind::Usage, format!("cannot use {} for files", path.display()))
                .because(std::io::Error::from(errno))
        })?;
        Ok(Self { root })
    }

    fn open_below(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Writes a new file beside the one to replace, and renames it: a reader sees the old text or
    /// the new one.
    fn replace(&self, path: &Path, text: &str) -> rustix::io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = self.open_below(dir, OFlags::PATH | OFlags::DIRECTORY)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let mut part = name.to_owned();
        part.push(format!(".part{}", std::process::id()));
        let written = write_new(dir.as_fd(), Path::new(&part), text)
            .and_then(|()| rustix::fs::renameat(&dir, &part, &dir, name));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&dir, &part, AtFlags::empty());
        }
        written
    }
}

fn write_new(dir: rustix::fd::BorrowedFd<'_>, name: &Path, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666))?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl Files for FilesBelow {
    fn read_text(&self, path: &str) -> Result<String> {
        // without NONBLOCK, opening a named pipe would wait for its other end
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = self
            .open_below(relative(path)?, flags)
            .map_err(|errno| failed("reading", path, errno))?;
        let meta = rustix::fs::fstat(&file).map_err(|errno| failed("reading", path, errno))?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
            let message = format!("cannot read {path}: it is not a regular file");
            return Err(Error::new(ErrorKind::Refused, message).with_path(path));
        }
        let mut bytes = Vec::new();
        let read = std::fs::File::from(file).take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed("reading", path, error))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(too_large(path));
        }
        String::from_utf8(bytes).map_err(|_| {
            let message = format!("cannot read {path}: it is not text in UTF-8");
            Error::new(ErrorKind::Format, message).with_path(path)
        })
    }

    fn write_text(&self, path: &str, text: &str) -> Result<()> {
        if text.len() as u64 > BYTES_MAX {
            return Err(too_large(path));
        }
        self.replace(relative(path)?, text).map_err(|errno| failed("writing", path, errno))
    }
}

/// Files of a dry run or a simulated machine: written texts stay in memory and are recorded.
pub(super) struct RecordedFiles<F> {
    /// What is read if the script has not written it.
    inner: F,
    texts: Mutex<BTreeMap<String, String>>,
    effects: EffectLog,
}

impl<F> RecordedFiles<F> {
    pub(super) fn new(inner: F, effects: EffectLog) -> Self {
        Self { inner, texts: Mutex::default(), effects }
    }
}

impl<F: Files> Files for RecordedFiles<F> {
    fn read_text(&self, path: &str) -> Result<String> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        match texts.get(path) {
            Some(text) => Ok(text.clone()),
            None => self.inner.read_text(path),
        }
    }

    fn write_text(&self, path: &str, text: &str) -> Result<()> {
        relative(path)?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.insert(path.to_owned(), text.to_owned());
        self.effects.record(Effect::Write { path: PathBuf::from(path), text: text.to_owned() });
        Ok(())
    }
}

impl Files for Arc<dyn Files> {
    fn read_text(&self, path: &str) -> Result<String> {
        (**self).read_text(path)
    }

    fn write_text(&self, path: &str, text: &str) -> Result<()> {
        (**self).write_text(path, text)
    }
}

/// The files of a simulated machine.
pub(super) struct DescribedFiles(pub(super) BTreeMap<String, String>);

impl Files for DescribedFiles {
    fn read_text(&self, path: &str) -> Result<String> {
        relative(path)?;
        self.0.get(path).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Source, format!("the simulated machine has no file {path}"))
                .with_path(path)
                .hint("add it to the description in the section [files]")
        })
    }

    fn write_text(&self, path: &str, _: &str) -> Result<()> {
        relative(path).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_replaced_whole_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let files = FilesBelow::open(dir.path()).unwrap();
        for text in ["first, longer", "second"] {
            files.write_text("sub/a.txt", text).unwrap();
            assert_eq!(files.read_text("sub/a.txt").unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
        let missing = files.read_text("none.txt").unwrap_err();
        assert_eq!((missing.kind(), missing.path()), (ErrorKind::Source, Some("none.txt")));
        std::fs::write(dir.path().join("binary"), [0xff]).unwrap();
        assert_eq!(files.read_text("binary").unwrap_err().kind(), ErrorKind::Format);
        assert_eq!(files.read_text("sub").unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn nothing_outside_the_directory_is_reached() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        link(outside.path(), "link");
        link(&outside.path().join("secret"), "file");
        let files = FilesBelow::open(dir.path()).unwrap();
        for path in ["/etc/passwd", "../secret", "a/../../secret", "", ".", "./x"] {
            assert_eq!(files.read_text(path).unwrap_err().kind(), ErrorKind::Usage, "{path}");
            assert_eq!(files.write_text(path, "x").unwrap_err().kind(), ErrorKind::Usage, "{path}");
        }
        for path in ["link/secret", "file"] {
            assert!(files.read_text(path).is_err(), "{path}");
        }
        assert!(files.write_text("link/new", "x").is_err());
        files.write_text("file", "mine").unwrap();
        assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
