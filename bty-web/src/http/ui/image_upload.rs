//! The form that uploads an image. With scripts, `bty.js` sends the file to `/uploads` instead, which
//! continues after an interruption.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::multipart::{Field, Multipart, MultipartRejection};
use axum::http::HeaderMap;
use axum::response::Response;

use super::catalog_upload::{field_error, malformed};
use super::form::CSRF_MISMATCH;
use super::notice::{Notice, Notices};
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::ClientContext;
use crate::domain::secret::is_same;
use crate::http::receive::{Receiver, content_length, discard};
use crate::services::access::Principal;
use crate::services::image_catalog::Stored;
use crate::services::image_uploads::{ImageUploads, NewUpload};

/// Maximum size of a form field other than the file, in bytes.
const FIELD_BYTES_MAX: usize = 4096;

/// Receives the form, and adds the image to the catalog.
pub async fn upload(
    State(uploads): State<ImageUploads>,
    State(config): State<Arc<Config>>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let receiver = FormReceiver {
        uploads,
        rate: config.limits.body_rate,
        // the file cannot be larger than the form
        size_bytes: content_length(&headers).unwrap_or_default(),
    };
    let added = match form {
        Ok(form) => receiver.receive(&who, &principal, form).await,
        Err(e) => Err(malformed(&e.body_text())),
    };
    let notice = added.map(|entry| Notice::success(format!("{} is in the catalog.", entry.name)));
    notices.redirect("/ui/images", notice)
}

struct FormReceiver {
    uploads: ImageUploads,
    rate: u64,
    size_bytes: u64,
}

impl FormReceiver {
    async fn receive(
        &self,
        who: &ClientContext,
        principal: &Principal,
        mut form: Multipart,
    ) -> Result<Stored> {
        let mut is_trusted = principal.csrf().is_empty();
        let mut new = NewUpload::default();
        while let Some(field) = form.next_field().await.map_err(field_error)? {
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                new.file_name = field.file_name().unwrap_or_default().to_owned();
                return match is_trusted {
                    true => self.receive_file(who, new, field).await,
                    false => {
                        discard(field).await;
                        Err(Error::new(ErrorKind::Forbidden, CSRF_MISMATCH))
                    }
                };
            }
            let text = text(field).await?;
            let optional = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
            match name.as_str() {
                "csrf" => is_trusted |= is_same(&text, principal.csrf()),
                "name" => new.name = optional,
                "description" => new.description = optional,
                "arch" => new.arch = optional,
                _ => {}
            }
        }
        Err(Error::invalid("the form has no file; choose one"))
    }

    async fn receive_file(
        &self,
        who: &ClientContext,
        new: NewUpload,
        field: Field<'_>,
    ) -> Result<Stored> {
        if new.file_name.is_empty() {
            return Err(Error::invalid("the form has no file; choose one"));
        }
        let id = match self.create(new).await {
            Ok(id) => id,
            Err(error) => {
                discard(field).await;
                return Err(error);
            }
        };
        let stored = self.store(who, &id, field).await;
        if stored.is_err() {
            self.uploads.discard(&id);
        }
        stored
    }

    async fn create(&self, new: NewUpload) -> Result<String> {
        if self.size_bytes > self.uploads.max_bytes {
            return Err(self.uploads.too_large());
        }
        self.uploads.files().check_room(self.size_bytes)?;
        self.uploads.create(new).await
    }

    async fn store(&self, who: &ClientContext, id: &str, field: Field<'_>) -> Result<Stored> {
        let mut upload = self.uploads.open(id.to_owned(), 0).await?;
        let mut file = tokio::fs::File::from_std(upload.file);
        let dir = self.uploads.files().dir();
        let receiver = Receiver { dir, limit: upload.missing_bytes, rate: self.rate };
        if receiver.receive(field, &mut file).await? > upload.missing_bytes {
            return Err(self.uploads.too_large());
        }
        upload.file = file.into_std().await;
        let added = self.uploads.finish(who, upload).await?;
        added.ok_or_else(|| Error::internal("an upload of unknown size is never incomplete"))
    }
}

async fn text(mut field: Field<'_>) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(field_error)? {
        if bytes.len() + chunk.len() > FIELD_BYTES_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "a field of the form is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| malformed("a field is not UTF-8"))
}
