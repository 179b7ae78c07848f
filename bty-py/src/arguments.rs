//! Converts arguments that name a path, a digest or a size.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::errors;

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

/// A size in bytes: an `int`, or text with a unit, such as `8 GiB`.
#[derive(Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl<'py> FromPyObject<'_, 'py> for Size {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(text) = value.cast::<PyString>() else { return value.extract().map(Self) };
        let bytes = bty::size::parse(&text.to_cow()?);
        bytes.map(Self).map_err(|error| errors::of(value.py(), &error))
    }
}
