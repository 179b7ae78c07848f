//! The forms in which an image is published, and which of them to read.

use super::Entry;
use crate::flash::DeltaMode;
use crate::image::OpenOptions;
use crate::{CancelToken, Client, Digest, Event, Image, Observer, Result};

/// Where an image can be read: as published, and perhaps also as a [packed image](crate::pack) with
/// the same content, from which a delta flash fetches only what the disk does not hold.
#[derive(Clone, Debug)]
pub struct ImageForms {
    src: String,
    options: OpenOptions,
    packed: Option<(String, Digest)>,
}

impl ImageForms {
    /// The image at `src`, opened with `options`, without a packed form.
    pub fn new(src: impl Into<String>, options: OpenOptions) -> Self {
        Self { src: src.into(), options, packed: None }
    }

    /// Adds the address of the packed form, and the SHA-256 of its index. Without either of them,
    /// there is no packed form: without the digest, nothing would prove its content.
    #[must_use]
    pub fn packed(mut self, src: Option<String>, index_sha256: Option<Digest>) -> Self {
        self.packed = src.zip(index_sha256);
        self
    }

    /// The addresses of all forms.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.packed.iter().map(|(src, _)| &**src).chain([&*self.src])
    }

    /// Options for the image as published.
    #[must_use]
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// Replaces the options for the image as published. If they require another digest or another
    /// member of an archive than before, only the image as published can fulfill them, so the
    /// packed form is not used.
    #[must_use]
    pub fn with_options(mut self, options: OpenOptions) -> Self {
        let required = |options: &OpenOptions| {
            let OpenOptions { sha256, sha512, image_sha256, pack_index_sha256, .. } = *options;
            (sha256, sha512, image_sha256, pack_index_sha256, options.member.clone())
        };
        if required(&options) != required(&self.options) || options.compute_sha256 {
            self.packed = None;
        }
        self.options = options;
        self
    }

    /// Calls `open` with the address of the packed form, unless there is none or `delta` is
    /// [`DeltaMode::Never`]. If that fails, reports it to `observer` and calls `open` with the
    /// image as published: the cache host that packed the image may have evicted the packed form.
    ///
    /// # Errors
    /// - [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) of either call.
    /// - Any error of `open` for the image as published.
    pub fn open_with<T>(
        &self,
        delta: DeltaMode,
        observer: &dyn Observer,
        open: impl FnMut(&str, &OpenOptions) -> Result<T>,
    ) -> Result<T> {
        let mut open = open;
        if let Some((packed, index_sha256)) = self.packed.as_ref()
            && delta != DeltaMode::Never
        {
            match open(packed, &OpenOptions::default().pack_index_sha256(*index_sha256)) {
                Err(error) if !error.is_cancelled() => {
                    let message = format!(
                        "using the image as published, because its packed form failed: {error:#}"
                    );
                    observer.event(&Event::Notice { message });
                }
                opened => return opened,
            }
        }
        open(&self.src, &self.options)
    }

    /// Opens the packed form for a flash with `delta`, or the image as published; see
    /// [`open_with`](Self::open_with). The observer of `client` learns of a packed form that
    /// failed.
    ///
    /// # Errors
    /// Those of [`Image::open`] for the image as published.
    pub fn open(&self, client: &Client, delta: DeltaMode, cancel: &CancelToken) -> Result<Image> {
        let observer = &*client.options().observer;
        self.open_with(delta, observer, |src, options| Image::open(client, src, options, cancel))
    }
}

impl Entry {
    /// The forms in which this image is published.
    #[must_use]
    pub fn forms(&self) -> ImageForms {
        ImageForms::new(self.src(), self.open_options())
            .packed(self.packed.clone(), self.index_sha256)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Error, ErrorKind};

    const PUBLISHED: &str = "https://h/a.img.gz";
    const PACKED: &str = "http://cache/a.img.zst";

    fn entry() -> Entry {
        let mut entry = Entry::new("a", PUBLISHED).unwrap();
        entry.sha256 = Some(Digest::of(b"file"));
        entry.packed = Some(PACKED.into());
        entry.index_sha256 = Some(Digest::of(b"index"));
        entry
    }

    /// The addresses that are opened, and the notices; addresses in `broken` fail with `kind`.
    fn opened(
        forms: &ImageForms,
        delta: DeltaMode,
        broken: Option<ErrorKind>,
    ) -> (Vec<(String, OpenOptions)>, Vec<String>) {
        let (mut tried, notices) = (Vec::new(), Mutex::new(Vec::new()));
        let observer = |event: &Event| {
            if let Event::Notice { message } = event {
                notices.lock().unwrap().push(message.clone());
            }
        };
        let _ = forms.open_with(delta, &observer, |src, options| {
            tried.push((src.to_owned(), options.clone()));
            match broken.filter(|_| src == PACKED) {
                Some(kind) => Err(Error::new(kind, "it is gone")),
                None => Ok(()),
            }
        });
        (tried, notices.into_inner().unwrap())
    }

    fn addresses(forms: &ImageForms, delta: DeltaMode) -> Vec<String> {
        opened(forms, delta, None).0.into_iter().map(|(src, _)| src).collect()
    }

    #[test]
    fn a_delta_flash_reads_the_packed_form_and_a_full_one_the_published_image() {
        for (delta, src) in
            [(DeltaMode::Auto, PACKED), (DeltaMode::Always, PACKED), (DeltaMode::Never, PUBLISHED)]
        {
            assert_eq!(addresses(&entry().forms(), delta), [src], "{delta}");
        }
    }

    #[test]
    fn each_form_has_its_own_digest() {
        let (tried, _) = opened(&entry().forms(), DeltaMode::Auto, Some(ErrorKind::Source));
        let [(_, packed), (_, published)] = tried.try_into().unwrap();
        let index = Some(Digest::of(b"index"));
        assert_eq!((packed.sha256, packed.pack_index_sha256), (None, index));
        let file = Some(Digest::of(b"file"));
        assert_eq!((published.sha256, published.pack_index_sha256), (file, None));
    }

    #[test]
    fn a_packed_form_that_fails_is_replaced_by_the_published_image() {
        let (tried, notices) = opened(&entry().forms(), DeltaMode::Auto, Some(ErrorKind::Source));
        assert_eq!(tried.len(), 2);
        assert_eq!(
            notices,
            ["using the image as published, because its packed form failed: it is gone"]
        );
    }

    #[test]
    fn cancelling_opens_nothing_else() {
        let (tried, notices) =
            opened(&entry().forms(), DeltaMode::Auto, Some(ErrorKind::Cancelled));
        assert_eq!((tried.len(), notices.len()), (1, 0));
    }

    #[test]
    fn a_digest_that_only_the_published_image_can_have_excludes_the_packed_form() {
        let options = entry().open_options();
        let same = entry().forms().with_options(options.clone().ignore_trailing(true));
        assert_eq!(addresses(&same, DeltaMode::Auto), [PACKED]);
        for options in [
            options.clone().sha256(Digest::of(b"another")),
            options.clone().image_sha256(Digest::of(b"disk")),
            options.clone().compute_sha256(true),
        ] {
            let forms = entry().forms().with_options(options);
            assert_eq!(addresses(&forms, DeltaMode::Always), [PUBLISHED]);
        }
    }

    #[test]
    fn a_packed_form_without_the_digest_of_its_index_is_not_used() {
        let mut entry = entry();
        entry.index_sha256 = None;
        assert_eq!(addresses(&entry.forms(), DeltaMode::Always), [PUBLISHED]);
    }
}
