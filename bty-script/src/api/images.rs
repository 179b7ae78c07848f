//! `images`.

use bty::image::directory::ImageFile;
use bty::{Digest, Location};
use rhai::plugin::*;
use rhai::{Array, Dynamic, NativeCallContext};

use crate::convert::{Size, from_rust};
use crate::error::{HostError, Outcome, raise};
use crate::host::{Capability, Host};
use crate::world::Image;

fn open_checked(context: &NativeCallContext<'_>, reference: &str, sha256: Option<Digest>) -> Outcome<Image> {
    let location: Location = reference.parse().map_err(raise)?;
    let mut host = Host::of(context, Capability::Read)?;
    if !matches!(location, Location::File(_)) {
        host = Host::of(context, Capability::Network)?;
    }
    let cancel = host.meter.operation();
    host.meter.with_buffers(|| host.world.images.open(reference, sha256, &cancel)).map_err(raise)
}

/// The image that a script means: opened, by reference, from a catalog or a directory, or as a plan names it.
pub(crate) fn from_value(context: &NativeCallContext<'_>, value: &Dynamic) -> Outcome<Image> {
    if let Some(image) = value.read_lock::<Image>() {
        return Ok(image.clone());
    }
    if let Some(text) = value.read_lock::<rhai::ImmutableString>() {
        return open_checked(context, &text, None);
    }
    let entry = value.read_lock::<bty::catalog::Entry>().map(|entry| (entry.src().to_owned(), entry.sha256));
    if let Some((src, sha256)) = entry {
        return open_checked(context, &src, sha256);
    }
    let file = value.read_lock::<ImageFile>().map(|file| bty::text::path_reference(&file.path));
    if let Some(path) = file {
        return open_checked(context, &path, None);
    }
    let Some(map) = value.read_lock::<rhai::Map>().map(|map| map.clone()) else {
        let message = format!("{} is no image", super::type_name(context, value));
        return Err(raise(
            HostError::usage(message).hint("give an image, a reference, an entry of a catalog, or a map with src"),
        ));
    };
    let field = |name: &str| map.get(name).and_then(|v| v.clone().into_string().ok()).filter(|v| !v.is_empty());
    let src = field("src").ok_or_else(|| raise(HostError::usage("the image of the plan has no src")))?;
    let sha256 = field("sha256").map(|text| text.parse()).transpose().map_err(raise)?;
    open_checked(context, &src, sha256)
}

#[export_module]
pub(super) mod functions {
    /// Opens the image at a path, `http://`, `https://` or `oras://` address, and finds out what it is.
    #[rhai_fn(return_raw)]
    pub fn open(context: NativeCallContext, reference: &str) -> Outcome<Image> {
        open_checked(&context, reference, None)
    }

    /// The same, for an image that must have this SHA-256 (64 hexadecimal digits, of the file as published).
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with_digest(context: NativeCallContext, reference: &str, sha256: &str) -> Outcome<Image> {
        open_checked(&context, reference, Some(sha256.parse().map_err(raise)?))
    }

    /// The image files in a directory, sorted by name.
    #[rhai_fn(return_raw)]
    pub fn list(context: NativeCallContext, dir: &str) -> Outcome<Array> {
        let files = Host::of(&context, Capability::Read)?.world.images.list(dir.as_ref()).map_err(raise)?;
        Ok(files.into_iter().map(Dynamic::from).collect())
    }

    /// Reads all of an image without writing it: `source_bytes`, `source_sha256`, `disk_bytes`, `data_bytes`. Fails when its digest is not as promised.
    #[rhai_fn(return_raw)]
    pub fn read_fully(context: NativeCallContext, image: Image) -> Outcome<Dynamic> {
        let host = Host::of(&context, Capability::Read)?;
        let cancel = host.meter.operation();
        let read = || host.world.images.read_fully(&image, &*host.world.observer, &cancel);
        let contents = host.meter.with_buffers(read);
        host.world.observer.over();
        from_rust(&contents.map_err(raise)?)
    }

    /// The architecture that a name suggests: `x86_64`, `arm64` …; `()` when none.
    pub fn architecture(name: &str) -> Dynamic {
        bty::image::name::architecture(name).map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The reference it was opened from.
    #[rhai_fn(global, get = "source", pure)]
    pub fn source(image: &mut Image) -> String {
        image.info.source.clone()
    }

    /// A short name for people.
    #[rhai_fn(global, get = "name", pure)]
    pub fn name(image: &mut Image) -> String {
        image.info.name.clone()
    }

    /// `raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or `qcow2`.
    #[rhai_fn(global, get = "format", pure)]
    pub fn format(image: &mut Image) -> String {
        image.info.format.to_string()
    }

    /// Size as it comes over the wire; `()` when the origin does not tell.
    #[rhai_fn(global, get = "source_bytes", pure)]
    pub fn source_bytes(image: &mut Image) -> Dynamic {
        image.info.source_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// Size of the disk image inside; `()` when it is known only after decoding.
    #[rhai_fn(global, get = "disk_bytes", pure)]
    pub fn disk_bytes(image: &mut Image) -> Dynamic {
        image.info.disk_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// The SHA-256 that its bytes must have; `()` when nobody declared one.
    #[rhai_fn(global, get = "expected_sha256", pure)]
    pub fn expected_sha256(image: &mut Image) -> Dynamic {
        image.info.expected_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// `gpt` or `mbr`; `()` without a partition table.
    #[rhai_fn(global, get = "table", pure, return_raw)]
    pub fn table(image: &mut Image) -> Outcome<Dynamic> {
        from_rust(&image.info.table)
    }

    /// Its partitions, as maps like those of a disk.
    #[rhai_fn(global, get = "partitions", pure, return_raw)]
    pub fn partitions(image: &mut Image) -> Outcome<Dynamic> {
        from_rust(&image.info.partitions)
    }

    /// Format, sizes and partition table in one line.
    #[rhai_fn(global, get = "summary", pure)]
    pub fn summary(image: &mut Image) -> String {
        image.info.summary()
    }

    /// Name and summary.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(image: &mut Image) -> String {
        format!("{} ({})", image.info.name, image.info.summary())
    }

    /// File name.
    #[rhai_fn(global, get = "name", pure)]
    pub fn file_name(file: &mut ImageFile) -> String {
        file.name.clone()
    }

    /// Directory and file name.
    #[rhai_fn(global, get = "path", pure)]
    pub fn file_path(file: &mut ImageFile) -> String {
        bty::text::path_reference(&file.path)
    }

    /// Format that the name suggests, such as `img.zst`.
    #[rhai_fn(global, get = "format", pure)]
    pub fn file_format(file: &mut ImageFile) -> String {
        file.format.to_owned()
    }

    /// Size of the file.
    #[rhai_fn(global, get = "size_bytes", pure)]
    pub fn file_size(file: &mut ImageFile) -> Size {
        Size(file.size_bytes)
    }

    /// The digest in its `.sha256` file; `()` when there is none.
    #[rhai_fn(global, get = "sha256", pure)]
    pub fn file_sha256(file: &mut ImageFile) -> Dynamic {
        file.sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Architecture that the name suggests; `()` when none.
    #[rhai_fn(global, get = "arch", pure)]
    pub fn file_arch(file: &mut ImageFile) -> Dynamic {
        file.arch.map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// Path and size.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn file_to_string(file: &mut ImageFile) -> String {
        format!("{} ({})", file.path.display(), bty::size::human(file.size_bytes))
    }
}
