//! Converts arguments that name a path, a digest or a disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use bty::{Selector, SystemHost};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::errors;
use crate::values::Disk;

/// The text of a `str`, `bytes` or path-like object that names an image, a catalog or a file. A
/// path that is not UTF-8 becomes a `file://` URL.
pub(crate) fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let bytes = value.py().import("os")?.getattr("fsencode")?.call1((value,))?;
    let bytes = bytes.cast_into::<PyBytes>().map_err(PyErr::from)?;
    let bytes = bytes.as_bytes();
    if bytes.contains(&0) {
        return Err(PyValueError::new_err("embedded null byte"));
    }
    Ok(bty::text::argument(OsStr::from_bytes(bytes)))
}

/// The path of a file or a device.
pub(crate) fn path(value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    text(value).map(|text| bty::text::path_of_reference(&text))
}

/// A digest, with or without its algorithm as prefix, such as `sha256:`.
pub(crate) fn digest<T: FromStr<Err = bty::Error>>(
    py: Python<'_>,
    text: Option<&str>,
) -> PyResult<Option<T>> {
    text.map(|text| text.parse().map_err(|error| errors::of(py, &error))).transpose()
}

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
    let text = text(value)?;
    let py = value.py();
    let is_path = !value.is_instance_of::<PyString>();
    let found = py.detach(|| {
        let host = SystemHost::new();
        if is_path {
            bty::DiskHost::probe(&host, &bty::text::path_of_reference(&text))
        } else {
            text.parse::<Selector>()?.select(&host)
        }
    });
    found.map_err(|error| errors::of(py, &error))
}
