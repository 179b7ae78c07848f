//! `images`.

use bty::Location;
use bty::image::OpenOptions;
use bty::image::directory::ImageFile;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::{Size, from_rust};
use crate::error::{HostError, Outcome, raise};
use crate::world::Image;

fn open_checked(
    context: &NativeCallContext<'_>,
    reference: &str,
    options: &OpenOptions,
) -> Outcome<Image> {
    let location: Location = reference.parse().map_err(raise)?;
    let mut host = ScriptContext::of(context, Capability::Read)?;
    if !matches!(location, Location::File(_) | Location::Stdin) {
        host = ScriptContext::of(context, Capability::Network)?;
    }
    let cancel = host.meter.operation();
    host.meter.with_buffers(|| host.world.images.open(reference, options, &cancel)).map_err(raise)
}

/// The image that a script means: opened, by reference, from a catalog or a directory, or as a plan
/// names it.
pub(crate) fn from_value(context: &NativeCallContext<'_>, value: &Dynamic) -> Outcome<Image> {
    if let Some(image) = value.read_lock::<Image>() {
        return Ok(image.clone());
    }
    if let Some(text) = value.read_lock::<rhai::ImmutableString>() {
        return open_checked(context, &text, &OpenOptions::default());
    }
    let entry = value
        .read_lock::<bty::catalog::Entry>()
        .map(|entry| (entry.src().to_owned(), entry.checksums()));
    if let Some((src, promised)) = entry {
        let options = OpenOptions {
            sha256: promised.sha256,
            sha512: promised.sha512,
            ..OpenOptions::default()
        };
        return open_checked(context, &src, &options);
    }
    let file = value.read_lock::<ImageFile>().map(|file| bty::text::path_reference(&file.path));
    if let Some(path) = file {
        return open_checked(context, &path, &OpenOptions::default());
    }
    let Some(map) = value.read_lock::<rhai::Map>().map(|map| map.clone()) else {
        let message = format!("{} is no image", super::type_name(context, value));
        return Err(raise(
            HostError::usage(message)
                .hint("give an image, a reference, an entry of a catalog, or a map with src"),
        ));
    };
    let src = text_of(&map, "src")
        .ok_or_else(|| raise(HostError::usage("the image of the plan has no src")))?;
    open_checked(context, &src, &promised(&map)?)
}

fn text_of(map: &rhai::Map, name: &str) -> Option<String> {
    map.get(name).and_then(|value| value.clone().into_string().ok()).filter(|text| !text.is_empty())
}

/// The digests in a map: `sha256`, `sha512`, `image_sha256`.
fn promised(map: &rhai::Map) -> Outcome<OpenOptions> {
    fn parsed<T: std::str::FromStr<Err = bty::Error>>(
        map: &rhai::Map,
        name: &str,
    ) -> Outcome<Option<T>> {
        text_of(map, name).map(|text| text.parse()).transpose().map_err(raise)
    }
    let mut options = OpenOptions { sha256: parsed(map, "sha256")?, ..OpenOptions::default() };
    options.sha512 = parsed(map, "sha512")?;
    options.image_sha256 = parsed(map, "image_sha256")?;
    Ok(options)
}

#[export_module]
pub(super) mod functions {
    /// Opens the image at a path, `http://`, `https://` or `oras://` address, and finds out what it
    /// is.
    #[rhai_fn(return_raw)]
    pub fn open(context: NativeCallContext, reference: &str) -> Outcome<Image> {
        open_checked(&context, reference, &OpenOptions::default())
    }

    /// The same, for an image that must have this SHA-256 (64 hexadecimal digits, of the file as
    /// published).
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with_digest(
        context: NativeCallContext,
        reference: &str,
        sha256: &str,
    ) -> Outcome<Image> {
        let options =
            OpenOptions { sha256: Some(sha256.parse().map_err(raise)?), ..OpenOptions::default() };
        open_checked(&context, reference, &options)
    }

    /// The same with digests of several kinds, all of which must hold: `sha256` and `sha512` of the
    /// file as published, `image_sha256` of the disk image inside a compressed file.
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with_digests(
        context: NativeCallContext,
        reference: &str,
        digests: Map,
    ) -> Outcome<Image> {
        let known = ["sha256", "sha512", "image_sha256"];
        if let Some(unknown) = digests.keys().find(|key| !known.contains(&key.as_str())) {
            let error = HostError::usage(format!("{unknown} is no kind of digest"));
            return Err(raise(error.hint("give sha256, sha512 or image_sha256")));
        }
        open_checked(&context, reference, &promised(&digests)?)
    }

    /// The image files in a directory, sorted by name.
    #[rhai_fn(return_raw)]
    pub fn list(context: NativeCallContext, dir: &str) -> Outcome<Array> {
        let files = ScriptContext::of(&context, Capability::Read)?
            .world
            .images
            .list(dir.as_ref())
            .map_err(raise)?;
        Ok(files.into_iter().map(Dynamic::from).collect())
    }

    /// Reads all of an image without writing it: `source_bytes`, `source_sha256`, `disk_bytes`,
    /// `data_bytes`. Fails when its digest is not as promised.
    #[rhai_fn(return_raw)]
    pub fn read_fully(context: NativeCallContext, image: Image) -> Outcome<Dynamic> {
        let host = ScriptContext::of(&context, Capability::Read)?;
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

    /// The SHA-512 that its bytes must have; `()` when nobody declared one.
    #[rhai_fn(global, get = "expected_sha512", pure)]
    pub fn expected_sha512(image: &mut Image) -> Dynamic {
        image.info.expected_sha512.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// The SHA-256 that the disk image inside must have; `()` when nobody declared one.
    #[rhai_fn(global, get = "expected_image_sha256", pure)]
    pub fn expected_image_sha256(image: &mut Image) -> Dynamic {
        image.info.expected_image_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
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

    /// File system, RAID or LVM signature on the whole image, as a map with `kind` and `label`;
    /// `()` without one.
    #[rhai_fn(global, get = "content", pure, return_raw)]
    pub fn content(image: &mut Image) -> Outcome<Dynamic> {
        from_rust(&image.info.content)
    }

    /// True when a partition table, a file system or a boot sector was found in it; others are
    /// written only with `raw: true`.
    #[rhai_fn(global, get = "is_recognized", pure)]
    pub fn is_recognized(image: &mut Image) -> bool {
        image.info.is_recognized
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
