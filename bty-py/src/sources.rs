//! Reads the bytes of a web server, registry or file in pieces.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use bty::{CancelToken, Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::Cancel;
use crate::client::{self, Client};
use crate::run::run;
use crate::{arguments, errors};

/// Largest piece that one call of `read` returns, in bytes.
const PIECE_MAX: usize = 64 << 20;

/// Reads a source from its beginning, and resumes after connection failures.
#[pyclass(frozen, module = "bty")]
pub(crate) struct Reader {
    source: bty::Source,
    reader: Mutex<Box<dyn Read + Send>>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (reference, *, client=None))]
    fn new(reference: &Bound<'_, PyAny>, client: Option<&Bound<'_, Client>>) -> PyResult<Self> {
        let py = reference.py();
        let reference = arguments::text(reference)?;
        let client = client::of(py, client);
        let opened = run(py, &Cancel::Never, None, |_, token| {
            let source = client.open(&reference, token)?;
            // a new token, because `token` belongs to this call only
            let reader = source.reader(&CancelToken::new())?;
            Ok::<_, Error>(Self { source, reader: Mutex::new(Box::new(reader)) })
        })?;
        opened.map_err(|error| errors::of(py, &error))
    }

    #[getter]
    fn len_bytes(&self) -> Option<u64> {
        self.source.len_bytes()
    }

    /// Reads up to `size` bytes; empty at the end.
    fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let result = run(py, &Cancel::Never, None, |_, _| {
            let mut piece = vec![0; size.clamp(1, PIECE_MAX)];
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let read = reader.read(&mut piece);
            let read = read.map_err(|e| {
                Error::from_io(ErrorKind::Source, format!("reading {}", self.source.location()), e)
            })?;
            piece.truncate(read);
            Ok::<_, Error>(piece)
        })?;
        result.map(|piece| PyBytes::new(py, &piece)).map_err(|error| errors::of(py, &error))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Reader>()
}
