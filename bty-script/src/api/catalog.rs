//! The module `catalog`, and the types `Catalog` and `Entry`.

use bty::Location;
use bty::catalog::{self, Catalog, Entry};
use rhai::plugin::*;
use rhai::{Dynamic, NativeCallContext};

use crate::api::types::{Entries, MaybeSize, MaybeString};
use crate::context::{Capability, ScriptContext};
use crate::convert::Size;
use crate::error::{CallResult, raise};

fn text(value: Option<&String>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |text| text.clone().into())
}

#[export_module]
pub(super) mod functions {
    /// Reads the catalog at a path or an `http://`, `https://` or `oras://` reference.
    #[rhai_fn(return_raw)]
    pub fn load(call: NativeCallContext, reference: &str) -> CallResult<Catalog> {
        let location: Location = reference.parse().map_err(raise)?;
        let mut context = ScriptContext::require(&call, Capability::Read)?;
        if !matches!(location, Location::File(_) | Location::Stdin) {
            context = ScriptContext::require(&call, Capability::Network)?;
        }
        context.world.images.catalog(reference, &context.meter.operation()).map_err(raise)
    }

    /// Parses a catalog in TOML.
    #[rhai_fn(return_raw)]
    pub fn parse(call: NativeCallContext, text: &str) -> CallResult<Catalog> {
        ScriptContext::from_call(&call)?;
        Catalog::parse(text.as_bytes()).map_err(raise)
    }

    /// The canonical form of an image's source; its reference is computed from this.
    #[rhai_fn(return_raw)]
    pub fn canonical_src(call: NativeCallContext, src: &str) -> CallResult<String> {
        ScriptContext::from_call(&call)?;
        catalog::canonical_src(src).map_err(raise)
    }

    /// The reference of an image by its source: 64 hexadecimal digits. A server assigns images to
    /// machines by it.
    #[rhai_fn(return_raw)]
    pub fn image_ref(call: NativeCallContext, src: &str) -> CallResult<String> {
        ScriptContext::from_call(&call)?;
        catalog::image_ref(src).map(|digest| digest.to_string()).map_err(raise)
    }

    /// URL of the public catalog of ready-made images.
    pub fn default_url() -> String {
        catalog::DEFAULT_URL.to_owned()
    }

    /// The entry with this name or reference. Fails if there is none, and suggests similar names.
    #[rhai_fn(global, name = "find", pure, return_raw)]
    pub fn find(catalog: &mut Catalog, name: &str) -> CallResult<Entry> {
        catalog.find(name).cloned().map_err(raise)
    }

    /// The entries, in the order of the file.
    #[rhai_fn(global, get = "entries", pure)]
    pub fn entries(catalog: &mut Catalog) -> Entries {
        catalog.entries().iter().cloned().map(Dynamic::from).collect()
    }

    /// The number of images.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(catalog: &mut Catalog) -> String {
        format!("a catalog of {}", bty::text::count(catalog.entries().len(), "image"))
    }

    /// Name of the image, unique within the catalog.
    #[rhai_fn(global, get = "name", pure)]
    pub fn name(entry: &mut Entry) -> String {
        entry.name.clone()
    }

    /// Source of the image: an `http://`, `https://`, `oras://` or `file://` reference.
    #[rhai_fn(global, get = "src", pure)]
    pub fn src(entry: &mut Entry) -> String {
        entry.src().to_owned()
    }

    /// Reference of the image: 64 hexadecimal digits. A server assigns images to machines by it.
    #[rhai_fn(global, get = "ref", pure)]
    pub fn reference(entry: &mut Entry) -> String {
        entry.image_ref().to_string()
    }

    /// SHA-256 of the file as published; `()` if the catalog does not list one.
    #[rhai_fn(global, get = "sha256", pure)]
    pub fn sha256(entry: &mut Entry) -> MaybeString {
        entry.sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// SHA-512 of the file as published; `()` if the catalog does not list one.
    #[rhai_fn(global, get = "sha512", pure)]
    pub fn sha512(entry: &mut Entry) -> MaybeString {
        entry.sha512.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Address of the same disk image as a packed image; `()` if there is none.
    #[rhai_fn(global, get = "packed", pure)]
    pub fn packed(entry: &mut Entry) -> MaybeString {
        text(entry.packed.as_ref())
    }

    /// SHA-256 of the index of the packed image: the one at `packed`, or the image itself; `()` if
    /// the catalog does not list one.
    #[rhai_fn(global, get = "index_sha256", pure)]
    pub fn index_sha256(entry: &mut Entry) -> MaybeString {
        entry.index_sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Format such as `img.zst`; a hint. `()` when there is none.
    #[rhai_fn(global, get = "format", pure)]
    pub fn format(entry: &mut Entry) -> MaybeString {
        text(entry.format.as_ref())
    }

    /// Size of the file as published; `()` if the catalog does not list it.
    #[rhai_fn(global, get = "size_bytes", pure)]
    pub fn size_bytes(entry: &mut Entry) -> MaybeSize {
        entry.size_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// Description for people; `()` if there is none.
    #[rhai_fn(global, get = "description", pure)]
    pub fn description(entry: &mut Entry) -> MaybeString {
        text(entry.description.as_ref())
    }

    /// Architecture such as `x86_64`; `()` if unknown.
    #[rhai_fn(global, get = "arch", pure)]
    pub fn arch(entry: &mut Entry) -> MaybeString {
        text(entry.arch.as_ref())
    }

    /// True if the catalog allows writing the image even if no partition table, file system or boot
    /// sector is found in it.
    #[rhai_fn(global, get = "raw", pure)]
    pub fn raw(entry: &mut Entry) -> bool {
        entry.raw
    }

    /// Name and source in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn entry_to_string(entry: &mut Entry) -> String {
        format!("{} ({})", entry.name, entry.src())
    }
}
