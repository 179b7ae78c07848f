//! Images that the server gets as files: uploads, which continue after an interruption, and files
//! that a person has copied into its folder.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::Client;
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::file_name::check_file_name;
use crate::domain::machine::ClientContext;
use crate::random::random_token;
use crate::services::catalog::{CatalogEdits, NewFile};
use crate::services::event_log::EventLog;
use crate::services::image_files::{ImageFiles, ImageKey, LooseFile};
use crate::store::{self, Database, catalog::Stored};

/// Maximum number of unfinished uploads.
const UPLOADS_MAX: usize = 16;

/// Time after which an upload without new bytes is deleted when another one begins.
pub const UPLOAD_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

const DESCRIPTION_CHARS_MAX: usize = 500;

/// An image that a client is about to send.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NewUpload {
    /// Name of the file.
    pub file_name: String,
    /// Its size in bytes; `None` if the client does not know it in advance.
    pub size_bytes: Option<u64>,
    /// Name of the entry in the catalog; default: that of the file.
    pub name: Option<String>,
    /// Description for people.
    pub description: Option<String>,
    /// Architecture; default: what the name suggests.
    pub arch: Option<String>,
}

/// How much of an upload has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// Number of bytes that have arrived.
    pub offset: u64,
    /// Size of the whole image.
    pub size_bytes: Option<u64>,
}

/// An unfinished upload, open for its next bytes. Nobody else can open it meanwhile.
#[derive(Debug)]
pub struct OpenUpload {
    /// Its id.
    pub id: String,
    /// Its file, positioned at its end.
    pub file: File,
    /// Number of bytes that have arrived.
    pub offset: u64,
    /// Maximum number of further bytes.
    pub missing_bytes: u64,
    new: NewUpload,
}

/// Takes images as files. Clones share everything.
#[derive(Clone)]
pub struct ImageUploads {
    files: ImageFiles,
    db: Database,
    catalog: CatalogEdits,
    events: EventLog,
    client: Client,
    /// Maximum size of an image in bytes.
    pub max_bytes: u64,
}

impl ImageUploads {
    pub(crate) fn new(
        files: ImageFiles,
        db: Database,
        catalog: CatalogEdits,
        events: EventLog,
        client: Client,
        max_bytes: u64,
    ) -> Self {
        Self { files, db, catalog, events, client, max_bytes }
    }

    /// Returns the folder of images.
    #[must_use]
    pub fn files(&self) -> &ImageFiles {
        &self.files
    }

    fn dir(&self) -> PathBuf {
        self.files.dir().join(".uploads")
    }

    /// Starts an upload, and returns its id. Deletes abandoned ones.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when the name is not that of a file.
    /// - [`ErrorKind::TooLarge`] or [`ErrorKind::Full`] when the image does not fit.
    /// - [`ErrorKind::Conflict`] when an image with this name is in the catalog.
    /// - [`ErrorKind::Throttled`] when there are too many unfinished uploads.
    pub async fn create(&self, new: NewUpload) -> Result<String> {
        check_file_name("an image", &new.file_name)?;
        let name = new.name.clone().unwrap_or_else(|| new.file_name.clone());
        if new.description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX)
        {
            let detail =
                format!("the description is longer than {DESCRIPTION_CHARS_MAX} characters");
            return Err(Error::invalid(detail));
        }
        let bytes = new.size_bytes.unwrap_or_default();
        if bytes > self.max_bytes {
            return Err(self.too_large());
        }
        self.catalog.check_name(name).await?;
        let service = self.clone();
        blocking(move || service.create_blocking(&new, bytes)).await?
    }

    /// Returns the error for an image that is larger than allowed.
    #[must_use]
    pub fn too_large(&self) -> Error {
        let max = bty::size::human(self.max_bytes);
        let detail = format!("an image must have at most {max}; raise tuning.max_upload_bytes");
        Error::new(ErrorKind::TooLarge, detail)
    }

    fn create_blocking(&self, new: &NewUpload, bytes: u64) -> Result<String> {
        let dir = self.dir();
        let failed = |e: std::io::Error| self.files.failed(&e);
        fs::create_dir_all(&dir).map_err(failed)?;
        self.files.check_room(bytes)?;
        if delete_abandoned(&dir, SystemTime::now()).map_err(failed)? >= UPLOADS_MAX {
            let detail = format!(
                "{UPLOADS_MAX} uploads are unfinished; finish or cancel one, or try again in a \
                 week, when they are deleted"
            );
            return Err(Error::new(ErrorKind::Throttled, detail));
        }
        let id = random_token();
        File::create_new(dir.join(&id)).map_err(failed)?;
        fs::write(record(&dir, &id), serde_json::to_vec(new)?).map_err(failed)?;
        Ok(id)
    }

    /// Returns how much of the upload `id` has arrived.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such upload.
    pub async fn status(&self, id: &str) -> Result<UploadStatus> {
        let (path, new) = self.find(id)?;
        let offset = path.metadata().map_err(|e| self.files.failed(&e))?.len();
        Ok(UploadStatus { offset, size_bytes: new.size_bytes })
    }

    fn find(&self, id: &str) -> Result<(PathBuf, NewUpload)> {
        let missing = || {
            let detail = "there is no such unfinished upload: it is complete, or was deleted";
            Error::new(ErrorKind::NotFound, detail)
        };
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(missing());
        }
        let text = fs::read(record(&self.dir(), id)).map_err(|_| missing())?;
        Ok((self.dir().join(id), serde_json::from_slice(&text)?))
    }

    /// Opens the upload `id` for the bytes from `offset` on.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no such upload.
    /// - [`ErrorKind::Conflict`] when another request is sending its bytes, or `offset` is not the
    ///   number of bytes that have arrived.
    pub async fn open(&self, id: String, offset: u64) -> Result<OpenUpload> {
        let service = self.clone();
        blocking(move || service.open_blocking(id, offset)).await?
    }

    fn open_blocking(&self, id: String, offset: u64) -> Result<OpenUpload> {
        let (path, new) = self.find(&id)?;
        let failed = |e: std::io::Error| self.files.failed(&e);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        if file.try_lock().is_err() {
            let detail = "another request is sending this upload; try again when it has ended";
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        let arrived = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if offset != arrived {
            let detail = format!("the upload continues at {arrived}, not at {offset}");
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        let missing_bytes = new.size_bytes.unwrap_or(self.max_bytes).saturating_sub(arrived);
        Ok(OpenUpload { id, file, offset: arrived, missing_bytes, new })
    }

    /// Adds the image of a complete upload to the catalog, under an address at `caller.base`.
    /// Returns `None` if bytes are missing. If the image is refused, the upload is deleted.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when it is not the image of a disk.
    /// - [`ErrorKind::Conflict`] when the catalog has the image or the name meanwhile.
    /// - [`ErrorKind::Full`] when the disk has no space.
    pub async fn finish(
        &self,
        caller: &ClientContext,
        upload: OpenUpload,
    ) -> Result<Option<Stored>> {
        let OpenUpload { id, file, new, .. } = upload;
        let arrived = file.metadata().map_err(|e| self.files.failed(&e))?.len();
        if new.size_bytes.is_some_and(|size| arrived < size) {
            return Ok(None);
        }
        let added = self.add(caller, self.dir().join(&id), new).await;
        // held until here, so that no other request sends more
        drop(file);
        match &added {
            // it can be finished when there is space
            Err(error) if error.kind == ErrorKind::Full && self.dir().join(&id).exists() => {}
            _ => self.discard(&id),
        }
        added.map(Some)
    }

    /// Deletes an upload; does nothing if there is none.
    pub fn discard(&self, id: &str) {
        if let Ok((path, _)) = self.find(id) {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(record(&self.dir(), id));
        }
    }

    async fn add(&self, caller: &ClientContext, path: PathBuf, new: NewUpload) -> Result<Stored> {
        let (files, client, name) =
            (self.files.clone(), self.client.clone(), new.file_name.clone());
        let kept = blocking(move || files.keep(&client, &path, &name)).await??;
        let file = NewFile {
            src: kept.key.address(&caller.base)?,
            sha256: kept.key.sha256,
            size_bytes: kept.size_bytes,
            index_sha256: kept.index_sha256,
            name: new.name.unwrap_or(new.file_name),
            description: new.description,
            arch: new.arch,
        };
        self.catalog.add_file(caller, file).await
    }

    /// Returns the images in the folder that are not in the catalog.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the folder or the database cannot be read.
    pub async fn loose(&self) -> Result<Vec<LooseFile>> {
        let entries = self.db.read(store::catalog::all).await?;
        let files = self.files.clone();
        blocking(move || {
            let listed: HashSet<_> = entries
                .iter()
                .filter_map(|entry| ImageKey::of_address(&entry.src))
                .map(|key| (key.sha256.to_string(), key.name))
                .collect();
            files.loose(|key| listed.contains(&(key.sha256.to_string(), key.name.clone())))
        })
        .await?
    }

    /// Adds an image to the catalog that is in the folder at `path`.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no such file.
    /// - [`ErrorKind::Conflict`] when the catalog has the image or its name, or the file changes.
    /// - The errors of [`ImageFiles::keep`].
    pub async fn add_loose(&self, caller: &ClientContext, path: &str) -> Result<Stored> {
        let (path, file_name) = self.files.loose_file(path)?;
        self.catalog.check_name(file_name.clone()).await?;
        self.add(caller, path, NewUpload { file_name, ..NewUpload::default() }).await
    }

    /// Deletes a file of the folder that is not in the catalog.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no such file.
    /// - [`ErrorKind::Conflict`] when an entry of the catalog uses it.
    pub async fn delete_loose(&self, caller: &ClientContext, path: String) -> Result<String> {
        if !self.loose().await?.iter().any(|file| file.path == path) {
            self.files.loose_file(&path)?;
            let detail = format!("{path} is in the catalog; delete its entry first");
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        let files = Arc::new(self.files.clone());
        let name = blocking(move || files.delete(&path)).await??;
        let event = NewEvent::new(
            "catalog.file.deleted",
            name.clone(),
            format!("deleted the file {name} of the image folder"),
        );
        self.events.record(event.caused_by(&caller.author())).await?;
        Ok(name)
    }
}

/// Returns the path of the file that describes an upload.
fn record(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.json"))
}

/// Deletes the uploads that have got no bytes for [`UPLOAD_LIFE`]. Returns the number of the others.
fn delete_abandoned(dir: &Path, now: SystemTime) -> std::io::Result<usize> {
    let mut left = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some() {
            continue;
        }
        let changed = path.metadata().and_then(|meta| meta.modified()).unwrap_or(now);
        if now.duration_since(changed).is_ok_and(|age| age > UPLOAD_LIFE) {
            fs::remove_file(&path)?;
            let _ = fs::remove_file(path.with_extension("json"));
        } else {
            left += 1;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_uploads_are_deleted_and_the_others_counted() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["a", "b"] {
            fs::write(dir.path().join(id), "x").unwrap();
            fs::write(record(dir.path(), id), "{}").unwrap();
        }
        let now = SystemTime::now();
        assert_eq!(delete_abandoned(dir.path(), now).unwrap(), 2);
        let later = now + UPLOAD_LIFE + Duration::from_secs(60);
        assert_eq!(delete_abandoned(dir.path(), later).unwrap(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
