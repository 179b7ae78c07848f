//! The native part of the Python module `bty`: converts types, and lets other Python threads run
//! meanwhile.
//!
//! | module | what it is about |
//! |---|---|
//! | `run` | long work beside Python: signals, cancellation, callbacks |
//! | `json`, `value` | data of the library as Python values |
//! | `errors` | failures as exceptions |
//! | `arguments` | what Python programs may give: paths, disks, images |
//! | `values`, `events`, `disks`, `images`, `client`, `flash`, `catalog`, `script` | the topics, with the words of the library |
//!
//! What users see is in `python/bty`, and described in `docs/reference/python.md`.

// what pyo3 gives to functions is given by value
#![allow(clippy::needless_pass_by_value)]

use pyo3::prelude::*;

mod arguments;
mod cancel;
mod catalog;
mod client;
mod disks;
mod errors;
mod events;
mod flash;
mod images;
mod json;
mod run;
mod script;
mod sources;
mod value;
mod values;

/// The native part of `bty`.
#[pymodule]
fn _bty(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    cancel::register(module)?;
    values::register(module)?;
    events::register(module)?;
    disks::register(module)?;
    client::register(module)?;
    images::register(module)?;
    flash::register(module)?;
    catalog::register(module)?;
    sources::register(module)?;
    script::register(module)
}
