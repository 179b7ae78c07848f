//! Types of arguments and results that rhai has no names for: choices, and arrays of something.
//!
//! For Rust each is a [`Dynamic`] or an [`Array`]. The [reference](crate::reference) shows what it
//! stands for.

// the names describe scripts, not Rust
#![allow(missing_docs)]

use rhai::{Array, Dynamic};

/// Defines the types, and the table of what the reference shows for them.
macro_rules! script_types {
    ($($name:ident = $rust:ty, $shown:literal;)+) => {
        $(pub type $name = $rust;)+
        /// Rust names, and what scripts know them as.
        pub(crate) const SHOWN: &[(&str, &str)] = &[$((stringify!($name), $shown)),+];
    };
}

script_types! {
    AnyImage = Dynamic, "Image | ImageFile | Entry | String | map";
    AnyDisk = Dynamic, "Disk | String";
    AnyDisks = Dynamic, "Disk | String | [Disk | String]";
    AnySize = Dynamic, "Size | int | String";
    AnyWorld = Dynamic, "map | String";
    SizeOrInt = Dynamic, "Size | int";
    MaybeString = Dynamic, "String | ()";
    MaybeSize = Dynamic, "Size | ()";
    MaybeInt = Dynamic, "int | ()";
    MaybeBool = Dynamic, "bool | ()";
    MaybeMap = Dynamic, "map | ()";
    Text = Dynamic, "String";
    Bytes = Dynamic, "Size";
    Object = Dynamic, "map";
    Maps = Dynamic, "[map]";
    Names = Dynamic, "[String]";
    // it ends the script
    Never = Dynamic, "";
    Strings = Array, "[String]";
    Disks = Array, "[Disk]";
    ImageFiles = Array, "[ImageFile]";
    Entries = Array, "[Entry]";
    Rows = Array, "[array]";
}
