//! `catalog`.

use bty::Location;
use bty::catalog::{self, Catalog, Entry};
use rhai::plugin::*;
use rhai::{Array, Dynamic, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::Size;
use crate::error::{Outcome, raise};

fn text(value: Option<&String>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |text| text.clone().into())
}

#[export_module]
pub(super) mod functions {
    /// Reads the catalog at a path, or an `http://`, `https://` or `oras://` address.
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, reference: &str) -> Outcome<Catalog> {
        let location: Location = reference.parse().map_err(raise)?;
        let mut host = ScriptContext::of(&context, Capability::Read)?;
        if !matches!(location, Location::File(_) | Location::Stdin) {
            host = ScriptContext::of(&context, Capability::Network)?;
        }
        host.world.images.catalog(reference, &host.meter.operation()).map_err(raise)
    }

    /// The catalog in a text.
    #[rhai_fn(return_raw)]
    pub fn parse(context: NativeCallContext, text: &str) -> Outcome<Catalog> {
        ScriptContext::behind(&context)?;
        Catalog::parse(text.as_bytes()).map_err(raise)
    }

    /// The canonical form of a source, from which its reference is made.
    #[rhai_fn(return_raw)]
    pub fn canonical_src(context: NativeCallContext, src: &str) -> Outcome<String> {
        ScriptContext::behind(&context)?;
        catalog::canonical_src(src).map_err(raise)
    }

    /// The reference of a source, by which machines are bound to it: 64 hexadecimal digits.
    #[rhai_fn(return_raw)]
    pub fn image_ref(context: NativeCallContext, src: &str) -> Outcome<String> {
        ScriptContext::behind(&context)?;
        catalog::image_ref(src).map(|digest| digest.to_string()).map_err(raise)
    }

    /// Where the public catalog of ready-made images is.
    pub fn default_url() -> String {
        catalog::DEFAULT_URL.to_owned()
    }

    /// The entry that a name or a reference means. Fails with names that are close.
    #[rhai_fn(global, name = "find", pure, return_raw)]
    pub fn find(catalog: &mut Catalog, name: &str) -> Outcome<Entry> {
        catalog.find(name).cloned().map_err(raise)
    }

    /// Its entries, in the order of the file.
    #[rhai_fn(global, get = "entries", pure)]
    pub fn entries(catalog: &mut Catalog) -> Array {
        catalog.entries().iter().cloned().map(Dynamic::from).collect()
    }

    /// How many images it has.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(catalog: &mut Catalog) -> String {
        format!("a catalog of {} images", catalog.entries().len())
    }

    /// Name, unique within the catalog.
    #[rhai_fn(global, get = "name", pure)]
    pub fn name(entry: &mut Entry) -> String {
        entry.name.clone()
    }

    /// Where the image is.
    #[rhai_fn(global, get = "src", pure)]
    pub fn src(entry: &mut Entry) -> String {
        entry.src().to_owned()
    }

    /// What machines are bound by: 64 hexadecimal digits.
    #[rhai_fn(global, get = "ref", pure)]
    pub fn reference(entry: &mut Entry) -> String {
        entry.image_ref().to_string()
    }

    /// What its bytes must digest to; `()` when the catalog does not tell.
    #[rhai_fn(global, get = "sha256", pure)]
    pub fn sha256(entry: &mut Entry) -> Dynamic {
        entry.sha256.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// What they must digest to with SHA-512; `()` when the catalog does not tell.
    #[rhai_fn(global, get = "sha512", pure)]
    pub fn sha512(entry: &mut Entry) -> Dynamic {
        entry.sha512.map_or(Dynamic::UNIT, |digest| digest.to_string().into())
    }

    /// Format such as `img.zst`; a hint. `()` when there is none.
    #[rhai_fn(global, get = "format", pure)]
    pub fn format(entry: &mut Entry) -> Dynamic {
        text(entry.format.as_ref())
    }

    /// Size over the wire; `()` when the catalog does not tell.
    #[rhai_fn(global, get = "size_bytes", pure)]
    pub fn size_bytes(entry: &mut Entry) -> Dynamic {
        entry.size_bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes)))
    }

    /// For people; `()` when there is none.
    #[rhai_fn(global, get = "description", pure)]
    pub fn description(entry: &mut Entry) -> Dynamic {
        text(entry.description.as_ref())
    }

    /// Architecture such as `x86_64`; `()` when it is not known.
    #[rhai_fn(global, get = "arch", pure)]
    pub fn arch(entry: &mut Entry) -> Dynamic {
        text(entry.arch.as_ref())
    }

    /// True when the catalog says that it is written although nothing in it may say that it is a
    /// disk.
    #[rhai_fn(global, get = "raw", pure)]
    pub fn raw(entry: &mut Entry) -> bool {
        entry.raw
    }

    /// Name and source.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn entry_to_string(entry: &mut Entry) -> String {
        format!("{} ({})", entry.name, entry.src())
    }
}
