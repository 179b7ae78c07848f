//! The functions that scripts call, one module per topic, with the names of the `bty` library.
//!
//! Every binding is thin: it requires the capability from the
//! [`ScriptContext`](crate::ScriptContext), converts the arguments, and calls the library. All
//! failures are [`HostError`](crate::HostError)s.

// The export macro requires public functions, and its code unwraps casts that it has checked.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::any::TypeId;

use bty::Disk;
use bty::catalog::{Catalog, Entry};
use bty::flash::{FlashReport, VerifyReport};
use bty::image::directory::ImageFile;
use rhai::{Dynamic, Engine, NativeCallContext, exported_module};

use crate::convert::Size;
use crate::error::HostError;
use crate::machine::PlanMachine;
use crate::test_run::TestRun;
use crate::world::{Image, PlannedFlash};

mod arrays;
mod assert;
mod bounded;
mod catalog;
mod compare;
mod disk_argument;
mod disks;
mod failure;
mod flash;
mod globals;
mod http;
mod images;
mod json;
mod machine;
mod oci;
mod size;
mod system;
pub(crate) mod test;
pub(crate) mod types;
mod ui;
mod unit;

/// Name and topic of each module, in the order of the reference.
pub(crate) const MODULES: [(&str, &str); 9] = [
    ("disks", "find disks, and name them reliably"),
    ("images", "open images from files, web servers and registries"),
    ("catalog", "read lists of images"),
    ("oci", "look up artifacts in registries"),
    ("flash", "plan a flash, inspect the plan, then execute it"),
    ("ui", "show text to the person at the terminal, and ask questions"),
    ("system", "facts about the machine, and the time"),
    ("http", "get and post JSON"),
    ("test", "run scripts on simulated machines, in `*_test.rhai` files"),
];

/// Name and meaning of each type that bty adds, as scripts see it.
pub(crate) const TYPES: [(&str, &str); 12] = [
    ("Size", "an exact number of bytes that prints in a readable unit"),
    ("Disk", "a disk, with the facts that bty found when it listed it"),
    ("Image", "an opened image"),
    ("ImageFile", "an image file in a directory"),
    ("Catalog", "a list of images"),
    ("Entry", "one image in a catalog"),
    ("Plan", "a planned flash: an image, its target disks and options"),
    ("Report", "the result of a flash"),
    ("Comparison", "the result of comparing a disk with an image"),
    ("Machine", "the machine that a plan on a server decides about"),
    ("Error", "the failure of a function, as `catch` gets it"),
    ("Outcome", "the result of a script that a test has run"),
];

/// The Rust types of [`TYPES`], in the same order.
const HOST_TYPES: [fn() -> TypeId; 12] = [
    TypeId::of::<Size>,
    TypeId::of::<Disk>,
    TypeId::of::<Image>,
    TypeId::of::<ImageFile>,
    TypeId::of::<Catalog>,
    TypeId::of::<Entry>,
    TypeId::of::<PlannedFlash>,
    TypeId::of::<FlashReport>,
    TypeId::of::<VerifyReport>,
    TypeId::of::<PlanMachine>,
    TypeId::of::<HostError>,
    TypeId::of::<TestRun>,
];

/// An argument of a function that is a map with certain keys.
pub(crate) struct OptionMap {
    pub(crate) module: &'static str,
    pub(crate) function: &'static str,
    /// Index of the argument.
    pub(crate) argument: usize,
    /// What a key is called in messages.
    pub(crate) noun: &'static str,
    pub(crate) keys: &'static [&'static str],
}

impl OptionMap {
    const fn new(
        module: &'static str,
        function: &'static str,
        argument: usize,
        noun: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        Self { module, function, argument, noun, keys }
    }
}

/// All arguments that are maps with certain keys.
pub(crate) const OPTION_MAPS: [OptionMap; 9] = [
    OptionMap::new("", "flash", 0, "key", &images::IMAGE_KEYS),
    OptionMap::new("", "flash", 2, "option", &flash::FLASH_OPTIONS),
    OptionMap::new("", "verify", 0, "key", &images::IMAGE_KEYS),
    OptionMap::new("flash", "plan", 0, "key", &images::IMAGE_KEYS),
    OptionMap::new("flash", "plan", 2, "option", &flash::FLASH_OPTIONS),
    OptionMap::new("images", "open", 1, "option", &images::OPEN_OPTIONS),
    OptionMap::new("images", "pack", 0, "key", &images::IMAGE_KEYS),
    OptionMap::new("images", "pack", 2, "option", &images::PACK_OPTIONS),
    OptionMap::new("images", "create", 2, "option", &images::CREATE_OPTIONS),
];

/// "a value of type T", with T as scripts name it.
pub(crate) fn type_name(context: &NativeCallContext<'_>, value: &Dynamic) -> String {
    let name = context.engine().map_type_name(value.type_name());
    format!("a value of type {}", name.rsplit("::").next().unwrap_or(name))
}

/// Registers all types, operators and functions.
pub(crate) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Size>("Size");
    engine.register_type_with_name::<Disk>("Disk");
    engine.register_type_with_name::<Image>("Image");
    engine.register_type_with_name::<ImageFile>("ImageFile");
    engine.register_type_with_name::<Catalog>("Catalog");
    engine.register_type_with_name::<Entry>("Entry");
    engine.register_type_with_name::<PlannedFlash>("Plan");
    engine.register_type_with_name::<FlashReport>("Report");
    engine.register_type_with_name::<VerifyReport>("Comparison");
    engine.register_type_with_name::<PlanMachine>("Machine");
    engine.register_type_with_name::<HostError>("Error");
    engine.register_type_with_name::<TestRun>("Outcome");

    engine.register_global_module(exported_module!(bounded::functions).into());
    engine.register_global_module(exported_module!(arrays::functions).into());
    engine.register_global_module(exported_module!(assert::functions).into());
    engine.register_global_module(exported_module!(size::functions).into());
    compare::register(engine);
    engine.register_global_module(exported_module!(failure::functions).into());
    engine.register_global_module(exported_module!(globals::functions).into());
    engine.register_global_module(exported_module!(json::functions).into());
    engine.register_global_module(exported_module!(unit::functions).into());
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
