//! Converts errors to exceptions of `bty.errors`, with kind, path, offset and hint.

use std::error::Error as _;
use std::io;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::values::Refusal;

/// The data of an exception.
#[derive(Default)]
pub(crate) struct Failure<'a> {
    pub(crate) kind: &'a str,
    pub(crate) message: String,
    pub(crate) path: Option<&'a str>,
    pub(crate) offset: Option<u64>,
    pub(crate) hint: Option<&'a str>,
    /// The hint as a word of [`bty::Remedy`].
    pub(crate) remedy: Option<&'a str>,
    /// Error number of the operating system, if it caused the failure.
    pub(crate) errno: Option<i32>,
}

impl Failure<'_> {
    /// Creates the exception, which the caller returns.
    pub(crate) fn raise(&self, py: Python<'_>) -> PyErr {
        self.make(py).map_or_else(|error| error, PyErr::from_value)
    }

    fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item("path", self.path)?;
        fields.set_item("offset", self.offset)?;
        fields.set_item("hint", self.hint)?;
        fields.set_item("remedy", self.remedy)?;
        fields.set_item("errno", self.errno)?;
        py.import("bty.errors")?.getattr("_make")?.call((self.kind, &self.message), Some(&fields))
    }
}

/// The exception for an error of the library.
pub(crate) fn of(py: Python<'_>, error: &bty::Error) -> PyErr {
    as_kind(py, error, error.kind().as_str())
}

/// The exception for an error of the library, but of another kind.
pub(crate) fn as_kind(py: Python<'_>, error: &bty::Error, kind: &str) -> PyErr {
    let failure = Failure {
        kind,
        message: format!("{error:#}"),
        path: error.path(),
        offset: error.offset(),
        hint: error.next_step(),
        remedy: error.remedy().map(bty::Remedy::as_str),
        errno: errno(error),
    };
    failure.raise(py)
}

/// The exception for an operation that is refused, with all reasons.
pub(crate) fn refused(
    py: Python<'_>,
    error: &bty::Error,
    refusals: Vec<bty::flash::Refusal>,
) -> PyErr {
    let raised = of(py, error);
    let refusals: Vec<_> = refusals.into_iter().map(Refusal).collect();
    match raised.value(py).setattr("_refusals", refusals) {
        Ok(()) => raised,
        Err(error) => error,
    }
}

/// The error number of the operating system that is behind `error`.
fn errno(error: &bty::Error) -> Option<i32> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = error.source();
    }
    error.io_kind().and_then(errno_of_kind)
}

/// The error number that Linux has for `kind`.
fn errno_of_kind(kind: io::ErrorKind) -> Option<i32> {
    Some(match kind {
        io::ErrorKind::NotFound => 2,
        io::ErrorKind::PermissionDenied => 13,
        io::ErrorKind::AlreadyExists => 17,
        io::ErrorKind::NotADirectory => 20,
        io::ErrorKind::IsADirectory => 21,
        io::ErrorKind::StorageFull => 28,
        io::ErrorKind::ReadOnlyFilesystem => 30,
        io::ErrorKind::BrokenPipe => 32,
        io::ErrorKind::ConnectionReset => 104,
        io::ErrorKind::TimedOut => 110,
        io::ErrorKind::ConnectionRefused => 111,
        _ => return None,
    })
}
