//! Converts arguments that name a disk.

use bty::Selector;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::values::Disk;
use crate::{arguments, errors, hosts};

/// The disks for a `Disk`, a path, a selector such as `serial:…`, or a sequence of them.
pub(crate) fn disks(value: &Bound<'_, PyAny>) -> PyResult<Vec<bty::Disk>> {
    if value.is_instance_of::<PyString>()
        || value.hasattr("__fspath__")?
        || value.is_instance_of::<Disk>()
    {
        return Ok(vec![disk(value)?]);
    }
    let Ok(items) = value.try_iter() else {
        let name = value.get_type().qualname()?;
        let message =
            format!("expected a Disk, a path or a selector such as 'serial:…', got {name}");
        return Err(PyTypeError::new_err(message));
    };
    let mut found = Vec::new();
    for item in items {
        found.push(disk(&item?)?);
    }
    Ok(found)
}

/// The disk for a `Disk`, a path or a selector. Other path-like objects than `str` are always
/// paths.
pub(crate) fn disk(value: &Bound<'_, PyAny>) -> PyResult<bty::Disk> {
    if let Ok(disk) = value.cast::<Disk>() {
        return Ok(disk.get().0.clone());
    }
    let text = arguments::text(value)?;
    let py = value.py();
    let is_path = !value.is_instance_of::<PyString>();
    let found = py.detach(|| {
        let host = hosts::current();
        if is_path {
            host.probe(&bty::text::path_of_reference(&text))
        } else {
            text.parse::<Selector>()?.select(&*host)
        }
    });
    found.map_err(|error| errors::of(py, &error))
}
