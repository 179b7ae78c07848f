//! The module `images`, and the types `Image` and `ImageFile`.

use bty::catalog::ImageForms;
use bty::create::CreateOptions;
use bty::digest::Sha512;
use bty::flash::DeltaMode;
use bty::image::OpenOptions;
use bty::image::directory::ImageFile;
use bty::pack::PackOptions;
use bty::{Digest, Location};
use rhai::plugin::*;
use rhai::{Dynamic, Map, NativeCallContext};

use crate::api::types::{
    AnyDisk, AnyImage, ImageFiles, Maps, MaybeMap, MaybeSize, MaybeString, Object,
};
use crate::context::{Capability, ScriptContext};
use crate::convert::{Size, from_rust};
use crate::error::{CallResult, HostError, raise};
use crate::world::Image;

pub(super) const OPEN_OPTIONS: [&str; 8] = [
    "sha256",
    "sha512",
    "image_sha256",
    "index_sha256",
    "ignore_sidecar",
    "member",
    "ignore_trailing",
    "compute_sha256",
];
pub(super) const PACK_OPTIONS: [&str; 2] = ["level", "frame_bytes"];
pub(super) const CREATE_OPTIONS: [&str; 1] = ["shrink"];
/// Keys of the map of an image, as a plan has it.
pub(super) const IMAGE_KEYS: [&str; 10] = [
    "src",
    "name",
    "sha256",
    "sha512",
    "image_sha256",
    "raw",
    "packed",
    "index_sha256",
    "delta",
    "proven_disk",
];

fn open_checked(
    call: &NativeCallContext<'_>,
    reference: &str,
    options: &OpenOptions,
) -> CallResult<Image> {
    let location: Location = reference.parse().map_err(raise)?;
    let mut context = ScriptContext::require(call, Capability::Read)?;
    if !matches!(location, Location::File(_) | Location::Stdin) {
        context = ScriptContext::require(call, Capability::Network)?;
    }
    let cancel = context.meter.operation();
    let open = || context.world.images.open(reference, options, &cancel);
    context.meter.with_buffers(open).map_err(raise)
}

/// Opens the packed form of an image for a delta flash, or the image as published.
fn open_forms(
    call: &NativeCallContext<'_>,
    forms: &ImageForms,
    delta: DeltaMode,
) -> CallResult<Image> {
    let context = ScriptContext::require(call, Capability::Read)?;
    if forms.addresses().any(is_remote) {
        ScriptContext::require(call, Capability::Network)?;
    }
    let cancel = context.meter.operation();
    let world = &context.world;
    let open = |src: &str, options: &OpenOptions| {
        context.meter.with_buffers(|| world.images.open(src, options, &cancel))
    };
    forms.open_with(delta, &*world.observer, open).map_err(raise)
}

/// True for an address that is read over the network, and for a malformed one.
fn is_remote(address: &str) -> bool {
    !matches!(address.parse(), Ok(Location::File(_) | Location::Stdin))
}

/// Opens the image that a script passed: an `Image`, a reference, an `Entry`, an `ImageFile`, or
/// the map of a plan. With `delta`, opens the packed form where an entry or a map has one.
pub(crate) fn from_value(
    call: &NativeCallContext<'_>,
    value: &Dynamic,
    delta: DeltaMode,
) -> CallResult<Image> {
    if let Some(image) = value.read_lock::<Image>() {
        return Ok(image.clone());
    }
    if let Some(text) = value.read_lock::<rhai::ImmutableString>() {
        return open_checked(call, &text, &OpenOptions::default());
    }
    let entry = value.read_lock::<bty::catalog::Entry>().map(|entry| entry.forms());
    if let Some(forms) = entry {
        return open_forms(call, &forms, delta);
    }
    let file = value.read_lock::<ImageFile>().map(|file| bty::text::path_reference(&file.path));
    if let Some(path) = file {
        return open_checked(call, &path, &OpenOptions::default());
    }
    let Some(map) = value.read_lock::<rhai::Map>().map(|map| map.clone()) else {
        let message = format!("cannot open {} as an image", super::type_name(call, value));
        return Err(raise(
            HostError::usage(message)
                .hint("pass an image, a reference, an entry of a catalog, or a map with src"),
        ));
    };
    let src = text_of(&map, "src").ok_or_else(|| {
        raise(HostError::usage("cannot open the image of the plan: it has no src"))
    })?;
    let forms = ImageForms::new(src, promised(&map)?)
        .packed(text_of(&map, "packed"), digest_of(&map, "index_sha256")?);
    open_forms(call, &forms, delta)
}

fn text_of(map: &rhai::Map, name: &str) -> Option<String> {
    map.get(name).and_then(|value| value.clone().into_string().ok()).filter(|text| !text.is_empty())
}

/// The digests in a map: `sha256`, `sha512`, `image_sha256`, `index_sha256`.
fn promised(map: &rhai::Map) -> CallResult<OpenOptions> {
    // with a packed form, it is that of its index
    let index = digest_of::<Digest>(map, "index_sha256")?;
    Ok(OpenOptions::default()
        .sha256(digest_of::<Digest>(map, "sha256")?)
        .sha512(digest_of::<Sha512>(map, "sha512")?)
        .image_sha256(digest_of::<Digest>(map, "image_sha256")?)
        .pack_index_sha256(index.filter(|_| text_of(map, "packed").is_none())))
}

fn digest_of<T: std::str::FromStr<Err = bty::Error>>(
    map: &rhai::Map,
    name: &str,
) -> CallResult<Option<T>> {
    text_of(map, name).map(|text| text.parse()).transpose().map_err(raise)
}

/// Unknown options fail: a misspelled one may be the digest that proves the image.
fn open_options(map: &Map) -> CallResult<OpenOptions> {
    let mut options = promised(map)?;
    for (name, value) in map {
        let flag = || flag("open", name, value);
        match name.as_str() {
            "sha256" | "sha512" | "image_sha256" | "index_sha256" | "member" => {
                if !value.is_unit() && !value.is_string() {
                    let message = format!("the option {name} of open must be a string");
                    return Err(raise(HostError::usage(message)));
                }
            }
            "ignore_sidecar" => options.ignore_sidecar = flag()?,
            "ignore_trailing" => options.ignore_trailing = flag()?,
            "compute_sha256" => options.compute_sha256 = flag()?,
            _ => return Err(unknown_option("open", name, &OPEN_OPTIONS)),
        }
    }
    options.member = text_of(map, "member");
    Ok(options)
}

fn pack_options(map: &Map) -> CallResult<PackOptions> {
    let mut options = PackOptions::default();
    for (name, value) in map {
        match name.as_str() {
            "level" => {
                let level = value.as_int().ok().and_then(|level| i32::try_from(level).ok());
                options.level = level.ok_or_else(|| {
                    raise(HostError::usage(
                        "the option level of pack must be a number from 1 to 19",
                    ))
                })?;
            }
            "frame_bytes" => {
                let bytes = Size::from_dynamic(value)?.0;
                options.frame_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            }
            _ => return Err(unknown_option("pack", name, &PACK_OPTIONS)),
        }
    }
    Ok(options)
}

fn create_options(map: &Map) -> CallResult<CreateOptions> {
    let mut options = CreateOptions::default();
    for (name, value) in map {
        match name.as_str() {
            "shrink" => options.shrink = flag("create", name, value)?,
            _ => return Err(unknown_option("create", name, &CREATE_OPTIONS)),
        }
    }
    Ok(options)
}

fn flag(function: &str, name: &str, value: &Dynamic) -> CallResult<bool> {
    value.as_bool().map_err(|_| {
        let message = format!("the option {name} of {function} must be true or false");
        raise(HostError::usage(message))
    })
}

fn unknown_option(function: &str, name: &str, known: &[&str]) -> Box<EvalAltResult> {
    let hint = format!("the options are {}", known.join(", "));
    raise(HostError::usage(format!("unknown option {name} of {function}")).hint(hint))
}

fn pack(
    call: &NativeCallContext<'_>,
    image: &Dynamic,
    path: &str,
    options: &Map,
) -> CallResult<Object> {
    let context = ScriptContext::require(call, Capability::Flash)?;
    let options = pack_options(options)?;
    let image = from_value(call, image, DeltaMode::Auto)?;
    let (flasher, observer) = (&context.world.flasher, &context.world.observer);
    let cancel = context.meter.operation();
    let pack = || flasher.pack(&image, path.as_ref(), &options, &**observer, &cancel);
    let report = context.meter.with_buffers(pack);
    observer.finished();
    from_rust(&report.map_err(raise)?)
}

fn create(
    call: &NativeCallContext<'_>,
    disk: &Dynamic,
    path: &str,
    options: &Map,
) -> CallResult<Object> {
    let context = ScriptContext::require(call, Capability::Flash)?;
    let options = create_options(options)?;
    let disk = super::disk_argument::one_disk(call, disk)?;
    let (flasher, observer) = (&context.world.flasher, &context.world.observer);
    let cancel = context.meter.operation();
    let create = || flasher.create_image(&disk, path.as_ref(), &options, &**observer, &cancel);
    let report = context.meter.with_buffers(create);
    observer.finished();
    from_rust(&report.map_err(raise)?)
}

#[export_module]
pub(super) mod functions {
    /// Opens the image at a path or an `http://`, `https://` or `oras://` reference, and detects
    /// its format and contents.
    #[rhai_fn(return_raw)]
    pub fn open(call: NativeCallContext, reference: &str) -> CallResult<Image> {
        open_checked(&call, reference, &OpenOptions::default())
    }

    /// Opens an image and requires this SHA-256 of the file as published (64 hexadecimal digits).
    /// The digest is checked when the image is read.
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with_digest(
        call: NativeCallContext,
        reference: &str,
        sha256: &str,
    ) -> CallResult<Image> {
        let sha256: Digest = sha256.parse().map_err(raise)?;
        open_checked(&call, reference, &OpenOptions::default().sha256(sha256))
    }

    /// Opens an image with options. Digests are required, and checked when the image is read:
    /// `sha256` and `sha512` of the file as published, `image_sha256` of the disk image inside a
    /// compressed file, `index_sha256` of the index of a packed image, which is checked now.
    /// `compute_sha256: true` computes the SHA-256 of the file even if none is
    /// required. `member` is the name of the image in an archive. `ignore_sidecar` ignores the
    /// `.sha256` file beside a local image, `ignore_trailing` bytes after compressed data.
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with(call: NativeCallContext, reference: &str, options: Map) -> CallResult<Image> {
        open_checked(&call, reference, &open_options(&options)?)
    }

    /// Lists the image files in a directory, sorted by name.
    #[rhai_fn(return_raw)]
    pub fn list(call: NativeCallContext, dir: &str) -> CallResult<ImageFiles> {
        let files = ScriptContext::require(&call, Capability::Read)?
            .world
            .images
            .list(dir.as_ref())
            .map_err(raise)?;
        Ok(files.into_iter().map(Dynamic::from).collect())
    }

    /// Reads a whole image without writing it. Returns a map with `source_bytes`, `source_sha256`,
    /// `disk_bytes`, `data_bytes`. Fails if a digest differs from the expected one.
    #[rhai_fn(return_raw)]
    pub fn read_fully(call: NativeCallContext, image: Image) -> CallResult<Object> {
        let context = ScriptContext::require(&call, Capability::Read)?;
        let cancel = context.meter.operation();
        let read = || context.world.images.read_fully(&image, &*context.world.observer, &cancel);
        let contents = context.meter.with_buffers(read);
        context.world.observer.finished();
        from_rust(&contents.map_err(raise)?)
    }

    /// Writes an image to `path` as a packed image: a zstd file whose parts can be read alone.
    /// Reads it back and checks it. The name must end in `.zst`, and no such file may exist.
    /// Returns a map with `source`, `path`, `disk_bytes`, `data_bytes`, `frames`, `index_bytes`,
    /// `file_bytes`, `sha256`, `index_sha256`, `elapsed_ms`.
    #[rhai_fn(name = "pack", return_raw)]
    pub fn pack_plainly(
        call: NativeCallContext,
        image: AnyImage,
        path: &str,
    ) -> CallResult<Object> {
        super::pack(&call, &image, path, &Map::new())
    }

    /// Packs an image with options: `level` of zstd, 1 to 19 (default 3), and `frame_bytes`, the
    /// size of its parts (default `"64 KiB"`).
    #[rhai_fn(name = "pack", return_raw)]
    pub fn pack_with(
        call: NativeCallContext,
        image: AnyImage,
        path: &str,
        options: Map,
    ) -> CallResult<Object> {
        super::pack(&call, &image, path, &options)
    }

    /// Compares every part of a packed image with its index. Returns a map with `disk_bytes`,
    /// `data_bytes`, `frames`, `sha256`, `index_sha256`. Fails if a part differs, and for an image
    /// that is not packed.
    #[rhai_fn(return_raw)]
    pub fn check_packed(call: NativeCallContext, image: AnyImage) -> CallResult<Object> {
        let context = ScriptContext::require(&call, Capability::Read)?;
        let image = from_value(&call, &image, DeltaMode::Auto)?;
        let cancel = context.meter.operation();
        let check = || context.world.images.check_packed(&image, &cancel);
        from_rust(&context.meter.with_buffers(check).map_err(raise)?)
    }

    /// Writes an image of a disk to `path`, and compares the two. The name decides the format:
    /// `.img`, `.img.zst` or `.qcow2`. Returns a map with `disk`, `path`, `format`, `disk_bytes`,
    /// `data_bytes`, `file_bytes`, `sha256`, `elapsed_ms`.
    #[rhai_fn(name = "create", return_raw)]
    pub fn create_plainly(
        call: NativeCallContext,
        disk: AnyDisk,
        path: &str,
    ) -> CallResult<Object> {
        super::create(&call, &disk, path, &Map::new())
    }

    /// Creates an image with the option `shrink`: true ends the image after the last partition.
    #[rhai_fn(name = "create", return_raw)]
    pub fn create_with(
        call: NativeCallContext,
        disk: AnyDisk,
        path: &str,
        options: Map,
    ) -> CallResult<Object> {
        super::create(&call, &disk, path, &options)
    }

    /// The architecture that a file name suggests, such as `x86_64` or `arm64`; `()` if none.
    pub fn architecture(name: &str) -> MaybeString {
        bty::image::name::architecture(name).map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The reference that the image was opened from.
    #[rhai_fn(global, get = "source", pure)]
    pub fn source(image: &mut Image) -> String {
        image.info.source.clone()
    }

    /// A short name for people.
    #[rhai_fn(global, get = "name", pure)]
    pub fn name(image: &mut Image) -> String {
        image.info.name.clone()
    }

    /// Format: `raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or `qcow2`.
    #[rhai_fn(global, get = "format", pure)]
    pub fn format(image: &mut Image) -> String {
        image.info.format.to_string()
    }

    /// Size of the file as published; `()` if the server does not report it.
    #[rhai_fn(global, get = "source_bytes", pure)]
    pub fn source_bytes(image: &mut Image) -> MaybeSize {
        image.info.source_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// Size of the disk image inside; `()` if it is known only after decoding.
    #[rhai_fn(global, get = "disk_bytes", pure)]
    pub fn disk_bytes(image: &mut Image) -> MaybeSize {
        image.info.disk_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// The expected SHA-256 of the file as published; `()` if none was given.
    #[rhai_fn(global, get = "expected_sha256", pure)]
    pub fn expected_sha256(image: &mut Image) -> MaybeString {
        image.info.expected_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// The expected SHA-512 of the file as published; `()` if none was given.
    #[rhai_fn(global, get = "expected_sha512", pure)]
    pub fn expected_sha512(image: &mut Image) -> MaybeString {
        image.info.expected_sha512.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// The expected SHA-256 of the disk image inside; `()` if none was given.
    #[rhai_fn(global, get = "expected_image_sha256", pure)]
    pub fn expected_image_sha256(image: &mut Image) -> MaybeString {
        image.info.expected_image_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// SHA-256 of the index of a packed image; `()` if it is not packed.
    #[rhai_fn(global, get = "pack_index_sha256", pure)]
    pub fn pack_index_sha256(image: &mut Image) -> MaybeString {
        image.info.pack_index_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Partition table: `gpt` or `mbr`; `()` if there is none.
    #[rhai_fn(global, get = "table", pure, return_raw)]
    pub fn table(image: &mut Image) -> CallResult<MaybeString> {
        from_rust(&image.info.table)
    }

    /// The partitions: maps like those of `Disk.partitions`.
    #[rhai_fn(global, get = "partitions", pure, return_raw)]
    pub fn partitions(image: &mut Image) -> CallResult<Maps> {
        from_rust(&image.info.partitions)
    }

    /// File system, RAID or LVM signature of an image without partitions: a map with `kind` and
    /// `label`; `()` if there is none.
    #[rhai_fn(global, get = "content", pure, return_raw)]
    pub fn content(image: &mut Image) -> CallResult<MaybeMap> {
        from_rust(&image.info.content)
    }

    /// True if a partition table, file system or boot sector was found. Other images are written
    /// only with the option `raw: true`.
    #[rhai_fn(global, get = "is_recognized", pure)]
    pub fn is_recognized(image: &mut Image) -> bool {
        image.info.is_recognized
    }

    /// Format, sizes and partition table in one line.
    #[rhai_fn(global, get = "summary", pure)]
    pub fn summary(image: &mut Image) -> String {
        image.info.summary()
    }

    /// Name and summary in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(image: &mut Image) -> String {
        format!("{} ({})", image.info.name, image.info.summary())
    }

    /// Name of the file, without its directory.
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

    /// The digest in the `.sha256` file beside the image; `()` if there is none.
    #[rhai_fn(global, get = "sha256", pure)]
    pub fn file_sha256(file: &mut ImageFile) -> MaybeString {
        file.sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Architecture that the name suggests; `()` if none.
    #[rhai_fn(global, get = "arch", pure)]
    pub fn file_arch(file: &mut ImageFile) -> MaybeString {
        file.arch.map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// Path and size, for display.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn file_to_string(file: &mut ImageFile) -> String {
        format!("{} ({})", file.path.display(), bty::size::human(file.size_bytes))
    }
}
