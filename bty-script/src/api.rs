//! The functions that scripts call: a module a topic, with the words of the SDK.
//!
//! Every binding is a thin one: it asks the [`ScriptContext`](crate::ScriptContext) whether it may,
//! converts, and calls the library. Failures are raised as [`HostError`](crate::HostError)s only.

// what is public in a binding is what the macro exports; it unwraps what it has checked itself
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::any::TypeId;

use bty::Disk;
use bty::catalog::{Catalog, Entry};
use bty::flash::{FlashReport, VerifyReport};
use bty::image::directory::ImageFile;
use rhai::{Dynamic, Engine, NativeCallContext, exported_module};

use crate::convert::Size;
use crate::decide::Machine;
use crate::error::HostError;
use crate::world::Image;

mod arrays;
mod assert;
mod bounded;
mod catalog;
mod compare;
mod disks;
mod failure;
pub(crate) mod flash;
mod globals;
mod http;
mod images;
mod machine;
mod oci;
mod size;
mod system;
pub(crate) mod test;
mod ui;

/// The modules, in the order of the reference, and what they are about.
pub(crate) const MODULES: [(&str, &str); 9] = [
    ("disks", "what can be written to, and how to name it"),
    ("images", "what can be written: files, web servers, registries"),
    ("catalog", "lists of images"),
    ("oci", "artifacts in registries"),
    ("flash", "plan, write, prove; compare"),
    ("ui", "the person at the terminal"),
    ("system", "the machine around the disks"),
    ("http", "JSON to and from other machines"),
    ("test", "scripts run against described machines, in `*_test.rhai`"),
];

/// The host's types, as scripts name them, and what they are.
pub(crate) const TYPES: [(&str, &str); 12] = [
    ("Size", "a number of bytes; prints as people read it, compares and calculates exactly"),
    ("Disk", "a disk as found"),
    ("Image", "an opened image"),
    ("ImageFile", "an image file in a directory"),
    ("Catalog", "a list of images"),
    ("Entry", "an image of a catalog"),
    ("Plan", "what would be written where"),
    ("Report", "what was written"),
    ("Comparison", "what a disk and an image have in common"),
    ("Machine", "what a plan on a server decides about"),
    ("Error", "a failure of the host, as caught"),
    ("Outcome", "how a script ended that a test ran"),
];

/// The same types in Rust, to register something for each of them.
const HOST_TYPES: [fn() -> TypeId; 12] = [
    TypeId::of::<Size>,
    TypeId::of::<Disk>,
    TypeId::of::<Image>,
    TypeId::of::<ImageFile>,
    TypeId::of::<Catalog>,
    TypeId::of::<Entry>,
    TypeId::of::<flash::Plan>,
    TypeId::of::<FlashReport>,
    TypeId::of::<VerifyReport>,
    TypeId::of::<Machine>,
    TypeId::of::<HostError>,
    TypeId::of::<test::Outcome>,
];

/// The type of `value` as scripts name it, with an article.
pub(crate) fn type_name(context: &NativeCallContext<'_>, value: &Dynamic) -> String {
    let name = context.engine().map_type_name(value.type_name());
    format!("a value of type {}", name.rsplit("::").next().unwrap_or(name))
}

/// Registers everything.
pub(crate) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Size>("Size");
    engine.register_type_with_name::<Disk>("Disk");
    engine.register_type_with_name::<Image>("Image");
    engine.register_type_with_name::<ImageFile>("ImageFile");
    engine.register_type_with_name::<Catalog>("Catalog");
    engine.register_type_with_name::<Entry>("Entry");
    engine.register_type_with_name::<flash::Plan>("Plan");
    engine.register_type_with_name::<FlashReport>("Report");
    engine.register_type_with_name::<VerifyReport>("Comparison");
    engine.register_type_with_name::<Machine>("Machine");
    engine.register_type_with_name::<HostError>("Error");
    engine.register_type_with_name::<test::Outcome>("Outcome");

    engine.register_global_module(exported_module!(bounded::functions).into());
    engine.register_global_module(exported_module!(arrays::functions).into());
    engine.register_global_module(exported_module!(assert::functions).into());
    engine.register_global_module(exported_module!(size::functions).into());
    compare::register(engine);
    engine.register_global_module(exported_module!(failure::functions).into());
    engine.register_global_module(exported_module!(globals::functions).into());
    engine.register_global_module(exported_module!(machine::functions).into());
    engine.register_static_module("disks", exported_module!(disks::functions).into());
    engine.register_static_module("images", exported_module!(images::functions).into());
    engine.register_static_module("catalog", exported_module!(catalog::functions).into());
    engine.register_static_module("oci", exported_module!(oci::functions).into());
    engine.register_static_module("flash", exported_module!(flash::functions).into());
    engine.register_static_module("ui", exported_module!(ui::functions).into());
    engine.register_static_module("system", exported_module!(system::functions).into());
    engine.register_static_module("http", exported_module!(http::functions).into());
    engine.register_static_module("test", exported_module!(test::functions).into());
}

#[cfg(test)]
mod tests;
