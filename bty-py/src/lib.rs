//! The native module `_bty` of the Python package `bty`: converts types, and releases the
//! interpreter while the library works.
//!
//! | module | content |
//! |---|---|
//! | `run` | long operations: signals, cancellation, callbacks |
//! | `json`, `value` | data types of the library as Python objects |
//! | `errors` | errors of the library as exceptions |
//! | `arguments`, `targets` | conversion of arguments: paths, digests, sizes; disks |
//! | `hosts`, `memory` | the machine whose disks are meant: this one, or one in memory |
//! | `values`, `events` | classes for data types |
//! | `disks`, `images`, `client`, `flash`, `catalog`, `script` | the API, named like the library |
//!
//! The public package is in `python/bty`; its documentation is `docs/reference/python.md`.

// pyo3 passes arguments by value
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
mod hosts;
mod images;
mod json;
mod memory;
mod run;
mod script;
mod sources;
mod targets;
mod value;
mod values;

/// The native module behind the package `bty`.
#[pymodule]
fn _bty(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    cancel::register(module)?;
    values::register(module)?;
    events::register(module)?;
    disks::register(module)?;
    memory::register(module)?;
    client::register(module)?;
    images::register(module)?;
    flash::register(module)?;
    catalog::register(module)?;
    sources::register(module)?;
    script::register(module)?;
    // PyO3 lists all names there, which nobody needs, and which the stub would have to repeat
    module.delattr("__all__")
}
